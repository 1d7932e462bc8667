"""Experiment 3: how tiles are split, what is measured on their pixels, and the pictures kept for Figure 2."""

import functools
import hashlib
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from invented import rows_of
from torch import Tensor, nn

from gdlayer.datasets import nuclei, synthetic
from gdlayer.experiments import __main__ as cli
from gdlayer.experiments.table3 import prepare
from gdlayer.experiments.table3.trial import Table3Search, Table3Trial
from gdlayer.networks.unet import UNet
from gdlayer.trials import run as runner
from gdlayer.trials import training
from gdlayer.trials.plan import plan
from gdlayer.trials.record import ResultsError
from gdlayer.trials.run import run
from gdlayer.trials.schema import REQUIRED
from gdlayer.trials.settings import hyperparameters

PATIENTS = (1, 1, 1, 1)
PARAMETERS = {"unet": 97_202, "gaussian-unet": 25_298, "unet-bn": 97_404, "unet-small": 24_704}


@pytest.fixture(autouse=True)
def sixteen_tiles(monkeypatch) -> None:
    """Four small synthetic images of as many patients."""
    monkeypatch.setattr(synthetic, "nuclei", functools.partial(synthetic.nuclei, patients=PATIENTS, size=128))
    monkeypatch.setattr(prepare, "FOLDS", len(PATIENTS))
    monkeypatch.setattr(runner, "hyperparameters", lambda trial: hyperparameters(trial) | {"tile_size": 64})


def smoke(layer: str = "unet", split: str = "tile", seed: int = 0) -> Table3Trial:
    return Table3Trial(layer=layer, split=split, seed=seed, profile="smoke", dataset=nuclei.SYNTHETIC)


def tiles() -> nuclei.NucleusSet:
    return nuclei.tiles(nuclei.load(nuclei.SYNTHETIC), 64)


def pictures(trial: Table3Trial, results: Path) -> dict[str, np.ndarray]:
    with np.load(trial.record_path(results).with_suffix(".npz")) as arrays:
        return dict(arrays)


# Metrics


def confusion(predicted: np.ndarray, truth: np.ndarray) -> tuple[int, int, int, int]:
    """True and false positives, then false and true negatives, pixel by pixel."""
    pairs = list(zip(predicted.ravel().tolist(), truth.ravel().tolist(), strict=True))
    return pairs.count((1, 1)), pairs.count((1, 0)), pairs.count((0, 1)), pairs.count((0, 0))


pixels = st.integers(1, 3).flatmap(
    lambda n: st.tuples(*(st.lists(st.integers(0, 1), min_size=6 * n, max_size=6 * n) for _ in range(2)))
)


@given(pixels)
def test_metrics_by_the_confusion_matrix(masks):
    predicted, truth = (np.array(mask).reshape(-1, 2, 3) for mask in masks)
    tp, fp, fn, tn = confusion(predicted, truth)
    metrics = prepare.pixel_metrics(torch.from_numpy(predicted), torch.from_numpy(truth))
    assert metrics["pixel_accuracy"] == pytest.approx((tp + tn) / (tp + fp + fn + tn))
    assert metrics["background_accuracy"] == pytest.approx((fp + tn) / (tp + fp + fn + tn))
    if tp + fp + fn:
        assert metrics["dice"] == pytest.approx(2 * tp / (2 * tp + fp + fn))
        assert metrics["iou"] == pytest.approx(tp / (tp + fp + fn))
        assert metrics["dice"] == pytest.approx(2 * metrics["iou"] / (1 + metrics["iou"]))
    else:
        assert (metrics["dice"], metrics["iou"]) == (1, 1)
    assert set(metrics) == {"pixel_accuracy", "dice", "iou", "background_accuracy"}


@pytest.mark.parametrize(
    ("predicted", "truth", "expected"),
    [
        ([0, 0, 0, 0], [0, 0, 0, 0], (1.0, 1.0, 1.0, 1.0)),  # nothing there, nothing found
        ([1, 0, 0, 0], [0, 0, 0, 0], (0.75, 0.0, 0.0, 1.0)),
        ([0, 0, 0, 0], [1, 0, 0, 0], (0.75, 0.0, 0.0, 0.75)),
        ([1, 1, 1, 1], [1, 1, 1, 1], (1.0, 1.0, 1.0, 0.0)),
        ([1, 1, 0, 0], [1, 0, 1, 0], (0.5, 0.5, 1 / 3, 0.5)),
    ],
    ids=str,
)
def test_metrics_by_hand(predicted, truth, expected):
    metrics = prepare.pixel_metrics(torch.tensor([[predicted]]), torch.tensor([[truth]]))
    found = tuple(metrics[name] for name in ("pixel_accuracy", "dice", "iou", "background_accuracy"))
    assert found == pytest.approx(expected)


def f1(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Of one tile or several."""
    return prepare.nucleus_f1(*(torch.from_numpy(mask.reshape(-1, *mask.shape[-2:])) for mask in (predicted, truth)))


def boxes(*corners: tuple[int, int, int, int]) -> np.ndarray:
    """A tile of 12 x 12 pixels with nuclei, each by its first and last rows and columns, these left out."""
    mask = np.zeros((12, 12), np.int64)
    for top, bottom, left, right in corners:
        mask[top:bottom, left:right] = 1
    return mask


NUCLEUS, OTHER = (0, 4, 0, 4), (6, 10, 6, 10)
BIG = (0, 4, 0, 8)


@pytest.mark.parametrize(
    ("predicted", "truth", "expected"),
    [
        (boxes(), boxes(), 1.0),
        (boxes(), boxes(NUCLEUS), 0.0),
        (boxes(NUCLEUS), boxes(), 0.0),
        (boxes(NUCLEUS, OTHER), boxes(NUCLEUS, OTHER), 1.0),
        (boxes(NUCLEUS), boxes(NUCLEUS, OTHER), 2 / 3),
        (boxes(NUCLEUS, OTHER), boxes(NUCLEUS), 2 / 3),
        (boxes((0, 4, 0, 3), (0, 4, 5, 8)), boxes(BIG), 0.0),  # split, each part at 3/8
        (boxes((0, 4, 0, 5), (0, 4, 6, 8)), boxes(BIG), 2 / 3),  # split, one part at 5/8
        (boxes(BIG), boxes((0, 4, 0, 4), (0, 4, 5, 8)), 0.0),  # merged, each nucleus at 4/8 or less
        (boxes(BIG), boxes((0, 4, 0, 6), (0, 4, 7, 8)), 2 / 3),  # merged, one nucleus at 6/8
        (boxes((0, 4, 0, 4), (4, 8, 4, 8)), boxes((0, 4, 0, 4), (4, 8, 4, 8)), 1.0),  # they touch at a corner: two
        (boxes((0, 4, 0, 4), (0, 4, 4, 8)), boxes((0, 4, 0, 4), (0, 4, 5, 8)), 0.0),  # across a side: one
        (boxes((0, 4, 1, 5)), boxes(NUCLEUS), 1.0),  # 12 of 20 pixels
        (boxes((0, 4, 0, 2)), boxes(NUCLEUS), 0.0),  # just half is not enough
    ],
)
def test_f1_of_nuclei_by_hand(predicted, truth, expected):
    assert f1(predicted, truth) == pytest.approx(expected)


def test_f1_counts_the_nuclei_of_all_tiles_together_and_joins_none_across_tiles():
    """Not a mean over tiles: 1 of 1 found, then 1 of 3."""
    truth = np.stack([boxes(NUCLEUS), boxes(NUCLEUS, OTHER, (0, 2, 8, 10))])
    predicted = np.stack([boxes(NUCLEUS), boxes(OTHER)])
    assert f1(predicted, truth) == pytest.approx(2 * 2 / (2 * 2 + 2))
    same = np.stack([boxes(NUCLEUS)] * 3)
    assert f1(np.stack([boxes(NUCLEUS), boxes(), boxes()]), same) == pytest.approx(2 / 4)


@given(
    st.lists(st.booleans(), min_size=72, max_size=72),
    st.lists(st.integers(0, 9), min_size=72, max_size=72),
)
def test_f1_of_nuclei_by_every_pair(mask, flips):
    """Against components and overlaps one by one."""
    truth = np.array(mask).reshape(2, 6, 6)
    predicted = truth ^ (np.array(flips) == 0).reshape(2, 6, 6)
    found, true = (
        [n for tile in masks for n in components(tile)] for masks in (enumerate(predicted), enumerate(truth))
    )
    hits = sum(len(a & b) / len(a | b) > 0.5 for a in found for b in true)
    expected = 2 * hits / (len(found) + len(true)) if found or true else 1
    assert f1(predicted, truth) == pytest.approx(expected)


def components(tile: tuple[int, np.ndarray]) -> list[set[tuple[int, int, int]]]:
    """The pixels of each nucleus of a tile, by flooding."""
    number, mask = tile
    left, found = set(zip(*(axis.tolist() for axis in mask.nonzero()), strict=True)), []
    while left:
        edge = [left.pop()]
        nucleus = set(edge)
        while edge:
            y, x = edge.pop()
            near = {(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)} & left
            left -= near
            nucleus |= near
            edge += near
        found.append({(number, *pixel) for pixel in nucleus})
    return found


def test_metrics_are_of_all_pixels_together():
    """Not means over tiles."""
    predicted = torch.zeros(2, 4, 4, dtype=torch.int64)
    truth = predicted.clone()
    truth[0] = predicted[0, :2] = 1
    assert prepare.pixel_metrics(predicted, truth)["dice"] == pytest.approx(2 * 8 / 24)
    assert prepare.pixel_metrics(predicted, truth)["iou"] == pytest.approx(0.5)


# Splits


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("by", Table3Trial.splits)
def test_a_split_is_three_to_one(by, seed):
    data = tiles()
    train, test = prepare.split(data, by, seed)
    assert sorted([*train, *test]) == list(range(16))
    assert len(test) == 4
    shared = set(data.groups[train]) & set(data.groups[test])
    assert not shared if by == "group" else shared
    again = prepare.split(data, by, seed)
    assert np.array_equal(train, again[0])


def test_the_papers_split_has_600_and_200_tiles():
    groups = np.repeat([f"{image:02d}" for image in range(50)], 16)
    data = nuclei.NucleusSet("", "", np.empty((800, 1, 1, 3)), np.empty((800, 1, 1)), groups, (), 0, 0, "", "")
    train, test = prepare.split(data, "tile", 0)
    assert (len(train), len(test)) == (600, 200)
    assert len({tuple(prepare.split(data, "tile", seed)[1]) for seed in range(3)}) == 3


def test_as_many_seeds_as_folds_test_on_every_patient_once():
    data = tiles()
    folds = [prepare.split(data, "group", seed)[1] for seed in range(len(PATIENTS) + 1)]
    assert sorted(np.concatenate(folds[:-1])) == list(range(16))
    assert np.array_equal(folds[-1], folds[0])


@pytest.mark.parametrize("by", Table3Trial.splits)
def test_the_record_tells_whether_the_split_leaks(results, trained, by):
    trial = smoke(split=by, seed=2)
    record = run(trial, results)
    data = tiles()
    train, test = prepare.split(data, by, 2)
    shared = set(data.groups[train]) & set(data.groups[test])
    assert record["data"] == {
        **{"name": "nuclei-synthetic", "label": "synthetic nuclei", "source": "synthetic"},
        **{"sha256": data.sha256, "n_train": len(train), "n_test": len(test)},
        "groups_on_both_sides": len(shared),
    }
    assert (len(shared) > 0) == (by == "tile")
    (call,) = trained
    assert torch.equal(call["images"].permute(0, 2, 3, 1), torch.from_numpy(data.images[train]))
    assert call["images"].dtype == torch.uint8
    assert torch.equal(call["labels"], torch.from_numpy(data.masks[train]).long())


# Records and pictures


@pytest.mark.parametrize("layer", Table3Trial.layers)
def test_a_record_and_its_pictures(results, trained, layer):
    trial = smoke(layer)
    record = run(trial, results)
    path = trial.record_path(results)
    assert sorted(p.name for p in path.parent.iterdir()) == [f"{layer}-tile-s0.json", f"{layer}-tile-s0.npz"]
    assert set(record) == set(REQUIRED)
    assert record["parameters"] == PARAMETERS[layer]
    data, (call,) = tiles(), trained
    _, test = prepare.split(data, "tile", 0)
    # the same again, by hand
    model = call["model"].eval()
    with torch.no_grad():
        x = torch.from_numpy(data.images[test]).permute(0, 3, 1, 2)
        said = model(x).argmax(1).bool().numpy()
    tp, fp, fn, tn = confusion(said.astype(int), data.masks[test].astype(int))
    assert record["metrics"] == pytest.approx(
        {
            "pixel_accuracy": (tp + tn) / said.size,
            "dice": 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 1,
            "iou": tp / (tp + fp + fn) if tp + fp + fn else 1,
            "nucleus_f1": f1(said, data.masks[test]),
            "background_accuracy": 1 - data.masks[test].mean(),
        }
    )
    shown = pictures(trial, results)
    assert set(shown) == {"images", "masks", "predicted", "names"}
    np.testing.assert_array_equal(shown["images"], data.images[test])
    np.testing.assert_array_equal(shown["masks"], data.masks[test])
    np.testing.assert_array_equal(shown["predicted"], said)
    assert shown["predicted"].dtype == shown["masks"].dtype == bool
    assert shown["names"].tolist() == [data.names[i] for i in test]


def test_input_is_standardised_by_the_training_tiles(results, trained):
    run(smoke(), results)
    data = tiles()
    train, _ = prepare.split(data, "tile", 0)
    channels = torch.from_numpy(data.images[train]).double().div(255).movedim(-1, 0).flatten(1)
    standardise = trained[0]["model"][0]
    torch.testing.assert_close(standardise.mean.flatten().double(), channels.mean(1), rtol=1e-5, atol=0)
    torch.testing.assert_close(standardise.std.flatten().double(), channels.std(1, False), rtol=1e-5, atol=0)
    x = standardise(trained[0]["images"])
    torch.testing.assert_close(x.mean((0, 2, 3)), torch.zeros(3), rtol=0, atol=1e-4)


@pytest.mark.parametrize("by", Table3Trial.splits)
def test_networks_of_a_split_and_seed_show_the_same_tiles(results, by):
    runs = {(layer, seed): smoke(layer, by, seed) for layer in ("unet", "gaussian-unet") for seed in (0, 1)}
    for trial in runs.values():
        run(trial, results)
    shown = {key: pictures(trial, results) for key, trial in runs.items()}
    for seed in (0, 1):
        for name in ("images", "masks", "names"):
            np.testing.assert_array_equal(shown["unet", seed][name], shown["gaussian-unet", seed][name])
        assert not np.array_equal(shown["unet", seed]["predicted"], shown["gaussian-unet", seed]["predicted"])
        _, test = prepare.split(tiles(), by, seed)
        assert shown["unet", seed]["names"].tolist() == [tiles().names[i] for i in test]


def test_the_tiles_shown_are_spread_from_the_first_to_the_last(results, monkeypatch):
    monkeypatch.setattr(prepare, "SHOWN", 3)
    run(smoke(), results)
    data = tiles()
    _, test = prepare.split(data, "tile", 0)
    assert pictures(smoke(), results)["names"].tolist() == [data.names[test[i]] for i in (0, 2, 3)]


class Brightness(nn.Module):
    """Says nucleus where the first channel is bright; the other way round in training mode."""

    def forward(self, x: Tensor) -> Tensor:
        bright = (x[:, 0] > 100).float()
        return torch.stack([1 - bright, bright] if not self.training else [bright, 1 - bright], 1)


@pytest.mark.parametrize("precision", training.PRECISIONS)
@pytest.mark.parametrize("n", [1, 16, 37])
def test_predict_is_the_likelier_class_in_evaluation_mode(n, precision):
    images = torch.randint(256, (n, 3, 8, 8), dtype=torch.uint8)
    model = Brightness().train()
    predicted = prepare.predict(model, images, precision)
    assert torch.equal(predicted, (images[:, 0] > 100).long())
    assert not model.training


def test_prediction_does_not_depend_on_the_batch():
    torch.manual_seed(0)
    model = nn.Sequential(training.Standardise([0.5] * 3, [0.2] * 3), UNet("gaussian"))
    images = torch.randint(256, (5, 3, 32, 32), dtype=torch.uint8)
    together = prepare.predict(model, images, "fp32")
    assert torch.equal(together, prepare.predict(model, images, "fp32", batch_size=2))
    with torch.no_grad():
        assert torch.equal(together, model(images).argmax(1))


# Seeds, resumption, errors


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("layer", ["unet", "gaussian-unet"])
def test_an_interrupted_run_ends_as_if_it_never_stopped(results, tmp_path, monkeypatch, trained, layer):
    settings = {"tile_size": 64, "steps": 5, "evaluations": 2}
    monkeypatch.setattr(runner, "hyperparameters", lambda trial: hyperparameters(trial) | settings)
    monkeypatch.setitem(training.train.__kwdefaults__, "checkpoint_seconds", 0)
    whole = run(smoke(layer), tmp_path / "whole")
    with monkeypatch.context() as patch:

        def interrupt(*_: object) -> None:
            raise Interrupted

        patch.setattr(prepare, "pixel_metrics", interrupt)
        with pytest.raises(Interrupted):
            run(smoke(layer), results)
    folder = smoke(layer).record_path(results).parent
    assert [path.name for path in folder.iterdir()] == [f".{layer}-tile-s0.checkpoint"]
    resumed = run(smoke(layer), results)
    assert (resumed["curve"], resumed["metrics"]) == (whole["curve"], whole["metrics"])
    first, _, last = (call["model"].state_dict() for call in trained)
    assert all(torch.equal(first[name], last[name]) for name in first)
    assert sorted(path.name for path in folder.iterdir()) == [f"{layer}-tile-s0.json", f"{layer}-tile-s0.npz"]
    np.testing.assert_array_equal(
        pictures(smoke(layer), results)["predicted"], pictures(smoke(layer), tmp_path / "whole")["predicted"]
    )


def test_a_fixed_choice_refuses_another_value(results, monkeypatch):
    assert set(prepare.FIXED) == {"architecture"}
    monkeypatch.setattr(runner, "hyperparameters", lambda trial: hyperparameters(trial) | {"architecture": "another"})
    message = "architecture must be '14 convolutions, widths 8-16-32', got 'another'"
    with pytest.raises(ValueError, match=f"^{message}$"):
        run(smoke(), results)
    assert list(smoke().record_path(results).parent.iterdir()) == []


@pytest.mark.parametrize("changes", [{"kernel_size": 3}, {"tile_size": 32}], ids=str)
def test_every_other_choice_has_its_effect(results, tmp_path, monkeypatch, changes):
    before = run(smoke(), results)
    monkeypatch.setattr(runner, "hyperparameters", lambda t: hyperparameters(t) | {"tile_size": 64} | changes)
    after = run(smoke(), tmp_path / "other")
    assert before["metrics"] != after["metrics"]
    assert (after["parameters"] < PARAMETERS["unet"]) == ("kernel_size" in changes)
    assert after["data"]["n_train"] == (48 if "tile_size" in changes else 12)


def test_no_choice_is_without_effect():
    """Each is fixed, of the training recipe, or used above."""
    recipe = set(training.Recipe.__dataclass_fields__) - {"seed"}
    assert set(hyperparameters(smoke())) == {"kernel_size", "tile_size"} | recipe | set(prepare.FIXED)


def test_pictures_that_cannot_be_written(results, monkeypatch):
    """One line, no record without its pictures, and what lay there still does."""
    path = smoke().record_path(results).with_suffix(".npz")
    run(smoke(), results)
    before, record = path.read_bytes(), smoke().record_path(results).read_bytes()
    write = Path.write_bytes

    def write_bytes(self: Path, content: bytes) -> int:
        if self.name.endswith(".npz.part"):
            write(self, content[:100])
            raise OSError(28, "No space left on device")
        return write(self, content)

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    message = f"results cannot be written to {path.parent}: No space left on device"
    with pytest.raises(ResultsError, match=f"^{re.escape(message)}$"):
        run(smoke(), results, force=True)
    assert (path.read_bytes(), smoke().record_path(results).read_bytes()) == (before, record)
    assert len(list(path.parent.iterdir())) == 2
    path.unlink()
    smoke().record_path(results).unlink()
    with pytest.raises(ResultsError, match=f"^{re.escape(message)}$"):
        run(smoke(), results)
    assert [p.name for p in path.parent.iterdir() if not p.name.endswith(".checkpoint")] == []


# The search


def sought(layer: str = "unet", seed: int = 0) -> Table3Search:
    return Table3Search(
        layer=layer, split="group", learning_rate=0.001, seed=seed, profile="smoke", dataset=nuclei.SYNTHETIC
    )


@pytest.mark.parametrize("seed", [0, 1])
def test_a_search_takes_no_picture_of_a_patient_that_a_table_tests(results, trained, seed):
    """All its tiles are spare ones, each patient's on one side."""
    record = run(sought(seed=seed), results)
    spare = nuclei.tiles(nuclei.load_spare(nuclei.SYNTHETIC), 64)
    tested = {g for s in range(len(PATIENTS)) for g in tiles().groups[prepare.split(tiles(), "group", s)[1]]}
    assert tested == set(tiles().groups)
    assert not tested & set(spare.groups)
    train, held_out = prepare.split(spare, "group", seed)
    (call,) = trained
    used = rows_of(call["images"].permute(0, 2, 3, 1).contiguous())
    assert used == rows_of(spare.images[train])
    assert not used & rows_of(tiles().images)
    assert not set(spare.groups[train]) & set(spare.groups[held_out])
    assert record["data"] == {
        **{"name": "nuclei-synthetic", "label": "synthetic nuclei, spare", "source": "synthetic"},
        **{"sha256": spare.sha256, "n_train": len(train), "n_validation": len(held_out)},
        "groups_on_both_sides": 0,
    }
    with torch.no_grad():
        said = call["model"].eval()(torch.from_numpy(spare.images[held_out]).permute(0, 3, 1, 2)).argmax(1).bool()
    assert record["metrics"]["validation_pixel_accuracy"] == pytest.approx(
        (said.numpy() == spare.masks[held_out]).mean()
    )
    assert set(record["metrics"]) == {
        f"validation_{name}" for name in ("pixel_accuracy", "dice", "iou", "nucleus_f1", "background_accuracy")
    }
    path = sought(seed=seed).record_path(results)
    assert [p.name for p in path.parent.iterdir()] == [f"unet-group-lr0.001-s{seed}.json"]
    assert Table3Search.metric in record["metrics"]


def test_the_searchs_seeds_hold_out_every_spare_patient_once(monkeypatch):
    monkeypatch.setattr(prepare, "FOLDS", 5)
    spare = nuclei.tiles(nuclei.load_spare(nuclei.SYNTHETIC), 64)
    seeds = {t.seed for t in plan("paper", "table3-search", (nuclei.MONUSEG,))}
    held_out = [set(spare.groups[prepare.split(spare, "group", seed)[1]]) for seed in sorted(seeds)]
    assert sorted(held_out, key=min) == [{group} for group in sorted(set(spare.groups))]


def test_a_search_as_it_was_cannot_be_asked_for():
    """On training tiles, of patients that the group folds test."""
    with pytest.raises(ValueError, match=r"^split must be one of 'group', got 'tile'$"):
        Table3Search(layer="unet", split="tile", learning_rate=0.001, dataset=nuclei.MONUSEG)
    with pytest.raises(ValueError, match=r"^dataset must be one of 'monuseg-crops', 'nuclei-synthetic', got 'tnbc'$"):
        Table3Search(layer="unet", split="group", learning_rate=0.001, dataset=nuclei.TNBC)


# The command line


def test_commands_of_the_smoke_profile(capsys):
    assert cli.main(["run", "table3", "--layer=gaussian-unet", "--split=group", "--profile=smoke"]) == 0
    out, err = capsys.readouterr()
    metrics = r"pixel accuracy {0} %, dice {0} %, iou {0} %, nucleus f1 {0} %, background accuracy {0} %".format(
        r"\d+\.\d\d"
    )
    assert re.fullmatch(
        rf"table3 gaussian-unet group on nuclei-synthetic seed 0: {metrics} in \d+ s\n",
        out,
    )
    assert err == ""
    assert cli.main(["plan", "table3", "--profile=smoke"]) == 0
    out, err = capsys.readouterr()
    planned = [re.findall(r"--(?:layer|split)=(\S+)", line) for line in out.splitlines()]
    assert planned == [[layer, split] for split in ("tile", "group") for layer in Table3Trial.layers]
    assert err.startswith("8 trials, 1 finished; about ")
    for split, paper in (("tile", ["  paper            pixel accuracy 94.7 %"]), ("group", [])):
        assert cli.main(["cell", "table3", "--layer=unet", f"--split={split}", "--profile=smoke"]) == 0
        first, *lines, last = capsys.readouterr().out.splitlines()
        assert first == f"table3 unet {split} on nuclei-synthetic, profile smoke"
        assert lines == paper
        assert re.fullmatch(rf"  run now, seed 0  {metrics} in \d+ s", last)


@pytest.mark.parametrize(
    ("layer", "split", "message"),
    [
        ("vgg16", "tile", "layer must be one of 'unet', 'gaussian-unet', 'unet-bn', 'unet-small', got 'vgg16'"),
        ("unet", "image", "split must be one of 'tile', 'group', got 'image'"),
    ],
)
@pytest.mark.parametrize("command", ["run", "cell"])
def test_wrong_trials_are_one_line(capsys, command, layer, split, message):
    assert cli.main([command, "table3", f"--layer={layer}", f"--split={split}", "--profile=smoke"]) == 2
    assert capsys.readouterr() == ("", f"error: {message}\n")
    assert list(Path().iterdir()) == []


MANIFEST = "image,mask,slide,n_components_4conn,foreground_fraction\nSlide_01/01_1.png,GT_01/01_1.png,1,0,0.0\n"


@pytest.fixture
def pack(monkeypatch, tmp_path) -> Path:
    """A pack of one pair, in the place of the real one."""
    from PIL import Image

    folder = tmp_path / "given" / "tnbc-derived"
    for name, mode in (("Slide_01", "RGB"), ("GT_01", "L")):
        (folder / name).mkdir(parents=True)
        Image.new(mode, (512, 512)).save(folder / name / "01_1.png")
    (folder / "manifest.csv").write_text(MANIFEST)
    file = nuclei.DataFile("tnbc-derived/manifest.csv", None, hashlib.sha256(MANIFEST.encode()).hexdigest())
    monkeypatch.setitem(nuclei.MANIFESTS, nuclei.TNBC_DERIVED, file)
    monkeypatch.setenv("GDLAYER_DATA", str(folder.parent))
    return folder


@pytest.mark.parametrize("damage", ["missing mask", "missing image", "other size", "no picture", "another pack"])
def test_a_damaged_pack_is_one_line(capsys, pack, damage):
    from PIL import Image

    image, mask = pack / "Slide_01" / "01_1.png", pack / "GT_01" / "01_1.png"
    if damage == "missing mask":
        mask.unlink()
        message = f"{image}: its partner GT_01/01_1.png is missing"
    elif damage == "missing image":
        image.unlink()
        message = f"{mask}: its partner Slide_01/01_1.png is missing"
    elif damage == "other size":
        Image.new("L", (512, 500)).save(mask)
        message = f"{mask} has size (512, 500), its image has (512, 512)"
    elif damage == "no picture":
        image.write_bytes(b"\x89PNG and no more")
        message = f"{image} "
    else:
        message = f"{pack} is not the pack tnbc-derived: "
    options = ["--layer=unet", "--split=tile", "--profile=smoke", "--dataset=tnbc-derived"]
    assert cli.main(["run", "table3", *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1
    folder = Path("results", "smoke", "table3", "tnbc-derived")
    assert list(folder.iterdir()) == []


def test_a_corrupt_manifest_is_one_line(capsys, pack):
    (pack / "manifest.csv").write_text(MANIFEST.replace("0.0\n", "0.1\n"))
    for command in (["plan", "table3"], ["cell", "table3", "--layer=unet", "--split=tile"]):
        assert cli.main(command) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert re.fullmatch(
            rf"error: {re.escape(str(pack / 'manifest.csv'))} is not the published file: SHA256 .*\n", err
        )
    shutil.rmtree(pack.parent)
    assert cli.main(["plan", "table3"]) == 2
    assert capsys.readouterr().err.startswith(f"error: GDLAYER_DATA names {str(pack.parent)!r}, which is not ")
