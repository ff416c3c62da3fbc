"""Gemma 2, ``Gemma2ForCausalLM``: Gemma team 2024, arXiv:2408.00118.

As Gemma 3, but for caps on scores and logits in the place of normed queries and keys, one speed of
turning for all layers, and every second layer in a window.
"""

from typing import Any

from training.models.configs.attention import AttentionConfig
from training.models.configs.feed_forward import DenseConfig
from training.models.configs.norms import Norm
from training.models.configs.positions import THETA
from training.models.interchange import gemma3
from training.models.interchange.family import (
    Family,
    Fields,
    attention_of,
    rope_of_attention,
    shortest_pattern,
)
from training.models.interchange.llama_like import read_heads, read_sizes, write_sizes
from training.models.interchange.rope import rope_of, write_rope
from training.models.variants import Layer, ModelConfig


def read(fields: Fields) -> ModelConfig:
    fields.only("hidden_activation", "gelu_pytorch_tanh")
    fields.only("use_bidirectional_attention", None)
    sizes = read_sizes(fields)
    kinds = gemma3.kinds_of(fields, sizes["num_layers"], every=2)
    theta = fields.number("rope_theta", THETA)
    eps = fields.number("rms_norm_eps", 1e-6)
    bias = fields.flag("attention_bias", False)
    heads = read_heads(fields)
    d_head = heads["d_head"] or gemma3.D_HEAD
    scalar = fields.number("query_pre_attn_scalar", 256.0)
    mixer = AttentionConfig(
        **{**heads, "d_head": d_head},
        rope=rope_of(fields.fields("rope_parameters") or fields.fields("rope_scaling"), theta),
        bias=bias,
        out_bias=bias,
        scale=None if scalar == d_head else scalar**-0.5,
        softcap=fields.limit("attn_logit_softcapping", 50.0),
    )
    window = min(fields.integer("sliding_window", 4096), sizes["context_length"])
    feed_forward = DenseConfig(d_ff=fields.integer("intermediate_size"), activation="geglu")
    layers = {}
    for kind in dict.fromkeys(kinds):
        span = window if kind == gemma3.LOCAL else None
        layers[gemma3.OURS[kind]] = Layer(
            mixer=mixer.model_copy(update={"window": span}), feed_forward=feed_forward
        )
    return ModelConfig(
        **sizes,
        layers=layers,
        pattern=shortest_pattern([gemma3.OURS[kind] for kind in kinds]),
        norm=Norm(gain=True, eps=eps),
        norm_place="sandwich",
        embedding_scale="sqrt_d_model",
        logit_softcap=fields.limit("final_logit_softcapping", 30.0),
        tied=fields.flag("tie_word_embeddings", True),
        init="normal",
    )


def write(config: ModelConfig) -> dict[str, Any]:
    mixers = [attention_of(config, index) for index in range(config.num_layers)]
    first = mixers[0]
    windows = [mixer.window for mixer in mixers if mixer.window is not None]
    return {
        **write_sizes(config),
        **write_rope(rope_of_attention(config)),
        "hidden_activation": "gelu_pytorch_tanh",
        "attention_bias": first.bias,
        "layer_types": [gemma3.GLOBAL if m.window is None else gemma3.LOCAL for m in mixers],
        "sliding_window": windows[0] if windows else config.context_length,
        "attn_logit_softcapping": first.softcap,
        "final_logit_softcapping": config.logit_softcap,
        "query_pre_attn_scalar": (
            first.head_width(config.sizes) if first.scale is None else round(first.scale**-2)
        ),
    }


GEMMA2 = Family(
    model_type="gemma2",
    architecture="Gemma2ForCausalLM",
    read=read,
    write=write,
    pairs=gemma3.pairs,
)
