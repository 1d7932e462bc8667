import numpy as np
import pytest

from gdlayer.datasets import synthetic


@pytest.fixture(scope="module")
def tissue():
    return synthetic.nuclei(seed=0, patients=(3, 2, 2))


def test_nuclei_have_the_form_of_real_ones(tissue):
    images, masks, groups = tissue
    assert (images.shape, images.dtype) == ((7, 512, 512, 3), np.uint8)
    assert (masks.shape, masks.dtype) == ((7, 512, 512), np.bool_)
    assert groups.tolist() == ["01", "01", "01", "02", "02", "03", "03"]
    assert sum(synthetic.PATIENTS) == 50
    assert len(synthetic.PATIENTS) == 11


def test_nuclei_cover_about_a_sixth(tissue):
    fractions = tissue[1].mean(axis=(1, 2))
    assert ((fractions > 0.08) & (fractions < 0.28)).all()
    assert 0.12 < fractions.mean() < 0.25


def test_nuclei_are_dark_purple_in_pink_but_not_by_a_threshold(tissue):
    for image, mask in zip(*tissue[:2], strict=True):
        inside, outside = image[mask].astype(float), image[~mask].astype(float)
        assert inside.mean() < outside.mean() - 25
        assert outside[:, 0].mean() > outside[:, 2].mean() > outside[:, 1].mean()  # pink
        assert inside[:, 2].mean() > inside[:, 0].mean()  # blue above red
        red = image[..., 0]
        best = max(((red < threshold) == mask).mean() for threshold in range(60, 240, 5))
        assert 1 - mask.mean() < best < 0.99


def test_patients_are_stained_differently(tissue):
    images, _, groups = tissue
    colours = np.median(images, axis=(1, 2))
    same = np.linalg.norm(colours[0] - colours[1])
    assert np.linalg.norm(colours[groups == "01"].mean(0) - colours[groups == "02"].mean(0)) > 5
    assert same < 40


def test_nuclei_depend_on_the_seed_alone(tissue):
    again = synthetic.nuclei(seed=0, patients=(1,))
    np.testing.assert_array_equal(again[0][0], tissue[0][0])
    np.testing.assert_array_equal(again[1][0], tissue[1][0])
    other = synthetic.nuclei(seed=1, patients=(1,))
    assert not np.array_equal(other[1], again[1])
    assert not np.array_equal(tissue[1][0], tissue[1][1])


def test_random_numbers_never_change():
    random = synthetic._Random(0, 1)
    np.testing.assert_allclose(random.uniform(0, 1, 3), [0.8897387912781343, 0.5571380502062263, 0.8009080868919721])
    assert 2 <= random.number(2, 3) < 3
    many = random.uniform(-1, 3, 100, 100)
    assert many.shape == (100, 100)
    assert abs(many.mean() - 1) < 0.05
    assert many.min() >= -1
    assert many.max() < 3


@pytest.fixture(scope="module")
def textures():
    return synthetic.textures(32, sizes={"train": 600, "test": 200})


def test_textures_have_the_form_of_photographs(textures):
    images, labels, splits = textures
    assert (images.shape, images.dtype) == ((800, 32, 32, 3), np.uint8)
    assert labels.dtype == np.int64
    assert np.bincount(labels[splits == "train"]).tolist() == [300, 300]
    assert np.bincount(labels[splits == "test"]).tolist() == [100, 100]
    assert len(np.unique(images.reshape(800, -1), axis=0)) == 800


def test_textures_depend_on_the_seed_alone(textures):
    np.testing.assert_array_equal(synthetic.textures(32, sizes={"train": 200})[0], textures[0][:200])
    assert not np.array_equal(synthetic.textures(32, seed=1, sizes={"train": 200})[0], textures[0][:200])


def features(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Orientation of the coarse and of the fine stripes, as doubled angles, by the tensor of each band's spectrum."""
    grey = images - images.mean(axis=(1, 2), keepdims=True)
    first = np.linalg.svd(grey.reshape(len(grey), -1, 3), full_matrices=False)[2][:, 0]
    power = np.abs(np.fft.fft2((grey * first[:, None, None]).sum(-1))) ** 2
    frequency = np.fft.fftfreq(32, 1 / 32)
    z = frequency + 1j * frequency[:, None]
    doubled = np.where(z == 0, 0, z**2 / np.maximum(np.abs(z) ** 2, 1))
    bands = [(np.abs(z) > 2) & (np.abs(z) < 6), (np.abs(z) > 6.5) & (np.abs(z) < 14)]
    coarse, fine = ((power * band * doubled).sum(axis=(1, 2)) for band in bands)
    return np.angle(coarse), np.angle(fine)


def test_textures_differ_by_the_relation_of_two_orientations_alone(textures):
    images, labels, splits = textures
    coarse, fine = features(images.astype(float))
    assert ((np.cos(coarse - fine) < 0) == (labels == 1)).mean() > 0.93

    flat = np.concatenate([images.astype(float).reshape(800, -1) / 128 - 1, np.ones((800, 1))], axis=1)
    pooled = flat[:, :-1].reshape(800, 8, 4, 8, 4, 3).mean(axis=(2, 4)).reshape(800, -1)
    single = np.stack([np.cos(coarse), np.sin(coarse), np.cos(fine), np.sin(fine)], axis=1)
    train, test = splits == "train", splits == "test"
    for inputs in (flat, pooled, single):  # least squares sees nothing
        gram = inputs[train].T @ inputs[train] + 10 * np.eye(inputs.shape[1])
        weights = np.linalg.solve(gram, inputs[train].T @ (2 * labels[train] - 1))
        assert 0.35 < ((inputs[test] @ weights > 0) == (labels[test] == 1)).mean() < 0.65
