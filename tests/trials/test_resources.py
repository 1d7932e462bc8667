"""What trials ask of a cluster."""

import re
from pathlib import Path
from typing import Any

import pytest
from invented import finish, smoke

from gdlayer.trials.plan import plan
from gdlayer.trials.progress import STARTUP_SECONDS, seconds_each
from gdlayer.trials.record import every_record, recorded_datasets
from gdlayer.trials.registry import experiments
from gdlayer.trials.resources import UNKNOWN, Request, requests

ROOT = Path(__file__).parents[2]
RECORD = ROOT / "data" / "results"


def made(layer: str, results: Path, **changes: Any) -> dict[str, Any]:
    return finish(smoke(layer), results, **changes)


def test_twice_the_time_and_half_as_much_memory_again(results):
    ours = made("ours", results, seconds=400.0, peak_memory_bytes=800_000_000)
    rfnn = made("rfnn", results, seconds=40.0, peak_memory_bytes=400_000_000)
    assert STARTUP_SECONDS == 4
    trials = [smoke("ours", seed=1), smoke("rfnn", seed=1), smoke("dau")]
    assert requests(trials, [ours, rfnn]) == [
        Request(14, 1200),  # 2 · 404 s
        Request(2, 600),  # 2 · 44 s
        Request(8, 1200),  # like none of them: a mean step, the most memory
    ]


def test_the_most_memory_of_the_like_counts(results):
    records = [made("ours", results, peak_memory_bytes=memory) for memory in (500_000_000, 700_000_000, 600_000_000)]
    (request,) = requests([smoke("ours", seed=1)], records)
    assert request.memory_mb == 1050


def test_records_of_gpus_do_not_count(results):
    """Their time is another, their memory the GPU's."""
    record = made("ours", results)
    gpu = record | {"machine": record["machine"] | {"device": "cuda"}, "seconds": 4000.0, "peak_memory_bytes": 10**11}
    trials = [smoke("ours", seed=1)]
    assert requests(trials, [record, gpu]) == requests(trials, [record])
    assert requests(trials, [gpu]) == requests(trials, []) == [UNKNOWN]


def test_every_trial_of_the_full_protocol_fits_a_node():
    """Of the usual limits: a day and 64 GB at the third try of five trials in one entry."""
    records = [record for _, record in every_record(RECORD)]
    asked = requests(full_protocol(), records)
    assert max(request.minutes for request in asked) * 3 * 5 < 24 * 60
    assert max(request.memory_mb for request in asked) * 3 < 64_000


def full_protocol() -> list[Any]:
    """Of the data sets that are on record, or the paper's."""
    return [
        trial
        for name, experiment in experiments().items()
        if experiment.has("paper", name)
        for trial in plan("paper", name, recorded_datasets(RECORD, "paper", name) or experiment.trial.datasets[:1])
    ]


def test_the_page_says_what_the_full_protocol_costs_by_the_record():
    """To a fifth, so that it need not change with every record."""
    page = (ROOT / "book" / "cluster.md").read_text("utf-8")
    (hours,) = re.findall(r"the profile `paper` takes about (\d+) core-hours without VGG16, more than half", page)
    trials = full_protocol()
    seconds = seconds_each(trials, [record for _, record in every_record(RECORD)])
    assert seconds is not None
    table1 = sum(time for trial, time in zip(trials, seconds, strict=True) if trial.experiment == "table1")
    assert int(hours) == pytest.approx(sum(seconds) / 3600, rel=0.2)
    assert table1 > sum(seconds) / 2
