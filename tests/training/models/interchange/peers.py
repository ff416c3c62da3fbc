"""Small models of ``transformers``, of shapes that leave nothing to chance."""

from typing import Any

import torch

SIZES = {
    "vocab_size": 61,
    "max_position_embeddings": 24,
    "hidden_size": 32,
    "intermediate_size": 44,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
SCALING = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 12,
}
GPT2 = {
    "vocab_size": 61,
    "n_positions": 24,
    "n_embd": 32,
    "n_layer": 3,
    "n_head": 4,
    "bos_token_id": None,
    "eos_token_id": None,
}
DEEPSEEK = {
    **SIZES,
    "num_key_value_heads": 4,
    "moe_intermediate_size": 12,
    "n_routed_experts": 8,
    "n_shared_experts": 2,
    "num_experts_per_tok": 3,
    "n_group": 4,
    "topk_group": 2,
    "first_k_dense_replace": 1,
    "kv_lora_rank": 16,
    "q_lora_rank": 12,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 6,
    "v_head_dim": 10,
}
GEMMA = {
    **SIZES,
    "head_dim": 12,
    "num_hidden_layers": 4,
    "sliding_window": 5,
    "layer_types": [
        "sliding_attention",
        "sliding_attention",
        "full_attention",
        "sliding_attention",
    ],
    "query_pre_attn_scalar": 20,
    "rms_norm_eps": 1e-2,
    "rope_parameters": {
        "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
        "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 10_000.0},
    },
}
MAMBA2 = {
    "vocab_size": 61,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_heads": 8,
    "head_dim": 8,
    "state_size": 6,
    "n_groups": 2,
    "chunk_size": 7,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
GRANITE = {
    **{name: value for name, value in SIZES.items() if name != "intermediate_size"},
    "num_local_experts": 0,
    "shared_intermediate_size": 44,
    "layer_types": ["mamba", "attention", "mamba"],
    "mamba_n_heads": 8,
    "mamba_d_state": 6,
    "mamba_chunk_size": 7,
    "embedding_multiplier": 12,
    "residual_multiplier": 0.22,
    "attention_multiplier": 0.125,
    "logits_scaling": 6,
}
QWEN3_NEXT = {
    **SIZES,
    "num_hidden_layers": 4,
    "head_dim": 16,
    "rms_norm_eps": 1e-2,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 6,
    "linear_key_head_dim": 5,
    "linear_value_head_dim": 7,
    "linear_conv_kernel_dim": 3,
    "num_experts": 6,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 12,
    "shared_expert_intermediate_size": 10,
}
# A name of the case: the class of its config, and what is said to it.
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2Config", {**GPT2, "n_inner": 52}),
    "gpt2, untied": ("GPT2Config", {**GPT2, "tie_word_embeddings": False}),
    "llama": ("LlamaConfig", {**SIZES, "rope_theta": 5e5}),
    "llama, wide heads, tied": (
        "LlamaConfig",
        {**SIZES, "head_dim": 12, "tie_word_embeddings": True, "num_key_value_heads": 1},
    ),
    "llama, stretched": ("LlamaConfig", {**SIZES, "rope_theta": 100.0, "rope_scaling": SCALING}),
    "llama, linear": (
        "LlamaConfig",
        {**SIZES, "rope_scaling": {"rope_type": "linear", "factor": 4.0}},
    ),
    "llama, biases": (
        "LlamaConfig",
        {**SIZES, "attention_bias": True, "mlp_bias": True, "rms_norm_eps": 1e-2},
    ),
    "qwen3": ("Qwen3Config", {**SIZES, "head_dim": 12, "rms_norm_eps": 1e-2}),
    "qwen3, biases, tied": (
        "Qwen3Config",
        {**SIZES, "head_dim": 8, "attention_bias": True, "tie_word_embeddings": True},
    ),
    "olmo2": ("Olmo2Config", {**SIZES, "rms_norm_eps": 1e-2}),
    "olmo2, biases, tied": (
        "Olmo2Config",
        {
            **SIZES,
            "attention_bias": True,
            "tie_word_embeddings": True,
            "num_key_value_heads": 4,
            "rope_scaling": SCALING,
        },
    ),
    "gemma2": (
        "Gemma2Config",
        {
            **{name: value for name, value in GEMMA.items() if name != "rope_parameters"},
            "attn_logit_softcapping": 0.5,
            "final_logit_softcapping": 3.0,
        },
    ),
    "gemma2, in a pattern, untied": (
        "Gemma2Config",
        {
            **SIZES,
            "head_dim": 12,
            "query_pre_attn_scalar": 12,
            "sliding_window": 5,
            "attn_logit_softcapping": None,
            "tie_word_embeddings": False,
            "rope_theta": 100.0,
        },
    ),
    "gemma3": ("Gemma3TextConfig", GEMMA),
    "gemma3, biases, capped, untied": (
        "Gemma3TextConfig",
        {
            **GEMMA,
            "query_pre_attn_scalar": 12,
            "final_logit_softcapping": 3.0,
            "tie_word_embeddings": False,
            "attention_bias": True,
            "sliding_window": 4096,
        },
    ),
    "gemma3, in a pattern": (
        "Gemma3TextConfig",
        {
            **{name: value for name, value in GEMMA.items() if name != "layer_types"},
            "rope_parameters": None,
            "num_hidden_layers": 7,
        },
    ),
    "deepseek v3": ("DeepseekV3Config", DEEPSEEK),
    "deepseek v3, whole queries, experts from the start": (
        "DeepseekV3Config",
        {
            **DEEPSEEK,
            "q_lora_rank": None,
            "first_k_dense_replace": 0,
            "norm_topk_prob": False,
            "n_shared_experts": 1,
            "n_group": 1,
            "topk_group": 1,
            "rope_theta": 100.0,
            "rms_norm_eps": 1e-2,
        },
    ),
    "mamba2": ("Mamba2Config", MAMBA2),
    "mamba2, biases, tied": (
        "Mamba2Config",
        {
            **MAMBA2,
            "use_bias": True,
            "use_conv_bias": False,
            "conv_kernel": 3,
            "expand": 4,
            "head_dim": 16,
            "layer_norm_epsilon": 1e-2,
            "tie_word_embeddings": True,
        },
    ),
    "granite hybrid": ("GraniteMoeHybridConfig", GRANITE),
    "granite hybrid, turned, tied": (
        "GraniteMoeHybridConfig",
        {
            **GRANITE,
            "position_embedding_type": "rope",
            "mamba_n_groups": 2,
            "attention_bias": True,
            "mamba_proj_bias": True,
            "rms_norm_eps": 1e-2,
            "tie_word_embeddings": True,
        },
    ),
    "qwen3 next": ("Qwen3NextConfig", QWEN3_NEXT),
    "qwen3 next, dense, of another pattern": (
        "Qwen3NextConfig",
        {
            **QWEN3_NEXT,
            "num_experts": 0,
            "layer_types": ["full_attention", "linear_attention", "linear_attention"],
            "num_hidden_layers": 3,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 100.0,
                "partial_rotary_factor": 0.5,
            },
        },
    ),
    "qwen3 next, some layers dense, tied": (
        "Qwen3NextConfig",
        {
            **QWEN3_NEXT,
            "mlp_only_layers": [1],
            "norm_topk_prob": False,
            "tie_word_embeddings": True,
        },
    ),
}


def random_peer(shape: str) -> Any:
    """The model of ``SHAPES``, in which no gain is one and no bias zero."""
    import transformers

    kind, said = SHAPES[shape]
    config = getattr(transformers, kind)(**said)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in model.state_dict().items():
            if name != "lm_head.weight" or not model.config.tie_word_embeddings:
                weight += 0.2 * torch.randn(weight.shape, generator=generator)
    return model
