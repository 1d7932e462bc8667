"""Procedural pictures for runs without data: nuclei in stained tissue, and two classes of oriented texture.

They stand in for `"tnbc"` and `"cats-dogs"` to show that everything works; a number obtained on them says nothing
about tissue or animals. All random bits are those of PCG64 itself, which NumPy guarantees not to change; what is
computed of them may differ by one grey level from one machine to another.
"""

import math

import numpy as np

PATIENTS = (7, 3, 5, 8, 4, 3, 3, 4, 6, 4, 3)
"""Images of each patient, as in TNBC."""

TEXTURES = {"train": 2000, "val": 500, "test": 500}


class _Random:
    """Random numbers that depend on the seeds alone."""

    def __init__(self, *seeds: int):
        self._bits = np.random.PCG64(seeds)

    def uniform(self, low: float, high: float, *shape: int) -> np.ndarray:
        raw = self._bits.random_raw(math.prod(shape)) >> 11
        return low + (high - low) * 2.0**-53 * raw.reshape(shape)

    def number(self, low: float, high: float) -> float:
        return low + (high - low) * 2.0**-53 * (self._bits.random_raw() >> 11)


# --- nuclei --------------------------------------------------------------------------------------------------------

_STAINS = np.array([[0.65, 0.70, 0.29], [0.08, 0.80, 0.36]])  # absorption of red, green, blue


def nuclei(
    seed: int = 0, patients: tuple[int, ...] = PATIENTS, size: int = 512
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw tissue with purple nuclei in pink stroma, stained as each patient's laboratory does.

    Light is absorbed by two stains, `255 exp(-h H - e E)`: eosin in a fibrous texture with gaps, haematoxylin
    in wobbly ellipses with chromatin texture, which cover about a sixth of the image. Purple smears out of focus
    and red cells are no nuclei.

    Parameters
    ----------
    seed : int
        Not negative.
    patients : tuple of int
        How many images of each patient.
    size : int
        Side of the images.

    Returns
    -------
    images : ndarray of uint8, shape (n, size, size, 3)
    masks : ndarray of bool, shape (n, size, size)
    groups : ndarray of str, shape (n,)
        Patients `"01"`, `"02"`, ...
    """
    groups = np.repeat([f"{patient:02d}" for patient in range(1, len(patients) + 1)], patients)
    images = np.empty((len(groups), size, size, 3), np.uint8)
    masks = np.empty((len(groups), size, size), bool)
    noise = _Noise(size)
    for index, patient in enumerate(groups):
        images[index], masks[index] = _tissue(_Random(seed, 1, int(patient)), _Random(seed, 2, index), noise)
    return images, masks, groups


class _Noise:
    """Smooth random fields of mean 0 and deviation 1 on a torus."""

    def __init__(self, size: int):
        self.size = size
        self.rows, self.columns = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]

    def __call__(self, random: _Random, length: float, stretch: float = 1.0, angle: float = 0.0) -> np.ndarray:
        """Of a correlation length in pixels, `stretch` times longer along `angle`."""
        along = self.columns * np.cos(angle) + self.rows * np.sin(angle)
        across = self.rows * np.cos(angle) - self.columns * np.sin(angle)
        weight = np.exp(-2 * (np.pi * length) ** 2 * ((stretch * along) ** 2 + across**2))
        white = random.uniform(-1, 1, self.size, self.size)
        field = np.fft.irfft2(np.fft.rfft2(white) * weight, s=(self.size, self.size))
        return (field - field.mean()) / field.std()


def _tissue(patient: _Random, random: _Random, noise: _Noise) -> tuple[np.ndarray, np.ndarray]:
    """One image and its mask; what the patient decides is drawn from `patient`, the rest from `random`."""
    size = noise.size
    stains = _STAINS * patient.uniform(0.85, 1.15, 2, 3) * patient.uniform(0.75, 1.2, 2, 1)
    typical = patient.number(9, 13)  # of the long half axes, in pixels
    blurs = 1 + int(patient.number(0, 2))

    angle = random.number(0, np.pi)
    fibres = noise(random, 1.5, 6, angle)
    coarse = noise(random, 24)
    gaps = 1 / (1 + np.exp(-6 * (noise(random, 12, 2, angle) + 0.3 * fibres - 1.6)))
    eosin = np.clip(0.45 + 0.10 * fibres + 0.10 * coarse, 0.05, 1) * (1 - 0.9 * gaps)
    haematoxylin = np.clip(0.12 + 0.04 * fibres + 0.05 * coarse, 0.01, 1) * (1 - 0.9 * gaps)
    chromatin = noise(random, 1.3)
    crowded = coarse - 2 * gaps  # where nuclei gather

    for _ in range(int(random.number(3, 12))):  # red cells
        window, inside, edge = _ellipse(random, size, random.uniform(0, size, 2), random.number(6, 9))
        eosin[window] = np.where(inside, 0.75 + 0.1 * edge, eosin[window])
    for _ in range(int(random.number(6, 20))):  # smears
        window, inside, edge = _ellipse(random, size, random.uniform(0, size, 2), random.number(8, 22))
        haematoxylin[window] += np.where(inside, random.number(0.15, 0.45) * (1 - edge) ** 2, 0)

    mask = np.zeros((size, size), bool)
    covered, wanted = 0, random.number(0.09, 0.26) * size * size
    while covered < wanted:
        centre = random.uniform(0, size, 2)
        if random.number(-2, 2) > crowded[*centre.astype(int)]:
            continue
        window, inside, edge = _ellipse(random, size, centre, typical * random.number(0.6, 1.5))
        area, overlap = np.count_nonzero(inside), np.count_nonzero(mask[window] & inside)
        if overlap > 0.2 * area:
            continue
        body, grain, rim = (0.4, 0.3, 0.35) if random.number(0, 1) < 0.4 else (0.75, 0.15, 0.1)
        body = body * random.number(0.75, 1.3) * (1 + grain * chromatin[window]) + rim * edge**4
        haematoxylin[window] = np.where(inside, np.maximum(body, 0.5 * haematoxylin[window]), haematoxylin[window])
        eosin[window] = np.where(inside, 0.5 * eosin[window] + 0.08, eosin[window])
        mask[window] |= inside
        covered += area - overlap

    for _ in range(blurs):
        haematoxylin, eosin = _smooth(haematoxylin), _smooth(eosin)
    grain = random.uniform(-5, 5, size, size, 1)
    light = 245 * np.exp(-haematoxylin[..., None] * stains[0] - eosin[..., None] * stains[1]) + grain
    return np.clip(np.rint(light), 0, 255).astype(np.uint8), mask


def _ellipse(
    random: _Random, size: int, centre: np.ndarray, axis: float
) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray]:
    """A wobbly ellipse of long half axis `axis`: its window, the inside, and 0 (centre) to 1 (edge)."""
    angle, ratio = random.number(0, np.pi), random.number(0.5, 1.0)
    top, left = np.maximum(centre - 1.3 * axis, 0).astype(int)
    bottom, right = np.minimum(centre + 1.3 * axis + 2, size).astype(int)
    y, x = np.arange(top, bottom)[:, None] - centre[0], np.arange(left, right)[None] - centre[1]
    along = (x * np.cos(angle) + y * np.sin(angle)) / axis
    across = (y * np.cos(angle) - x * np.sin(angle)) / (axis * ratio)
    direction = np.arctan2(across, along)
    wobble = np.ones_like(direction)
    for k, height, phase in zip((2, 3), random.uniform(-0.1, 0.1, 2), random.uniform(0, 2 * np.pi, 2), strict=True):
        wobble += height * np.cos(k * direction + phase)
    distance = np.hypot(along, across) / wobble
    return (slice(top, bottom), slice(left, right)), distance <= 1, np.minimum(distance, 1)


def _smooth(image: np.ndarray) -> np.ndarray:
    """Weights 1/4, 1/2, 1/4 along both axes, borders repeated."""
    for _ in range(2):
        padded = np.pad(image, ((1, 1), (0, 0)), mode="edge")
        image = (0.25 * padded[:-2] + 0.5 * image + 0.25 * padded[2:]).T
    return image


# --- textures ------------------------------------------------------------------------------------------------------

_CHUNK = 100


def textures(
    resolution: int, seed: int = 0, sizes: dict[str, int] | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw two kinds of texture: fine stripes along the coarse ones (0), and across them (1).

    Each is the sum of a coarse and a fine random field, both oriented. Orientation, scale, contrast, phase, colours
    and lighting are drawn alike for both kinds, so neither field alone tells them apart, nor does any mean over
    images: only how the orientations at two scales go together.

    Parameters
    ----------
    resolution : int
        Side of the images in pixels, from 32 on; the stripes scale with it.
    seed : int
        Not negative.
    sizes : dict of str to int, optional
        Images of each split, even numbers; `TEXTURES` by default.

    Returns
    -------
    images : ndarray of uint8, shape (n, resolution, resolution, 3)
    labels : ndarray of int64, shape (n,)
        0 and 1 in turn.
    splits : ndarray of str, shape (n,)
    """
    sizes = TEXTURES if sizes is None else sizes
    splits = np.repeat(list(sizes), list(sizes.values()))
    labels = np.arange(len(splits)) % 2
    images = np.empty((len(splits), resolution, resolution, 3), np.uint8)
    for start in range(0, len(splits), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        images[chunk] = _stripes(_Random(seed, 3, start), labels[chunk], resolution)
    return images, labels, splits


def _stripes(random: _Random, labels: np.ndarray, resolution: int) -> np.ndarray:
    n = len(labels)
    coarse_angle = random.uniform(0, np.pi, n)
    fine_angle = coarse_angle + labels * np.pi / 2 + random.uniform(-0.2, 0.2, n)
    coarse_scale = random.uniform(3, 4.5, n)  # cycles over the image
    fine_scale = coarse_scale * random.uniform(2.2, 2.7, n)
    contrast = random.uniform(0.5, 1, 2, n, 1, 1)

    frequency = np.fft.fftfreq(resolution, 1 / resolution)
    spectrum = np.fft.fft2(random.uniform(-1, 1, n, resolution, resolution))
    height = np.zeros((n, resolution, resolution))
    for angle, scale, weight in zip((coarse_angle, fine_angle), (coarse_scale, fine_scale), contrast, strict=True):
        # One side of the spectrum is enough, since the real part is taken.
        x, y = (
            np.exp(-(((frequency - (scale * part(angle))[:, None]) / (0.2 * scale)[:, None]) ** 2) / 2)
            for part in (np.cos, np.sin)
        )
        field = np.fft.ifft2(spectrum * y[:, :, None] * x[:, None]).real
        height += weight * field / field.std(axis=(1, 2), keepdims=True)

    ramp = np.linspace(-1, 1, resolution)
    slope = random.uniform(-40, 40, 2, n, 1, 1)
    light = slope[0] * ramp + slope[1] * ramp[:, None] + random.uniform(-8, 8, n, resolution, resolution)
    middle, colour = random.uniform(90, 165, n, 1, 1, 3), random.uniform(-1, 1, n, 1, 1, 3)
    colour *= random.uniform(20, 45, n, 1, 1, 1) / np.sqrt((colour**2).mean(axis=-1, keepdims=True))
    images = middle + light[..., None] + colour * height[..., None]
    return np.clip(np.rint(images), 0, 255).astype(np.uint8)
