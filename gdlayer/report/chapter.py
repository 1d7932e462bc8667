"""What every experiment chapter shows besides its table: the choices, where the records come from, what they cost."""

from collections import Counter
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from gdlayer.experiments.trial import TRIALS, hyperparameters, load_choices, load_profile
from gdlayer.report import markup
from gdlayer.report.cells import (
    Selector,
    find,
    kind_in_words,
    kind_letters,
    kind_of,
    kinds_in_words,
    main_kind,
    rows_of,
    summarise,
)
from gdlayer.report.missing import duration, planned
from gdlayer.report.records import COMMITTED, choose_profile, every_record, load_records


class Loaded(NamedTuple):
    """An experiment's records under a profile, their cells, what is planned, and beside a user's own run the record."""

    experiment: str
    folder: Path
    profile: str
    datasets: tuple[str, ...]
    records: list[dict[str, Any]]
    cells: pd.DataFrame
    plan: pd.DataFrame
    record: pd.DataFrame | None


def load(results: str | Path, profile: str, experiment: str, datasets: str, committed: Path = COMMITTED) -> Loaded:
    """What a chapter shows: of one profile only.

    Parameters
    ----------
    results : folder of records
    profile : str
        Or :data:`gdlayer.report.records.FULLEST`.
    experiment : str
    datasets : str
        Names separated by commas.
    committed : folder
        The committed record: shown beside other results, of its fullest profile, and judged by how long trials take.
    """
    folder, names = Path(results), tuple(datasets.split(","))
    profile = choose_profile(folder, profile, experiment, names)
    records = load_records(folder, profile, experiment, names)
    kept = []
    if folder.resolve() != committed.resolve():
        kept = load_records(committed, choose_profile(committed, "fullest", experiment, names), experiment, names)
    return Loaded(
        experiment,
        folder,
        profile,
        names,
        records,
        summarise(records, experiment),
        planned(profile, experiment, names, records, (record for _, record in every_record(committed))),
        summarise(kept, experiment) if kept else None,
    )


def in_words(value: Any) -> str:
    """A setting as text; tables as "key value; ..."."""
    if isinstance(value, dict):
        return "; ".join(f"{key} {in_words(item)}" for key, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def choices_table(experiment: str, profile: str) -> str:
    """Markdown of every choice that the paper leaves open: its value under a profile, and the reason."""
    own = load_profile(profile)[experiment]
    rows = [
        f"| {name.replace('_', ' ')} | {in_words(own.get(name, choice['value']))} | {choice['reason']} |"
        for name, choice in load_choices(experiment).items()
    ]
    return "\n".join(["| choice | value | reason |", "|---|---|---|", *rows])


def runs(loaded: Loaded) -> str:
    """HTML of where the records come from: a row a kind of run, with its trials and hours; and what is still to run."""
    if not loaded.records:
        return markup.note(state(loaded))
    made = pd.DataFrame(
        {
            "data": r["data"].get("label", r["data"]["name"]),
            "profile": r["trial"]["profile"],
            "machine": f"{r['machine']['name']}, {r['machine']['threads']} thread",
            "precision": r["hyperparameters"]["precision"],
            "torch": r["versions"]["torch"],
            "commit": str(r["git"]["commit"])[:7] + " with changes" * bool(r["git"]["dirty"]),
            "hours": r["seconds"] / 3600,
        }
        for r in loaded.records
    )
    kinds = [name for name in made if name not in ("commit", "hours")]
    table = made.groupby(kinds, as_index=False).agg(
        commits=("commit", lambda found: ", ".join(sorted(set(found)))),
        trials=("hours", "size"),
        hours=("hours", "sum"),
    )
    table["hours"] = table["hours"].map("{:.2f}".format)
    rows = [[escape(str(value)) for value in row] for row in table.itertuples(index=False)]
    return markup.table(list(table), rows, "results claims") + markup.note(state(loaded)) + outdated(loaded.records)


def state(loaded: Loaded) -> str:
    """A sentence on how much of the profile has been run, and what its budget is."""
    planned_trials, missing = (sum(loaded.plan[name].tolist()) for name in ("planned", "missing"))
    told = f"Profile {loaded.profile}: {planned_trials - missing} of {planned_trials} trials have been run"
    if missing:
        told += f"; the rest takes about {duration(missing, sum(loaded.plan['seconds'].tolist()))} of one core"
    steps = load_profile(loaded.profile)[loaded.experiment]["steps"]
    lengths = {"": steps} if isinstance(steps, int) else {f" ({name})": count for name, count in steps.items()}
    return f"{told}. Steps of training: {', '.join(f'{count:,}{name}' for name, count in lengths.items())}."


def outdated(records: Iterable[dict[str, Any]]) -> str:
    """A note on the records that were made with other settings than the present ones; nothing if there are none."""
    changes: Counter[str] = Counter()
    for record in records:
        fields = dict(record["trial"])
        trial = TRIALS[fields.pop("experiment")](**fields)
        then, now = record["hyperparameters"], hyperparameters(trial)
        for name in sorted(then.keys() | now.keys()):
            if then.get(name) != now.get(name):
                change = f"{name.replace('_', ' ')} of {trial.layer} was {then.get(name)}, is {now.get(name)}"
                changes[change] += 1
    told = "; ".join(f"{change} ({count} trial{'s' * (count > 1)})" for change, count in sorted(changes.items()))
    return markup.note(f"Made with other settings than the present ones: {escape(told)}." if told else "")


def costs(cells: pd.DataFrame, rows: Mapping[str, Selector], columns: Mapping[str, Selector]) -> str:
    """HTML of what trials take: trainable parameters, and by column the mean seconds, kinds of runs told apart.

    Parameters
    ----------
    cells : of one network, source or data set, as :func:`gdlayer.report.cells.summarise` gives them
    rows, columns : {heading: selector}
    """
    cells = cells.drop_duplicates([name for name in cells if name not in _MEASURED])
    (letters,) = kind_letters(cells)

    def seconds(found: pd.DataFrame) -> str:
        texts = []
        for row in rows_of(found):
            letter = letters.get(kind_of(row), "")
            texts.append(f"{row.seconds / row.seeds:,.0f}{f'<sup>{letter}</sup>' if letter else ''}")
        return "<br>".join(texts) or "—"

    body = {}
    for heading, row in rows.items():
        counts = sorted(set(find(cells, row)["parameters"]))
        durations = [seconds(find(cells, {**row, **column})) for column in columns.values()]
        body[heading] = [" or ".join(f"{count:,}" for count in counts) or "—", *durations]
    main = main_kind(cells)
    legend = [
        f"Seconds a trial, mean over seeds; made in {kind_in_words(main)}." if main else "No trial has been run yet."
    ]
    legend += [f"Otherwise: {kinds_in_words(letters)}."] if letters else []
    return markup.table(["", "parameters", *columns], body) + markup.note(" ".join(legend))


_MEASURED = ("metric", "seeds", "mean", "std", "seconds", "low", "high", "paper")
