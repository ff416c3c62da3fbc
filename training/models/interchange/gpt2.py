"""GPT-2, ``GPT2LMHeadModel``: Radford et al. 2019.

Its matrices have the inputs first, and those of queries, keys and values are one.
"""

from collections.abc import Iterator
from typing import Any

from training.models.configs.attention import AttentionConfig
from training.models.configs.feed_forward import DenseConfig
from training.models.configs.norms import Norm
from training.models.interchange.conversions import TRANSPOSED, Pair, joined, pair
from training.models.interchange.family import Family, Fields, attention_of, feed_forward_of
from training.models.variants import Layer, ModelConfig

NORMS = {"mixer_norm": "ln_1", "feed_forward_norm": "ln_2"}
MATRICES = {
    "mixer.out": "attn.c_proj",
    "feed_forward.up": "mlp.c_fc",
    "feed_forward.down": "mlp.c_proj",
}
QKV = ("query", "key", "value")


def read(fields: Fields) -> ModelConfig:
    # The two names of the approximation by tanh.
    fields.only("activation_function", "gelu_new", "gelu_pytorch_tanh")
    fields.only("scale_attn_weights", True)
    fields.only("scale_attn_by_inverse_layer_idx", False)
    fields.only("add_cross_attention", False)
    d_model = fields.integer("n_embd", 768)
    mixer = AttentionConfig(num_heads=fields.integer("n_head", 12), bias=True, out_bias=True)
    feed_forward = DenseConfig(
        d_ff=fields.integer("n_inner", 4 * d_model), activation="gelu_tanh", bias=True
    )
    return ModelConfig(
        vocab_size=fields.integer("vocab_size", 50257),
        context_length=fields.integer("n_positions", 1024),
        d_model=d_model,
        num_layers=fields.integer("n_layer", 12),
        layers={"full": Layer(mixer=mixer, feed_forward=feed_forward)},
        pattern=("full",),
        norm=Norm(
            kind="layer", gain=True, bias=True, eps=fields.number("layer_norm_epsilon", 1e-5)
        ),
        positions="learned",
        tied=fields.flag("tie_word_embeddings", True),
        init="normal",
    )


def write(config: ModelConfig) -> dict[str, Any]:
    return {
        "vocab_size": config.vocab_size,
        "n_positions": config.context_length,
        "n_embd": config.d_model,
        "n_layer": config.num_layers,
        "n_head": attention_of(config).num_heads,
        "n_inner": feed_forward_of(config).d_ff,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": config.norm.eps,
        "tie_word_embeddings": config.tied,
    }


def pairs(config: ModelConfig) -> Iterator[Pair]:
    yield pair("embedding.weight", "transformer.wte.weight")
    yield pair("position_embedding.weight", "transformer.wpe.weight")
    if not config.tied:
        yield pair("head.weight", "lm_head.weight")
    fused = joined([config.d_model] * len(QKV))
    for index in range(config.num_layers):
        ours, theirs = f"blocks.{index}", f"transformer.h.{index}"
        weights = tuple(f"{ours}.mixer.{name}.weight" for name in QKV)
        biases = tuple(f"{ours}.mixer.{name}.bias" for name in QKV)
        yield Pair(weights, (f"{theirs}.attn.c_attn.weight",), (fused, TRANSPOSED))
        yield Pair(biases, (f"{theirs}.attn.c_attn.bias",), (fused,))
        for here, there in MATRICES.items():
            yield pair(f"{ours}.{here}.weight", f"{theirs}.{there}.weight", TRANSPOSED)
            yield pair(f"{ours}.{here}.bias", f"{theirs}.{there}.bias")
        for here, there in NORMS.items():
            for leaf in ("weight", "bias"):
                yield pair(f"{ours}.{here}.{leaf}", f"{theirs}.{there}.{leaf}")
    for leaf in ("weight", "bias"):
        yield pair(f"norm.{leaf}", f"transformer.ln_f.{leaf}")


GPT2 = Family(
    model_type="gpt2",
    architecture="GPT2LMHeadModel",
    read=read,
    write=write,
    pairs=pairs,
    prefix="transformer.",
    idle=("*.attn.bias", "*.attn.masked_bias"),  # causal masks, of older files
)
