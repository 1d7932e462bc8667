"""What a trial of the ablations trains and measures: Table 1's network with a variant of Ours."""

from functools import partial
from typing import Any

from gdlayer.experiments.ablations.trial import AblationTrial
from gdlayer.experiments.table1.prepare import build_network, task
from gdlayer.networks.convolutions import ours
from gdlayer.trials.task import Task, Workplace


def prepare(trial: AblationTrial, settings: dict[str, Any], workplace: Workplace) -> Task:
    """A four-convolution network of the variant; its accuracy on all test images."""
    layer = partial(ours, **{name: settings[name] for name in ("order", "trainable", "shared", "separated")})
    return task(trial, settings, workplace, partial(build_network, layer, settings))
