"""Published weights, found like data."""

import numpy as np

from gdlayer.datasets.files import DataFile, find, find_embedded

VGG16_IMAGENET = DataFile(
    "vgg16/vgg16-397923af.pth",
    "https://download.pytorch.org/models/vgg16-397923af.pth",
    "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
)
"""What torchvision calls ``VGG16_Weights.IMAGENET1K_V1``; 553,433,881 bytes."""

SQUEEZENET_IMAGENET = DataFile(
    "squeezenet/squeezenet1_1.npz", None, "59f240b256b475aa18dab9ee516fcc090852d816b2e00810519574367ecd4652"
)
"""All 26 convolutions of SqueezeNet 1.1 in float32; made by the repository's ``workflow/make_squeezenet.py``."""

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
