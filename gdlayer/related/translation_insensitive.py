"""Filters that change little under small shifts at their stride, after reference [12]: an approximation."""

import math
from typing import Any

import torch

from gdlayer._plumbing.checks import int_pair, positive_number
from gdlayer.related.rfnn import RFNNConv2d


class TranslationInsensitiveConv2d(RFNNConv2d):
    r"""An approximation of the layer of Sundaramoorthi and Wang (2019), reference [12], of which no code is published.

    >>> import torch
    >>> from gdlayer.related import TranslationInsensitiveConv2d
    >>> layer = TranslationInsensitiveConv2d(16, 32, stride=2)
    >>> layer(torch.randn(8, 16, 28, 28)).shape
    torch.Size([8, 32, 14, 14])

    A layer with a stride sees only every s-th position, so its outputs change when the image moves by a pixel: the
    less, the smoother its filters are. The reference builds them from Gauss-Hermite functions, which leave some
    insensitivity to shifts after sub-sampling. Here the basis is that of :class:`RFNNConv2d`, with its scale tied to
    the stride:

    .. math:: W_j^i = \sum_n \alpha_{j,n}^i\, \phi^n, \qquad \sigma = r\, s

    A shift by half a stride, say, then changes a filter by the same part of its norm at every stride. The kernels of
    all orders up to K span the same filters as the Gauss-Hermite functions :math:`H_p(x/\sigma)\, H_q(y/\sigma)\,
    e^{-(x^2 + y^2)/2\sigma^2}` with :math:`p + q \le K`: polynomials of degree K times one Gaussian.

    The reference's abstract, from which this is made, says no more. The rule for :math:`\sigma` and the size of the
    kernel, :math:`\lceil 3\sigma \rceil` pixels on each side of its centre, are choices of this package.

    Parameters
    ----------
    in_channels, out_channels, num_kernels, init, gain, padding, dilation, padding_mode, bias :
        As :class:`RFNNConv2d`.
    stride : int or pair
        s is the larger of a pair.
    sigma_per_stride : float
        r, positive. At 1 and stride 1, the kernels are those of RFNN's later layers.

    Raises
    ------
    ValueError, TypeError
        If an argument is not what its entry allows; the message quotes it.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int | tuple[int, int] = 1,
        sigma_per_stride: float = 1.0,
        device: torch.device | str | None = None,
        **options: Any,
    ) -> None:
        sigma = positive_number("sigma_per_stride", sigma_per_stride) * max(int_pair("stride", stride))
        size = 2 * math.ceil(3 * sigma) + 1
        super().__init__(in_channels, out_channels, size, sigma=float(sigma), stride=stride, device=device, **options)
