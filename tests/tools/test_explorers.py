"""The golden values of the explorers are what the package computes now."""

import json

import explorers


def test_golden_values_are_those_of_the_package():
    kept = json.loads(explorers.GOLDEN.read_text("utf-8"))
    assert kept == explorers.golden()
