"""Granite 4 H, the dense ones, ``GraniteMoeHybridForCausalLM``: Mamba-2 with attention in between.

The class is that of IBM's mixtures of experts; without experts the shared layer is the only one.
"""

from collections.abc import Iterator
from typing import Any

from datalake.config import Refusal
from training.models.configs.attention import AttentionConfig
from training.models.configs.feed_forward import DenseConfig
from training.models.configs.mamba import Mamba2Config
from training.models.configs.norms import Norm
from training.models.interchange.conversions import Pair, joined, pair
from training.models.interchange.family import Family, Fields, feed_forward_of, shortest_pattern
from training.models.interchange.llama_like import (
    attention_pairs,
    norm_pairs,
    outer_pairs,
    read_heads,
    read_sizes,
)
from training.models.interchange.mamba2 import mixer_pairs, read_mixer, write_mixer
from training.models.interchange.rope import read_rope, write_rope
from training.models.variants import Layer, ModelConfig

NAMES = {
    "num_heads": ("mamba_n_heads", 128),
    "d_head": ("mamba_d_head", 64),
    "d_state": ("mamba_d_state", 256),
    "num_groups": ("mamba_n_groups", 1),
    "width": ("mamba_d_conv", 4),
    "chunk": ("mamba_chunk_size", 256),
    "taps_bias": ("mamba_conv_bias", True),
    "bias": ("mamba_proj_bias", False),
}
# What a layer is called in files: their first name for it, and that of transformers 5.
KINDS = {
    "mamba": "mamba",
    "linear_attention": "mamba",
    "attention": "attention",
    "full_attention": "attention",
}
NORMS = {"mixer_norm": "input_layernorm", "feed_forward_norm": "post_attention_layernorm"}


def read(fields: Fields) -> ModelConfig:
    fields.only("num_local_experts", 0)
    fields.integer("num_local_experts")  # not said, they are eight
    eps = fields.number("rms_norm_eps", 1e-6)
    feed_forward = DenseConfig(
        d_ff=fields.integer("shared_intermediate_size", 1024), activation="swiglu"
    )
    kinds = _kinds(fields)
    layers = {
        kind: Layer(mixer=_mixer(fields, kind, eps), feed_forward=feed_forward)
        for kind in dict.fromkeys(kinds)
    }
    return ModelConfig(
        **read_sizes(fields),
        layers=layers,
        pattern=shortest_pattern(kinds),
        norm=Norm(gain=True, eps=eps),
        embedding_scale=fields.number("embedding_multiplier", 1.0),
        residual_scale=fields.number("residual_multiplier", 1.0),
        logit_scale=1 / fields.number("logits_scaling", 1.0),
        tied=fields.flag("tie_word_embeddings", False),
        init="normal",
    )


def _kinds(fields: Fields) -> list[str]:
    num_layers = fields.integer("num_hidden_layers")
    said = fields.texts("layer_types", ["mamba"] * num_layers)
    if len(said) != num_layers or not all(kind in KINDS for kind in said):
        raise Refusal(
            f"{fields.place}: layer_types must be {num_layers} of {', '.join(KINDS)}, "
            f"got {', '.join(map(str, said))}"
        )
    return [KINDS[kind] for kind in said]


def _mixer(fields: Fields, kind: str, eps: float) -> Mamba2Config | AttentionConfig:
    if kind == "mamba":
        return read_mixer(fields, NAMES, eps)
    fields.only("position_embedding_type", "nope", "rope")
    bias = fields.flag("attention_bias", False)
    is_turned = fields.text("position_embedding_type", "nope") == "rope"
    return AttentionConfig(
        **read_heads(fields),
        rope=read_rope(fields) if is_turned else None,
        scale=fields.number("attention_multiplier", 1.0),
        bias=bias,
        out_bias=bias,
    )


def write(config: ModelConfig) -> dict[str, Any]:
    mixers = [layer.mixer for layer in config.all_layers()]
    kinds = {Mamba2Config: "mamba", AttentionConfig: "attention"}
    if other := next((mixer for mixer in mixers if type(mixer) not in kinds), None):
        raise Refusal(f"mixers mamba2 and attention, got {other.kind}")
    state_space = next((mixer for mixer in mixers if isinstance(mixer, Mamba2Config)), None)
    attention = next((mixer for mixer in mixers if isinstance(mixer, AttentionConfig)), None)
    if state_space is None or attention is None:  # transformers' cache asks for both
        raise Refusal(f"layers of mamba2 and of attention, got {mixers[0].kind} alone")
    return {
        **write_mixer(config, state_space, NAMES),
        **_write_attention(config, attention),
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.context_length,
        "hidden_size": config.d_model,
        "num_hidden_layers": config.num_layers,
        "layer_types": [kinds[type(mixer)] for mixer in mixers],
        "mamba_expand": state_space.d_inner // config.d_model,
        "num_local_experts": 0,
        "num_experts_per_tok": 0,
        "shared_intermediate_size": feed_forward_of(config).d_ff,
        "hidden_act": "silu",
        "rms_norm_eps": config.norm.eps,
        "embedding_multiplier": config.embedding_scale,
        "residual_multiplier": config.residual_scale,
        "logits_scaling": _inverse(config.logit_scale),
        "tie_word_embeddings": config.tied,
    }


def _write_attention(config: ModelConfig, attention: AttentionConfig) -> dict[str, Any]:
    d_head = attention.head_width(config.sizes)
    rope = {} if attention.rope is None else write_rope(attention.rope)
    return {
        **rope,
        "position_embedding_type": "nope" if attention.rope is None else "rope",
        "num_attention_heads": attention.num_heads,
        "num_key_value_heads": attention.num_kv_heads,
        "head_dim": d_head,
        "attention_bias": attention.bias,
        "attention_multiplier": attention.scale or d_head**-0.5,
    }


def _inverse(scale: float) -> float:
    """The number whose inverse ``scale`` is, whole where one is."""
    whole = round(1 / scale)
    return float(whole) if whole and 1 / whole == scale else 1 / scale


def pairs(config: ModelConfig) -> Iterator[Pair]:
    yield from outer_pairs(config)
    for index, layer in enumerate(config.all_layers()):
        ours, theirs = f"blocks.{index}", f"model.layers.{index}"
        if isinstance(layer.mixer, Mamba2Config):
            yield from mixer_pairs(f"{ours}.mixer", f"{theirs}.mamba", layer.mixer)
        elif isinstance(layer.mixer, AttentionConfig):
            yield from attention_pairs(index, layer.mixer, config.sizes)
        gates = tuple(f"{ours}.feed_forward.{name}.weight" for name in ("gate", "up"))
        fused = joined([feed_forward_of(config, index).d_ff] * 2)
        yield Pair(gates, (f"{theirs}.shared_mlp.input_linear.weight",), (fused,))
        yield pair(f"{ours}.feed_forward.down.weight", f"{theirs}.shared_mlp.output_linear.weight")
        yield from norm_pairs(index, NORMS)


GRANITE_HYBRID = Family(
    model_type="granitemoehybrid",
    architecture="GraniteMoeHybridForCausalLM",
    read=read,
    write=write,
    pairs=pairs,
)
