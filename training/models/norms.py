"""Normalisation layers by the name that the config gives them."""

import torch
from torch import Tensor, nn

from training.kernels.rms_norm import rms_norm
from training.models.variants import ModelConfig


def compute_dtype(x: Tensor) -> torch.dtype:
    """The dtype that a matrix product of ``x`` runs in: autocast's where autocast is on."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


class RmsNorm(nn.Module):
    """``rms_norm`` of the last axis, handed on in the dtype of the product that follows."""

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, compute_dtype(x))


def build_norm(config: ModelConfig) -> nn.Module:
    """A norm over d_model."""
    return RmsNorm() if config.norm == "rms" else nn.LayerNorm(config.d_model)
