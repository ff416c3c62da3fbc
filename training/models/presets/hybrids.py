"""Published models that carry a state from token to token, alone and among attention."""

from datalake.config import Refusal
from training.models.configs.attention import AttentionConfig
from training.models.configs.experts import ExpertsConfig, LossBalance
from training.models.configs.feed_forward import DenseConfig
from training.models.configs.gated_delta import GatedDeltaConfig
from training.models.configs.mamba import Mamba2Config
from training.models.configs.norms import Norm
from training.models.configs.positions import Rope
from training.models.presets.transformers import gated_width
from training.models.variants import Layer, ModelConfig


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


def _num_state_heads(width: int, d_head: int) -> int:
    if width % d_head:
        raise Refusal(f"expand x d_model must be a multiple of d_head, got {width} and {d_head}")
    return width // d_head


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
