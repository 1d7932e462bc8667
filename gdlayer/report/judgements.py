"""The paper's claims of an experiment, judged by its records, and what its folder judges them with."""

from collections.abc import Mapping

from markupsafe import Markup

from gdlayer.report import claims, tuning
from gdlayer.report.cells import Selector, per_trial, select, still_to_run
from gdlayer.report.claims import Claim, Row, compare, judge, judge_all, paired
from gdlayer.report.loaded import Loaded
from gdlayer.report.missing import duration

ABOVE = "Holds if the interval lies above 0, fails if it lies below."
ABOVE_ALL = "Holds if every interval lies above 0, fails if one lies below; shown is the one that decides."


def judged_claims(loaded: Loaded) -> list[Claim]:
    """The paper's claims of an experiment, judged by records of one profile."""
    return loaded.experiment.claims.judged(loaded)


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
    """An experiment's trials, and rows of comparisons between its cells."""

    def __init__(self, loaded: Loaded) -> None:
        self.experiment, self.plan = loaded.experiment, loaded.plan
        self.trials = per_trial(loaded.records, loaded.experiment)

    def row(
        self,
        case: str,
        one: Selector,
        others: Mapping[str, Selector],
        *controls: str,
        margin: float = 0.0,
    ) -> Row:
        """One cell against others; without a record the reason is how long these take."""
        judged, paper, here = compare(self.trials, self.experiment, one, others, margin)
        reasons = list(controls)
        if judged.estimate is None:
            left = [still_to_run(self.plan, selector) for selector in (one, *others.values())]
            trials, seconds = (sum(column) for column in zip(*left, strict=True))
            reasons = [duration(int(trials), seconds)] if trials else []
        if paper.startswith("−") and not margin:
            reasons.insert(0, "the paper's own numbers say otherwise")
        return Row(case, paper, here, judged.verdict, claims.why(judged, *reasons))

    def control(self, one: Selector, others: Mapping[str, Selector], holds: str, fails: str, undecided: str) -> str:
        """What a further comparison says of a claim."""
        judged = judge_all([judge(paired(self.trials, one, other), against=title) for title, other in others.items()])
        return claims.reading(judged, holds, fails, undecided)

    def count(self, selector: Selector) -> int | None:
        """Trainable parameters of a cell's network, from its records."""
        found = set(select(self.trials, selector)["parameters"])
        return found.pop() if len(found) == 1 else None
