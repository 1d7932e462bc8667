"""How long the rest of a plan will take, judged by what has run."""

import dataclasses

import pytest
from invented import SAMPLE, finish, smoke, sought

from gdlayer.experiments.table1.trial import Table1Precision, Table1Trial
from gdlayer.experiments.table3.trial import Table3Trial
from gdlayer.trials.plan import plan
from gdlayer.trials.progress import STARTUP_SECONDS, Progress, duration_in_words


class Clock:
    """Seconds as a test sets them."""

    now = 0.0


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("time.monotonic", lambda: clock.now)
    return clock


def test_seconds_left_by_the_cost_of_the_same_layer(results, tmp_path):
    trials = plan("smoke", "table1", (SAMPLE,))
    reference = tmp_path / "reference"
    assert Progress(trials, results, reference).seconds_left(1) is None
    # 4 steps in 8 and in 40 seconds: 2 and 10 a step
    finish(trials[0], reference, seconds=8.0)
    finish(trials[1], reference, seconds=40.0)
    startup = len(trials) * STARTUP_SECONDS
    for jobs in (1, 2):
        left = Progress(trials, results, reference).seconds_left(jobs)
        assert left == pytest.approx((8 + 40 + (len(trials) - 2) * 24 + startup) / jobs)
    assert Progress(trials, results).finished == 0
    # own records count before the reference, but for layers that only that one has
    finish(trials[2], results, seconds=4.0)
    left = Progress(trials, results, reference).seconds_left(1)
    assert left == pytest.approx(8 + 40 + (len(trials) - 3) * 4 + (len(trials) - 1) * STARTUP_SECONDS)
    # nothing is known of another experiment: as much a step as the rest
    assert left is not None
    other = Table3Trial(layer="gaussian-unet", split="group", profile="smoke", dataset="nuclei-synthetic")
    with_other = Progress([*trials, other], results, reference).seconds_left(1)
    assert with_other == pytest.approx(
        left + 2 * (2 + 10 + (len(trials) - 3) * 1) / (len(trials) - 1) + STARTUP_SECONDS
    )
    assert Progress(trials, results).finished == 1
    for trial in trials:
        finish(trial, results)
    assert Progress(trials, results, reference).seconds_left(1) == 0


def test_seconds_left_knows_layers_apart(results):
    """Not the mean of all layers, where the layer's own cost is known."""
    dear, cheap = smoke("dau"), smoke("free-form")
    finish(dear, results, seconds=40.0)
    finish(cheap, results, seconds=8.0)
    trials = [dear, cheap, smoke("free-form", seed=1)]
    assert Progress(trials, results, results).seconds_left(1) == pytest.approx(8 + STARTUP_SECONDS)


def test_costs_are_known_by_network_and_precision(results):
    """The dearer of a layer's networks and precisions is not taken for the cheaper."""
    made = {"layer": "ours", "n_train": 1000, "profile": "smoke", "dataset": SAMPLE}
    finish(Table1Trial(**made), results, seconds=4.0)
    finish(Table1Trial(**made, network="pooled"), results, seconds=12.0)
    finish(Table1Precision(**made, precision="bf16"), results, seconds=20.0)
    for trial, cost in (
        (Table1Trial(**made, seed=1), 4),
        (Table1Trial(**made, seed=1, network="pooled"), 12),
        (sought("ours"), 4),
        (Table1Precision(**made, seed=1, precision="bf16"), 20),
        (Table1Precision(**made, seed=1, network="pooled", precision="bf16"), 20),
        (dataclasses.replace(sought("dau"), network="pooled"), 12),
    ):
        left = Progress([trial], results, results).seconds_left(1)
        assert left == pytest.approx(cost + STARTUP_SECONDS), trial


def test_a_gpu_tells_nothing_of_a_cpu(results):
    gpu = finish(smoke("ours"), results)["machine"] | {"device": "cuda"}
    finish(smoke("ours"), results, seconds=4.0, machine=gpu)
    trials = [smoke("ours"), smoke("ours", seed=1)]
    assert Progress(trials, results).seconds_left(1) is None
    assert Progress(trials, results, device="cuda").seconds_left(1) == pytest.approx(4 + STARTUP_SECONDS)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "an unknown time"), (0, "0 s"), (89.4, "89 s"), (90, "2 min"), (5399, "90 min"), (9000, "2.5 h")],
)
def test_durations_in_words(seconds, words):
    assert duration_in_words(seconds) == words


def test_the_records_are_read_once(results, monkeypatch):
    trials = plan("smoke", "table1", (SAMPLE,))
    finish(trials[0], results, seconds=8.0)
    progress = Progress(trials, results)
    assert (progress.finished, progress.total) == (1, len(trials))
    monkeypatch.setattr("gdlayer.trials.progress.read_record", lambda _: pytest.fail("read again"))
    progress.add(trials[1])
    assert (progress.finished, progress.total) == (2, len(trials))
    assert trials[1] not in progress.pending


def test_the_estimate_goes_by_the_speed_of_the_run(results, clock):
    """With chapters and book in it; at first by what was expected."""
    trials = plan("smoke", "table1", (SAMPLE,))
    for trial in trials[1:]:
        finish(trial, results, seconds=96.0)
    progress = Progress(trials, results, further={"chapter table1": 60.0, "the book": 140.0})
    expected = 96 + STARTUP_SECONDS
    assert (progress.finished, progress.total) == (len(trials) - 1, len(trials) + 2)
    assert progress.seconds_left(2) == pytest.approx((expected + 200) / 2)
    clock.now = 1e6  # expected to last 50 s
    progress.add(trials[0])
    assert progress.line("this", 2).startswith(f"[{len(trials)}/{len(trials) + 2}] this; about ")
    left = progress.seconds_left(2)
    assert left == pytest.approx(200 * 1e6 / expected, rel=0.6)
    progress.add("chapter table1")
    progress.add("the book")
    assert progress.line("that", 2) == f"[{len(trials) + 2}/{len(trials) + 2}] that; about 0 s left"


def test_where_nothing_is_known_the_run_itself_tells(results, clock):
    trials = plan("smoke", "table1", (SAMPLE,))
    progress = Progress(trials, results)
    assert progress.seconds_left(1) is None
    clock.now = 30.0
    progress.add(trials[0])
    assert progress.seconds_left(1) == pytest.approx(30 * (len(trials) - 1))
