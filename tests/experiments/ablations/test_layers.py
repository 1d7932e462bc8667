"""The questions and their variants: what each differs in, and in nothing else."""

import pytest
from invented import FULL

from gdlayer.experiments.ablations.layers import LAYERS, QUESTIONS
from gdlayer.experiments.ablations.trial import AblationTrial
from gdlayer.experiments.table1.trial import Table1Trial
from gdlayer.trials.settings import hyperparameters

PROPERTIES = {
    "trainable": {"trainable"},
    "order": {"order"},
    "bases": {"bases"},
    "kernel-size": {"kernel_size"},
    "separated": {"separated"},
    "equal-size": {"separated", "widths", "bases"},
    "geometry": {"shared"},
    "initialisation": {"initialisation"},
}


def settings_of(layer: str, n: int = 1000) -> dict[str, object]:
    return hyperparameters(AblationTrial(layer=layer, n_train=n, profile="paper", dataset=FULL))


@pytest.mark.parametrize("name", QUESTIONS)
def test_variants_differ_from_their_reference_in_the_property_alone(name):
    question = QUESTIONS[name]
    reference = settings_of(question.reference)
    for variant in question.variants:
        settings = settings_of(variant)
        assert {key for key in settings if settings[key] != reference[key]} == PROPERTIES[name], variant


def test_every_variant_belongs_to_a_question_and_has_a_title_of_its_own():
    assert set(PROPERTIES) == set(QUESTIONS)
    assert {variant for question in QUESTIONS.values() for variant in question.values} == set(LAYERS)
    assert len({layer.title for layer in LAYERS.values()}) == len(LAYERS) == 20
    assert [name for name, layer in LAYERS.items() if layer.in_paper] == ["ours"]


def test_ours_is_that_of_table_1():
    """But for the rate, the budget, and what Table 1 leaves to the layer's defaults."""
    settings = settings_of("ours")
    table1 = hyperparameters(Table1Trial(layer="ours", n_train=1000, profile="paper", dataset=FULL))
    budget = {name: table1[name] for name in ("learning_rate", "steps", "evaluations", "precision")}
    assert {name: settings[name] for name in table1} | budget == table1
    assert settings.keys() - table1.keys() == {"order", "trainable", "shared", "separated"}


def test_thirty_epochs_in_whole_steps():
    for n, steps in ((1000, 960), (5000, 4710)):
        assert settings_of("ours", n)["steps"] == steps == 30 * -(-n // 32)
