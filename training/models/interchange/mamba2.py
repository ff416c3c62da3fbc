"""Mamba-2, ``Mamba2ForCausalLM``: Dao and Gu 2024, arXiv:2405.21060.

What the layer is and which its weights are, hybrids say in the same way (``granite_hybrid.py``).
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from datalake.config import Refusal
from training.models.configs.mamba import Mamba2Config
from training.models.configs.norms import Norm
from training.models.interchange.conversions import Pair, each, pair
from training.models.interchange.family import Family, Fields
from training.models.variants import Layer, ModelConfig

# Files of these models name no longest context, since nothing in them grows with it.
LONGEST = 2**20
INFINITY = {"__float__": "Infinity"}  # as transformers writes it
# Our field of the layer: theirs, and what it is where it is not said.
NAMES = {
    "num_heads": ("num_heads", 128),
    "d_head": ("head_dim", 64),
    "d_state": ("state_size", 128),
    "num_groups": ("n_groups", 8),
    "width": ("conv_kernel", 4),
    "chunk": ("chunk_size", 256),
    "taps_bias": ("use_conv_bias", True),
    "bias": ("use_bias", False),
}
WEIGHTS = {"project": "in_proj", "out": "out_proj"}
VECTORS = {
    "A_log": "A_log",
    "D": "D",
    "dt_bias": "dt_bias",
    "gain": "norm.weight",
    "taps_bias": "conv1d.bias",
}
FILTER = each(lambda taps: taps.unsqueeze(1), lambda taps: taps.squeeze(1))  # inputs of a Conv1d


def read_mixer(fields: Fields, names: Mapping[str, tuple[str, Any]], eps: float) -> Mamba2Config:
    """The layer, as ``names`` calls its settings, with ``eps`` in its norm."""
    fields.only("hidden_act", "silu")
    given: dict[str, Any] = {
        ours: (fields.flag if isinstance(default, bool) else fields.integer)(theirs, default)
        for ours, (theirs, default) in names.items()
    }
    low, high = _limits(fields)
    return Mamba2Config(**given, dt_min=low, dt_max=high, norm_eps=eps)


def _limits(fields: Fields) -> tuple[float, float | None]:
    """Of a step; None is no upper one."""
    said = fields.items("time_step_limit", [0.0, INFINITY])
    limits: list[Any] = [math.inf if limit == INFINITY else limit for limit in said]
    if len(limits) != 2 or not all(isinstance(limit, int | float) for limit in limits):
        raise Refusal(f"{fields.place}: time_step_limit must be two numbers, got {said}")
    low, high = map(float, limits)
    return low, None if high == math.inf else high


def write_mixer(
    config: ModelConfig, mixer: Mamba2Config, names: Mapping[str, tuple[str, Any]]
) -> dict[str, Any]:
    """The layer's settings. Refuses widths that are no multiple of the model's."""
    if mixer.d_inner % config.d_model:
        raise Refusal(f"heads of a multiple of {config.d_model} channels, got {mixer.d_inner}")
    fields = {theirs: getattr(mixer, ours) for ours, (theirs, _) in names.items()}
    if mixer.dt_min or mixer.dt_max is not None:
        fields["time_step_limit"] = [mixer.dt_min, mixer.dt_max or INFINITY]
    return fields


def mixer_pairs(ours: str, theirs: str, mixer: Mamba2Config) -> Iterator[Pair]:
    """Of the layer whose weights begin with ``ours`` here and with ``theirs`` there."""
    for here, there in WEIGHTS.items():
        for leaf in ("weight", "bias") if mixer.bias else ("weight",):
            yield pair(f"{ours}.{here}.{leaf}", f"{theirs}.{there}.{leaf}")
    for here, there in VECTORS.items():
        if here != "taps_bias" or mixer.taps_bias:
            yield pair(f"{ours}.{here}", f"{theirs}.{there}")
    yield pair(f"{ours}.taps", f"{theirs}.conv1d.weight", FILTER)


def mamba_of(config: ModelConfig, index: int = 0) -> Mamba2Config:
    """Of layer ``index``. Refuses another mixer."""
    mixer = config.layer(index).mixer
    if not isinstance(mixer, Mamba2Config):
        name = config.layer_name(index)
        raise Refusal(f"layers.{name}.mixer mamba2, got {mixer.kind}")
    return mixer


def read(fields: Fields) -> ModelConfig:
    eps = fields.number("layer_norm_epsilon", 1e-5)
    return ModelConfig(
        vocab_size=fields.integer("vocab_size"),
        context_length=fields.integer("max_position_embeddings", LONGEST),
        d_model=fields.integer("hidden_size"),
        num_layers=fields.integer("num_hidden_layers"),
        layers={"mamba": Layer(mixer=read_mixer(fields, NAMES, eps), feed_forward=None)},
        pattern=("mamba",),
        norm=Norm(gain=True, eps=eps),
        tied=fields.flag("tie_word_embeddings", False),
        init="normal",
    )


def write(config: ModelConfig) -> dict[str, Any]:
    mixer = mamba_of(config)
    return {
        **write_mixer(config, mixer, NAMES),
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.context_length,
        "hidden_size": config.d_model,
        "num_hidden_layers": config.num_layers,
        "expand": mixer.d_inner // config.d_model,
        "hidden_act": "silu",
        "layer_norm_epsilon": config.norm.eps,
        "tie_word_embeddings": config.tied,
    }


def pairs(config: ModelConfig) -> Iterator[Pair]:
    yield pair("embedding.weight", "backbone.embeddings.weight")
    yield pair("norm.weight", "backbone.norm_f.weight")
    if not config.tied:
        yield pair("head.weight", "lm_head.weight")
    for index in range(config.num_layers):
        ours, theirs = f"blocks.{index}", f"backbone.layers.{index}"
        yield from mixer_pairs(f"{ours}.mixer", f"{theirs}.mixer", mamba_of(config, index))
        yield pair(f"{ours}.mixer_norm.weight", f"{theirs}.norm.weight")


MAMBA2 = Family(
    model_type="mamba2",
    architecture="Mamba2ForCausalLM",
    read=read,
    write=write,
    pairs=pairs,
    prefix="backbone.",
)
