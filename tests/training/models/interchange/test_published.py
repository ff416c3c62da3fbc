"""Settings of published models, as their files have them: every tensor has its place."""

from copy import deepcopy
from typing import Any

import pytest
import torch

from training.models.interchange.families import family_for, family_of
from training.models.interchange.family import Fields
from training.models.language_model import LanguageModel

transformers = pytest.importorskip("transformers", reason="transformers (extra peers) is missing")

# What is not said in the file has its family's default; fields that say nothing about the
# architecture are left out here, but for a few.
PUBLISHED: dict[str, dict[str, Any]] = {
    "openai-community/gpt2": {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "activation_function": "gelu_new",
        "attn_pdrop": 0.1,
        "layer_norm_epsilon": 1e-05,
        "n_ctx": 1024,
        "n_embd": 768,
        "n_head": 12,
        "n_layer": 12,
        "n_positions": 1024,
        "vocab_size": 50257,
    },
    "meta-llama/Llama-3.2-1B": {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "head_dim": 64,
        "hidden_act": "silu",
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "max_position_embeddings": 131072,
        "mlp_bias": False,
        "num_attention_heads": 32,
        "num_hidden_layers": 16,
        "num_key_value_heads": 8,
        "pretraining_tp": 1,
        "rms_norm_eps": 1e-05,
        "rope_scaling": {
            "factor": 32.0,
            "high_freq_factor": 4.0,
            "low_freq_factor": 1.0,
            "original_max_position_embeddings": 8192,
            "rope_type": "llama3",
        },
        "rope_theta": 500000.0,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "vocab_size": 128256,
    },
    "Qwen/Qwen3-0.6B": {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "attention_bias": False,
        "head_dim": 128,
        "hidden_act": "silu",
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "max_position_embeddings": 40960,
        "max_window_layers": 28,
        "num_attention_heads": 16,
        "num_hidden_layers": 28,
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-06,
        "rope_scaling": None,
        "rope_theta": 1000000,
        "sliding_window": None,
        "tie_word_embeddings": True,
        "use_sliding_window": False,
        "vocab_size": 151936,
    },
    "google/gemma-3-1b-pt": {
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        "attention_bias": False,
        "attn_logit_softcapping": None,
        "cache_implementation": "hybrid",
        "final_logit_softcapping": None,
        "head_dim": 256,
        "hidden_activation": "gelu_pytorch_tanh",
        "hidden_size": 1152,
        "intermediate_size": 6912,
        "max_position_embeddings": 32768,
        "num_attention_heads": 4,
        "num_hidden_layers": 26,
        "num_key_value_heads": 1,
        "query_pre_attn_scalar": 256,
        "rms_norm_eps": 1e-06,
        "rope_local_base_freq": 10000,
        "rope_scaling": None,
        "rope_theta": 1000000,
        "sliding_window": 512,
        "sliding_window_pattern": 6,
        "vocab_size": 262144,
    },
    "allenai/OLMo-2-0425-1B": {
        "architectures": ["Olmo2ForCausalLM"],
        "model_type": "olmo2",
        "attention_bias": False,
        "hidden_act": "silu",
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "max_position_embeddings": 4096,
        "num_attention_heads": 16,
        "num_hidden_layers": 16,
        "num_key_value_heads": 16,
        "rms_norm_eps": 1e-06,
        "rope_scaling": None,
        "rope_theta": 500000,
        "tie_word_embeddings": False,
        "vocab_size": 100352,
    },
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_tensor_of_a_published_model_has_its_place(name: str) -> None:
    given = PUBLISHED[name]
    family = family_of(given)
    config = family.read(Fields(given))
    with torch.device("meta"):
        ours = LanguageModel(config).state_dict()
        peer = transformers.AutoModelForCausalLM.from_config(
            transformers.AutoConfig.for_model(**deepcopy(given))  # which it changes
        )
    shapes: dict[str, torch.Size] = {}
    for pair in family.pairs(config):
        theirs = pair.there([ours[name] for name in pair.ours])
        shapes |= {name: like.shape for name, like in zip(pair.theirs, theirs, strict=True)}
    expected = {name: weight.shape for name, weight in peer.state_dict().items()}
    if config.tied:
        del expected["lm_head.weight"]
    assert shapes == expected


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_model_is_written_as_the_same_family(name: str) -> None:
    given = PUBLISHED[name]
    family, fields = family_for(family_of(given).read(Fields(given)))
    assert family.model_type == given["model_type"]
    for field in given.keys() & fields.keys():
        if given[field] is not None:
            assert fields[field] == given[field], field
