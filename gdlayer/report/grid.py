"""A table of the paper as HTML: our values with their intervals, under them the paper's numbers."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from gdlayer._plumbing.extras import extra
from gdlayer.report import markup, records
from gdlayer.report.cells import (
    MARKS,
    Selector,
    as_csv,
    kind_in_words,
    kind_letters,
    kind_of,
    main_kind,
    marks,
    published_at,
    rows_of,
    select,
    still_to_run,
)
from gdlayer.report.loaded import Loaded
from gdlayer.trials.progress import duration_in_words

with extra("report"):
    import pandas as pd


class Panel(NamedTuple):
    """A table by its selectors: those of a row and a column together name a cell and a metric."""

    title: str
    rows: Mapping[str, Selector]
    columns: Mapping[str, Selector]


def grid(
    loaded: Loaded,
    rows: Mapping[str, Selector],
    columns: Mapping[str, Selector],
    *,
    corner: str = "",
    foot: Mapping[str, Sequence[str]] | None = None,
) -> Markup:
    """HTML of a table: our values with their 95 % intervals, under them the paper's number in parentheses.

    Every cell says what it is, by the signs of :data:`gdlayer.report.cells.MARKS`; a letter marks what was made with
    another data set, profile, precision or device than most. What is planned but not run yet says so, and how long it
    takes; a dash where nothing is planned. Beside a user's own run, another line
    shows the committed record in brackets. Each mean of the run leads to its records, see
    :mod:`gdlayer.report.records`, and the table can be saved as CSV.

    Parameters
    ----------
    loaded : what there is
    rows, columns : {heading: selector}
        A row's and a column's selector together name a cell and a metric; what they leave open is as by default.
    corner : the first heading
    foot : {heading: one text per column}, optional
    """
    defaults = loaded.experiment.trial.cell_defaults()
    selectors = [[{**defaults, **row, **column} for column in columns.values()] for row in rows.values()]
    every = [selector for line in selectors for selector in line]
    own = _shown(loaded.cells, every)
    kept = None if loaded.beside is None else _shown(loaded.beside, every)
    own_letters, kept_letters = kind_letters(own, kept)
    same = len(set(own["seeds"])) <= 1
    left: dict[tuple[Any, ...], float] = {}
    """Seconds by cell: its metrics come from the same trials."""

    def entry(selector: Selector) -> Markup:
        pending, seconds = still_to_run(loaded.plan, selector)
        left[tuple(value for name, value in sorted(selector.items()) if name != "metric")] = seconds
        chosen = select(loaded.cells, selector)
        found = values(loaded, chosen, own_letters, pending, counted=not same or pending > 0, linked=True)
        if pending and not found:
            found = markup.small(markup.lines("not run", duration_in_words(seconds or None)))
        texts = [found or "—"]
        if loaded.beside is not None:
            beside = values(loaded, select(loaded.beside, selector), kept_letters) or "—"
            texts.append(markup.small(Markup("[{}]").format(beside)))
        if (number := published_at(loaded.experiment, selector)) is not None:
            texts.append(markup.small(f"({number:.1f})"))
        return markup.lines(*texts)

    body = {heading: [entry(s) for s in line] for heading, line in zip(rows, selectors, strict=True)}
    table = markup.table([corner, *columns], body | dict(foot or {}))
    printed = bool(loaded.experiment.published)
    notes = [legend(table, own, kept, sum(left.values()), printed=printed)]
    if len(own):
        name = "-".join((loaded.experiment.name, *_in_common(every, defaults)))
        saved = markup.download(f"{name}.csv", f"{name}.csv", as_csv(own.sort_index()))
        notes.append(Markup("Each number leads to its records. To save: {}.").format(saved))
    return table + markup.note(markup.sentences(*notes))


def _in_common(selectors: Sequence[Selector], defaults: Selector) -> list[str]:
    """What all selectors name, but for the metric and what is as by default: it tells an experiment's tables apart."""
    return [
        str(value)
        for name, value in selectors[0].items()
        if name != "metric" and value != defaults.get(name) and all(other.get(name) == value for other in selectors)
    ]


def _shown(cells: pd.DataFrame, selectors: Iterable[Selector]) -> pd.DataFrame:
    """The rows that any of the selectors selects."""
    return cells.loc[[index for selector in selectors for index in select(cells, selector).index]]


def values(
    loaded: Loaded,
    cells: pd.DataFrame,
    letters: Mapping[tuple[str, ...], str],
    pending: int = 0,
    *,
    counted: bool = False,
    linked: bool = False,
) -> Markup:
    """The cells: mean, marks and letter, below half of the interval and, if ``counted``, the number of seeds.

    If ``linked``, the mean is a link to the records.
    """
    total = pending + sum(cells["seeds"].tolist())
    texts: list[str] = []
    for row in rows_of(cells):
        mean = f"{row.mean:.1f}"
        value = Markup("{}{}{}").format(
            records.link_to(loaded.experiment, row, mean) if linked else mean,
            marks(loaded.experiment, row._asdict()) + "*" * (pending > 0),
            markup.superscript(letters.get(kind_of(row), "")),
        )
        texts.append(value)
        if row.seeds > 1:
            texts.append(markup.small(f"± {row.high - row.mean:.1f}"))
        if counted:
            texts.append(markup.small(f"n = {row.seeds}{f' of {total}' if pending else ''}"))
    return markup.lines(*texts)


def kinds_in_words(letters: Mapping[tuple[str, ...], str]) -> Markup:
    """What the letters stand for; nothing for none."""
    told = [markup.sentences(markup.superscript(letter), kind_in_words(kind)) for kind, letter in letters.items()]
    return Markup("Otherwise: {}.").format(markup.items(*told)) if told else Markup()


def legend(table: str, own: pd.DataFrame, kept: pd.DataFrame | None, left: float, *, printed: bool) -> Markup:
    """What the signs in a rendered table mean, those that are there; and what it was made with."""
    counts = sorted(set(own["seeds"]))
    notes: list[str] = ["Percent; in parentheses the paper's." if printed else "Percent."]
    if "±" in table:
        notes.append("± half of the 95 % interval over seeds (Student's t).")
    if "n =" in table:
        notes.append("n: seeds.")
    elif counts:
        notes.append(f"{markup.seeds(counts[0]).capitalize()} per cell.")
    if (kind := main_kind(own)) is not None:
        notes.append(f"Made in {kind_in_words(kind)}.")
    if kept is not None:
        made = main_kind(kept)
        notes.append(
            f"In brackets: the run kept in the repository{'' if made is None else f', {kind_in_words(made)}'}."
        )
    letters = {kind: letter for found in kind_letters(own, kept) for kind, letter in found.items()}
    notes.append(kinds_in_words(letters))
    notes += [f"{sign} {meaning}" for sign, meaning in MARKS.items() if sign in table]
    if left:
        notes.append(f"Not run yet: with about how long that takes on one core, {duration_in_words(left)} in all.")
    if "—" in table:
        notes.append("— No record: not part of this run, or the embedded stand-in is too small for it.")
    return markup.sentences(*notes)
