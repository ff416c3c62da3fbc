"""Architectures by name: a function from sizes to the config, for each.

A recipe says ``model: {preset: NAME, vocab_size: ..., ...}``; what the function takes, the recipe
may say, and what it returns is what runs and checkpoints keep.
"""

import inspect
import math
from collections.abc import Callable
from typing import Any, Literal

from datalake.config import Refusal
from training.models.configs.attention import AttentionConfig
from training.models.configs.experts import BiasBalance, ExpertsConfig, LossBalance
from training.models.configs.feed_forward import Activation, DenseConfig
from training.models.configs.gated_delta import GatedDeltaConfig
from training.models.configs.latent_attention import LatentAttentionConfig
from training.models.configs.linear_attention import LinearAttentionConfig
from training.models.configs.local import LocalConfig
from training.models.configs.mamba import Mamba2Config
from training.models.configs.ngram_memory import NgramMemoryConfig
from training.models.configs.norms import Norm
from training.models.configs.positions import THETA, Rope, Stretch
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


def gpt2(
    *,
    vocab_size: int,
    context_length: int,
    d_model: int,
    num_layers: int,
    num_heads: int,
    d_ff: int | None = None,
    tied: bool = True,
) -> ModelConfig:
    """GPT-2: learned positions, layer norms before the parts, biases everywhere, tied.

    Radford et al. 2019.
    """
    layer = Layer(
        mixer=AttentionConfig(num_heads=num_heads, bias=True, out_bias=True),
        feed_forward=DenseConfig(d_ff=d_ff or 4 * d_model, activation="gelu_tanh", bias=True),
    )
    return ModelConfig(
        vocab_size=vocab_size,
        context_length=context_length,
        d_model=d_model,
        num_layers=num_layers,
        layers={"full": layer},
        pattern=("full",),
        norm=Norm(kind="layer", gain=True, bias=True, eps=1e-5),
        positions="learned",
        tied=tied,
        init="normal",
    )


def llama3(
    *,
    vocab_size: int,
    context_length: int,
    d_model: int,
    num_layers: int,
    num_heads: int,
    num_kv_heads: int | None = None,
    d_head: int | None = None,
    d_ff: int | None = None,
    rope_theta: float = 500_000.0,
    rope_stretch: Stretch | None = None,
    tied: bool = False,
) -> ModelConfig:
    """Llama 3: grouped queries, rotary positions, SwiGLU, RMS norms before the parts.

    Grattafiori et al. 2024, arXiv:2407.21783; ``rope_stretch`` is 3.1's way to longer contexts.
    """
    layer = Layer(
        mixer=AttentionConfig(
            num_heads=num_heads,
            num_kv_heads=num_kv_heads or num_heads,
            d_head=d_head,
            rope=Rope(theta=rope_theta, stretch=rope_stretch),
        ),
        feed_forward=DenseConfig(d_ff=d_ff or gated_width(d_model), activation="swiglu"),
    )
    return ModelConfig(
        vocab_size=vocab_size,
        context_length=context_length,
        d_model=d_model,
        num_layers=num_layers,
        layers={"full": layer},
        pattern=("full",),
        norm=Norm(gain=True, eps=1e-5),
        tied=tied,
        init="normal",
    )


def qwen3(
    *,
    vocab_size: int,
    context_length: int,
    d_model: int,
    num_layers: int,
    num_heads: int,
    num_kv_heads: int | None = None,
    d_head: int | None = None,
    d_ff: int | None = None,
    rope_theta: float = 1_000_000.0,
    tied: bool = False,
) -> ModelConfig:
    """Qwen 3: Llama's blocks, with a norm of gains on the queries and keys of each head.

    Yang et al. 2025, arXiv:2505.09388.
    """
    layer = Layer(
        mixer=AttentionConfig(
            num_heads=num_heads,
            num_kv_heads=num_kv_heads or num_heads,
            d_head=d_head,
            rope=Rope(theta=rope_theta),
            qk_norm="head",
            qk_gain=True,
        ),
        feed_forward=DenseConfig(d_ff=d_ff or gated_width(d_model), activation="swiglu"),
    )
    return ModelConfig(
        vocab_size=vocab_size,
        context_length=context_length,
        d_model=d_model,
        num_layers=num_layers,
        layers={"full": layer},
        pattern=("full",),
        norm=Norm(gain=True),
        tied=tied,
        init="normal",
    )


def gemma3(
    *,
    vocab_size: int,
    context_length: int,
    d_model: int,
    num_layers: int,
    num_heads: int,
    num_kv_heads: int | None = None,
    d_head: int | None = None,
    d_ff: int | None = None,
    window: int,
    num_local: int = 5,
    rope_factor: float = 1.0,
    query_scalar: int | None = None,
    tied: bool = True,
) -> ModelConfig:
    """Gemma 3: after ``num_local`` layers in a window one that sees all; norms around the parts.

    Gemma team 2025, arXiv:2503.19786. Local layers turn by a theta of 10,000, global ones by
    1,000,000 and, in the larger models, ``rope_factor`` 8 times slower. Scores are divided by the
    root of ``query_scalar``; None is the width of a head.
    """
    attention = AttentionConfig(
        num_heads=num_heads,
        num_kv_heads=num_kv_heads or num_heads,
        d_head=d_head,
        qk_norm="head",
        qk_gain=True,
        scale=None if query_scalar is None else query_scalar**-0.5,
    )
    mixers: dict[str, dict[str, Any]] = {
        "local": {"window": window, "rope": Rope(theta=10_000.0)},
        "global": {"rope": Rope(theta=1_000_000.0, factor=rope_factor)},
    }
    feed_forward = DenseConfig(d_ff=d_ff or gated_width(d_model), activation="geglu")
    return ModelConfig(
        vocab_size=vocab_size,
        context_length=context_length,
        d_model=d_model,
        num_layers=num_layers,
        layers={
            name: Layer(mixer=attention.model_copy(update=mixers[name]), feed_forward=feed_forward)
            for name in mixers
        },
        pattern=("local",) * num_local + ("global",),
        norm=Norm(gain=True),
        norm_place="sandwich",
        embedding_scale="sqrt_d_model",
        tied=tied,
        init="normal",
    )


def olmo2(
    *,
    vocab_size: int,
    context_length: int,
    d_model: int,
    num_layers: int,
    num_heads: int,
    num_kv_heads: int | None = None,
    d_ff: int | None = None,
    rope_theta: float = 500_000.0,
    tied: bool = False,
) -> ModelConfig:
    """OLMo 2: norms after the parts, and one over the queries and one over the keys of all heads.

    OLMo team 2025, arXiv:2501.00656.
    """
    layer = Layer(
        mixer=AttentionConfig(
            num_heads=num_heads,
            num_kv_heads=num_kv_heads or num_heads,
            rope=Rope(theta=rope_theta),
            qk_norm="all",
            qk_gain=True,
        ),
        feed_forward=DenseConfig(d_ff=d_ff or gated_width(d_model), activation="swiglu"),
    )
    return ModelConfig(
        vocab_size=vocab_size,
        context_length=context_length,
        d_model=d_model,
        num_layers=num_layers,
        layers={"full": layer},
        pattern=("full",),
        norm=Norm(gain=True),
        norm_place="reordered",
        tied=tied,
        init="normal",
    )


def gated_width(d_model: int) -> int:
    """Channels of a gated layer of as many weights as four times the width without a gate.

    A multiple of 8 (Shazeer 2020, arXiv:2002.05202, has 2/3 of them).
    """
    return 8 * math.ceil(d_model / 3)


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


def mamba2(
    *,
    vocab_size: int,
    context_length: int,
    d_model: int,
    num_layers: int,
    expand: int = 2,
    d_head: int = 64,
    d_state: int = 128,
    num_groups: int = 1,
    tied: bool = True,
) -> ModelConfig:
    """Mamba-2: state space layers alone, with no feed-forward layers and no positions.

    Dao and Gu 2024, arXiv:2405.21060; ``expand`` times as many channels in a layer as around it.
    """
    mixer = Mamba2Config(
        num_heads=_num_state_heads(expand * d_model, d_head),
        d_head=d_head,
        d_state=d_state,
        num_groups=num_groups,
    )
    return ModelConfig(
        vocab_size=vocab_size,
        context_length=context_length,
        d_model=d_model,
        num_layers=num_layers,
        layers={"mamba": Layer(mixer=mixer, feed_forward=None)},
        pattern=("mamba",),
        norm=Norm(gain=True, eps=1e-5),
        tied=tied,
        init="normal",
    )


def granite_hybrid(
    *,
    vocab_size: int,
    context_length: int,
    d_model: int,
    num_layers: int,
    num_heads: int,
    num_kv_heads: int | None = None,
    d_ff: int | None = None,
    expand: int = 2,
    d_head: int = 64,
    d_state: int = 128,
    num_groups: int = 1,
    tied: bool = True,
) -> ModelConfig:
    """Granite 4 H of IBM, the dense ones: one layer of ten is attention, the others are Mamba-2.

    No positions: the state space layers tell order. ``d_head``, ``d_state`` and ``num_groups`` are
    of Mamba-2. The multipliers are those of Granite 4 H Micro (2025); attention is scaled by
    1 / d_head, as in muP (Yang et al. 2022, arXiv:2203.03466).
    """
    feed_forward = DenseConfig(d_ff=d_ff or gated_width(d_model), activation="swiglu")
    state_space = Mamba2Config(
        num_heads=_num_state_heads(expand * d_model, d_head),
        d_head=d_head,
        d_state=d_state,
        num_groups=num_groups,
    )
    attention = AttentionConfig(
        num_heads=num_heads, num_kv_heads=num_kv_heads or num_heads, scale=num_heads / d_model
    )
    return ModelConfig(
        vocab_size=vocab_size,
        context_length=context_length,
        d_model=d_model,
        num_layers=num_layers,
        layers={
            "mamba": Layer(mixer=state_space, feed_forward=feed_forward),
            "attention": Layer(mixer=attention, feed_forward=feed_forward),
        },
        pattern=("mamba",) * 5 + ("attention",) + ("mamba",) * 4,
        norm=Norm(gain=True, eps=1e-5),
        embedding_scale=12.0,
        residual_scale=0.22,
        logit_scale=1 / 8,
        tied=tied,
        init="normal",
    )


def _num_state_heads(width: int, d_head: int) -> int:
    if width % d_head:
        raise Refusal(f"expand x d_model must be a multiple of d_head, got {width} and {d_head}")
    return width // d_head


def deepseek_v3(
    *,
    vocab_size: int,
    context_length: int,
    d_model: int,
    num_layers: int,
    num_heads: int,
    kv_rank: int,
    q_rank: int | None,
    d_key: int | None = None,
    d_rope: int | None = None,
    d_value: int | None = None,
    num_experts: int,
    top_k: int,
    d_expert: int,
    num_shared: int = 1,
    num_groups: int = 1,
    top_groups: int = 1,
    expert_scale: float = 2.5,
    num_dense: int = 1,
    d_ff: int | None = None,
    rope_theta: float = 10_000.0,
    tied: bool = False,
) -> ModelConfig:
    """DeepSeek-V3: latent attention; after ``num_dense`` layers experts, balanced by biases.

    DeepSeek-AI 2024, arXiv:2412.19437, which has 3 dense layers of 61, ranks of 512 and 1536, heads
    of 128 + 64 channels, 256 experts in 8 groups of which a token meets 8 in 4 and one shared.
    """
    d_key = d_key or d_model // num_heads
    mixer = LatentAttentionConfig(
        num_heads=num_heads,
        d_key=d_key,
        d_rope=d_rope or d_key // 2,
        d_value=d_value or d_key,
        kv_rank=kv_rank,
        q_rank=q_rank,
        rope=Rope(theta=rope_theta),
    )
    experts = ExpertsConfig(
        num_experts=num_experts,
        top_k=top_k,
        d_expert=d_expert,
        d_shared=num_shared * d_expert,
        scores="sigmoid",
        normalize_top_k=True,
        scale=expert_scale,
        num_groups=num_groups,
        top_groups=top_groups,
        balance=BiasBalance(),
    )
    dense = DenseConfig(d_ff=d_ff or gated_width(d_model), activation="swiglu")
    layers = {"experts": Layer(mixer=mixer, feed_forward=experts)}
    if num_dense:
        layers["dense"] = Layer(mixer=mixer, feed_forward=dense)
    return ModelConfig(
        vocab_size=vocab_size,
        context_length=context_length,
        d_model=d_model,
        num_layers=num_layers,
        layers=layers,
        first=("dense",) * num_dense,
        pattern=("experts",),
        norm=Norm(gain=True),
        tied=tied,
        init="normal",
    )


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


def qwen3_next(
    *,
    vocab_size: int,
    context_length: int,
    d_model: int,
    num_layers: int,
    num_heads: int,
    num_kv_heads: int | None = None,
    d_head: int | None = None,
    num_key_heads: int | None = None,
    d_key: int | None = None,
    num_experts: int,
    top_k: int,
    d_expert: int,
    num_delta: int = 3,
    rope_theta: float = 10_000_000.0,
    tied: bool = False,
) -> ModelConfig:
    """Qwen3-Next: ``num_delta`` layers of the gated delta rule, one of gated attention; experts.

    Qwen team, September 2025. ``num_key_heads`` of ``d_key`` channels are of the rule, as wide
    together as the model where nothing is said; it has two heads of values for each. The published
    model has 512 experts, of which a token meets 10 and a shared one behind a gate.
    """
    num_key_heads = num_key_heads or num_heads
    d_key = d_key or d_model // num_key_heads
    delta = GatedDeltaConfig(
        num_heads=2 * num_key_heads, num_key_heads=num_key_heads, d_key=d_key, d_value=d_key
    )
    attention = AttentionConfig(
        num_heads=num_heads,
        num_kv_heads=num_kv_heads or num_heads,
        d_head=d_head,
        rope=Rope(theta=rope_theta, fraction=0.25),
        qk_norm="head",
        qk_gain=True,
        gate=True,
    )
    experts = ExpertsConfig(
        num_experts=num_experts,
        top_k=top_k,
        d_expert=d_expert,
        d_shared=d_expert,
        shared_gate=True,
        normalize_top_k=True,
        balance=LossBalance(weight=0.001),
    )
    return ModelConfig(
        vocab_size=vocab_size,
        context_length=context_length,
        d_model=d_model,
        num_layers=num_layers,
        layers={
            "delta": Layer(mixer=delta, feed_forward=experts),
            "full": Layer(mixer=attention, feed_forward=experts),
        },
        pattern=("delta",) * num_delta + ("full",),
        norm=Norm(gain=True),
        tied=tied,
        init="normal",
    )


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


PRESETS: dict[str, Callable[..., ModelConfig]] = {
    "tarn": tarn,
    "vaswani": vaswani,
    "gpt2": gpt2,
    "llama3": llama3,
    "qwen3": qwen3,
    "gemma3": gemma3,
    "olmo2": olmo2,
    "recall": recall,
    "experts": experts,
    "mamba2": mamba2,
    "granite_hybrid": granite_hybrid,
    "deepseek_v3": deepseek_v3,
    "linear": linear,
    "qwen3_next": qwen3_next,
}


def spell_out(given: dict[str, Any]) -> dict[str, Any]:
    """The config that a preset's name and sizes stand for, as plain data.

    Refuses a name that there is not, and settings that the preset lacks or does not know.
    """
    sizes = {name: value for name, value in given.items() if name != "preset"}
    build = PRESETS.get(given["preset"])
    if build is None:
        raise Refusal(f"preset must be one of {', '.join(PRESETS)}, got {given['preset']}")
    known = inspect.signature(build).parameters
    if unknown := sizes.keys() - known.keys():
        raise Refusal(
            f"preset {given['preset']} must be given {', '.join(known)}, got {min(unknown)}"
        )
    missing = {name for name, p in known.items() if p.default is p.empty} - sizes.keys()
    if missing:
        raise Refusal(
            f"preset {given['preset']} must be given {min(missing)}, got {', '.join(sizes)}"
        )
    return build(**sizes).model_dump()
