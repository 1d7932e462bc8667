"""What the program asks of the memory of its process."""

import platform
import resource
from itertools import pairwise

import pytest
import torch

from gdlayer.trials.memory import keep_freed_memory, peak_memory_bytes


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="no glibc")
def test_freed_memory_is_not_mapped_again():
    keep_freed_memory()
    faults = []
    for _ in range(10):
        torch.ones(12_000_000)  # 48 MB, more than glibc would ever keep: 11,700 pages
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
    assert min(after - before for before, after in pairwise(faults)) < 100


def test_the_peak_is_of_the_whole_process():
    before = peak_memory_bytes("cpu")
    torch.ones(100_000_000)
    assert 4e8 <= peak_memory_bytes("cpu") < before + 6e8
