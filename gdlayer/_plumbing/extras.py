"""Packages that only an extra of gdlayer brings, such as matplotlib."""

from collections.abc import Iterator
from contextlib import contextmanager


class MissingExtraError(ImportError):
    """A package is not installed; the message is one line that names the extra which brings it.

    >>> from gdlayer import GaussianDerivativeConv2d, MissingExtraError, plot_kernels
    >>> try:
    ...     figure = plot_kernels(GaussianDerivativeConv2d(1, 4, 5))
    ... except MissingExtraError as error:
    ...     print(error)  # matplotlib is not installed: pip install 'gdlayer[report]'
    """


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Put around imports of packages that the extra ``name`` brings.

    Raises
    ------
    MissingExtraError
        If one of them is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        message = f"{package} is not installed: pip install 'gdlayer[{name}]'"
        raise MissingExtraError(message, name=package) from None
