"""Tarn's own, the transformer that it is measured against, and what it becomes with other parts."""

import math
from typing import Literal

from datalake.config import Refusal
from training.models.configs.attention import AttentionConfig
from training.models.configs.experts import ExpertsConfig, LossBalance
from training.models.configs.feed_forward import Activation, DenseConfig
from training.models.configs.linear_attention import LinearAttentionConfig
from training.models.configs.local import LocalConfig
from training.models.configs.ngram_memory import NgramMemoryConfig
from training.models.configs.norms import Norm
from training.models.configs.positions import THETA, Rope
from training.models.variants import Layer, ModelConfig


def tarn(
    *,
    vocab_size: int,
    context_length: int,
    d_model: int,
    num_layers: int,
    num_heads: int,
    num_kv_heads: int | None = None,
    d_ff: int | None = None,
    norm: Literal["rms", "layer"] = "rms",
    norm_place: Literal["pre", "post", "sandwich", "reordered"] = "pre",
    activation: Activation = "relu2",
    positions: Literal["rope", "learned", "sinusoidal", "none"] = "rope",
    rope_theta: float = THETA,
    window: int | None = None,
    tied: bool = False,
    qk_norm: bool = True,
    value_embeddings: bool = True,
    x0_skip: bool = True,
    token_shift: bool = True,
    convolution: int | None = None,
    base_width: int | None = None,
) -> ModelConfig:
    """Tarn's own: the choices that made small models better.

    Bits per byte are of 4 layers of 64 trained with 2e12 FLOPs on Python text, 512 tokens a step,
    where the defaults came to 2.283 and other seeds to 2.285, 2.289 and 2.297. SwiGLU at equal
    FLOPs 2.278, tied 2.293, no QK-norm 2.282, no value embeddings (on every second layer) 2.380,
    no x0 skip 2.299, no token shift 2.318. ``convolution`` is the width of a filter per channel in
    the place of the shift.
    """
    if positions != "rope" and rope_theta != THETA:
        raise Refusal(f"rope_theta must be left out where positions is not rope, got {rope_theta}")
    local = LocalConfig() if token_shift else None
    if convolution is not None:
        local = LocalConfig(kind="convolution", width=convolution)
    mixer = AttentionConfig(
        num_heads=num_heads,
        num_kv_heads=num_kv_heads or num_heads,
        window=window,
        rope=Rope(theta=rope_theta) if positions == "rope" else None,
        qk_norm="head" if qk_norm else "none",
    )
    layers = {
        name: Layer(
            mixer=mixer.model_copy(update={"value_embedding": name == "valued"}),
            # Four times the width (Vaswani et al. 2017, arXiv:1706.03762).
            feed_forward=DenseConfig(d_ff=d_ff or 4 * d_model, activation=activation),
            local=local,
        )
        for name in (("plain", "valued") if value_embeddings else ("plain",))
    }
    is_layer_norm = norm == "layer"
    return ModelConfig(
        vocab_size=vocab_size,
        context_length=context_length,
        d_model=d_model,
        num_layers=num_layers,
        layers=layers,
        pattern=tuple(layers),
        norm=Norm(kind=norm, gain=is_layer_norm, bias=is_layer_norm),
        norm_place=norm_place,
        positions="none" if positions == "rope" else positions,
        embedding_norm=True,
        x0_skip=x0_skip,
        tied=tied,
        base_width=base_width,
    )


def vaswani(
    *,
    vocab_size: int,
    context_length: int,
    d_model: int,
    num_layers: int,
    num_heads: int,
    d_ff: int | None = None,
) -> ModelConfig:
    """The Transformer of Vaswani et al. 2017, arXiv:1706.03762, as a decoder without an encoder.

    What all that came later is measured against.
    """
    layer = Layer(
        mixer=AttentionConfig(num_heads=num_heads),
        feed_forward=DenseConfig(d_ff=d_ff or 4 * d_model, activation="relu", bias=True),
    )
    return ModelConfig(
        vocab_size=vocab_size,
        context_length=context_length,
        d_model=d_model,
        num_layers=num_layers,
        layers={"full": layer},
        pattern=("full",),
        norm=Norm(kind="layer", gain=True, bias=True),
        norm_place="post",
        positions="sinusoidal",
        embedding_scale="sqrt_d_model",
        tied=True,
        final_norm=False,
        init="normal",
    )


def recall(
    *,
    vocab_size: int,
    context_length: int,
    d_model: int,
    num_layers: int,
    num_heads: int,
    num_slots: int,
    d_table: int | None = None,
    host: bool = False,
) -> ModelConfig:
    """Tarn's own with what makes recalling cheap: a memory of n-grams before its second mixer.

    There the stream has read its context once, so that the gate knows whether what was found fits;
    Engram (DeepSeek, January 2026) has it early for the same reason.
    """
    base = tarn(
        vocab_size=vocab_size,
        context_length=context_length,
        d_model=d_model,
        num_layers=num_layers,
        num_heads=num_heads,
    )
    memory = NgramMemoryConfig(num_slots=num_slots, d_table=d_table or d_model // 4, host=host)
    recalling = base.layers["valued"].model_copy(update={"memory": memory})
    changes = {
        "layers": {**base.layers, "recalling": recalling},
        "first": ("plain", "recalling"),
    }
    return ModelConfig.model_validate(base.model_copy(update=changes).model_dump())


def linear(
    *,
    vocab_size: int,
    context_length: int,
    d_model: int,
    num_layers: int,
    num_heads: int,
    num_linear: int = 3,
) -> ModelConfig:
    """Tarn's own with linear attention in ``num_linear`` layers before each that sees all.

    Running sums do not tell places: the token shift and the full layers do.
    """
    base = tarn(
        vocab_size=vocab_size,
        context_length=context_length,
        d_model=d_model,
        num_layers=num_layers,
        num_heads=num_heads,
    )
    mixer = LinearAttentionConfig(num_heads=num_heads)
    changes = {
        "layers": {
            "linear": base.layers["plain"].model_copy(update={"mixer": mixer}),
            "full": base.layers["valued"],
        },
        "pattern": ("linear",) * num_linear + ("full",),
    }
    return ModelConfig.model_validate(base.model_copy(update=changes).model_dump())


def experts(
    *,
    vocab_size: int,
    context_length: int,
    d_model: int,
    num_layers: int,
    num_heads: int,
    num_experts: int = 16,
    top_k: int = 4,
) -> ModelConfig:
    """Tarn's own with experts: a token meets as many channels as in the dense model.

    Weights of what keeps loads even and logits small as in OLMoE (Muennighoff et al. 2024,
    arXiv:2409.02060), which does not normalize the weights of the chosen either.
    """
    base = tarn(
        vocab_size=vocab_size,
        context_length=context_length,
        d_model=d_model,
        num_layers=num_layers,
        num_heads=num_heads,
    )
    feed_forward = ExpertsConfig(
        num_experts=num_experts,
        top_k=top_k,
        d_expert=math.ceil(4 * d_model / top_k),
        activation="relu2",
        normalize_top_k=False,
        balance=LossBalance(weight=0.01),
        z_loss=0.001,
    )
    layers = {
        name: layer.model_copy(update={"feed_forward": feed_forward})
        for name, layer in base.layers.items()
    }
    return ModelConfig.model_validate(base.model_copy(update={"layers": layers}).model_dump())
