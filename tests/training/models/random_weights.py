"""Small models of every variant, with weights that leave no part of them silent."""

import torch

from training.models.language_model import LanguageModel, build
from training.models.presets.own import tarn
from training.models.variants import ModelConfig

SMALL = {
    "vocab_size": 61,
    "context_length": 24,
    "d_model": 32,
    "num_layers": 3,
    "num_heads": 4,
}
VARIANTS: dict[str, dict] = {
    "default": {},
    "layer norm, sinusoids, gelu, tied": {
        "norm": "layer",
        "positions": "sinusoidal",
        "activation": "gelu",
        "tied": True,
    },
    "norm after, no positions, swiglu": {
        "norm_place": "post",
        "positions": "none",
        "activation": "swiglu",
    },
    "grouped heads": {"num_kv_heads": 2},
    "one key-value head in a window": {"num_kv_heads": 1, "window": 7},
    "window of two": {"window": 2},
    "plain": {
        "x0_skip": False,
        "token_shift": False,
        "value_embeddings": False,
        "qk_norm": False,
    },
}


def small_config(**changes: object) -> ModelConfig:
    return tarn(**{**SMALL, **changes})


def awake(config: ModelConfig, seed: int = 0) -> LanguageModel:
    """A model in which the matrices that start at zero, and all mixing weights, do something."""
    model = build(config, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return model


def tokens(batch: int, time: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(SMALL["vocab_size"], (batch, time), generator=generator)
