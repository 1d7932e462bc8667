"""Published weights, found like data."""

import hashlib
from pathlib import Path

import numpy as np

from gdlayer._plumbing.extras import extra
from gdlayer.datasets.files import DataCorruptError, DataFile, find, find_embedded, locate

VGG16_CONVOLUTIONS = DataFile(
    "vgg16/vgg16_convolutions.npz", None, "24a7f4b5775799d17462499617241d1ce0d269906df1049f681fa57fd285d4cd"
)
"""The 13 convolutions of VGG16 as NumPy arrays; 59 MB."""

VGG16_KERAS = DataFile(
    "vgg16/vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
    "https://github.com/fchollet/deep-learning-models/releases/download/v0.1/"
    "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
    "",
    md5="6d6bbae143d832006294945121d1f1fc",
)
"""The same as Keras publishes them (``include_top=False``), with the MD5 that Keras itself checks; 58,889,256 bytes."""

VGG16_SHA256 = "1d851a961be5ee01fe5fad533b4256f400a00087b528baef01ca2c46a5dd6f61"
"""Of the 26 arrays themselves (:func:`sha256_of_arrays`), whatever the file."""

VGG16_MEAN = (103.939, 116.779, 123.68)
"""What VGG16 expects to be subtracted from BLUE, GREEN and RED in 0 to 255, in this order; nothing is divided."""

SQUEEZENET_IMAGENET = DataFile(
    "squeezenet/squeezenet1_1.npz", None, "59f240b256b475aa18dab9ee516fcc090852d816b2e00810519574367ecd4652"
)
"""All 26 convolutions of SqueezeNet 1.1 in float32; made by the repository's ``tools/make_squeezenet.py``."""

SQUEEZENET_CONVOLUTIONS = DataFile(
    "squeezenet/convolutions-float16.npz", None, "3f7af0089b5ce7b103ca073f2d334e25de926bc98ff28af998c85e89801c2a96"
)
"""The first 25 of them in float16; part of the package."""

SQUEEZENET_MEAN = (104.0, 117.0, 123.0)
"""What SqueezeNet expects to be subtracted from BLUE, GREEN and RED in 0 to 255, in this order; nothing is divided."""


def squeezenet_weights(*, complete: bool = False) -> dict[str, np.ndarray]:
    """Weights of SqueezeNet 1.1 (Iandola et al., arXiv:1602.07360), trained on ImageNet.

    They fit a network that gets pixels from 0 to 255, channels in the order blue, green, red, minus
    `SQUEEZENET_MEAN`: ``x = images[..., ::-1] - SQUEEZENET_MEAN``. Its first layer has stride 2 and no padding; 3 x 3
    max pooling of stride 2 in ceil mode follows conv1, fire3 and fire5.

    Parameters
    ----------
    complete : bool
        False: the embedded copy, rounded to float16, without ``conv10`` (the layer of the 1000 classes), the same on
        every machine. True: the file `SQUEEZENET_IMAGENET` with ``conv10`` and nothing rounded, out of
        `$GDLAYER_DATA` or the cache.

    Returns
    -------
    dict of str to ndarray of float32
        ``conv1.weight``, ``conv1.bias``; for i = 2, ..., 9 ``fire{i}.squeeze1x1``, ``fire{i}.expand1x1`` and
        ``fire{i}.expand3x3``, each with ``.weight`` and ``.bias``; ``conv10.weight`` and ``conv10.bias`` if complete.
        Kernels have shape (f_out, f_in, rows, columns), biases (f_out,).

    Raises
    ------
    DataError
        The file is missing or has another SHA256.
    """
    path = find(SQUEEZENET_IMAGENET)[0] if complete else find_embedded(SQUEEZENET_CONVOLUTIONS)
    with np.load(path, allow_pickle=False) as stored:
        return {name.replace("/", "."): array.astype(np.float32) for name, array in stored.items()}


def vgg16_weights() -> dict[str, np.ndarray]:
    """The 13 convolutions of VGG16 (Simonyan and Zisserman, ICLR 2015), trained on ImageNet.

    Weights of the Visual Geometry Group, University of Oxford, CC BY 4.0; they are not part of the package. They fit a
    network that gets pixels from 0 to 255, channels in the order blue, green, red, minus `VGG16_MEAN`.

    Read from `VGG16_CONVOLUTIONS` in `$GDLAYER_DATA` or the cache, else from `VGG16_KERAS`, which is downloaded if need
    be and wants the extra "vgg16".

    Returns
    -------
    dict of str to ndarray of float32
        ``conv{i}_{j}.weight`` of shape (f_out, f_in, 3, 3) and ``conv{i}_{j}.bias`` of shape (f_out,), for the
        convolutions j = 1, ... of the stages i = 1, ..., 5, in their order.

    Raises
    ------
    DataError
        No file can be had, or what it holds are other arrays.
    MissingExtraError
        h5py is needed and not installed.
    """
    if locate(VGG16_CONVOLUTIONS):
        path, _ = find(VGG16_CONVOLUTIONS)
        with np.load(path, allow_pickle=False) as stored:
            weights = {name.replace("/", "."): array for name, array in stored.items()}
    else:
        path, weights = _from_keras()
    found = sha256_of_arrays(weights)
    if found != VGG16_SHA256:
        raise DataCorruptError(f"{path} holds other weights: SHA256 {found} of its arrays, expected {VGG16_SHA256}")
    return weights


def _from_keras() -> tuple[Path, dict[str, np.ndarray]]:
    """Keras's file, with its kernels in torch's order: (rows, columns, f_in, f_out) to (f_out, f_in, rows, columns)."""
    with extra("vgg16"):
        import h5py  # pyright: ignore[reportMissingImports]
    path, _ = find(VGG16_KERAS)
    weights = {}
    with h5py.File(path, "r") as stored:
        for layer in (name for name in sorted(stored) if "conv" in name):
            kernel, bias = (stored[layer][name][()] for name in stored[layer].attrs["weight_names"])
            name = layer.removeprefix("block").replace("_conv", "_")
            weights |= {f"conv{name}.weight": kernel.transpose(3, 2, 0, 1), f"conv{name}.bias": bias}
    return path, weights


def sha256_of_arrays(arrays: dict[str, np.ndarray]) -> str:
    """SHA256 of names, shapes and values in float32, in the order of the names."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.shape}\n".encode())
        digest.update(array.astype("<f4").tobytes())
    return digest.hexdigest()
