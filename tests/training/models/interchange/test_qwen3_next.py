"""What of Qwen3-Next can be read and written, besides what its models compute."""

from typing import Any

import pytest
import torch

from datalake.config import Refusal
from training.models.interchange.families import family_for
from training.models.interchange.family import Fields, Inexpressible
from training.models.interchange.qwen3_next import QWEN3_NEXT, by_head, read
from training.models.presets.hybrids import qwen3_next
from training.models.variants import ModelConfig

SIZES: dict[str, Any] = {
    "vocab_size": 61,
    "context_length": 24,
    "d_model": 32,
    "num_layers": 4,
    "num_heads": 4,
    "num_experts": 4,
    "top_k": 2,
    "d_expert": 16,
}
FILE: dict[str, Any] = {
    "vocab_size": 61,
    "max_position_embeddings": 24,
    "hidden_size": 32,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
}


def changed(field: str, **changes: Any) -> ModelConfig:
    """The preset with a part of the first layer changed."""
    given = qwen3_next(**SIZES).model_dump()
    given["layers"]["delta"][field] |= changes
    return ModelConfig.model_validate(given)


def test_what_a_file_does_not_say_is_as_in_the_published_model() -> None:
    config = read(Fields(FILE))
    assert [layer.mixer.kind for layer in config.all_layers()] == (
        ["gated_delta"] * 3 + ["attention", "gated_delta"]
    )
    delta, full = config.layer(0).mixer, config.layer(3).mixer
    assert (delta.num_key_heads, delta.num_heads, delta.d_key, delta.width) == (16, 32, 128, 4)
    assert (full.d_head, full.rope.fraction, full.gate) == (256, 0.25, True)
    experts = config.layer(0).feed_forward
    assert (experts.num_experts, experts.top_k, experts.shared_gate) == (512, 10, True)


def test_how_much_is_computed_at_once_is_not_written() -> None:
    family, fields = family_for(changed("mixer", chunk=16))
    assert family is QWEN3_NEXT and fields == QWEN3_NEXT.written(qwen3_next(**SIZES))


@pytest.mark.parametrize(
    ("config", "lacking"),
    [
        (lambda: changed("mixer", eps=1e-3), "eps"),
        (lambda: changed("feed_forward", shared_gate=False), "shared_gate"),
        (lambda: qwen3_next(**{**SIZES, "num_layers": 3}), "got gated_delta"),
    ],
)
def test_what_the_family_cannot_say_is_refused(config: Any, lacking: str) -> None:
    with pytest.raises(Inexpressible, match=f"to be written as qwen3_next.*{lacking}"):
        QWEN3_NEXT.written(config())


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"attention_bias": True}, "config.json: attention_bias must be false, got true"),
        ({"hidden_act": "gelu"}, "config.json: hidden_act must be silu, got gelu"),
        (
            {"layer_types": ["linear_attention", "sliding_attention"], "num_hidden_layers": 2},
            "layer_types must be 2 of linear_attention, full_attention, got linear_attention, sl",
        ),
    ],
)
def test_what_cannot_be_run_is_refused(said: dict[str, Any], message: str) -> None:
    with pytest.raises(Refusal, match=message):
        read(Fields(FILE | said))


def test_rows_are_laid_out_head_by_head() -> None:
    names = ["q0", "q1", "v0 first", "v0 second", "v1 first", "v1 second"]
    queries, values = torch.tensor([[0], [1]]), torch.tensor([[2], [3], [4], [5]])
    step = by_head(2, [1, 2])
    (fused,) = step.there([queries, values])
    order = ["q0", "v0 first", "v0 second", "q1", "v1 first", "v1 second"]
    assert [names[row] for row in fused[:, 0].tolist()] == order
    for ours, again in zip([queries, values], step.back([fused]), strict=True):
        assert torch.equal(ours, again)
