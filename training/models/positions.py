"""Where a token stands: rotary angles on queries and keys, or sinusoids added to the embedding.

Tables are functions of the config and not buffers of the model: so they keep their precision when
a model is cast, and exist when it was built without memory (on torch's meta device).
"""

from functools import lru_cache

import torch
from torch import Tensor

from training.models.variants import ModelConfig


@lru_cache(maxsize=8)
@torch.inference_mode(False)  # else a table made while decoding could not serve training
def rotary_table(config: ModelConfig, device: torch.device) -> Tensor:
    """Unit numbers [context_length, d_head / 2]: position p turns pair i by p theta^(-2i / d_head).

    Su et al. 2021, arXiv:2104.09864. Neighbouring channels are a pair, as in the paper;
    ``kernels/heads.py`` multiplies by them.
    """
    pairs = torch.arange(0, config.d_head, 2, dtype=torch.float64) / config.d_head
    angles = torch.outer(_positions(config), config.rope_theta**-pairs)
    return torch.polar(torch.ones_like(angles), angles).to(device, torch.complex64)


@lru_cache(maxsize=8)
@torch.inference_mode(False)
def sinusoidal_table(config: ModelConfig, device: torch.device) -> Tensor:
    """[context_length, d_model] of sines and cosines (Vaswani et al. 2017, section 3.5)."""
    pairs = torch.arange(0, config.d_model, 2, dtype=torch.float64) / config.d_model
    angles = torch.outer(_positions(config), 10_000.0**-pairs)
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2).to(device, torch.float32)


def _positions(config: ModelConfig) -> Tensor:
    return torch.arange(config.context_length, dtype=torch.float64)
