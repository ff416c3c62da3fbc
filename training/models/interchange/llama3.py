"""Llama 1 to 3, ``LlamaForCausalLM``: Grattafiori et al. 2024, arXiv:2407.21783."""

from collections.abc import Iterator
from typing import Any

from training.models.configs.attention import AttentionConfig
from training.models.configs.feed_forward import DenseConfig
from training.models.configs.norms import Norm
from training.models.interchange.conversions import Pair
from training.models.interchange.family import (
    Family,
    Fields,
    attention_of,
    feed_forward_of,
    rope_of_attention,
)
from training.models.interchange.llama_like import (
    attention_pairs,
    gated_pairs,
    norm_pairs,
    outer_pairs,
    read_heads,
    read_sizes,
    write_sizes,
)
from training.models.interchange.rope import read_rope, write_rope
from training.models.variants import Layer, ModelConfig

NORMS = {"mixer_norm": "input_layernorm", "feed_forward_norm": "post_attention_layernorm"}


def read(fields: Fields) -> ModelConfig:
    fields.only("hidden_act", "silu")
    bias = fields.flag("attention_bias", False)
    mixer = AttentionConfig(**read_heads(fields), rope=read_rope(fields), bias=bias, out_bias=bias)
    feed_forward = DenseConfig(
        d_ff=fields.integer("intermediate_size"),
        activation="swiglu",
        bias=fields.flag("mlp_bias", False),
    )
    return ModelConfig(
        **read_sizes(fields),
        layers={"full": Layer(mixer=mixer, feed_forward=feed_forward)},
        pattern=("full",),
        norm=Norm(gain=True, eps=fields.number("rms_norm_eps", 1e-6)),
        tied=fields.flag("tie_word_embeddings", False),
        init="normal",
    )


def write(config: ModelConfig) -> dict[str, Any]:
    return {
        **write_sizes(config),
        **write_rope(rope_of_attention(config)),
        "hidden_act": "silu",
        "attention_bias": attention_of(config).bias,
        "mlp_bias": feed_forward_of(config).bias,
    }


def pairs(config: ModelConfig) -> Iterator[Pair]:
    yield from outer_pairs(config)
    for index in range(config.num_layers):
        yield from attention_pairs(index, attention_of(config, index), config.sizes)
        yield from gated_pairs(index, feed_forward_of(config, index).bias)
        yield from norm_pairs(index, NORMS)


LLAMA3 = Family(
    model_type="llama",
    architecture="LlamaForCausalLM",
    read=read,
    write=write,
    pairs=pairs,
    idle=("*.rotary_emb.inv_freq",),
)
