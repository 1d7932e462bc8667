"""All experiments, and all there is to run of them, by name."""

from dataclasses import fields
from importlib import import_module
from typing import Any

from gdlayer._plumbing.checks import one_of
from gdlayer.trials.experiment import Experiment
from gdlayer.trials.trial import Trial

REGISTER = "gdlayer.experiments"
"""The package whose ``FOLDERS`` says where the experiments lie; imported when the first is asked for."""


def experiments() -> dict[str, Experiment]:
    """All experiments by name, in the order of the book."""
    folders = import_module(REGISTER).FOLDERS
    return {name: import_module(package).EXPERIMENT for name, package in folders.items()}


def trial_types() -> dict[str, type[Trial]]:
    """All there is to run, by name: of each experiment its own trials, those of its searches and of its checks."""
    return {name: cls for experiment in experiments().values() for name, cls in experiment.trial_types.items()}


def trial_of(description: dict[str, Any]) -> Trial:
    """The trial that a record describes, see :meth:`gdlayer.trials.trial.Trial.describe`.

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
