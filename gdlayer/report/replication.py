"""What only the replication report shows: its abstract, scope and choices, and what the record was made with."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from gdlayer.report import answers, markup
from gdlayer.report.claims import UNTESTABLE, quoted
from gdlayer.report.judgements import judgements
from gdlayer.report.loaded import Loaded
from gdlayer.trials.record import load_records


def abstract(tables: Mapping[str, Loaded]) -> str:
    """The report in a paragraph, as plain text.

    Parameters
    ----------
    tables : {experiment: as :func:`gdlayer.report.loaded.load` gives it}
    """
    records = [record for found in runs(tables).values() for record in found]
    return " ".join(
        (
            "The paper builds the filters of a convolution as sums of Gaussian derivative kernels whose scales, shifts"
            " and angles are trained with the weights. We wrote the layer anew in PyTorch and ran the paper's"
            " experiments again, with the layers that it is compared with and with controls of our own.",
            f"From {len(records):,} training runs ({_hours(records)} hours of training) each of its claims is judged by"
            " paired differences with 95 % intervals, corrected for the number of comparisons.",
            answers.in_words(tables),
            summary(tables),
        )
    )


def summary(tables: Mapping[str, Loaded]) -> str:
    """How many cases of the paper's claims have which verdict, what is decided by construction apart."""
    claims = [claim for loaded in tables.values() for claim in judgements(loaded) if claim.of_paper]
    rows = [row for claim in claims for row in claim.rows]
    told = _counted([row.verdict for row in rows if not row.tag])
    chosen = sum(bool(row.tag) for row in rows)
    apart = f"; {chosen} further cases are decided by construction, without training" if chosen else ""
    return f"The {len(claims)} claims together: {told}{apart}."


def _counted(verdicts: Sequence[str]) -> str:
    """How often each is told, the most frequent first: "above in 3 of 5 cases, too few seeds in 2"."""
    (first, count), *others = Counter(verdicts).most_common()
    return ", ".join([f"{first} in {count} of {len(verdicts)} cases", *(f"{name} in {n}" for name, n in others)])


def scope(tables: Mapping[str, Loaded]) -> Markup:
    """HTML of the claims: a row per experiment, with its question and the sentences of the paper that it judges."""
    rows = [
        [
            loaded.experiment.title,
            loaded.experiment.page.QUESTION,
            markup.bullets(
                markup.lines(*(quoted(quote.text, quote.where) for quote in loaded.experiment.quotes[claim.name]))
                for claim in judgements(loaded)
            ),
        ]
        for loaded in tables.values()
    ]
    return markup.table(["experiment", "question", "claims of the paper"], rows, "results claims")


def choices(tables: Mapping[str, Loaded]) -> Markup:
    """HTML of what the paper leaves open: a row per experiment, with the names of the choices that had to be made."""
    body = {
        loaded.experiment.title: [", ".join(name.replace("_", " ") for name in loaded.experiment.choices)]
        for loaded in tables.values()
    }
    return markup.table(["experiment", "what had to be chosen"], body, "results claims")


def untested(tables: Mapping[str, Loaded]) -> Markup:
    """HTML of the cases that no run of the record can decide, by experiment and reason."""
    found: dict[tuple[str, str], list[str]] = {}
    for loaded in tables.values():
        for row in (row for claim in judgements(loaded) for row in claim.rows):
            if row.verdict == UNTESTABLE:
                found.setdefault((loaded.experiment.title, row.why), []).append(row.case)
    texts = [
        Markup("{}: {} ({}).").format(title, why, "; ".join(dict.fromkeys(cases)))
        for (title, why), cases in found.items()
    ]
    return markup.bullets(texts or ["Nothing."])


def runs(tables: Mapping[str, Loaded]) -> dict[str, list[dict[str, Any]]]:
    """{title: records} of every experiment, search and check that has any, of the profiles and data sets shown."""
    found = {}
    for loaded in tables.values():
        for name, cls in loaded.experiment.trial_types.items():
            datasets = [dataset for dataset in loaded.datasets if dataset in cls.datasets]
            if records := load_records(loaded.folder, loaded.profile, name, datasets):
                found[f"{cls.title}, {loaded.profile}"] = records
    return found


def statement(tables: Mapping[str, Loaded]) -> Markup:
    """HTML of what the report rests on: training runs, seeds, hours and days, and what all of them were made with."""
    found = runs(tables)
    every = [record for records in found.values() for record in records]
    if not every:
        return markup.note("No run has been made yet.")
    rows = [_row(title, records) for title, records in found.items()]
    counts = markup.table(["", "training runs", "seeds", "hours", "from", "to"], [*rows, _row("all", every)], "results")
    facts = {
        "commits": ", ".join(
            sorted({f"{str(r['git']['commit'])[:7]}{' with changes' * bool(r['git']['dirty'])}" for r in every})
        ),
        "versions": _listed(", ".join(f"{name} {version}" for name, version in r["versions"].items()) for r in every),
        "machines": _listed(
            f"{r['machine']['name']}, {r['machine']['system']}, {r['machine']['device']},"
            f" {r['machine']['cores']} cores, {r['machine']['threads']} per run"
            for r in every
        ),
        "precision": _listed(r["hyperparameters"]["precision"] for r in every),
        "data, with the first digits of its SHA256": _listed(
            f"{r['data'].get('label', r['data']['name'])}, {str(r['data']['sha256'])[:12]}" for r in every
        ),
    }
    return counts + markup.table(["all of them", ""], {name: [told] for name, told in facts.items()}, "results claims")


def _row(title: str, records: Sequence[dict[str, Any]]) -> list[str]:
    seeds = {record["trial"]["seed"] for record in records}
    days = sorted(record["started"][: len("2022-10-16")] for record in records)
    return [title, f"{len(records):,}", str(len(seeds)), _hours(records), days[0], days[-1]]


def _hours(records: Iterable[dict[str, Any]]) -> str:
    return f"{sum(record['seconds'] for record in records) / 3600:.1f}"


def _listed(values: Iterable[str]) -> Markup:
    """The different values, in order."""
    return markup.lines(*sorted(set(values)))
