"""The network of Table 1: four convolutions, global average pooling, a dense layer."""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from gdlayer._plumbing.checks import one_of
from gdlayer.block import ConvBlock
from gdlayer.networks.convolutions import ConvSpec


class FourConv(nn.Module):
    """Four blocks J -> O of one layer type, global pooling, dense.

    The paper prints neither widths nor kernel sizes nor strides; the defaults match what can be inferred from it, see
    the choices of experiment 1.

    Parameters
    ----------
    conv : function
        Makes a convolution as a :class:`~gdlayer.networks.convolutions.ConvSpec` asks, such as
        :func:`gdlayer.networks.convolutions.ours`.
    widths : four ints
        Feature maps of each convolution.
    bases : four ints
        Bases B of each convolution, for the layers that have them.
    kernel_size : int
        Support of the layers whose filters it bounds.
    pooled : bool
        2 x 2 max pooling after each of the first three blocks.
    norm : "beta" or "batch"
        As :class:`~gdlayer.block.ConvBlock`; the paper trains beta only.
    init, sigma_min :
        As :class:`~gdlayer.networks.convolutions.ConvSpec`.
    global_pooling : "mean" or "max"
        What the dense layer gets of each map.
    in_channels, num_classes : int

    Shapes
    ------
    (b, in_channels, h, w) -> logits (b, num_classes)

    Raises
    ------
    ValueError
        If ``widths`` and ``bases`` are not four each, or ``global_pooling`` is no option.
    """

    def __init__(
        self,
        conv: Callable[[ConvSpec], nn.Module],
        *,
        widths: Sequence[int] = (16, 16, 16, 32),
        bases: Sequence[int] = (8, 8, 8, 16),
        kernel_size: int = 7,
        pooled: bool = False,
        norm: str = "beta",
        init: str = "variance_preserving",
        sigma_min: float = 0.5,
        global_pooling: str = "mean",
        in_channels: int = 1,
        num_classes: int = 10,
    ) -> None:
        super().__init__()
        if len(widths) != 4 or len(bases) != 4:
            raise ValueError(f"widths and bases must be four integers each, got {widths!r} and {bases!r}")
        self.global_pooling = one_of("global_pooling", global_pooling, ("mean", "max"))
        stages = []
        for depth, (width, b) in enumerate(zip(widths, bases, strict=True)):
            spec = ConvSpec(in_channels, width, kernel_size, b, depth, init, sigma_min)
            stages.append(ConvBlock(conv(spec), norm=norm))
            if pooled and depth < 3:
                stages.append(nn.MaxPool2d(2))
            in_channels = width
        self.features = nn.Sequential(*stages)
        self.classifier = nn.Linear(in_channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        if self.global_pooling == "max":
            return self.classifier(x.amax((-2, -1)))
        means = x.sum((-2, -1)) / (x.shape[-2] * x.shape[-1])  # the gradient of mean() would be as large as x
        return self.classifier(means)
