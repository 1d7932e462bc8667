"""The report reads records without torch."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "module",
    [
        *(f"gdlayer.experiments.table{i}.{name}" for i in (1, 2, 3) for name in ("page", "claims")),
        *("gdlayer.report.overview", "gdlayer.report.judgements", "gdlayer.report.__main__"),
        *("gdlayer.experiments.table1.repeats", "gdlayer.trials.plan", "gdlayer.trials.progress"),
    ],
)
def test_reading_records_does_not_wait_for_torch(module):
    script = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], timeout=600).returncode == 0
