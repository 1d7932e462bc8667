"""How far two runs of the same trial may lie apart, judged by the seeds of a record. Needs no torch."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from math import sqrt
from typing import Any

from gdlayer.trials.registry import trial_of
from gdlayer.trials.trial import Trial

ENOUGH = 3
"""Seeds by which a cell is judged alone."""


class Spread:
    r"""The standard deviation over seeds of each metric.

    It is that of the cell's own seeds where there are three or more, else that of all cells of the experiment on the
    same data set that have several, pooled: :math:`s^2 = \sum_{cs} (y_{cs} - \bar y_c)^2 / \sum_c (n_c - 1)`.

    Parameters
    ----------
    records : of one profile
    """

    def __init__(self, records: Iterable[dict[str, Any]]) -> None:
        values: dict[tuple[Trial, str], list[float]] = defaultdict(list)
        for record in records:
            for metric, value in record["metrics"].items():
                values[replace(trial_of(record["trial"]), seed=0), metric].append(value)
        self._cells: dict[tuple[Trial, str], tuple[float, int]] = {}
        self._pools: dict[tuple[str, str, str], tuple[float, int]] = defaultdict(lambda: (0.0, 0))
        for (cell, metric), seeds in values.items():
            mean = sum(seeds) / len(seeds)
            squares, freedom = sum((value - mean) ** 2 for value in seeds), len(seeds) - 1
            self._cells[cell, metric] = squares, freedom
            pool = cell.experiment, cell.dataset, metric
            self._pools[pool] = self._pools[pool][0] + squares, self._pools[pool][1] + freedom

    def of(self, trial: Trial, metric: str, seeds: int = 1) -> float | None:
        """Twice the standard error of a run minus the mean of so many seeds: 95 % of the differences are smaller.

        A fraction, as the metrics are; None if no cell has several seeds.
        """
        squares, freedom = self._cells.get((replace(trial, seed=0), metric), (0.0, 0))
        if freedom < ENOUGH - 1:
            squares, freedom = self._pools.get((trial.experiment, trial.dataset, metric), (0.0, 0))
        return 2 * sqrt(squares / freedom * (1 + 1 / seeds)) if freedom else None


def agreement(records: Iterable[dict[str, Any]], reference: Iterable[dict[str, Any]]) -> tuple[int, int]:
    """How many records lie, in every metric, within the spread of the reference's of the same trial; and of how many.

    Trials that the reference does not have, or has no spread for, are not counted.
    """
    reference = list(reference)
    spread, kept = Spread(reference), {trial_of(record["trial"]): record["metrics"] for record in reference}
    within = compared = 0
    for record in records:
        trial = trial_of(record["trial"])
        bounds = {metric: spread.of(trial, metric) for metric in record["metrics"]}
        if trial in kept and None not in bounds.values():
            compared += 1
            within += all(
                abs(value - kept[trial][metric]) <= (bounds[metric] or 0.0)
                for metric, value in record["metrics"].items()
            )
    return within, compared
