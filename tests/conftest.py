"""What every test shares: a fixed seed, deterministic hypothesis, and the devices to run on."""

import pytest
import torch
from hypothesis import settings

settings.register_profile("gdlayer", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("gdlayer")


def pytest_runtest_setup() -> None:
    torch.manual_seed(0)


@pytest.fixture(
    params=["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU"))]
)
def device(request: pytest.FixtureRequest) -> str:
    """Each device there is."""
    return request.param
