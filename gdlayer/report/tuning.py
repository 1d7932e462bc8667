"""The search for the learning rates, as it is recorded."""

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from gdlayer.report import markup
from gdlayer.report.plans import duration, planned
from gdlayer.trials.experiment import Experiment
from gdlayer.trials.plan import plan
from gdlayer.trials.provenance import committed_record
from gdlayer.trials.record import every_record, load_records, recorded_datasets
from gdlayer.trials.registry import experiments
from gdlayer.trials.search import Subject, best_rates, chosen_rates, rates_tried, validation_means
from gdlayer.trials.settings import hyperparameters
from gdlayer.trials.trial import Search

PROFILE = "paper"
"""The profile whose searches set the choices."""


def render(experiment: Experiment, committed: Path | None = None) -> Markup:
    """HTML of an experiment's searches: by layer and rate the validation metric in percent, the chosen rate in bold.

    Parameters
    ----------
    experiment : Experiment
    committed : folder of the record, by default found where there is one

    Raises
    ------
    gdlayer.trials.record.ResultsError
        If a record was made with other settings than the present ones.
    """
    folder = committed or committed_record()
    if folder is None or not (searches := _recorded(experiment, folder)):
        return markup.note("The search is not recorded yet: the rates are provisional.")
    return Markup("\n").join(
        _table(experiment, trials, folder) + markup.note(_legend(trials, folder)) for trials in searches
    )


def varying(subjects: Sequence[Subject]) -> list[int]:
    """Places after the layer that tell subjects apart."""
    most = max(map(len, subjects))
    return [i for i in range(1, most) if len({subject[i : i + 1] for subject in subjects}) > 1]


def at_the_edge(experiment: Experiment, committed: Path | None = None) -> set[str] | None:
    """Layers whose chosen rate is the lowest or highest that any round tried, so that a better may lie beyond.

    None if no search is recorded.
    """
    folder = committed or committed_record()
    searches = [] if folder is None else _recorded(experiment, folder)
    tried = rates_tried([trial for trials in searches for trial in trials])
    chosen = {subject: rate for trials in searches for subject, rate in chosen_rates(trials).items()}
    at_an_end = {subject for subject, rate in chosen.items() if rate in (tried[subject][0], tried[subject][-1])}
    return {str(layer) for layer, *_ in at_an_end} if searches else None


def decides(trials: Sequence[Search]) -> bool:
    """Whether a round is the last of its experiment's search."""
    return isinstance(trials[0], experiments()[trials[0].belongs_to].searches[-1])


def searched(search: str, dataset: str) -> list[Search]:
    """The plan of a round of a search."""
    return [trial for trial in plan(PROFILE, search, (dataset,)) if isinstance(trial, Search)]


def _recorded(experiment: Experiment, folder: Path) -> list[list[Search]]:
    """The plans, round by round and by data set, of the searches that have records."""
    return [
        searched(cls.experiment, dataset)
        for cls in experiment.searches
        for dataset in recorded_datasets(folder, PROFILE, cls.experiment)
    ]


def _table(experiment: Experiment, trials: Sequence[Search], folder: Path) -> Markup:
    means, best, chosen = validation_means(trials, folder), best_rates(trials, folder), chosen_rates(trials)
    tried = rates_tried(trials)
    rates = sorted({trial.learning_rate for trial in trials})
    told = varying(list(means))
    rows = []
    for subject, found in means.items():
        cells = [f"{100 * found[rate]:.1f}" if rate in found else "—" for rate in rates]
        own = chosen.get(subject)
        cells = [markup.bold(c) if rate == own else c for c, rate in zip(cells, rates, strict=True)]
        notes = [] if subject in best else ["not finished"]
        if decides(trials) and own in (tried[subject][0], tried[subject][-1]):
            notes.append("at the edge of the rates")
        if decides(trials) and subject in best and best[subject] != own:
            notes.append(f"best is {best[subject]:g}, chosen is {'none yet' if own is None else f'{own:g}'}")
        title = experiment.layers[subject[0]].title
        rows.append(
            [
                ", ".join([title, *(str(subject[i]) for i in told if i < len(subject))]),
                *cells,
                "; ".join(notes),
            ]
        )
    return markup.table(["learning rate", *(f"{rate:g}" for rate in rates), ""], rows)


def _legend(trials: Sequence[Search], folder: Path) -> str:
    first, seeds = trials[0], len({trial.seed for trial in trials})
    settings = hyperparameters(first)
    records = load_records(folder, PROFILE, first.experiment, [first.dataset])
    known = (record for _, record in every_record(folder))
    left = planned(PROFILE, first.experiment, [first.dataset], records, known)
    missing = sum(left["missing"].tolist())
    text = (
        f"{first.metric.replace('_', ' ').capitalize()} in percent on {first.dataset}, mean over {markup.seeds(seeds)},"
        f" training images held out, {settings['precision']}. Bold: the rate that profile {PROFILE} takes."
    )
    if not decides(trials):
        text += " A later round decides."
    if missing:
        seconds = sum(left["seconds"].tolist())
        text += f" Not run yet: {missing} of {len(trials)} trials, {duration(missing, seconds)}."
    return text
