"""Trials on a cluster with Slurm, for real where there is one: ``workflow/slurm_test.sh start`` makes one."""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import soak

from gdlayer.trials.plan import plan
from gdlayer.trials.record import read_record

DATASET = "fashion-mnist-sample"
TRIALS = plan("smoke", "table1", (DATASET,))[:2]


def reason_to_skip() -> str:
    if shutil.which("sinfo") is None:
        return "no Slurm here"
    if find_spec("snakemake_executor_plugin_slurm") is None:
        return "no plugin here, make reproduce CLUSTER=slurm installs it"
    if subprocess.run(["sinfo", "--noheader"], capture_output=True).returncode:
        return "Slurm does not answer, workflow/slurm_test.sh start makes it"
    if " " in sys.executable:
        return "the path of Python has blanks, which the plugin does not quote"
    return ""


@pytest.mark.skipif(bool(reason_to_skip()), reason=reason_to_skip())
def test_trials_on_a_cluster_give_the_records_of_this_machine(tmp_path):
    """Two in one queue entry, each as if it were run here."""
    folder = soak.Victim(tmp_path).folder
    paths = [trial.record_path(Path("results")) for trial in TRIALS]
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(folder),
    }
    done = subprocess.run(
        [
            *(sys.executable, "-m", "snakemake", "--snakefile", "workflow/Snakefile", *map(str, paths)),
            *("--workflow-profile", "workflow/profiles/slurm", "--cores", "1", "--jobs", "1", "--quiet", "host"),
            *("--slurm-init-seconds-before-status-checks", "2", "--slurm-keep-successful-logs"),
            *("--config", "profile=smoke", f'datasets={{"table1": ["{DATASET}"]}}', "results=results", "cluster=true"),
        ],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (folder / ".snakemake" / "slurm_logs").iterdir()] == ["group_trials_trial"]
    for trial, path in zip(TRIALS, paths, strict=True):
        command = [sys.executable, *trial.command("here")]
        subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=True)
        there, here = read_record(folder / path), read_record(folder / trial.record_path(Path("here")))
        assert there is not None
        assert here is not None
        for part in ("metrics", "curve", "hyperparameters", "parameters", "data"):
            assert there[part] == here[part], part
