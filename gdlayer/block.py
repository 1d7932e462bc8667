"""From J to O: normalisation, nonlinearity, down-sampling (section 2 of the paper)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from gdlayer._plumbing.checks import int_pair, one_of


class ConvBlock(nn.Module):
    r"""A convolution, then the steps of section 2 that turn J into O: normalisation, nonlinearity, down-sampling.

    >>> import torch
    >>> from gdlayer import ConvBlock, GaussianDerivativeConv2d
    >>> block = ConvBlock(GaussianDerivativeConv2d(3, 8, 5, bias=False), downsample=2)
    >>> block(torch.randn(1, 3, 32, 32)).shape
    torch.Size([1, 8, 16, 16])

    .. math:: O = \Big[F\Big(\gamma \frac{J - \mu_{batch}}{\sqrt{\sigma^2_{batch} + \epsilon}}
        + \beta\Big)\Big]_{\downarrow s}

    Parameters
    ----------
    conv : module with ``out_channels`` and ``bias``
        Any convolution that makes J. It needs no bias: beta is one.
    norm : "batch" or "beta"
        Batch normalisation; or, as in experiment 1 of the paper, gamma = 1, mean 0 and variance 1, so that no layer
        profits from batch statistics. Then only beta trains. It is the bias of ``conv``, added as zero if ``conv`` has
        none, and costs no time.
    activation : callable
        F; by default a rectifier that overwrites its input.
    downsample : int or pair
        s: every s-th row and column of F's output is kept, as the paper writes it. The authors' code uses the stride of
        the convolution instead; in training that changes the batch statistics.

    Raises
    ------
    ValueError, TypeError
        If ``norm``, ``downsample`` or ``conv.out_channels`` is not what its entry allows; the message quotes it.
    """

    def __init__(
        self,
        conv: nn.Module,
        *,
        norm: str = "batch",
        activation: Callable[[Tensor], Tensor] | None = None,
        downsample: int | tuple[int, int] = 1,
    ) -> None:
        super().__init__()
        channels = conv.out_channels
        if not isinstance(channels, int):
            raise TypeError(f"conv must have an integer out_channels, got {channels!r}")
        self.conv = conv
        norm = one_of("norm", norm, ("batch", "beta"))
        self.norm = nn.BatchNorm2d(channels) if norm == "batch" else nn.Identity()
        if norm == "beta" and conv.bias is None:
            like = next(conv.parameters())
            conv.bias = nn.Parameter(torch.zeros(channels, device=like.device, dtype=like.dtype))
        self.activation = nn.ReLU(inplace=True) if activation is None else activation
        self.downsample = int_pair("downsample", downsample)

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.norm(self.conv(x)))
        return x if self.downsample == (1, 1) else x[..., :: self.downsample[0], :: self.downsample[1]]
