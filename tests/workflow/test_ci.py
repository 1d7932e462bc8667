"""What GitHub runs: pinned, on what the package claims, and nothing is published that was not tested."""

import re
import subprocess
import sys
from pathlib import Path

import matrix
import pytest
import yaml

import gdlayer

ROOT = Path(matrix.__file__).parents[1]
GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))


def jobs(name: str) -> dict:
    return yaml.safe_load((GITHUB / "workflows" / f"{name}.yml").read_text("utf-8"))["jobs"]


def test_actions_are_pinned_by_hash_and_kept_up_to_date():
    used = [line for path in WORKFLOWS for line in re.findall(r"uses: *(.*)", path.read_text("utf-8"))]
    assert used
    for line in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)
    assert len({*used}) == len({line.split("@")[0] for line in used})
    updates = yaml.safe_load((GITHUB / "dependabot.yml").read_text("utf-8"))["updates"]
    assert [update["package-ecosystem"] for update in updates] == ["github-actions"]


def test_locked_packages_gate_and_the_newest_warn():
    job = jobs("test")["matrix"]
    runs = job["strategy"]["matrix"]["include"]
    assert tuple(run["run"] for run in runs) == matrix.RUNS
    assert [run["python"] for run in runs] == [matrix.PYTHONS[0], *matrix.PYTHONS, matrix.PYTHONS[-1]]
    assert job["continue-on-error"] == "${{ matrix.run == 'newest' }}"
    assert "continue-on-error" not in jobs("test")["test"]


def test_the_pythons_are_those_that_the_package_claims():
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    assert tuple(re.findall(r"Python :: (3\.\d+)", project)) == matrix.PYTHONS
    assert f'"torch>={matrix.OLDEST_TORCH.removesuffix(".0")}"' in project


@pytest.mark.parametrize(("tag", "status"), [(f"v{gdlayer.__version__}", 0), ("v0.0.0", 1), (gdlayer.__version__, 1)])
def test_a_release_is_tested_and_of_the_version_that_its_tag_says(tag, status):
    release = jobs("release")
    steps = [step["run"] for step in release["build"]["steps"] if "run" in step]
    assert steps[1:] == ["make test", "pipx run build"]
    assert release["publish"]["needs"] == "build"
    command = steps[0].replace("python ", f"'{sys.executable}' ")
    environment = {"GITHUB_REF_NAME": tag, "PATH": "/usr/bin:/bin"}
    assert subprocess.run(["bash", "-ec", command], cwd=ROOT, env=environment).returncode == status


def test_an_unknown_run_of_the_matrix():
    with pytest.raises(SystemExit, match=r"^run must be one of oldest, 3\.11, 3\.12, 3\.13, newest, got 3\.10$"):
        matrix.main("3.10")


def test_a_run_of_the_matrix_replaces_its_row(monkeypatch, tmp_path):
    monkeypatch.setattr(matrix, "RECORD", tmp_path / "record.csv")
    head = ",".join(matrix.COLUMNS)
    matrix.RECORD.write_text(f"{head}\nnewest,3.13.0,1,1,1,0,0\n3.11,3.11.0,1,1,1,0,0\n3.12,3.12.0,1,1,1,0,0\n")
    results = {"3.11": ["3.11.2", "2", "2", "5", "1", "0"], "newest": ["3.13.1", "3", "3", "4", "1", "2"]}
    monkeypatch.setattr(matrix, "run", lambda name: results[name])
    assert matrix.main("3.11") == 0
    assert matrix.main("newest") == 1
    rows = "3.11,3.11.2,2,2,5,1,0", "3.12,3.12.0,1,1,1,0,0", "newest,3.13.1,3,3,4,1,2"
    assert matrix.RECORD.read_text().splitlines() == [head, *rows]


def test_a_python_that_is_not_there_is_a_row_of_its_own(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert matrix.run("3.12") == ["", "", "", "", "", "not run: there is no such interpreter"]
