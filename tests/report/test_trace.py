"""From every number in the experiment chapters back to the record: what the book says is what the record says."""

import csv
import json
import re
import subprocess
import tomllib
from collections import defaultdict
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import nbformat
import numpy as np
import papermill
import pytest
from invented import SAMPLE, Page, ablation, loaded_of, net, record, resized, save, trial_of, vgg
from markupsafe import Markup
from PIL import Image

from gdlayer.experiments import __main__ as cli
from gdlayer.experiments.ablations.layers import QUESTIONS
from gdlayer.experiments.table1 import repeats
from gdlayer.experiments.table1.trial import Table1Trial
from gdlayer.report import answers, conclusion, dots, judgements, markup, overview, records, replication, tuning
from gdlayer.report.cells import DEVICES, KIND, select, summarise, write_csv
from gdlayer.report.chapter import choices_table, runs
from gdlayer.report.loaded import Loaded, load
from gdlayer.report.overview import PROVENANCE, missing_provenance
from gdlayer.trials.plan import plan
from gdlayer.trials.record import check_current, every_record, load_records, recorded_datasets
from gdlayer.trials.registry import experiments
from gdlayer.trials.settings import hyperparameters

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "data" / "results"
EXPERIMENTS = experiments()
ALL_AT_ONCE = ("preface", "overview", "protocol", "records", "replication")
"""Chapters that show all experiments."""
CHAPTERS = (*EXPERIMENTS, *ALL_AT_ONCE)
FOLDERS = sorted(path.relative_to(COMMITTED).as_posix() for path in COMMITTED.glob("*/*") if path.is_dir())
TABLES = [folder for folder in FOLDERS if folder.split("/")[1] in EXPERIMENTS]
RECORDED = [name for name in EXPERIMENTS if name in {folder.split("/")[1] for folder in FOLDERS}]


def committed(folder: str) -> list[tuple[Path, dict[str, Any]]]:
    return [(path, made) for path, made in every_record(COMMITTED) if path.is_relative_to(COMMITTED / folder)]


# The record


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_record_tells_where_it_comes_from_and_lies_where_it_belongs(folder):
    found = committed(folder)
    assert found
    for path, made in found:
        assert missing_provenance(made) == [], path
        assert trial_of(made["trial"]).record_path(COMMITTED) == path
        assert re.fullmatch("[0-9a-f]{40}", made["git"]["commit"]), path
        assert made["git"]["dirty"] is False, path
        assert made["machine"]["device"] in DEVICES, path
        home = EXPERIMENTS[trial_of(made["trial"]).belongs_to]
        assert made["trial"]["dataset"] != home.embedded, f"{path}: no stand-in in the record"
        assert made["data"]["name"] == made["trial"]["dataset"], path


@pytest.mark.parametrize("folder", FOLDERS)
def test_metrics_are_those_that_the_training_ended_with(folder):
    for path, made in committed(folder):
        last = made["curve"][-1]
        assert last["step"] == made["hyperparameters"]["steps"], path
        for name, value in made["metrics"].items():
            assert 0 <= value <= 1, path
            assert value == last[name], path


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_records_of_a_cell_share_their_settings_and_their_data(folder):
    settings = defaultdict(list)
    for path, made in committed(folder):
        trial = trial_of(made["trial"])
        rest = {name: value for name, value in made["trial"].items() if name != "seed"}
        settings[json.dumps(rest, sort_keys=True)].append((made["hyperparameters"], made["data"]["sha256"]))
        if trial.profile == "paper":
            check_current(made, hyperparameters(trial), path)
    for cell, found in settings.items():
        assert all(other == found[0] for other in found), cell


@pytest.mark.parametrize(
    "name",
    [
        *("started", "seconds", "peak_memory_bytes", "parameters"),
        *(f"{part}.{field}" for part, fields in PROVENANCE.items() for field in fields),
    ],
)
def test_a_record_that_lacks_provenance_is_found(name):
    made = json.loads(next(path for path, _ in committed(FOLDERS[0])).read_text())
    assert missing_provenance(made) == []
    part, _, field = name.partition(".")
    holder = made[part] if field else made
    holder[field or part] = None
    assert missing_provenance(made) == [name]
    del holder[field or part]
    assert missing_provenance(made) == [name]


def test_a_record_that_lacks_a_whole_part_is_found():
    made = committed(FOLDERS[0])[0][1]
    assert missing_provenance(made | {"git": None}) == ["git.commit", "git.dirty"]
    assert missing_provenance(made | {"data": {}}) == ["data.name", "data.source", "data.sha256"]


def test_records_were_made_by_code_of_this_repository():
    """By commits that its history has, where that is at hand."""
    if not (ROOT / ".git").exists() or git("rev-parse", "--is-shallow-repository") != "false":
        pytest.skip("no history here")
    for commit in {made["git"]["commit"] for _, made in every_record(COMMITTED)}:
        assert git("cat-file", "-t", commit) == "commit", commit


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True).stdout.strip()


# Tables as files


def rebuilt(results: Path, folder: str, target: Path) -> bytes:
    profile, experiment = folder.split("/")
    records = load_records(results, profile, experiment, recorded_datasets(results, profile, experiment))
    write_csv(summarise(records, EXPERIMENTS[experiment]), target)
    return target.read_bytes()


@pytest.mark.parametrize("folder", TABLES)
def test_tables_rebuilt_from_the_record_are_the_committed_ones(folder, tmp_path):
    """If not: python -m gdlayer.report TABLE --profile PROFILE --results data/results"""
    assert rebuilt(COMMITTED, folder, tmp_path / "rebuilt.csv") == (COMMITTED / f"{folder}.csv").read_bytes()


def test_there_is_no_table_without_records():
    files = {path.relative_to(COMMITTED).with_suffix("").as_posix() for path in COMMITTED.glob("*/*.csv")}
    assert files == set(TABLES)


@pytest.mark.parametrize("folder", TABLES)
def test_a_table_says_what_each_row_was_made_with(folder):
    with (COMMITTED / f"{folder}.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert all(row[name] for row in rows for name in (*KIND, "parameters", "seeds", "seconds"))
    assert {row["profile"] for row in rows} == {folder.split("/")[0]}


def test_another_number_in_the_record_changes_the_table(tmp_path):
    made = [net("unet", 0.9 + s / 100, seed=s) for s in range(3)]
    save(tmp_path, *made)
    before = rebuilt(tmp_path, "paper/table3", tmp_path / "rebuilt.csv")
    assert rebuilt(tmp_path, "paper/table3", tmp_path / "rebuilt.csv") == before
    made[1]["metrics"]["iou"] += 0.001
    save(tmp_path, made[1])
    assert rebuilt(tmp_path, "paper/table3", tmp_path / "rebuilt.csv") != before


# Tables in the chapters


def chapter(name: str) -> Any:
    return nbformat.read(ROOT / "book" / f"{name}.ipynb", 4)


def parameters(notebook: Any) -> dict[str, str]:
    """What the chapter is made with, unless papermill says otherwise."""
    (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    found: dict[str, str] = {}
    exec(cell.source, found)
    return {name: value for name, value in found.items() if not name.startswith("__")}


def shown_tables(notebook: Any) -> list[str]:
    """The HTML tables and notes among the outputs."""
    return [
        output["data"]["text/html"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "text/html" in output.get("data", {})
    ]


def made_tables(name: str, loaded: dict[str, Loaded]) -> list[str]:
    """The same from the record, in order."""
    if name == "overview":
        return [
            answers.render(loaded),
            overview.verdicts(loaded),
            overview.provenance("fullest", loaded),
        ]
    if name == "preface":
        return [answers.render(loaded)]
    if name == "records":
        return [records.render(loaded)]
    if name == "protocol":
        return protocol(*(loaded[experiment] for experiment in EXPERIMENTS))
    if name == "replication":
        return report(loaded)
    own = loaded[name]
    page = own.experiment.page
    judged = [conclusion.render(own), judgements.render(own)]
    if name == "table1":
        networks = [page.table(own, network=network) for network in ("pooled", "batch-norm")]
        lessons = [page.lesson(own.records, network=network) for network in Table1Trial.as_published]
        return [answers.answer(own), page.table(own), *judged, repeats.budgets(), *networks, *lessons]
    if name == "table2":
        return [answers.answer(own), page.table(own), *judged, page.residuals(own.records)]
    if name == "ablations":
        asked = [page.answer(own, question) for question in QUESTIONS]
        return [answers.answer(own), *asked, page.table(own), judgements.render(own)]
    if name == "scale":
        return [answers.answer(own), page.table(own), *judged]
    return [answers.answer(own), *(page.table(own, dataset=dataset) for dataset in own.datasets), *judged]


def protocol(first: Loaded, second: Loaded, third: Loaded, ablations: Loaded, scale: Loaded) -> list[str]:
    """The tables of the protocol."""
    return [
        first.experiment.page.lengths(first),
        tuning.render(first.experiment),
        repeats.precision(),
        repeats.machine(),
        runs(first),
        first.experiment.page.durations(first),
        tuning.render(second.experiment),
        runs(second),
        second.experiment.page.durations(second),
        tuning.render(third.experiment),
        runs(third),
        *(third.experiment.page.durations(third, dataset=dataset) for dataset in third.datasets),
        runs(ablations),
        ablations.experiment.page.durations(ablations),
        tuning.render(scale.experiment),
        runs(scale),
        scale.experiment.page.durations(scale),
    ]


def report(loaded: dict[str, Loaded]) -> list[str]:
    """The tables of the replication report, and the sentences that are made from the record."""
    first, second, third, ablations, *_ = loaded.values()
    shown = [
        *(answers.answer(first), first.experiment.page.table(first)),
        *(answers.answer(second), second.experiment.page.table(second)),
        answers.answer(third),
        *(third.experiment.page.table(third, dataset=dataset) for dataset in third.datasets),
        answers.answer(ablations),
    ]
    return [
        *(markup.paragraph(replication.abstract(loaded)), replication.scope(loaded), replication.choices(loaded)),
        *shown,
        markup.paragraph(replication.summary(loaded)),
        *(replication.untested(loaded), replication.statement(loaded)),
    ]


@pytest.fixture(scope="module")
def loaded() -> dict[str, Loaded]:
    return {name: load(COMMITTED, "fullest", name, parameters(chapter(name))["datasets"]) for name in EXPERIMENTS}


@pytest.mark.parametrize("name", CHAPTERS)
def test_tables_in_a_chapter_are_those_of_the_record(name, loaded):
    """If not: execute the chapter again."""
    assert shown_tables(chapter(name)) == made_tables(name, loaded)


def test_the_readme_gives_the_answers_of_the_record(loaded):
    """If not: python workflow/refresh.py"""
    assert f"\n\n{answers.markdown(loaded)}\n\n" in (ROOT / "README.md").read_text("utf-8")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_sentence_of_an_answer_follows_from_the_record(name, loaded):
    """If not: write it anew, in the answer.py of the experiment."""
    told = answers.sentences(loaded[name])
    assert 3 <= len(told) <= 5
    assert [sentence.text for sentence in told if not sentence.follows] == []


def test_the_picture_of_the_readme_shows_the_record(loaded):
    """By the words that it carries. If not: python workflow/refresh.py"""
    with Image.open(ROOT / "book" / "_static" / "answers.png") as picture:
        assert picture.info["Description"] == dots.in_words(loaded, first=True)


def test_choices_in_the_protocol_are_those_of_the_profiles(loaded):
    """If not: execute the chapter again."""
    outputs = [output for cell in chapter("protocol").cells for output in cell.get("outputs", [])]
    shown = [found for output in outputs if (found := output.get("data", {}).get("text/markdown"))]
    assert shown == [choices_table(own) for own in loaded.values()]


LINK = re.compile(r'<a href="records\.html#([^"]+)">([\d.]+)</a>')
SAVED = re.compile(r'<a download="[^"]+" href="data:text/csv;charset=utf-8,([^"]+)">')


def records_by_place(loaded: dict[str, Loaded]) -> dict[str, list[dict[str, Any]]]:
    """The records that the page shows below each place."""
    found = defaultdict(list)
    for own in loaded.values():
        for made in own.records:
            found[records.place(trial_of(made["trial"]))].append(made)
    return found


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_number_of_a_table_leads_to_the_records_that_it_is_the_mean_of(name, loaded):
    places = records_by_place(loaded)
    (page,) = shown_tables(chapter("records"))
    linked = [found for html in shown_tables(chapter(name)) for found in LINK.findall(html)]
    assert bool(linked) == (name in RECORDED)
    for place, number in linked:
        assert page.count(f'id="{place}"') == 1
        means = [100 * np.mean([r["metrics"][m] for r in places[place]]) for m in places[place][0]["metrics"]]
        assert number in [f"{mean:.1f}" for mean in means], place
    assert {place for place, _ in linked} <= {*places}


@pytest.mark.parametrize("name", RECORDED)
def test_what_a_table_saves_are_rows_of_the_committed_one(name, loaded):
    saved = [unquote(found) for html in shown_tables(chapter(name)) for found in SAVED.findall(html)]
    committed_rows = (COMMITTED / loaded[name].profile / f"{name}.csv").read_text("utf-8").splitlines()
    assert saved
    for text in saved:
        head, *rows = text.splitlines()
        assert head == committed_rows[0]
        assert rows
        assert {*rows} <= {*committed_rows[1:]}


def test_the_commands_of_the_records_name_cells_of_their_profile(loaded):
    """So `cell` runs them."""
    (page,) = shown_tables(chapter("records"))
    commands = [Markup(found).striptags() for found in re.findall("<pre>(.*?)</pre>", page)]
    assert len(commands) == len(records_by_place(loaded))
    for command in commands:
        parsed = cli._parser().parse_args(command.split()[3:])
        (trial,) = cli._trials(parsed)
        assert trial.cell in {planned.cell for planned in plan(trial.profile, trial.experiment, (trial.dataset,))}


@pytest.mark.parametrize("name", CHAPTERS)
def test_chapters_show_the_record(name):
    given = parameters(chapter(name))
    assert (given.pop("profile"), given.pop("results")) == ("fullest", None)
    if name in ALL_AT_ONCE:
        assert given == {"datasets": ""}
    else:  # before the first record the data set of the paper
        recorded = recorded_datasets(COMMITTED, "paper", name) or EXPERIMENTS[name].trial.datasets[:1]
        assert given == {"datasets": ",".join(recorded)}


@pytest.mark.parametrize("name", CHAPTERS)
def test_papermill_knows_the_parameters_of_a_chapter(name):
    """It parses their lines, with less than Python's grammar."""
    path = ROOT / "book" / f"{name}.ipynb"
    assert papermill.inspect_notebook(str(path)).keys() == parameters(chapter(name)).keys()


@pytest.mark.parametrize("experiment", RECORDED)
def test_another_number_in_the_record_changes_the_chapter(experiment, loaded, tmp_path):
    """Of one record that the chapter shows."""
    own = loaded[experiment]
    save(tmp_path, *own.records)
    same = load(tmp_path, own.profile, experiment, ",".join(own.datasets), tmp_path)
    assert same.cells.equals(own.cells)
    made = json.loads(json.dumps(own.records[0]))
    name = next(iter(made["metrics"]))
    made["metrics"][name] *= 0.9
    save(tmp_path, made)
    changed = own._replace(
        cells=summarise(load(tmp_path, own.profile, experiment, ",".join(own.datasets)).records, own.experiment)
    )
    assert made_tables(experiment, {experiment: changed}) != made_tables(experiment, {experiment: own})


# Nothing is mixed unmarked


def render(experiment: str, records: list[dict[str, Any]]) -> Page:
    found = EXPERIMENTS[experiment]
    loaded = loaded_of(summarise(records, found), experiment=found)
    return Page(found.page.table(loaded, **({"dataset": "tnbc-derived"} if experiment == "table3" else {})))


MIXTURES = (("device", "cuda"), ("precision", "bf16"), ("profile", "quick"))


def made_for(experiment: str, layer: int, value: float, **fields: Any) -> dict[str, Any]:
    name = EXPERIMENTS[experiment].trial.layers[layer]
    if experiment == "table1":
        return record(name, 1000, accuracy=value, **fields)
    if experiment == "ablations":
        return ablation(name, value, **fields)
    if experiment == "scale":
        return resized(name, {28: value}, **fields)
    return vgg(name, value, value, **fields) if experiment == "table2" else net(name, value, **fields)


@pytest.mark.parametrize(
    ("experiment", "name", "other"),
    [
        *((e, name, other) for e in EXPERIMENTS for name, other in MIXTURES),
        ("table1", "dataset", SAMPLE),
        ("table2", "dataset", "textures-synthetic"),
    ],
)
def test_what_differs_is_marked_in_its_own_cell_and_beside_others(experiment, name, other):
    """Table 3 has a table for each data set."""
    common = [made_for(experiment, layer, 0.611) for layer in (0, 1)]
    for place in ({"layer": 2}, {"layer": 1, "seed": 1}):
        shown = render(experiment, [*common, made_for(experiment, value=0.722, **place, **{name: other})])
        marked = [cell for row in shown.rows for cell in row if "72.2" in cell]
        assert marked
        assert all(re.search(r"72\.2[†‡§¶]*\^a", cell) for cell in marked), marked
        assert not re.search(r"61\.1[†‡§¶]*\^", str(shown.rows))
        assert f"Otherwise: ^a {'bf16' if name == 'precision' else 'fp32'} on a" in shown.text
        assert str(DEVICES.get(other, other)) in shown.text
    assert "^" not in str(render(experiment, common).rows)


@pytest.mark.parametrize("experiment", RECORDED)
def test_a_chapter_is_of_one_profile_and_of_real_data(experiment, loaded):
    own = loaded[experiment]
    assert set(own.cells["profile"]) == {own.profile} == {r["trial"]["profile"] for r in own.records}
    assert own.beside is None
    assert own.experiment.embedded not in {*own.cells["dataset"]}
    if recorded_datasets(COMMITTED, "paper", experiment):
        assert own.profile == "paper"


def test_committed_tables_have_letters_just_where_they_mix(loaded):
    first, second, third, *others = (loaded[experiment]._replace(beside=None) for experiment in EXPERIMENTS)
    shown = [
        *(
            (select(first.cells, {"network": network}), first.experiment.page.table(first, network=network))
            for network in Table1Trial.networks
        ),
        *((own.cells, own.experiment.page.table(own)) for own in (second, *others)),
        *(
            (select(third.cells, {"dataset": dataset}), third.experiment.page.table(third, dataset=dataset))
            for dataset in third.datasets
        ),
    ]
    for cells, html in shown:
        kinds = {tuple(row) for row in cells[[*KIND]].to_numpy().tolist()}
        assert ("<sup>" in html) == (len(kinds) > 1)


# Prose

NUMBER = re.compile(r"(?<![\w.])(?P<digits>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?)(?P<percent>\s?%)?")


def numbers(text: str) -> set[float]:
    return {float(found["digits"].replace(",", "")) for found in NUMBER.finditer(text)}


def sources(*names: str) -> list[str]:
    """Files of these names in the folders of the experiments."""
    folders = [files(experiment.package) for experiment in EXPERIMENTS.values()]
    return [folder.joinpath(name).read_text("utf-8") for folder in folders for name in names]


@cache
def of_the_paper() -> set[float]:
    return set().union(*map(numbers, sources("paper.csv", "claims.csv")))


@cache
def of_the_protocol() -> set[float]:
    """Settings of the choices and the profiles, with the reasons that they give."""
    texts = sources("choices.toml", "profiles.toml")
    assert all(tomllib.loads(text) for text in texts)
    return set().union(*map(numbers, texts))


@cache
def of_the_networks() -> set[float]:
    return {float(made["parameters"]) for _, made in every_record(COMMITTED)}


def unknown_numbers(text: str) -> list[str]:
    """Numbers that look like results and are neither the paper's nor the protocol's, as they stand in the text.

    A percentage has to be the paper's; a decimal the paper's or a setting; a number with thousands also a count of
    parameters. What is left, such as "four" or "3×3", is no result.
    """
    paper, protocol, networks = of_the_paper(), of_the_protocol(), of_the_networks()
    unknown = []
    for found in NUMBER.finditer(text):
        value = float(found["digits"].replace(",", ""))
        if found["percent"]:
            known = paper
        elif "," in found["digits"]:
            known = paper | protocol | networks
        elif "." in found["digits"]:
            known = paper | protocol
        else:
            continue
        if value not in known:
            unknown.append(found[0])
    return unknown


@pytest.mark.parametrize("name", CHAPTERS)
def test_numbers_in_the_prose_and_code_of_a_chapter_are_the_papers_or_the_protocols(name):
    """Results stand in tables, which are made from the record."""
    for cell in chapter(name).cells:
        assert unknown_numbers(cell.source) == [], cell.id


@pytest.mark.parametrize(
    "text",
    [
        "It reaches 91.7 % of the test images.",
        "an accuracy of 0.9234",
        "(93.17)",
        "only 25,299 parameters",
        "about 91% right",
        "-0.37 points",
        "a gain of 12.3 percent",
    ],
)
def test_a_bare_result_in_prose_is_found(text):
    assert len(unknown_numbers(text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "97,202 and 25,298 parameters",
        "1,000 to 60,000 images",
        "92.8 and 96.4 %",
        "$\\sigma = 1.5$ in the first layer",
        "four 3×3 filters, 128×128 pixels, 16 tiles",
        "{cite}`naylor2017nuclei`",
    ],
)
def test_numbers_of_the_paper_and_the_protocol_are_known(text):
    assert unknown_numbers(text) == []
