"""What most families since Llama say in the same words: sizes, and the weights of common parts."""

from collections.abc import Iterator
from typing import Any

from training.models.configs.attention import AttentionConfig
from training.models.configs.parts import Sizes
from training.models.interchange.conversions import Pair, Step, half_split, pair
from training.models.interchange.family import Fields, attention_of, feed_forward_of
from training.models.variants import ModelConfig


def read_sizes(fields: Fields) -> dict[str, Any]:
    """Of the model, as ``ModelConfig`` takes them."""
    return {
        "vocab_size": fields.integer("vocab_size"),
        "context_length": fields.integer("max_position_embeddings"),
        "d_model": fields.integer("hidden_size"),
        "num_layers": fields.integer("num_hidden_layers"),
    }


def read_heads(fields: Fields) -> dict[str, Any]:
    """As ``AttentionConfig`` takes them."""
    num_heads = fields.integer("num_attention_heads")
    return {
        "num_heads": num_heads,
        "num_kv_heads": fields.integer("num_key_value_heads", num_heads),
        "d_head": fields.integer("head_dim", None),
    }


def write_sizes(config: ModelConfig) -> dict[str, Any]:
    """Of the model, and of the heads and the feed-forward layer of its first block."""
    attention = attention_of(config)
    return {
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.context_length,
        "hidden_size": config.d_model,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": attention.num_heads,
        "num_key_value_heads": attention.num_kv_heads,
        "head_dim": attention.head_width(config.sizes),
        "intermediate_size": feed_forward_of(config).d_ff,
        "rms_norm_eps": config.norm.eps,
        "tie_word_embeddings": config.tied,
    }


def outer_pairs(config: ModelConfig, *gain: Step) -> Iterator[Pair]:
    """Embedding, last norm and head; ``gain`` is a step that gains take."""
    yield pair("embedding.weight", "model.embed_tokens.weight")
    yield pair("norm.weight", "model.norm.weight", *gain)
    if not config.tied:
        yield pair("head.weight", "lm_head.weight")


def attention_pairs(
    index: int, attention: AttentionConfig, sizes: Sizes, *gain: Step
) -> Iterator[Pair]:
    """Of layer ``index``; queries and keys turn by halves in theirs."""
    ours, theirs = f"blocks.{index}.mixer", f"model.layers.{index}.self_attn"
    turned = turns(attention, sizes)
    for name in ("query", "key", "value", "out"):
        steps = turned if name in ("query", "key") else ()
        there = f"{theirs}.{name[0]}_proj"
        yield pair(f"{ours}.{name}.weight", f"{there}.weight", *steps)
        if attention.out_bias if name == "out" else attention.bias:
            yield pair(f"{ours}.{name}.bias", f"{there}.bias", *steps)
    if attention.qk_gain:
        for name in ("query", "key"):
            yield pair(f"{ours}.{name}_gain", f"{theirs}.{name[0]}_norm.weight", *turned, *gain)


def turns(attention: AttentionConfig, sizes: Sizes) -> tuple[Step, ...]:
    """What rows of queries and keys take to turn by halves; nothing where they do not turn."""
    if attention.rope is None:
        return ()
    d_head = attention.head_width(sizes)
    return (half_split(d_head, attention.rope.width(d_head)),)


def gated_pairs(index: int, has_bias: bool = False) -> Iterator[Pair]:
    """Of the gated feed-forward layer of layer ``index``."""
    for name in ("gate", "up", "down"):
        for leaf in ("weight", "bias") if has_bias else ("weight",):
            yield pair(
                f"blocks.{index}.feed_forward.{name}.{leaf}",
                f"model.layers.{index}.mlp.{name}_proj.{leaf}",
            )


def norm_pairs(index: int, names: dict[str, str], *gain: Step) -> Iterator[Pair]:
    """Of layer ``index``: our name of each norm and theirs."""
    for ours, theirs in names.items():
        yield pair(f"blocks.{index}.{ours}.weight", f"model.layers.{index}.{theirs}.weight", *gain)


def all_pairs(config: ModelConfig, norms: dict[str, str], *gain: Step) -> Iterator[Pair]:
    """Of a model of such parts; ``norms`` are its blocks', and ``gain`` is what gains take."""
    yield from outer_pairs(config, *gain)
    for index in range(config.num_layers):
        yield from attention_pairs(index, attention_of(config, index), config.sizes, *gain)
        yield from gated_pairs(index)
        yield from norm_pairs(index, norms, *gain)
