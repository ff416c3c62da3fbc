"""Gemma 3 for text, ``Gemma3ForCausalLM``: Gemma team 2025, arXiv:2503.19786.

Layers in a window and layers that see all turn at their own speeds; norms stand before and after
the parts, and multiply by one more than what is stored.
"""

from collections.abc import Iterator
from typing import Any

from datalake.config import Refusal
from training.models.configs.attention import AttentionConfig
from training.models.configs.feed_forward import DenseConfig
from training.models.configs.norms import Norm
from training.models.configs.positions import Rope
from training.models.interchange.conversions import LESS_ONE, Pair
from training.models.interchange.family import (
    Family,
    Fields,
    attention_of,
    rope_of_attention,
    shortest_pattern,
)
from training.models.interchange.llama_like import (
    all_pairs,
    read_heads,
    read_sizes,
    write_sizes,
)
from training.models.interchange.rope import rope_of, write_rope
from training.models.variants import Layer, ModelConfig

NORMS = {
    "mixer_norm": "input_layernorm",
    "mixer_out_norm": "post_attention_layernorm",
    "feed_forward_norm": "pre_feedforward_layernorm",
    "feed_forward_out_norm": "post_feedforward_layernorm",
}
D_HEAD = 256  # where the file says none
LOCAL, GLOBAL = "sliding_attention", "full_attention"
OURS = {LOCAL: "local", GLOBAL: "global"}
THETAS = {LOCAL: 10_000.0, GLOBAL: 1_000_000.0}


def read(fields: Fields) -> ModelConfig:
    fields.only("hidden_activation", "gelu_pytorch_tanh")
    fields.only("use_bidirectional_attention", False)
    fields.only("attn_logit_softcapping", None)  # which transformers does not heed
    sizes = read_sizes(fields)
    every = fields.integer("sliding_window_pattern", 6)
    kinds = kinds_of(fields, sizes["num_layers"], every)
    ropes = _ropes(fields)
    eps = fields.number("rms_norm_eps", 1e-6)
    bias = fields.flag("attention_bias", False)
    heads = read_heads(fields)
    d_head = heads["d_head"] or D_HEAD
    scalar = fields.number("query_pre_attn_scalar", 256.0)
    window = min(fields.integer("sliding_window", 4096), sizes["context_length"])
    layers = {}
    for kind in dict.fromkeys(kinds):
        mixer = AttentionConfig(
            **{**heads, "d_head": d_head},
            window=window if kind == LOCAL else None,
            rope=ropes[kind],
            qk_norm="head",
            qk_gain=True,
            qk_eps=eps,
            bias=bias,
            out_bias=bias,
            scale=None if scalar == d_head else scalar**-0.5,
        )
        feed_forward = DenseConfig(d_ff=fields.integer("intermediate_size"), activation="geglu")
        layers[OURS[kind]] = Layer(mixer=mixer, feed_forward=feed_forward)
    return ModelConfig(
        **sizes,
        layers=layers,
        pattern=shortest_pattern([OURS[kind] for kind in kinds]),
        norm=Norm(gain=True, eps=eps),
        norm_place="sandwich",
        embedding_scale="sqrt_d_model",
        logit_softcap=fields.number("final_logit_softcapping", None),
        tied=fields.flag("tie_word_embeddings", True),
        init="normal",
    )


def kinds_of(fields: Fields, num_layers: int, every: int) -> list[str]:
    """Of each layer; where the file does not say, one of ``every`` sees all."""
    kinds = fields.texts("layer_types", None) or [
        LOCAL if (index + 1) % every else GLOBAL for index in range(num_layers)
    ]
    if len(kinds) != num_layers or not OURS.keys() >= {*kinds}:
        raise Refusal(
            f"{fields.place}: layer_types must be {num_layers} of {LOCAL} and {GLOBAL}, "
            f"got {', '.join(map(str, kinds))}"
        )
    return kinds


def _ropes(fields: Fields) -> dict[str, Rope]:
    """Of each kind of layer. Older files scale global layers alone, and say local theta apart."""
    if said := fields.fields("rope_parameters"):
        return {kind: rope_of(said.fields(kind), THETAS[kind]) for kind in OURS}
    thetas = {
        LOCAL: fields.number("rope_local_base_freq", THETAS[LOCAL]),
        GLOBAL: fields.number("rope_theta", THETAS[GLOBAL]),
    }
    scaling = fields.fields("rope_scaling")
    return {LOCAL: rope_of(None, thetas[LOCAL]), GLOBAL: rope_of(scaling, thetas[GLOBAL])}


def write(config: ModelConfig) -> dict[str, Any]:
    mixers = [attention_of(config, index) for index in range(config.num_layers)]
    kinds = [GLOBAL if mixer.window is None else LOCAL for mixer in mixers]
    ropes = {kind: rope_of_attention(config, kinds.index(kind)) for kind in kinds}
    first = mixers[0]
    windows = [mixer.window for mixer in mixers if mixer.window is not None]
    return {
        **write_sizes(config),
        **write_rope(ropes.get(GLOBAL, Rope(theta=THETAS[GLOBAL]))),
        "rope_local_base_freq": ropes[LOCAL].theta if LOCAL in ropes else THETAS[LOCAL],
        "hidden_activation": "gelu_pytorch_tanh",
        "attention_bias": first.bias,
        "layer_types": kinds,
        "sliding_window": windows[0] if windows else config.context_length,
        "final_logit_softcapping": config.logit_softcap,
        "query_pre_attn_scalar": (
            first.head_width(config.sizes) if first.scale is None else round(first.scale**-2)
        ),
    }


def pairs(config: ModelConfig) -> Iterator[Pair]:
    return all_pairs(config, NORMS, LESS_ONE)


GEMMA3 = Family(
    model_type="gemma3_text",
    architecture="Gemma3ForCausalLM",
    read=read,
    write=write,
    pairs=pairs,
)
