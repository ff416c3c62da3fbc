"""Published transformers, as their authors put them together."""

import math
from typing import Any

from training.models.configs.attention import AttentionConfig
from training.models.configs.experts import BiasBalance, ExpertsConfig
from training.models.configs.feed_forward import DenseConfig
from training.models.configs.latent_attention import LatentAttentionConfig
from training.models.configs.norms import Norm
from training.models.configs.positions import Rope, Stretch
from training.models.variants import Layer, ModelConfig


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


def gated_width(d_model: int) -> int:
    """Channels of a gated layer of as many weights as four times the width without a gate.

    A multiple of 8 (Shazeer 2020, arXiv:2002.05202, has 2/3 of them).
    """
    return 8 * math.ceil(d_model / 3)


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


def gemma2(
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
    query_scalar: int | None = None,
    tied: bool = True,
) -> ModelConfig:
    """Gemma 2: layers in a window and layers that see all in turn; scores and logits are capped.

    Gemma team 2024, arXiv:2408.00118, table 1 and section 2. Scores are divided by the root of
    ``query_scalar``; None is the width of a head.
    """
    attention = AttentionConfig(
        num_heads=num_heads,
        num_kv_heads=num_kv_heads or num_heads,
        d_head=d_head,
        rope=Rope(),
        scale=None if query_scalar is None else query_scalar**-0.5,
        softcap=50.0,
    )
    feed_forward = DenseConfig(d_ff=d_ff or gated_width(d_model), activation="geglu")
    return ModelConfig(
        vocab_size=vocab_size,
        context_length=context_length,
        d_model=d_model,
        num_layers=num_layers,
        layers={
            name: Layer(
                mixer=attention.model_copy(update={"window": span}), feed_forward=feed_forward
            )
            for name, span in {"local": window, "global": None}.items()
        },
        pattern=("local", "global"),
        norm=Norm(gain=True),
        norm_place="sandwich",
        embedding_scale="sqrt_d_model",
        logit_softcap=30.0,
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
