"""The paper's experiments: trials in, records out. Run them with ``python -m gdlayer.experiments``.

An experiment is a folder. Its ``__init__.py`` has an :class:`~gdlayer.trials.experiment.Experiment` by the name
``EXPERIMENT``; to add one, add its folder and its line to :data:`FOLDERS`.
"""

FOLDERS = {
    "table1": "gdlayer.experiments.table1",
    "table2": "gdlayer.experiments.table2",
    "table3": "gdlayer.experiments.table3",
    "ablations": "gdlayer.experiments.ablations",
    "scale": "gdlayer.experiments.scale",
}
"""name -> package. Nothing is imported before it is asked for, and torch only to run a trial."""
