import pytest

from tests.training.models.catalogue import (
    MIXED_CASES,
    NUM_MIXED,
    NUM_WIDE,
    PRESET_CASES,
    VALUES,
    Case,
    all_choices,
    choices,
    covered,
    every_case,
    gaps,
    members,
    required,
)
from training.models.presets.by_name import PRESETS
from training.models.variants import Layer, ModelConfig


def test_everything_that_a_config_needs_has_a_small_value() -> None:
    kinds = [one for field in Layer.model_fields.values() for one in members(field.annotation)]
    parts = [kind for kind in kinds if kind is not type(None)]
    missing = {part.__name__: gaps(part) for part in parts if gaps(part)}
    missing |= {
        preset: absent for preset in PRESETS if (absent := {*required(preset)} - VALUES.keys())
    }
    assert not missing, f"VALUES of the catalogue of tests must hold {missing}"


def test_every_choice_that_the_configs_offer_is_tested() -> None:
    offered = {*all_choices(ModelConfig), *all_choices(Layer)}
    tested = set[str]()
    for case in (*PRESET_CASES, *MIXED_CASES):
        tested |= choices(case.config).union(*map(choices, case.config.layers.values()))
    assert not offered - tested


@pytest.mark.slow
def test_few_models_hold_most_pairs_of_choices() -> None:
    assert len(covered(NUM_MIXED)) > 0.9 * len(covered(NUM_MIXED + NUM_WIDE))


@every_case
def test_a_config_round_trips_through_json(case: Case) -> None:
    config = case.config
    for text in (config.model_dump_json(), config.model_dump_json(exclude_unset=True)):
        assert ModelConfig.model_validate_json(text) == config
