"""What is new: a toy Table 4, a folder and one line, and a toy layer of Table 1, one row, get all that others have."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from invented import Page

import gdlayer.experiments
from gdlayer.experiments import __main__ as cli
from gdlayer.report import __main__ as report_cli
from gdlayer.report import chapter, judgements, overview, tuning
from gdlayer.report.answers import UNWRITTEN
from gdlayer.report.loaded import FULLEST, choose_profile, load
from gdlayer.trials.plan import asked_by, choose_datasets, plan
from gdlayer.trials.record import read_record
from gdlayer.trials.registry import experiments, trial_of
from gdlayer.trials.settings import hyperparameters

ROOT = Path(__file__).parents[2]
FILES = {
    "__init__.py": """
from gdlayer.trials.experiment import Experiment
from PACKAGE.layers import LAYERS
from PACKAGE.trial import Table4Search, Table4Trial

EXPERIMENT = Experiment(
    package=__name__,
    trial=Table4Trial,
    layers=LAYERS,
    resolve=lambda tell: "noise",
    embedded="noise-synthetic",
    searches=(Table4Search,),
    example={"layer": "flat", "size": 4},
)
""",
    "layers.py": """
from gdlayer.trials.experiment import LayerType

LAYERS = {
    row.name: row
    for row in (
        LayerType(name="flat", title="Flat & plain", make="PACKAGE.prepare:network", options={"hidden": 0}),
        LayerType(name="deep", title="Deep", make="PACKAGE.prepare:network", options={"hidden": 8}, in_paper=False),
    )
}
""",
    "trial.py": """
from dataclasses import dataclass

from gdlayer.trials.trial import Search, Trial
from PACKAGE.layers import LAYERS


@dataclass(frozen=True, kw_only=True)
class Table4Trial(Trial):
    experiment = belongs_to = "table4"
    title = "Table 4"
    layers = tuple(LAYERS)
    datasets = ("noise", "noise-synthetic")
    prefixes = Trial.prefixes | {"size": "size"}

    size: int


@dataclass(frozen=True, kw_only=True)
class Table4Search(Search, Table4Trial):
    experiment = "table4-search"
    title = "rates of Table 4"
""",
    "prepare.py": """
import torch
from torch import nn

from gdlayer.trials.task import Task
from gdlayer.trials.training import accuracy
from PACKAGE.layers import LAYERS


def network(size, hidden):
    last = nn.Linear(hidden or size * size, 2)
    return nn.Sequential(nn.Flatten(), *([nn.Linear(size * size, hidden), nn.ReLU()] if hidden else []), last)


def prepare(trial, settings, workplace):
    torch.manual_seed(trial.seed)
    images, labels = torch.randn(40, 1, trial.size, trial.size), torch.arange(40) % 2
    model = LAYERS[trial.layer].maker()(size=trial.size)
    part = "validation" if "validation" in settings else "test"

    def measure():
        return {f"{part}_accuracy": accuracy(model, images[30:], labels[30:], settings["precision"])}

    def finish():
        workplace.record.with_suffix(".txt").write_text("kept")

    data = {"name": trial.dataset, "source": "made", "sha256": "0" * 64, "n_train": 30}
    return Task(model, images[:30], labels[:30], measure, (f"{part}_accuracy",), data, finish=finish)
""",
    "page.py": """
from gdlayer.report.grid import Panel, grid
from PACKAGE.layers import LAYERS

QUESTION = "Is the flat network better?"


def rows():
    return {layer.title: {"layer": layer.name, "metric": "test_accuracy"} for layer in LAYERS.values()}


def table(loaded):
    return grid(loaded, rows(), {str(size): {"size": size} for size in (3, 4)}, corner="layer")


def panels(loaded):
    return [Panel("Table 4", rows(), {"3 pixels": {"size": 3}})]
""",
    "claims.py": """
from gdlayer.report.claims import Claim
from gdlayer.report.judgements import Comparer


def stated(loaded):
    one, other = ({"layer": layer, "size": 3, "metric": "test_accuracy"} for layer in ("flat", "deep"))
    return [Claim("simple", "", [Comparer(loaded).case("flat", one, other)])]
""",
    "choices.toml": """
[learning_rate]
value = { flat = 0.01, deep = 0.02 }
reason = "Not printed."
[batch_size]
value = 8
reason = "Not printed."
[schedule]
value = "cosine"
reason = "Not printed."
[alpha]
value = 0.0
reason = "Not printed."
""",
    "profiles.toml": """
[smoke]
size = [3, 4]
seeds = 2
steps = { 3 = 2, 4 = 3 }
evaluations = 1
precision = "fp32"

[smoke.table4-search]
size = [3]
learning_rate = [0.01, 0.1]
validation = 10
""",
    "paper.csv": "layer,size,metric,percent\nflat,3,test_accuracy,55.5\n",
    "claims.csv": "claim,where,printed,quote\nsimple,section 9,,simple is better\n",
}


def write_folder(folder: Path, package: str, **files: str) -> None:
    """The experiment's folder, ``files`` in the place of its own of that name."""
    folder.mkdir(parents=True)
    for name, text in FILES.items():
        (folder / name).write_text(files.get(name, text).replace("PACKAGE", package).lstrip())


@pytest.fixture
def table4(monkeypatch, tmp_path) -> Iterator[None]:
    write_folder(tmp_path / "path" / "toy_table4", "toy_table4")
    monkeypatch.syspath_prepend(tmp_path / "path")
    monkeypatch.setitem(gdlayer.experiments.FOLDERS, "table4", "toy_table4")
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "toy_table4"]:
        del sys.modules[name]


@pytest.mark.usefixtures("table4", "figures")
def test_a_folder_and_a_line_make_an_experiment(results, monkeypatch, capsys):
    # trials: the profile has them, on their data, with their settings
    assert {"table4", "table4-search"} <= set(asked_by("smoke"))
    assert "table4" not in asked_by("paper")
    datasets = choose_datasets("smoke", "table4")
    assert datasets == ("noise-synthetic",)
    trials = plan("smoke", "table4", datasets)
    assert [trial.id for trial in trials] == [
        f"{layer}-size{size}-s{seed}" for size in (3, 4) for seed in (0, 1) for layer in ("flat", "deep")
    ]
    deep = trials[-1]
    assert hyperparameters(deep) == {
        **{"learning_rate": 0.02, "batch_size": 8, "schedule": "cosine", "alpha": 0.0},
        **{"steps": 3, "evaluations": 1, "precision": "fp32"},
    }

    # records, by the plain commands
    assert cli.main(["plan", "table4", "--profile=smoke"]) == 0
    commands = capsys.readouterr().out.splitlines()
    assert len(commands) == 8
    for trial in trials:
        assert cli.main(trial.command(results)[2:]) == 0
    record = read_record(deep.record_path(results))
    assert record is not None
    assert trial_of(record["trial"]) == deep
    assert (record["parameters"], record["curve"][-1]["step"]) == (16 * 8 + 8 + 8 * 2 + 2, 3)
    assert record["metrics"].keys() == {"test_accuracy"}
    assert deep.record_path(results).with_suffix(".txt").read_text() == "kept"
    for trial in plan("smoke", "table4-search", datasets):
        assert cli.main(trial.command(results)[2:]) == 0
    capsys.readouterr()
    assert cli.main(["search", "table4", "--profile=smoke", f"--results={results}"]) == 0
    assert "deep 3" in capsys.readouterr().out
    assert cli.main(["cell", "table4", "--profile=smoke", "--size=3", f"--results={results}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["table4 flat 3 on noise-synthetic, profile smoke", "  paper            test accuracy 55.5 %"]
    assert len(lines) == 4

    # the table as CSV and as HTML, and the judged claims
    monkeypatch.setattr(sys, "argv", ["report", "table4", "--profile=smoke", f"--results={results}"])
    assert report_cli.main() == 0
    header, *rows = (results / "smoke" / "table4.csv").read_text().splitlines()
    assert header.startswith("layer,size,dataset,profile,")
    assert len(rows) == 4
    loaded = load(results, "smoke", "table4", "", results)
    page = loaded.experiment.page
    shown = Page(page.table(loaded))
    assert shown.rows[0] == ["layer", "3", "4"]
    assert shown.rows[1][0] == "Flat & plain"
    assert shown.rows[1][1].endswith("|(55.5)")
    assert "†‡" in shown.rows[2][2]
    judged = Page(judgements.render(loaded))
    assert judged.rows[1][0].startswith("“simple is better” (section 9)")
    assert judged.rows[2][3:] == ["cannot be tested here", "embedded stand-in"]
    assert Page(chapter.runs(loaded)).rows[1][-2] == "8"
    assert "| learning rate | flat 0.01; deep 0.02 | Not printed. |" in chapter.choices_table(loaded)
    assert "not recorded yet" in tuning.render(loaded.experiment, results)  # the searches of profile paper

    # the overview, of a profile that does not ask for it too
    assert choose_profile(results, FULLEST, "table4", datasets) == "smoke"
    assert "table4" not in overview.load_all(results, "quick", "", results)
    tables = overview.load_all(results, "smoke", "", results)
    assert list(tables) == list(experiments())
    figure = overview.heat_map(tables)
    assert "Table 4 (profile smoke)" in [axis.get_title("left") for axis in figure.axes]
    assert Page(overview.verdicts(tables)).rows[-1][1:] == ["Table 4", "", "1"]
    made = {row[0]: row[1] for row in Page(overview.provenance("smoke", tables)).rows}
    assert (made["Table 4, smoke"], made["rates of Table 4, smoke"]) == ("8 of 8", "8 of 8")


@pytest.mark.usefixtures("table4")
def test_nothing_of_it_needs_torch_before_it_runs(tmp_path):
    script = (
        "import sys, json; sys.path.insert(0, sys.argv[1]); import gdlayer.experiments as e;"
        "e.FOLDERS['table4'] = 'toy_table4'; from gdlayer.trials.plan import plan;"
        "from gdlayer.trials.settings import hyperparameters;"
        "trials = plan('smoke', 'table4', ['noise']);"
        "print(json.dumps([len([hyperparameters(t) for t in trials]), 'torch' in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "path")], capture_output=True, text=True, timeout=600
    )
    assert (json.loads(done.stdout), done.stderr) == ([8, False], "")


def test_a_missing_file_is_an_error_when_it_is_asked_for(table4, tmp_path):
    (Path(tmp_path) / "path" / "toy_table4" / "choices.toml").unlink()
    with pytest.raises(FileNotFoundError, match=r"choices\.toml"):
        plan("smoke", "table4", ("noise",))


ROW = """
        LayerType(
            name="toy",
            title="Toy layer",
            make=f"{_MAKERS}:ours",
            options={"isotropic": True},
            in_paper=False,
        ),
    )
}
"""
EXECUTE = """
import json, sys
from pathlib import Path
from IPython.core.interactiveshell import InteractiveShell
import gdlayer
assert Path(gdlayer.__file__).is_relative_to(Path.cwd().parent)
shell = InteractiveShell.instance()
for chapter in sys.argv[1:]:
    shell.reset()
    shown = []
    for cell in json.loads(Path(f"{chapter}.ipynb").read_text("utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            done = shell.run_cell("".join(cell["source"]))
            done.raise_error()
            shown.append(getattr(done.result, "data", ""))
    Path(f"{chapter}.txt").write_text("\\n".join(map(str, shown)), "utf-8")
"""


def test_the_chapters_of_all_experiments_show_a_new_layer_and_a_new_experiment(tmp_path):
    """In a copy of the repository; a layer without a learning rate, an experiment without claims for `smoke` alone."""
    for name in ("gdlayer", "book", "data/results"):
        left_out = shutil.ignore_patterns("__pycache__", "_static", "*-s[1-9].*")  # of the record the first seeds do
        shutil.copytree(ROOT / name, tmp_path / name, ignore=left_out)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)  # by which the package knows that it lies in the repository
    home = tmp_path / "gdlayer" / "experiments"
    layers, registry = home / "table1" / "layers.py", home / "__init__.py"
    layers.write_text(layers.read_text("utf-8").removesuffix("    )\n}\n") + ROW.removeprefix("\n"), "utf-8")
    first, line = "FOLDERS = {\n", '    "table4": "gdlayer.experiments.table4",\n'
    registry.write_text(registry.read_text("utf-8").replace(first, first + line), "utf-8")
    no_claims = {"claims.py": "def stated(loaded):\n    return []\n", "claims.csv": "claim,where,printed,quote\n"}
    write_folder(home / "table4", "gdlayer.experiments.table4", **no_claims)

    own = json.loads((ROOT / "book" / "table2.ipynb").read_text("utf-8"))
    own["cells"].pop()  # shows what other experiments do not have
    text = json.dumps(own).replace("table2", "table4").replace("cats-vs-dogs-200", "noise-synthetic")
    (tmp_path / "book" / "table4.ipynb").write_text(text, "utf-8")

    chapters = ("overview", "protocol", "replication", "table4")
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "MPLBACKEND": "agg"}
    done = subprocess.run(
        [sys.executable, "-c", EXECUTE, *chapters],
        cwd=tmp_path / "book",
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    overview, protocol, replication, table4 = (
        (tmp_path / "book" / f"{name}.txt").read_text("utf-8") for name in chapters
    )
    for shown in (overview, replication, table4):
        assert "Is the flat network better?" in shown
        assert UNWRITTEN in shown
    assert "Toy layer, pooled" in protocol  # among the searches
