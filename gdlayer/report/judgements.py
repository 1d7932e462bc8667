"""The paper's claims of an experiment, judged by its records, and what its folder judges them with."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from gdlayer.extras import extra
from gdlayer.report import claims, tuning
from gdlayer.report.blocks import blocks_of, estimate
from gdlayer.report.cells import KIND, Selector, marks, per_trial, published_at, select, still_to_run
from gdlayer.report.claims import Case, Comparison, JudgedClaim
from gdlayer.report.loaded import Loaded
from gdlayer.report.missing import duration

with extra("report"):
    import pandas as pd

ABOVE = "Holds if it is above 0, fails if it is below."
ABOVE_ALL = "Holds if every difference is above 0, fails if one is below; shown is the one that decides."


def judged_claims(loaded: Loaded) -> list[JudgedClaim]:
    """The paper's claims of an experiment, judged by records of one profile."""
    return [claims.judge_claim(claim) for claim in loaded.experiment.claims.judged(loaded)]


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
    return claims.render(loaded.experiment, judged_claims(loaded), foot)


class Comparer:
    """An experiment's trials, and comparisons between its cells."""

    def __init__(self, loaded: Loaded) -> None:
        self.experiment, self.plan = loaded.experiment, loaded.plan
        self.trials = per_trial(loaded.records, loaded.experiment)
        self._blocks: dict[frozenset[tuple[str, Any]], pd.DataFrame] = {}

    def row(
        self,
        case: str,
        one: Selector,
        others: Mapping[str, Selector],
        *controls: str,
        margin: float = 0.0,
        unfit: str = "",
    ) -> Case:
        """One cell against others, which differ from it in the layer alone, see :class:`gdlayer.report.claims.Case`."""
        left = [still_to_run(self.plan, selector) for selector in (one, *others.values())]
        trials, seconds = (sum(column) for column in zip(*left, strict=True))
        chosen = select(self.plan, {name: value for name, value in one.items() if name in self.plan})
        return Case(
            case,
            [self._comparison(title, one, other) for title, other in others.items()],
            margin,
            controls,
            sum(chosen["planned"].tolist()),
            duration(int(trials), seconds) if trials else "",
            unfit,
        )

    def _comparison(self, title: str, one: Selector, other: Selector) -> Comparison:
        row = {name: value for name, value in one.items() if name != "layer"}
        key = frozenset(row.items())
        if key not in self._blocks:
            self._blocks[key] = blocks_of(self.trials, row)
        found = estimate(self._blocks[key], one["layer"], other["layer"])
        own, others = (published_at(self.experiment, selector) for selector in (one, other))
        paper = None if own is None or others is None else own - others
        kind = {} if found is None else dict(zip(KIND, found.kind, strict=True))
        defaults = self.experiment.trial.cell_defaults()
        return Comparison(title, found, paper, marks(self.experiment, {**defaults, **one, **kind}) if kind else "")

    def control(self, one: Selector, others: Mapping[str, Selector], holds: str, fails: str, unclear: str) -> str:
        """What a further comparison says of a claim."""
        return claims.reading(self.row("", one, others), holds, fails, unclear)

    def count(self, selector: Selector) -> int | None:
        """Trainable parameters of a cell's network, from its records."""
        found = set(select(self.trials, selector)["parameters"])
        return found.pop() if len(found) == 1 else None
