"""The files of an experiment's folder: what does not fit is one line that names the file and what is wrong."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from invented import TABLE1

from gdlayer.trials import plan as planning
from gdlayer.trials.experiment import Experiment
from gdlayer.trials.files import FolderError
from gdlayer.trials.plan import rules


@pytest.fixture
def changed(monkeypatch, tmp_path) -> Callable[[str, str, str], tuple[Path, Experiment]]:
    """Table 1 with one place of one of its files changed."""

    def change(file: str, old: str, new: str) -> tuple[Path, Experiment]:
        text = TABLE1.file(file).read_text()
        assert old in text
        for name in ("choices.toml", "profiles.toml"):
            (tmp_path / name).write_text(TABLE1.file(name).read_text())
        path = tmp_path / file
        path.write_text(text.replace(old, new, 1))
        experiment = dataclasses.replace(TABLE1)
        monkeypatch.setitem(vars(experiment), "_folder", tmp_path)
        return path, experiment

    return change


def refused(path: Path, problem: str, read: Callable[[], object]) -> None:
    with pytest.raises(FolderError, match=rf"^{re.escape(f'{path}: {problem}')}.*; mend the file$"):
        read()


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("[alpha]", "[alhpa]", "no alpha"),
        ("value = 7", "values = 7", "no kernel_size.value"),
        ("value = 7", "value = 7\nnote = 1", "unknown kernel_size.note"),
        ("value = 7", "value = 7.0", "kernel_size.value must be a valid integer, got 7.0"),
        ("value = 32", "value = -32", "batch_size.value must be greater than or equal to 1, got -32"),
        ("value = 7", "value = 7\nvalue = 7", "Cannot overwrite a value (at line "),
        ("value = 0.5", "value = inf", "'inf' is not a finite number"),
        ("rfnn = 0.02", "rfnn = '0.02'", "learning_rate.value.unpooled.rfnn must be a valid number, got '0.02'"),
        ("[16, 16, 16, 32]", "[16, true]", "widths.value.otherwise.1 must be a valid integer, got True"),
        ("[alpha]", "[new]\nvalue = 2022-10-16\nreason = 'New.'\n[alpha]", "new.value "),
        ("value = 0.0", f"value{'.a' * 3000} = 0.0", "nested too deeply"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_choices(changed, old, new, problem):
    path, experiment = changed("choices.toml", old, new)
    refused(path, problem, lambda: experiment.choices)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("[smoke]", "[smok]", "profile must be one of 'smoke', 'quick', 'paper', got 'smok'"),
        ("seeds = 1\n", "", "smoke has no seeds"),
        ("seeds = 1\n", "seeds = '1'\n", "smoke.seeds must be a valid integer, got '1'"),
        ("seeds = 1\n", "seeds = 1000000\n", "smoke.seeds must be less than or equal to 100, got 1000000"),
        ("n_train = [1000]", "n_train = 1000", "smoke.n_train must be a valid list, got 1000"),
        ("learning_rate = [0.001, 0.01, 0.02]\n", "", "smoke.table1-search has no learning_rate"),
        (
            'precision = ["bf16"]',
            'precision = "bf16"',
            "smoke.table1-precision.precision must be a valid list, got 'bf16'",
        ),
        ("validation = 100", "validate = 100", "a setting of smoke.table1-search must be one of 'widths', "),
        ("[quick]", "[quick]\ntable1-search = 1", "quick.table1-search must be a valid dictionary, got 1"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_profiles(changed, old, new, problem):
    path, experiment = changed("profiles.toml", old, new)
    refused(path, problem, lambda: experiment.budget("smoke", "table1"))


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("layer,n_train", "n_train,layer", "its first line must be one of 'layer,metric,percent', 'layer,n_train,"),
        ("78.8", "78.8,1", "line 2 has 5 values, expected 4"),
        ("78.8", "788", "percent must be less than or equal to 100, got 788.0"),
        ("78.8", "nan", "'nan' is not a finite number"),
        ("78.8", "", "could not convert string to float: ''"),
        ("78.8", '"78.8', "unexpected end of data"),
        ("rfnn,1000", "free-form,1000", "'free-form, 1000, test_accuracy' is there twice"),
        ("rfnn,1000", "rfnn,1e3", "n_train must be a plain int, got '1e3'"),
        ("rfnn,1000", ",1000", "layer must be a plain str, got ''"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_the_papers_numbers(changed, old, new, problem):
    path, experiment = changed("paper.csv", old, new)
    refused(path, problem, lambda: experiment.published)


@pytest.mark.parametrize(
    ("old", "new", "problem", "read"),
    [
        ("0.3333", "a third", "could not convert string to float: 'a third'", lambda e: e.quotes),
        ("third-less,section 3", "third-less,", "a row has no where: 'third-less, , 0.3333, ", lambda e: e.quotes),
        ("third-less", "third_less", "no third-less", lambda e: e.printed("third-less")),
        ("0.3333", "", "no number with claim 'third-less'", lambda e: e.printed("third-less")),
    ],
    ids=["no number", "no place", "no such claim", "no number of the claim"],
)
def test_the_papers_claims(changed, old, new, problem, read: Callable[[Experiment], Any]):
    path, experiment = changed("claims.csv", old, new)
    refused(path, problem, lambda: read(experiment))


def test_a_number_that_the_paper_does_not_have(changed):
    path, experiment = changed("paper.csv", "rfnn,1000", "rfnn,1001")
    assert len(experiment.published) == len(TABLE1.published)
    key = (("rfnn", "1000"), "test_accuracy")
    refused(path, f"no {key}", lambda: experiment.published[key])


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("[smoke]", "[smok]", "no smoke"),
        ('data = "embedded"', 'data = "enbedded"', "data must be one of 'embedded', "),
        ('data = "embedded"', "data = 1", "smoke.data must be a valid string, got 1"),
        ("order = [", "oder = [", "unknown paper.oder"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_rules(monkeypatch, tmp_path, old, new, problem):
    path = tmp_path / "profiles.toml"
    path.write_text(planning.files("gdlayer.trials").joinpath(path.name).read_text().replace(old, new, 1))
    monkeypatch.setattr(planning, "files", lambda _: tmp_path)
    rules.cache_clear()
    refused(path, problem, lambda: rules("smoke"))
