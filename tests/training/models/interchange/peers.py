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
}


def random_peer(shape: str) -> Any:
    """The model of ``SHAPES``, in which no gain is one and no bias zero."""
    import transformers

    kind, said = SHAPES[shape]
    config = getattr(transformers, kind)(**said)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return model
