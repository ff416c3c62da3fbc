import subprocess
import sys

import pytest
from pydantic import ValidationError

from datalake.config import Refusal
from tests.training.models.random_weights import SMALL, VARIANTS, small_config
from training.models.variants import ModelConfig


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS.keys())
def test_a_config_round_trips_through_json(variant: dict) -> None:
    config = small_config(**variant)
    for text in (config.model_dump_json(), config.model_dump_json(exclude_unset=True)):
        assert ModelConfig.model_validate_json(text) == config


def test_what_is_not_said_follows_from_the_sizes() -> None:
    config = small_config()
    mixer = config.layer(0).mixer
    assert (mixer.num_kv_heads, config.layer(0).feed_forward.d_ff) == (4, 128)
    assert mixer.head_width(config.sizes) == 8


def test_odd_layers_have_value_embeddings() -> None:
    config = small_config(num_layers=4)
    assert [layer.mixer.value_embedding for layer in config.all_layers()] == [0, 1, 0, 1]
    assert not small_config(value_embeddings=False).layer(1).mixer.value_embedding


def test_resizing_keeps_head_width_and_proportions() -> None:
    config = small_config(num_kv_heads=2, activation="swiglu", d_ff=88).resized(64, num_layers=5)
    mixer, feed_forward = config.layer(0).mixer, config.layer(0).feed_forward
    assert (config.d_model, config.num_layers, mixer.num_heads, mixer.num_kv_heads) == (64, 5, 8, 4)
    assert (feed_forward.d_ff, feed_forward.activation) == (176, "swiglu")
    assert mixer.head_width(config.sizes) == 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_heads": 5}, "d_model must be a multiple of num_heads, got 32 and 5"),
        ({"num_kv_heads": 3}, "num_heads must be a multiple of num_kv_heads, got 4 and 3"),
        ({"num_heads": 32}, "d_head, or d_model / num_heads, must be even, got 1"),
        ({"window": 25}, "window must be at most context_length, got 25 and 24"),
        (
            {"positions": "none", "rope_theta": 500.0},
            "rope_theta must be left out where positions is not rope, got 500.0",
        ),
        ({"vocab_size": 2**20 + 1}, "Input should be less than or equal to 1048576"),
        ({"d_model": 0}, "Input should be greater than 0"),
        ({"softcap": 15}, "preset tarn must be given"),
        ({"activation": "tanh"}, "Input should be 'relu'"),
    ],
)
def test_settings_that_cannot_be_built_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        ModelConfig.model_validate({"preset": "tarn", **SMALL, **changes})
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    ("d_model", "num_heads"), [(32, 1), (48, 2), (64, 2), (80, 4), (96, 3), (128, 4), (24, 1)]
)
def test_a_width_that_heads_do_not_divide_gets_the_widest_that_do(
    d_model: int, num_heads: int
) -> None:
    assert small_config(num_heads=1).resized(d_model).layer(0).mixer.num_heads == num_heads


@pytest.mark.parametrize("d_model", [21, 20])
def test_a_width_without_even_heads_in_groups_is_refused(d_model: int) -> None:
    message = f"d_model must be a multiple of an even head and a group of 4, got {d_model}"
    with pytest.raises(Refusal, match=message):
        small_config(num_kv_heads=1).resized(d_model)


def test_a_config_loads_without_torch() -> None:
    code = (
        "import sys; import training.models.variants, training.models.accounting, "
        "training.schedule; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
