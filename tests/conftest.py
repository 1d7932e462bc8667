"""Shared by all tests: a fixed seed, a fresh compiler, deterministic hypothesis, the devices, both forms of a layer."""

import sys
from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

settings.register_profile("gdlayer", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("gdlayer")


def pytest_runtest_setup() -> None:
    torch.manual_seed(0)
    torch.backends.cudnn.allow_tf32 = False
    if "torch._dynamo" in sys.modules:  # a compiler counts the graphs of a function, whoever compiled it
        torch.compiler.reset()


@pytest.fixture(
    params=["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU"))]
)
def device(request: pytest.FixtureRequest) -> str:
    """Each device of this machine."""
    return request.param


@pytest.fixture(params=[False, True], ids=["full", "separated"])
def separated(request: pytest.FixtureRequest) -> bool:
    """The argument of the layer: eq. (3) or eq. (4)."""
    return request.param


@pytest.fixture
def figures() -> Iterator[None]:
    """Draws nothing on a screen and leaves no figure open."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    with mpl.rc_context({"backend": "agg"}):
        yield
        plt.close("all")
