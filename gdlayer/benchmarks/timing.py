"""Functions timed side by side in rounds, so that other load on the machine affects all of them alike."""

import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from statistics import median, quantiles
from typing import Any

import torch

SAMPLE_SECONDS = 0.002
"""A faster function is called several times per sample."""


def compare(
    functions: Mapping[str, Callable[[], Any]],
    against: Mapping[str, str],
    *,
    seconds: float,
    rounds: int = 5,
    hopeless: float = math.inf,
) -> dict[str, dict[str, Any]]:
    """Times of functions and their ratios.

    After a warm-up of two calls, every round calls each function once; the order rotates by one in each round. The
    ratio to another function is the median over the rounds of the ratios within a round. The garbage collector is off
    meanwhile.

    On one CPU thread the clock is this process's CPU time, which other processes hardly affect; else it is wall time.

    Parameters
    ----------
    functions : {name: function}
    against : {name: name}
        The reference of each function that has one.
    seconds : float
        Rounds go on for this long,
    rounds : int
        but there are at least so many.
    hopeless : float
        A function whose first call takes more than this multiple of its reference's is not called again.

    Returns
    -------
    dict of dict
        For each function "seconds" (the median), "quartiles" and "rounds" (1 if hopeless); and if it has a reference,
        "against", "ratio" and "ratio_quartiles".
    """
    with _no_collection():
        first = {name: _seconds(function, 1) for name, function in functions.items()}
        left = [name for name, other in against.items() if first[name] > hopeless * first[other]]
        running = [name for name in functions if name not in left]
        calls = {name: _calls(_seconds(functions[name], 1)) for name in running}
        samples: dict[str, list[float]] = {name: [] for name in running}
        end = time.perf_counter() + seconds
        while len(samples[running[0]]) < rounds or time.perf_counter() < end:
            for name in running:
                samples[name].append(_seconds(functions[name], calls[name]))
            running.append(running.pop(0))
    samples |= {name: [first[name]] for name in left}
    return {name: _summary(samples, name, against.get(name)) for name in functions}


def _summary(samples: Mapping[str, list[float]], name: str, other: str | None) -> dict[str, Any]:
    own = samples[name]
    summary = {"seconds": rounded(median(own)), "quartiles": _quartiles(own)}
    if other is not None:
        base = samples[other] if len(samples[other]) == len(own) else [median(samples[other])]
        ratios = [mine / its for mine, its in zip(own, base, strict=True)]
        summary |= {"against": other, "ratio": rounded(median(ratios)), "ratio_quartiles": _quartiles(ratios)}
    return summary | {"rounds": len(own)}


def rounded(value: float) -> float:
    """To four significant digits, as in the record."""
    return float(f"{value:.4g}")


def _quartiles(values: list[float]) -> list[float]:
    if len(values) == 1:
        return [rounded(values[0])] * 2
    low, _, high = quantiles(values, n=4, method="inclusive")
    return [rounded(low), rounded(high)]


def _calls(seconds: float) -> int:
    return max(1, min(1000, round(SAMPLE_SECONDS / seconds)))


def _seconds(function: Callable[[], Any], calls: int) -> float:
    """Time of one call, from ``calls`` of them."""
    on_gpu = torch.cuda.is_initialized()
    clock = time.perf_counter if on_gpu or torch.get_num_threads() > 1 else time.process_time
    if on_gpu:
        torch.cuda.synchronize()
    start = clock()
    for _ in range(calls):
        function()
    if on_gpu:
        torch.cuda.synchronize()
    return (clock() - start) / calls


@contextmanager
def _no_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
