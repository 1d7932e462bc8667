"""The paper's claims of an experiment, judged by its records, and what its folder judges them with."""

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from markupsafe import Markup

from gdlayer._plumbing.extras import extra
from gdlayer.report import claims, tuning
from gdlayer.report.blocks import Estimate, blocks_of, estimate, typical_variance
from gdlayer.report.cells import KIND, Selector, marks, per_trial, published_at, select, still_to_run
from gdlayer.report.claims import Case, Judgement
from gdlayer.report.differences import Prior, average
from gdlayer.report.loaded import Loaded
from gdlayer.report.plans import duration

with extra("report"):
    import pandas as pd


def judgements(loaded: Loaded) -> list[Judgement]:
    """The paper's claims of an experiment, judged by records of one profile."""
    return [claims.judgement(claim) for claim in loaded.experiment.claims.stated(loaded)]


def render(loaded: Loaded) -> Markup:
    """HTML of an experiment's claims, with a note on how the compared layers were tuned."""
    edge = tuning.at_the_edge(loaded.experiment, loaded.committed)
    foot = ""
    if edge is not None and loaded.profile == tuning.PROFILE:
        layers = loaded.experiment.layers.values()
        named = ", ".join(layer.title for layer in layers if layer.name in edge) or "none"
        foot = (
            f" Every layer was tuned by the same search; at the edge of its rates, perhaps not at their best: {named}."
        )
    return claims.render(loaded.experiment, judgements(loaded), foot)


class Comparer:
    """An experiment's trials, and comparisons between its cells."""

    def __init__(self, loaded: Loaded) -> None:
        self.experiment, self.plan = loaded.experiment, loaded.plan
        self.trials = per_trial(loaded.records, loaded.experiment)
        self._overlap = fmean(overlaps) if (overlaps := _overlaps(loaded)) else 0.0
        self._blocks: dict[frozenset[tuple[str, Any]], pd.DataFrame] = {}
        self._priors: dict[str, Prior] = {}

    def case(self, title: str, one: Selector, other: Selector, *notes: str, against: str = "", unfit: str = "") -> Case:
        """One cell against another, which differs from it in the layer alone, see :class:`gdlayer.report.claims.Case`.

        ``against`` is by default the title of the other layer.
        """
        left = [still_to_run(self.plan, selector) for selector in (one, other)]
        trials, seconds = (sum(column) for column in zip(*left, strict=True))
        chosen = select(self.plan, {name: value for name, value in one.items() if name in self.plan})
        found = self.estimate(one, other)
        own, others = (published_at(self.experiment, selector) for selector in (one, other))
        kind = {} if found is None else dict(zip(KIND, found.kind, strict=True))
        cls = self.experiment.trial
        return Case(
            title,
            against or self.experiment.layers[other["layer"]].title,
            found,
            None if own is None or others is None else own - others,
            cls.trials_in_paper(one),
            marks(self.experiment, {**cls.cell_defaults(), **one, **kind}) if kind else "",
            notes,
            sum(chosen["planned"].tolist()),
            duration(int(trials), seconds) if trials else "",
            unfit,
            frozenset(frozenset(selector.items()) for selector in (one, other)),
        )

    def estimate(self, one: Selector, other: Selector) -> Estimate | None:
        """One cell minus another that differs from it in the layer alone; None if no block has both."""
        row = {name: value for name, value in one.items() if name != "layer"}
        key, metric = frozenset(row.items()), one["metric"]
        if key not in self._blocks:
            self._blocks[key] = blocks_of(self.trials, row)
        if metric not in self._priors:
            self._priors[metric] = typical_variance(self.trials, metric, self.experiment.trial.cell_fields())
        return estimate(self._blocks[key], one["layer"], other["layer"], self._priors[metric], self._overlap)

    def control(self, one: Selector, other: Selector) -> str:
        """What a further comparison shows."""
        return claims.reading(self.case("", one, other))

    def count(self, selector: Selector) -> int | None:
        """Trainable parameters of a cell's network, from its records."""
        found = set(select(self.trials, selector)["parameters"])
        return found.pop() if len(found) == 1 else None


def _overlaps(loaded: Loaded) -> list[float]:
    """Of each record whose seed is a fold: images to test on for each to train on."""
    if not loaded.experiment.trial.folds:
        return []
    return [record["data"]["n_test"] / record["data"]["n_train"] for record in loaded.records]


def averaged(title: str, cases: Sequence[Case]) -> Case:
    """The mean of several cases of one layer against another."""
    found = [case.estimate for case in cases if case.estimate and not case.obstacle]
    one, papers = cases[0], [case.paper for case in cases]
    whole = len(found) == len(cases)
    paper = fmean(p for p in papers if p is not None) if None not in papers else None
    mean = Estimate(average([e.difference for e in found]), found[0].kind, 0) if whole else None
    return Case(title, one.against, mean, paper, min(case.trials for case in cases) * len(cases), seeds=one.seeds)
