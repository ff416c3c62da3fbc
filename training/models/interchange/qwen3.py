"""Qwen 3, ``Qwen3ForCausalLM``: Yang et al. 2025, arXiv:2505.09388."""

from collections.abc import Iterator
from typing import Any

from training.models.configs.attention import AttentionConfig
from training.models.configs.feed_forward import DenseConfig
from training.models.configs.norms import Norm
from training.models.interchange.conversions import Pair
from training.models.interchange.family import Family, Fields, attention_of, rope_of_attention
from training.models.interchange.llama3 import NORMS
from training.models.interchange.llama_like import (
    all_pairs,
    read_heads,
    read_sizes,
    write_sizes,
)
from training.models.interchange.rope import read_rope, write_rope
from training.models.variants import Layer, ModelConfig

D_HEAD = 128  # where the file says none


def read(fields: Fields) -> ModelConfig:
    fields.only("hidden_act", "silu")
    fields.only("use_sliding_window", False)
    eps = fields.number("rms_norm_eps", 1e-6)
    bias = fields.flag("attention_bias", False)
    heads = read_heads(fields)
    mixer = AttentionConfig(
        **{**heads, "d_head": heads["d_head"] or D_HEAD},
        rope=read_rope(fields),
        qk_norm="head",
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
        tied=fields.flag("tie_word_embeddings", False),
        init="normal",
    )


def write(config: ModelConfig) -> dict[str, Any]:
    return {
        **write_sizes(config),
        **write_rope(rope_of_attention(config)),
        "hidden_act": "silu",
        "attention_bias": attention_of(config).bias,
        "use_sliding_window": False,
        "sliding_window": None,
    }


def pairs(config: ModelConfig) -> Iterator[Pair]:
    return all_pairs(config, NORMS)


QWEN3 = Family(
    model_type="qwen3",
    architecture="Qwen3ForCausalLM",
    read=read,
    write=write,
    pairs=pairs,
)
