"""The search for the learning rates, as it is recorded."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from gdlayer.experiments.search import Subject, best_rates, chosen_rates, validation_means
from gdlayer.experiments.trial import SEARCHES, Search, hyperparameters, plan
from gdlayer.report import markup
from gdlayer.report.missing import duration, planned
from gdlayer.report.records import COMMITTED, every_record, load_records, recorded_datasets

PROFILE = "paper"
"""The profile whose searches set the choices."""


def render(experiment: str, titles: Mapping[str, str], committed: Path = COMMITTED) -> str:
    """HTML of a table's search: by layer and rate the validation metric in percent, the chosen rate in bold.

    Parameters
    ----------
    experiment : "table1", "table2" or "table3"
    titles : {layer: HTML}
    committed : folder of the record

    Raises
    ------
    gdlayer.experiments.record.ResultsError
        If a record was made with other settings than the present ones.
    """
    search = SEARCHES[experiment].experiment
    datasets = recorded_datasets(committed, PROFILE, search)
    if not datasets:
        return markup.note("The search is not recorded yet: the rates are provisional.")
    tables = []
    for dataset in datasets:
        trials = searched(search, dataset)
        means, best, chosen = validation_means(trials, committed), best_rates(trials, committed), chosen_rates(trials)
        rates = sorted({trial.learning_rate for trial in trials})
        told = varying(list(means))
        rows = []
        for subject, found in means.items():
            cells = [f"{100 * found[rate]:.1f}" if rate in found else "—" for rate in rates]
            cells = [f"<b>{c}</b>" if rate == chosen[subject] else c for c, rate in zip(cells, rates, strict=True)]
            notes = [] if subject in best else ["not finished"]
            if chosen[subject] in (rates[0], rates[-1]):
                notes.append("at the edge of the rates")
            if subject in best and best[subject] != chosen[subject]:
                notes.append(f"best is {best[subject]:g}, chosen is {chosen[subject]:g}")
            rows.append(
                [
                    ", ".join([titles[subject[0]], *(str(subject[i]) for i in told if i < len(subject))]),
                    *cells,
                    "; ".join(notes),
                ]
            )
        table = markup.table(["learning rate", *(f"{rate:g}" for rate in rates), ""], rows)
        tables.append(table + markup.note(_legend(trials, search, dataset, committed)))
    return "\n".join(tables)


def varying(subjects: Sequence[Subject]) -> list[int]:
    """Places after the layer that tell subjects apart."""
    most = max(map(len, subjects))
    return [i for i in range(1, most) if len({subject[i : i + 1] for subject in subjects}) > 1]


def at_the_edge(experiment: str, committed: Path = COMMITTED) -> set[str] | None:
    """Layers whose chosen rate is the lowest or highest that was tried, so that a better one may lie beyond.

    None if no search is recorded.
    """
    search = SEARCHES[experiment].experiment
    datasets = recorded_datasets(committed, PROFILE, search)
    if not datasets:
        return None
    found = set()
    for dataset in datasets:
        trials = searched(search, dataset)
        rates = {trial.learning_rate for trial in trials}
        found |= {str(subject[0]) for subject, rate in chosen_rates(trials).items() if rate in (min(rates), max(rates))}
    return found


def searched(search: str, dataset: str) -> Sequence[Search]:
    """The plan of a search."""
    return [trial for trial in plan(PROFILE, search, (dataset,)) if isinstance(trial, Search)]


def _legend(trials: Sequence[Search], search: str, dataset: str, committed: Path) -> str:
    settings, seeds = hyperparameters(trials[0]), len({trial.seed for trial in trials})
    records = load_records(committed, PROFILE, search, [dataset])
    left = planned(PROFILE, search, [dataset], records, (record for _, record in every_record(committed)))
    missing = sum(left["missing"].tolist())
    notes = [
        f"{trials[0].metric.replace('_', ' ').capitalize()} in percent on {dataset}, mean over {markup.seeds(seeds)},"
        f" training images held out, {settings['precision']}. Bold: the rate that profile {PROFILE} takes."
    ]
    if missing:
        seconds = sum(left["seconds"].tolist())
        notes.append(f"Not run yet: {missing} of {len(trials)} trials, {duration(missing, seconds)}.")
    return " ".join(notes)
