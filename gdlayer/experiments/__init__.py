"""The paper's experiments: trials in, records out. Run them with ``python -m gdlayer.experiments``.

An experiment is a folder. Its ``__init__.py`` has an :class:`~gdlayer.experiments.experiment.Experiment` by the name
``EXPERIMENT``; to add one, add its folder and its line to :data:`FOLDERS`.
"""

from dataclasses import fields
from importlib import import_module
from typing import TYPE_CHECKING, Any

from gdlayer.checks import one_of

if TYPE_CHECKING:
    from gdlayer.experiments.experiment import Experiment
    from gdlayer.experiments.trial import Trial

FOLDERS = {
    "table1": "gdlayer.experiments.table1",
    "table2": "gdlayer.experiments.table2",
    "table3": "gdlayer.experiments.table3",
    "ablations": "gdlayer.experiments.ablations",
    "scale": "gdlayer.experiments.scale",
}
"""The registry: name -> package. Nothing is imported before it is asked for, and torch only to run a trial."""


def experiments() -> "dict[str, Experiment]":
    """All experiments by name, in the order of the book."""
    return {name: import_module(package).EXPERIMENT for name, package in FOLDERS.items()}


def trial_types() -> "dict[str, type[Trial]]":
    """All there is to run, by name: of each experiment its own trials, those of its searches and of its checks."""
    return {name: cls for experiment in experiments().values() for name, cls in experiment.trial_types.items()}


def trial_of(description: dict[str, Any]) -> "Trial":
    """The trial that a record describes, see :meth:`gdlayer.experiments.trial.Trial.describe`.

    Raises
    ------
    TypeError, ValueError
        If it describes none.
    """
    values, types = dict(description), trial_types()
    cls = types[one_of("experiment", values.pop("experiment", ""), types)]
    for name in values:
        one_of("field", name, (field.name for field in fields(cls)))
    return cls(**values)
