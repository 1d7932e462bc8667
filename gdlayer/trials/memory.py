"""Memory of this process: how much it took at most, and how it is reused."""

import ctypes
import sys


def keep_freed_memory() -> None:
    """Stops glibc from returning freed memory to the system; otherwise every step maps and clears it again.

    It changes the whole process, so it is for a program to call, not for a library.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt:
        for option in (-1, -3):  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
            mallopt(option, 1 << 30)


def peak_memory_bytes(device: str) -> int:
    """The most memory this process, or on a GPU its tensors, ever held."""
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated()
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
