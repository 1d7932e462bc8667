"""Invented trials and records, processes to run beside a test, and a reader of the HTML that is made of records."""

import json
import math
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import stats

from gdlayer.experiments.table1.trial import Table1Search, Table1Trial
from gdlayer.experiments.table3.trial import Table3Trial
from gdlayer.report import judgements
from gdlayer.report.loaded import Loaded, load
from gdlayer.report.plans import planned
from gdlayer.trials.experiment import Experiment
from gdlayer.trials.registry import experiments, trial_of
from gdlayer.trials.settings import hyperparameters
from gdlayer.trials.trial import Trial

TABLE1, TABLE2, TABLE3, *_ = experiments().values()
SIZES = (1000, 5000, 10000, 30000, 60000)
FULL, SAMPLE = "fashion-mnist", "fashion-mnist-sample"

BLANK: dict[str, Any] = {
    "curve": [],
    "parameters": 12810,
    "started": "2022-10-16T09:00:00+00:00",
    "seconds": 8.0,
    "peak_memory_bytes": 500_000_000,
    "data": {"name": "invented", "source": "invented", "sha256": "0" * 64, "n_train": 3, "n_test": 1},
    "git": {"commit": "0" * 40, "dirty": False},
    "versions": {"gdlayer": "0.1.0", "python": "3.12.0", "torch": "2.4.0", "numpy": "2.0.0"},
    "machine": {"device": "cpu", "name": "a CPU", "cores": 2, "threads": 1, "system": "Linux x86_64"},
}
"""What records have whatever the trial."""

FEW_TEST_IMAGES = """
import dataclasses
from gdlayer.datasets import fashion_mnist
whole = fashion_mnist.load
def load(name):
    data = whole(name)
    return dataclasses.replace(data, test_images=data.test_images[:50], test_labels=data.test_labels[:50])
fashion_mnist.load = load
"""
"""For a process of its own."""


def smoke(layer: str = "free-form", seed: int = 0) -> Table1Trial:
    return Table1Trial(layer=layer, n_train=1000, seed=seed, profile="smoke", dataset=SAMPLE)


def sought(layer: str = "free-form", rate: float = 0.01, seed: int = 0, network: str = "unpooled") -> Table1Search:
    return Table1Search(
        layer=layer, n_train=1000, network=network, learning_rate=rate, seed=seed, profile="smoke", dataset=SAMPLE
    )


def made_of(trial: Trial, **changes: Any) -> dict[str, Any]:
    """An invented record of a trial, with the settings that it has now."""
    metrics = {getattr(trial, "metric", "test_accuracy"): 0.5}
    made = {"trial": trial.describe(), "hyperparameters": hyperparameters(trial), "metrics": metrics}
    return made | BLANK | changes


def finish(trial: Trial, results: Path, **changes: Any) -> dict[str, Any]:
    """Writes :func:`made_of` a trial."""
    made = made_of(trial, **changes)
    path = trial.record_path(results)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(made))
    return made


def rows_of(images: torch.Tensor | np.ndarray) -> set[bytes]:
    """The images, to be compared as sets."""
    return {np.asarray(image).tobytes() for image in images}


def published(widths: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Random convolutions of VGG16 by their published names."""
    random, f_in, found = np.random.default_rng(0), 3, {}
    for stage, (width, count) in enumerate(zip(widths, (2, 2, 3, 3, 3), strict=True), 1):
        for i in range(1, count + 1):
            found[f"conv{stage}_{i}.weight"] = random.normal(size=(width, f_in, 3, 3)).astype(np.float32)
            found[f"conv{stage}_{i}.bias"] = random.normal(size=width).astype(np.float32)
            f_in = width
    return found


def python(script: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    """A process of its own that runs a script; :func:`processed` waits for it."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def processed(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Status, output and errors of a process that has ended."""
    out, err = process.communicate(timeout=600)
    return process.returncode, out, err


def record(layer: str = "ours", n: int = 1000, seed: int = 0, accuracy: float = 0.8, **fields: Any) -> dict[str, Any]:
    """An invented record of experiment 1, of the fields that the report reads."""
    trial = {"experiment": "table1", "layer": layer, "n_train": n, "network": fields.pop("network", "unpooled")}
    trial |= {"seed": seed, "profile": "paper", "dataset": FULL}
    losses = fields.pop("losses", [2.0, 1.0])
    made = BLANK | {
        "trial": {name: fields.pop(name, value) for name, value in trial.items()},
        "hyperparameters": {"precision": fields.pop("precision", "fp32"), "steps": 100},
        "machine": BLANK["machine"] | {"device": fields.pop("device", "cpu")},
        "metrics": {"test_accuracy": accuracy},
        "seconds": 60.0,
        "curve": [
            {"step": 10 * (i + 1), "epoch": i / 2, "train_loss": loss, "train_accuracy": 0.5}
            for i, loss in enumerate(losses)
        ],
    }
    parts = {name: made[name] | value for name, value in fields.items() if isinstance(value, dict)}
    return made | fields | parts


def record_of(experiment: str, metrics: dict[str, float], **fields: Any) -> dict[str, Any]:
    """An invented record of another experiment; ``fields`` has what names its cell, and more."""
    names = ("layer", *experiments()[experiment].trial.cell_fields())
    cell = {name: fields.pop(name) for name in names}
    defaults: dict[str, Any] = {"dataset": "cats-vs-dogs-200" if experiment == "table2" else "tnbc-derived"}
    made = record(**(defaults | fields))
    trial = {name: made["trial"][name] for name in ("dataset", "seed", "profile")}
    return made | {"trial": {"experiment": experiment, **cell, **trial}, "metrics": metrics}


def vgg(layer: str, val: float, test: float, source: str = "scratch", **fields: Any) -> dict[str, Any]:
    return record_of("table2", {"val_accuracy": val, "test_accuracy": test}, layer=layer, source=source, **fields)


def net(layer: str, accuracy: float, split: str = "tile", background: float = 0.875, **fields: Any) -> dict[str, Any]:
    """Dice and IoU a tenth and two tenths lower, F1 half of the accuracy."""
    metrics = {"pixel_accuracy": accuracy, "dice": accuracy - 0.1, "iou": accuracy - 0.2, "nucleus_f1": accuracy / 2}
    metrics["background_accuracy"] = background
    return record_of("table3", metrics, layer=layer, split=split, **fields)


def ablation(layer: str, accuracy: float, n: int = 1000, **fields: Any) -> dict[str, Any]:
    made = {"dataset": FULL} | fields
    return record_of("ablations", {"test_accuracy": accuracy}, layer=layer, n_train=n, **made)


def resized(layer: str, accuracies: dict[int, float], n: int = 5000, **fields: Any) -> dict[str, Any]:
    """Of the experiment on scale: {size of the test images: accuracy}."""
    metrics = {f"test_accuracy_at_{size}": accuracy for size, accuracy in accuracies.items()}
    return record_of("scale", metrics, layer=layer, n_train=n, **({"dataset": FULL} | fields))


def save(folder: Path, *records: dict[str, Any]) -> list[Path]:
    paths = []
    for r in records:
        path = trial_of(r["trial"]).record_path(folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(r))
        paths.append(path)
    return paths


def of_plan(layer: str, n: int, seed: int, **fields: Any) -> dict[str, Any]:
    """A record with the settings that the profile has now."""
    made = record(layer, n, seed, precision="bf16", **fields)
    made["hyperparameters"] = hyperparameters(trial_of(made["trial"]))
    return made


def runs_of(layer: str, *percent: float, first: int = 0, **fields: Any) -> list[dict[str, Any]]:
    """A record a seed."""
    return [record(layer, seed=first + i, accuracy=p / 100, **fields) for i, p in enumerate(percent)]


COUNTS = {"free-form": 9770, "rfnn": 10810, "dau": 42010, "ours": 12810, "ours-few": 11810, "ours-separated": 8410}


def as_in_the_paper(seeds: int = 5, control: float = -1.0, **fields: Any) -> list[dict[str, Any]]:
    """Records of the six layers that differ as the paper says, seeds in common, and controls lower than all."""
    made_up = []
    for ((layer, n), _), percent in TABLE1.published.items():
        for seed in range(seeds):
            accuracy = (percent + seed) / 100 + 1e-5 * ((seed * 7 + len(layer)) % 5)
            made_up.append(record(layer, int(n), seed, accuracy, parameters=COUNTS[layer], **fields))
    lowest = {n: min(p for ((_, size), _), p in TABLE1.published.items() if int(size) == n) for n in SIZES}
    for layer in [name for name, row in TABLE1.layers.items() if not row.in_paper]:
        for n in SIZES:
            made_up += [
                record(layer, n, s, (lowest[n] + control + s) / 100 + 1e-5 * (s * s % 3), **fields)
                for s in range(seeds)
            ]
    return made_up


def rows_by_claim(tmp_path: Path, *records: dict[str, Any], experiment: str = "table1", datasets: str = FULL) -> Any:
    """{claim: its rows}"""
    save(tmp_path, *records)
    loaded = load(tmp_path, records[0]["trial"]["profile"], experiment, datasets, tmp_path)
    return {claim.name: claim.rows for claim in judgements.judgements(loaded)}


NETS = {"unet": 97202, "gaussian-unet": 25298, "unet-bn": 97404, "unet-small": 24704}
"""With their parameters."""


def nets(gaussian: float, bn: float, small: float = 0.0, seeds: int = 5, **fields: Any) -> list[dict[str, Any]]:
    return [
        net(layer, 0.9 + shift / 100 + s / 100 + 1e-5 * (s * s % 3), split, seed=s, parameters=count, **fields)
        for (layer, count), shift in zip(NETS.items(), (0.0, gaussian, bn, small), strict=True)
        for split in Table3Trial.splits
        for s in range(seeds)
    ]


def half(*percent: float) -> str:
    """Half of the 95 % interval of a mean, as a table shows it."""
    width = stats.t.ppf(0.975, len(percent) - 1) * np.std(percent, ddof=1) / math.sqrt(len(percent))
    return f"± {width:.1f}"


def loaded_of(
    cells: pd.DataFrame,
    record: pd.DataFrame | None = None,
    plan: pd.DataFrame | None = None,
    *,
    experiment: Experiment = TABLE1,
) -> Loaded:
    """What a page is given, of cells alone; nothing is planned unless told."""
    nothing = planned("paper", experiment.name, [], [])
    return Loaded(experiment, Path(), "paper", (), [], cells, nothing if plan is None else plan, record, None)


def page(
    cells: pd.DataFrame,
    record: pd.DataFrame | None = None,
    plan: pd.DataFrame | None = None,
    *,
    experiment: Experiment = TABLE1,
    columns: int = 0,
    **options: Any,
) -> "Page":
    """The table of an experiment's page, read."""
    loaded = loaded_of(cells, record, plan, experiment=experiment)
    parsed = Page(experiment.page.table(loaded, **options))
    assert parsed.tags <= {"table", "thead", "tbody", "tr", "th", "td", "br", "small", "sup", "p", "a"}
    assert {len(row) for row in parsed.rows} == {columns or len(parsed.rows[0])}
    return parsed


class Page(HTMLParser):
    """Rows of cells as text, and the text of everything else; fails on what is not well-formed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self.tags: set[str] = set()
        self.feed(str(html))
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "br":
            self.handle_data("|")
            return
        if tag == "sup":
            self.handle_data("^")
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            assert self.open[-2] == "tr"
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        assert not set(data) & set("<>") or "escaped" in data
        if "tr" in self.open:
            self.rows[-1][-1] += data
        else:
            self.text += data
