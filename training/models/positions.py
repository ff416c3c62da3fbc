"""Where a token stands: rotary angles on queries and keys, or sinusoids added to the embedding."""

import torch
from torch import Tensor

from training.models.variants import ModelConfig


def rotary_table(config: ModelConfig) -> Tensor:
    """Unit numbers [context_length, d_head / 2]: position p turns pair i by p theta^(-2i / d_head).

    Su et al. 2021, arXiv:2104.09864. Neighbouring channels are a pair, as in the paper;
    ``kernels/heads.py`` multiplies by them.
    """
    pairs = torch.arange(0, config.d_head, 2, dtype=torch.float64) / config.d_head
    angles = torch.outer(_positions(config), config.rope_theta**-pairs)
    return torch.polar(torch.ones_like(angles), angles).to(torch.complex64)


def sinusoidal_table(config: ModelConfig) -> Tensor:
    """[context_length, d_model] of sines and cosines (Vaswani et al. 2017, section 3.5)."""
    pairs = torch.arange(0, config.d_model, 2, dtype=torch.float64) / config.d_model
    angles = torch.outer(_positions(config), 10_000.0**-pairs)
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2).float()


def _positions(config: ModelConfig) -> Tensor:
    return torch.arange(config.context_length, dtype=torch.float64)
