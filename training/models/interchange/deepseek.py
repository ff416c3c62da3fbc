"""DeepSeek-V3, ``DeepseekV3ForCausalLM``: arXiv:2412.19437. Also Moonlight and others of its kind.

Layers for predicting further tokens, which published files have beside the model's own, are not
read: their tensors are refused by name.
"""

from collections.abc import Iterator
from typing import Any

from datalake.config import Refusal
from training.models.configs.experts import BiasBalance, ExpertsConfig
from training.models.configs.feed_forward import DenseConfig
from training.models.configs.latent_attention import LatentAttentionConfig
from training.models.configs.norms import Norm
from training.models.interchange.conversions import STACKED, Pair, pair
from training.models.interchange.family import Family, Fields, feed_forward_of
from training.models.interchange.llama3 import NORMS
from training.models.interchange.llama_like import gated_pairs, norm_pairs, outer_pairs, read_sizes
from training.models.interchange.rope import read_rope, write_rope
from training.models.variants import Layer, ModelConfig

# What has but one value here. Pairs that turn are neighbours in theirs, too.
FIXED = {
    "hidden_act": "silu",
    "attention_bias": False,
    "rope_interleave": True,
    "scoring_func": "sigmoid",
    "topk_method": "noaux_tc",
    "moe_layer_freq": 1,
}
LATENT = {  # our name of each matrix and gain of the mixer, and theirs
    "latent": "kv_a_proj_with_mqa",
    "latent_norm": "kv_a_layernorm",
    "expand": "kv_b_proj",
    "out": "o_proj",
}
WHOLE_QUERIES = {"query": "q_proj"}
LATENT_QUERIES = {
    "query_latent": "q_a_proj",
    "query_norm": "q_a_layernorm",
    "query": "q_b_proj",
}


def read(fields: Fields) -> ModelConfig:
    for name, value in FIXED.items():
        fields.only(name, value)
    sizes = read_sizes(fields)
    num_dense = fields.integer("first_k_dense_replace", 3)
    if num_dense >= sizes["num_layers"]:
        raise Refusal(
            f"first_k_dense_replace must be below num_hidden_layers {sizes['num_layers']}, "
            f"got {num_dense}"
        )
    mixer = _read_mixer(fields)
    layers = {"experts": Layer(mixer=mixer, feed_forward=_read_experts(fields))}
    if num_dense:
        dense = DenseConfig(d_ff=fields.integer("intermediate_size"), activation="swiglu")
        layers["dense"] = Layer(mixer=mixer, feed_forward=dense)
    return ModelConfig(
        **sizes,
        layers=layers,
        first=("dense",) * num_dense,
        pattern=("experts",),
        norm=Norm(gain=True, eps=fields.number("rms_norm_eps", 1e-6)),
        tied=fields.flag("tie_word_embeddings", False),
        init="normal",
    )


def _read_mixer(fields: Fields) -> LatentAttentionConfig:
    num_heads = fields.integer("num_attention_heads")
    fields.only("num_key_value_heads", num_heads)
    rope = read_rope(fields)
    if rope.fraction != 1:  # the tools turn all channels, whatever it says
        raise Refusal(f"partial_rotary_factor must be 1, got {rope.fraction:g}")
    return LatentAttentionConfig(
        num_heads=num_heads,
        d_key=fields.integer("qk_nope_head_dim", 128),
        d_rope=fields.integer("qk_rope_head_dim", 64),
        d_value=fields.integer("v_head_dim", 128),
        kv_rank=fields.integer("kv_lora_rank", 512),
        q_rank=fields.integer("q_lora_rank", None),
        rope=rope,
        eps=1e-6,  # whatever rms_norm_eps is
    )


def _read_experts(fields: Fields) -> ExpertsConfig:
    d_expert = fields.integer("moe_intermediate_size")
    return ExpertsConfig(
        num_experts=fields.integer("n_routed_experts"),
        top_k=fields.integer("num_experts_per_tok", 8),
        d_expert=d_expert,
        d_shared=fields.integer("n_shared_experts", 1) * d_expert,
        scores="sigmoid",
        normalize_top_k=fields.flag("norm_topk_prob", True),
        scale=fields.number("routed_scaling_factor", 2.5),
        num_groups=fields.integer("n_group", 8),
        top_groups=fields.integer("topk_group", 4),
        balance=BiasBalance(),
    )


def write(config: ModelConfig) -> dict[str, Any]:
    num_dense = sum(not _has_experts(config, index) for index in range(config.num_layers))
    mixer, experts = _mixer_of(config), _experts_of(config, config.num_layers - 1)
    d_ff = feed_forward_of(config).d_ff if num_dense else experts.d_expert  # or nobody's
    return {
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.context_length,
        "hidden_size": config.d_model,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": mixer.num_heads,
        "num_key_value_heads": mixer.num_heads,
        "qk_nope_head_dim": mixer.d_key,
        "qk_rope_head_dim": mixer.d_rope,
        "v_head_dim": mixer.d_value,
        "kv_lora_rank": mixer.kv_rank,
        "q_lora_rank": mixer.q_rank,
        **write_rope(mixer.rope),
        "first_k_dense_replace": num_dense,
        "intermediate_size": d_ff,
        "moe_intermediate_size": experts.d_expert,
        "n_routed_experts": experts.num_experts,
        "num_experts_per_tok": experts.top_k,
        "n_shared_experts": max(1, (experts.d_shared or 0) // experts.d_expert),
        "norm_topk_prob": experts.normalize_top_k,
        "routed_scaling_factor": experts.scale,
        "n_group": experts.num_groups,
        "topk_group": experts.top_groups,
        "num_nextn_predict_layers": 0,
        "rms_norm_eps": config.norm.eps,
        "tie_word_embeddings": config.tied,
        **FIXED,
    }


def _mixer_of(config: ModelConfig) -> LatentAttentionConfig:
    mixer = config.layer(0).mixer
    if not isinstance(mixer, LatentAttentionConfig):
        raise Refusal(f"layers.{config.layer_name(0)}.mixer latent_attention, got {mixer.kind}")
    return mixer


def _has_experts(config: ModelConfig, index: int) -> bool:
    return isinstance(config.layer(index).feed_forward, ExpertsConfig)


def _experts_of(config: ModelConfig, index: int) -> ExpertsConfig:
    experts = config.layer(index).feed_forward
    if not isinstance(experts, ExpertsConfig):
        raise Refusal(f"layers.{config.layer_name(index)}.feed_forward experts, got another")
    return experts


def pairs(config: ModelConfig) -> Iterator[Pair]:
    yield from outer_pairs(config)
    is_compressed = _mixer_of(config).q_rank is not None
    mixer = LATENT | (LATENT_QUERIES if is_compressed else WHOLE_QUERIES)
    for index in range(config.num_layers):
        for ours, theirs in mixer.items():
            yield pair(
                f"blocks.{index}.mixer.{ours}.weight",
                f"model.layers.{index}.self_attn.{theirs}.weight",
            )
        if _has_experts(config, index):
            yield from _expert_pairs(index, _experts_of(config, index).num_experts)
        else:
            yield from gated_pairs(index)
        yield from norm_pairs(index, NORMS)


def _expert_pairs(index: int, num_experts: int) -> Iterator[Pair]:
    ours, theirs = f"blocks.{index}.feed_forward", f"model.layers.{index}.mlp"
    yield pair(f"{ours}.router.weight", f"{theirs}.gate.weight")
    yield pair(f"{ours}.balance", f"{theirs}.gate.e_score_correction_bias")
    for name in ("gate", "up", "down"):
        each = tuple(f"{theirs}.experts.{e}.{name}_proj.weight" for e in range(num_experts))
        yield Pair((f"{ours}.{name}",), each, (STACKED,))
        yield pair(f"{ours}.shared.{name}.weight", f"{theirs}.shared_experts.{name}_proj.weight")


DEEPSEEK_V3 = Family(
    model_type="deepseek_v3",
    architecture="DeepseekV3ForCausalLM",
    read=read,
    write=write,
    pairs=pairs,
    idle=("*.rotary_emb.inv_freq",),
)
