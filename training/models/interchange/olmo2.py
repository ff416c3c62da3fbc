"""OLMo 2, ``Olmo2ForCausalLM``: OLMo team 2025, arXiv:2501.00656.

Norms come after the parts, and that of queries and keys goes over all heads at once.
"""

from collections.abc import Iterator
from typing import Any

from training.models.configs.attention import AttentionConfig
from training.models.configs.feed_forward import DenseConfig
from training.models.configs.norms import Norm
from training.models.interchange.conversions import Pair
from training.models.interchange.family import Family, Fields, attention_of, rope_of_attention
from training.models.interchange.llama_like import (
    all_pairs,
    read_heads,
    read_sizes,
    write_sizes,
)
from training.models.interchange.rope import read_rope, write_rope
from training.models.variants import Layer, ModelConfig

NORMS = {
    "mixer_norm": "post_attention_layernorm",
    "feed_forward_norm": "post_feedforward_layernorm",
}


def read(fields: Fields) -> ModelConfig:
    fields.only("hidden_act", "silu")
    eps = fields.number("rms_norm_eps", 1e-5)
    bias = fields.flag("attention_bias", False)
    mixer = AttentionConfig(
        **read_heads(fields),
        rope=read_rope(fields),
        qk_norm="all",
        qk_gain=True,
        qk_eps=eps,
        bias=bias,
        out_bias=bias,
    )
    feed_forward = DenseConfig(d_ff=fields.integer("intermediate_size"), activation="swiglu")
    return ModelConfig(
        **read_sizes(fields),
        layers={"full": Layer(mixer=mixer, feed_forward=feed_forward)},
        pattern=("full",),
        norm=Norm(gain=True, eps=eps),
        norm_place="reordered",
        tied=fields.flag("tie_word_embeddings", False),
        init="normal",
    )


def write(config: ModelConfig) -> dict[str, Any]:
    return {
        **write_sizes(config),
        **write_rope(rope_of_attention(config)),
        "hidden_act": "silu",
        "attention_bias": attention_of(config).bias,
    }


def pairs(config: ModelConfig) -> Iterator[Pair]:
    return all_pairs(config, NORMS)


OLMO2 = Family(
    model_type="olmo2",
    architecture="Olmo2ForCausalLM",
    read=read,
    write=write,
    pairs=pairs,
)
