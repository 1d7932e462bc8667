"""What every experiment chapter shows besides its table: the choices, where the records come from, what they cost."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from markupsafe import Markup

from gdlayer._plumbing.extras import extra
from gdlayer.report import markup
from gdlayer.report.cells import Selector, kind_in_words, kind_letters, kind_of, main_kind, rows_of, select
from gdlayer.report.grid import kinds_in_words
from gdlayer.report.loaded import Loaded
from gdlayer.report.plans import duration
from gdlayer.trials.registry import trial_of
from gdlayer.trials.settings import hyperparameters

with extra("report"):
    import pandas as pd


def setting_in_words(value: Any) -> str:
    """A setting as text; tables as "key value; ...", those inside of others in parentheses; an empty list as "none"."""
    if isinstance(value, dict):
        texts = {key: setting_in_words(item) for key, item in value.items()}
        return "; ".join(
            f"{key} ({text})" if isinstance(value[key], dict) else f"{key} {text}" for key, text in texts.items()
        )
    return (", ".join(map(str, value)) or "none") if isinstance(value, list) else str(value)


def choices_table(loaded: Loaded) -> str:
    """Markdown of every choice that the paper leaves open: its value under the profile, and the reason."""
    experiment = loaded.experiment
    own = experiment.budget(loaded.profile, experiment.name)
    rows = [
        f"| {name.replace('_', ' ')} | {setting_in_words(own.get(name, choice['value']))} | {choice['reason']} |"
        for name, choice in experiment.choices.items()
    ]
    return "\n".join(["| choice | value | reason |", "|---|---|---|", *rows])


def runs(loaded: Loaded) -> Markup:
    """HTML of where the records come from: a row per kind of run, with trials and hours; and what is still to run."""
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
    rows = [[str(value) for value in row] for row in table.itertuples(index=False)]
    return markup.table(list(table), rows, "results claims") + markup.note(state(loaded)) + outdated(loaded.records)


def state(loaded: Loaded) -> str:
    """A sentence on how much of the profile has been run, and what its budget is."""
    planned_trials, missing = (sum(loaded.plan[name].tolist()) for name in ("planned", "missing"))
    told = f"Profile {loaded.profile}: {planned_trials - missing} of {planned_trials} trials have been run"
    if missing:
        told += f"; the rest takes about {duration(missing, sum(loaded.plan['seconds'].tolist()))} of one core"
    steps = loaded.experiment.budget(loaded.profile, loaded.experiment.name)["steps"]
    return f"{told}. Steps of training: {', '.join(_lengths(steps))}."


def _lengths(steps: Any, under: tuple[str, ...] = ()) -> list[str]:
    """Every number of steps in a setting, with the keys that lead to it: "960 (batch-norm 1000)"."""
    if isinstance(steps, dict):
        return [length for key, entry in steps.items() for length in _lengths(entry, (*under, key))]
    return [f"{steps:,} ({' '.join(under)})" if under else f"{steps:,}"]


def outdated(records: Iterable[dict[str, Any]]) -> Markup:
    """A note on the records that were made with other settings than the present ones; nothing if there are none."""
    changes: Counter[str] = Counter()
    for record in records:
        trial = trial_of(record["trial"])
        then, now = record["hyperparameters"], hyperparameters(trial)
        for name in sorted(then.keys() | now.keys()):
            if then.get(name) != now.get(name):
                change = f"{name.replace('_', ' ')} of {trial.layer} was {then.get(name)}, is {now.get(name)}"
                changes[change] += 1
    told = "; ".join(f"{change} ({count} trial{'s' * (count > 1)})" for change, count in sorted(changes.items()))
    return markup.note(f"Made with other settings than the present ones: {told}." if told else "")


def costs(cells: pd.DataFrame, rows: Mapping[str, Selector], columns: Mapping[str, Selector]) -> Markup:
    """HTML of what trials take: trainable parameters, and by column the mean seconds, kinds of runs told apart.

    Parameters
    ----------
    cells : of one network, source or data set, as :func:`gdlayer.report.cells.summarise` gives them
    rows, columns : {heading: selector}
    """
    cells = cells.drop_duplicates([name for name in cells if name not in _MEASURED])
    (letters,) = kind_letters(cells)

    def seconds(found: pd.DataFrame) -> str:
        texts = [
            Markup("{}{}").format(f"{row.seconds / row.seeds:,.0f}", markup.superscript(letters.get(kind_of(row), "")))
            for row in rows_of(found)
        ]
        return markup.lines(*texts) or "—"

    body = {}
    for heading, row in rows.items():
        counts = sorted(set(select(cells, row)["parameters"]))
        durations = [seconds(select(cells, {**row, **column})) for column in columns.values()]
        body[heading] = [" or ".join(f"{count:,}" for count in counts) or "—", *durations]
    main = main_kind(cells)
    told = (
        f"Seconds per trial, mean over seeds; made in {kind_in_words(main)}." if main else "No trial has been run yet."
    )
    legend = markup.note(markup.sentences(told, kinds_in_words(letters)))
    return markup.table(["", "parameters", *columns], body) + legend


_MEASURED = ("metric", "seeds", "mean", "std", "seconds", "low", "high", "paper")
