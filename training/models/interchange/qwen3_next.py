"""Qwen3-Next, ``Qwen3NextForCausalLM``: three layers of the gated delta rule, one of attention.

Qwen team, September 2025; the rule is Yang et al. 2024, arXiv:2412.06464. Theirs fuses what goes
into a layer, and lays out the rows of the fused matrix by heads of keys.

Layers for predicting further tokens, which published files have beside the model's own, are not
read.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from datalake.config import Refusal
from training.models.configs.attention import AttentionConfig
from training.models.configs.experts import ExpertsConfig, LossBalance
from training.models.configs.feed_forward import DenseConfig
from training.models.configs.gated_delta import GatedDeltaConfig
from training.models.configs.norms import Norm
from training.models.configs.parts import Sizes
from training.models.configs.positions import THETA, Rope
from training.models.interchange.conversions import (
    LESS_ONE,
    STACKED,
    Pair,
    Step,
    each,
    pair,
)
from training.models.interchange.family import Family, Fields, shortest_pattern
from training.models.interchange.llama3 import NORMS
from training.models.interchange.llama_like import (
    gated_pairs,
    norm_pairs,
    outer_pairs,
    read_heads,
    read_sizes,
    turns,
)
from training.models.interchange.rope import rope_of, write_rope
from training.models.variants import Layer, ModelConfig

KINDS = {"linear_attention": "delta", "full_attention": "full"}  # theirs and our names of layers
FRACTION = 0.25  # of a head's channels turn where the file says nothing
DELTA = {  # our name of each number of the rule, theirs, and what theirs is where it is not said
    "num_heads": ("linear_num_value_heads", 32),
    "num_key_heads": ("linear_num_key_heads", 16),
    "d_key": ("linear_key_head_dim", 128),
    "d_value": ("linear_value_head_dim", 128),
    "width": ("linear_conv_kernel_dim", 4),
}
EXPERTS = {
    "num_experts": ("num_experts", 512),
    "top_k": ("num_experts_per_tok", 10),
    "d_expert": ("moe_intermediate_size", 512),
    "d_shared": ("shared_expert_intermediate_size", 512),
}
SPREAD = each(lambda w: w.unsqueeze(1), lambda w: w.squeeze(1))  # taps as torch's convolutions


def read(fields: Fields) -> ModelConfig:
    fields.only("hidden_act", "silu")
    fields.only("attention_bias", False)
    sizes = read_sizes(fields)
    eps = fields.number("rms_norm_eps", 1e-6)
    heads = read_heads(fields)
    said = fields.fields("rope_parameters") or fields.fields("rope_scaling")
    fraction = fields.number("partial_rotary_factor", FRACTION)
    mixers: dict[str, Any] = {
        "delta": GatedDeltaConfig(**_numbers(fields, DELTA), eps=eps),
        "full": AttentionConfig(
            **{**heads, "d_head": heads["d_head"] or 256},
            rope=rope_of(said, fields.number("rope_theta", THETA), fraction),
            qk_norm="head",
            qk_gain=True,
            qk_eps=eps,
            gate=True,
        ),
    }
    kinds = _kinds(fields, sizes["num_layers"])
    has_experts = _have_experts(fields, sizes["num_layers"])
    names = [
        kind if routed or not any(has_experts) else f"{kind}_dense"
        for kind, routed in zip(kinds, has_experts, strict=True)
    ]
    layers = {
        name: Layer(
            mixer=mixers[kind],
            feed_forward=_read_experts(fields) if routed else _read_dense(fields),
        )
        for name, kind, routed in zip(names, kinds, has_experts, strict=True)
    }
    return ModelConfig(
        **sizes,
        layers=layers,
        pattern=shortest_pattern(names),
        norm=Norm(gain=True, eps=eps),
        tied=fields.flag("tie_word_embeddings", False),
        init="normal",
    )


def _kinds(fields: Fields, num_layers: int) -> list[str]:
    """Our names of the layers' mixers."""
    interval = fields.integer("full_attention_interval", 4)
    every = ["linear_attention"] * (interval - 1) + ["full_attention"]
    said = fields.texts("layer_types", [every[k % interval] for k in range(num_layers)])
    if len(said) != num_layers or not all(kind in KINDS for kind in said):
        raise Refusal(
            f"{fields.place}: layer_types must be {num_layers} of {', '.join(KINDS)}, "
            f"got {', '.join(map(str, said))}"
        )
    return [KINDS[kind] for kind in said]


def _have_experts(fields: Fields, num_layers: int) -> list[bool]:
    if not fields.integer("num_experts", 512):
        return [False] * num_layers
    step = fields.integer("decoder_sparse_step", 1)
    dense = fields.texts("mlp_only_layers", [])
    return [k not in dense and (k + 1) % step == 0 for k in range(num_layers)]


def _read_experts(fields: Fields) -> ExpertsConfig:
    """The weight of the loss that balances loads is theirs, though theirs is a mean of layers."""
    weight = fields.number("router_aux_loss_coef", 0.001)
    return ExpertsConfig(
        **_numbers(fields, EXPERTS),
        shared_gate=True,
        normalize_top_k=fields.flag("norm_topk_prob", True),
        balance=LossBalance(weight=weight) if weight else None,
    )


def _read_dense(fields: Fields) -> DenseConfig:
    return DenseConfig(d_ff=fields.integer("intermediate_size", 5632), activation="swiglu")


def _numbers(fields: Fields, names: dict[str, tuple[str, int]]) -> dict[str, Any]:
    return {ours: fields.integer(theirs, default) for ours, (theirs, default) in names.items()}


def write(config: ModelConfig) -> dict[str, Any]:
    mixers = [layer.mixer for layer in config.all_layers()]
    deltas = [mixer for mixer in mixers if isinstance(mixer, GatedDeltaConfig)]
    full = [mixer for mixer in mixers if isinstance(mixer, AttentionConfig)]
    if not deltas or not full or len(deltas) + len(full) < len(mixers):
        kinds = ", ".join(dict.fromkeys(mixer.kind for mixer in mixers))
        raise Refusal(f"layers of gated_delta and of attention, got {kinds}")
    rope = full[0].rope
    if rope is None:
        raise Refusal("rope in its layers of attention, got nothing")
    types = {ours: theirs for theirs, ours in KINDS.items()}
    return {
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.context_length,
        "hidden_size": config.d_model,
        "num_hidden_layers": config.num_layers,
        "layer_types": [
            types["delta" if isinstance(mixer, GatedDeltaConfig) else "full"] for mixer in mixers
        ],
        "num_attention_heads": full[0].num_heads,
        "num_key_value_heads": full[0].num_kv_heads,
        "head_dim": full[0].head_width(config.sizes),
        **_write_rope(rope),
        "attention_bias": False,
        **{theirs: getattr(deltas[0], ours) for ours, (theirs, _) in DELTA.items()},
        **_write_feed_forward(config),
        "hidden_act": "silu",
        "rms_norm_eps": config.norm.eps,
        "tie_word_embeddings": config.tied,
    }


def _write_rope(rope: Rope) -> dict[str, Any]:
    return {**write_rope(rope), "partial_rotary_factor": rope.fraction}


def _write_feed_forward(config: ModelConfig) -> dict[str, Any]:
    layers = list(enumerate(layer.feed_forward for layer in config.all_layers()))
    dense = {index: part for index, part in layers if isinstance(part, DenseConfig)}
    experts = [part for _, part in layers if isinstance(part, ExpertsConfig)]
    said: dict[str, Any] = {"decoder_sparse_step": 1, "mlp_only_layers": list(dense)}
    if dense:
        said["intermediate_size"] = next(iter(dense.values())).d_ff
    if not experts:
        return {**said, "num_experts": 0}
    balance = experts[0].balance
    return {
        **said,
        **{theirs: getattr(experts[0], ours) for ours, (theirs, _) in EXPERTS.items()},
        "norm_topk_prob": experts[0].normalize_top_k,
        "router_aux_loss_coef": balance.weight if isinstance(balance, LossBalance) else 0.0,
    }


def pairs(config: ModelConfig) -> Iterator[Pair]:
    yield from outer_pairs(config, LESS_ONE)
    for index, layer in enumerate(config.all_layers()):
        if isinstance(layer.mixer, GatedDeltaConfig):
            yield from _delta_pairs(index, layer.mixer)
        elif isinstance(layer.mixer, AttentionConfig):
            yield from _attention_pairs(index, layer.mixer, config.sizes)
        if isinstance(layer.feed_forward, ExpertsConfig):
            yield from _expert_pairs(index, layer.feed_forward.num_experts)
        else:
            yield from gated_pairs(index)
        yield from norm_pairs(index, NORMS, LESS_ONE)


def _delta_pairs(index: int, delta: GatedDeltaConfig) -> Iterator[Pair]:
    ours, theirs = f"blocks.{index}.mixer", f"model.layers.{index}.linear_attn"
    heads = delta.num_key_heads
    for fused, names in (
        ("in_proj_qkvz", ("query", "key", "value", "gate")),
        ("in_proj_ba", ("share", "decay")),
    ):
        weights = tuple(f"{ours}.{name}.weight" for name in names)
        widths = {
            "query": delta.d_keys,
            "key": delta.d_keys,
            "value": delta.d_values,
            "gate": delta.d_values,
        }
        rows = [widths.get(name, delta.num_heads) // heads for name in names]
        yield Pair(weights, (f"{theirs}.{fused}.weight",), (by_head(heads, rows),))
    yield pair(f"{ours}.taps", f"{theirs}.conv1d.weight", SPREAD)
    yield pair(f"{ours}.log_rate", f"{theirs}.A_log")
    yield pair(f"{ours}.step_bias", f"{theirs}.dt_bias")
    yield pair(f"{ours}.norm.weight", f"{theirs}.norm.weight")
    yield pair(f"{ours}.out.weight", f"{theirs}.out_proj.weight")


def _attention_pairs(index: int, attention: AttentionConfig, sizes: Sizes) -> Iterator[Pair]:
    """Their queries have the gate's rows beside them, head by head."""
    ours, theirs = f"blocks.{index}.mixer", f"model.layers.{index}.self_attn"
    turned = turns(attention, sizes)
    d_head = attention.head_width(sizes)
    yield Pair(
        (f"{ours}.query.weight", f"{ours}.gate.weight"),
        (f"{theirs}.q_proj.weight",),
        (*(first_alone(step) for step in turned), by_head(attention.num_heads, [d_head] * 2)),
    )
    yield pair(f"{ours}.key.weight", f"{theirs}.k_proj.weight", *turned)
    yield pair(f"{ours}.value.weight", f"{theirs}.v_proj.weight")
    yield pair(f"{ours}.out.weight", f"{theirs}.o_proj.weight")
    for name in ("query", "key"):
        yield pair(f"{ours}.{name}_gain", f"{theirs}.{name[0]}_norm.weight", *turned, LESS_ONE)


def _expert_pairs(index: int, num_experts: int) -> Iterator[Pair]:
    ours, theirs = f"blocks.{index}.feed_forward", f"model.layers.{index}.mlp"
    yield pair(f"{ours}.router.weight", f"{theirs}.gate.weight")
    yield pair(f"{ours}.shared_gate.weight", f"{theirs}.shared_expert_gate.weight")
    for name in ("gate", "up", "down"):
        all_of_them = tuple(f"{theirs}.experts.{e}.{name}_proj.weight" for e in range(num_experts))
        yield Pair((f"{ours}.{name}",), all_of_them, (STACKED,))
        yield pair(f"{ours}.shared.{name}.weight", f"{theirs}.shared_expert.{name}_proj.weight")


def by_head(num_heads: int, rows: Sequence[int]) -> Step:
    """Ours are several, of ``rows`` a head; theirs is one: all of a head, then of the next."""
    return Step(
        lambda tensors: [
            torch.cat([w.unflatten(0, (num_heads, -1)) for w in tensors], 1).flatten(0, 1)
        ],
        lambda tensors: [
            w.flatten(0, 1) for w in tensors[0].unflatten(0, (num_heads, -1)).split(list(rows), 1)
        ],
    )


def first_alone(step: Step) -> Step:
    """``step`` of the first tensor; the others stay."""
    return Step(
        lambda tensors: [*step.there(tensors[:1]), *tensors[1:]],
        lambda tensors: [*step.back(tensors[:1]), *tensors[1:]],
    )


QWEN3_NEXT = Family(
    model_type="qwen3_next",
    architecture="Qwen3NextForCausalLM",
    read=read,
    write=write,
    pairs=pairs,
    idle=("mtp.*",),
)
