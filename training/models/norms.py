"""Normalisation layers, as ``configs/norms.py`` describes them."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.kernels.rms_norm import rms_norm
from training.models.configs.norms import Norm


def compute_dtype(x: Tensor) -> torch.dtype:
    """The dtype that a matrix product of ``x`` runs in: autocast's where autocast is on."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


class RmsNorm(nn.Module):
    """``rms_norm`` of the last axis, handed on in the dtype of the product that follows."""

    def __init__(self, config: Norm, width: int) -> None:
        super().__init__()
        self.eps = config.eps
        self.weight = nn.Parameter(torch.empty(width)) if config.gain else None

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, compute_dtype(x), self.eps, self.weight)


class LayerNorm(nn.Module):
    """``layer_norm`` of the last axis, handed on as ``RmsNorm`` does."""

    def __init__(self, config: Norm, width: int) -> None:
        super().__init__()
        self.eps, self.width = config.eps, width
        self.weight = nn.Parameter(torch.empty(width)) if config.gain else None
        self.bias = nn.Parameter(torch.empty(width)) if config.bias else None

    def forward(self, x: Tensor) -> Tensor:
        y = F.layer_norm(x, (self.width,), self.weight, self.bias, self.eps)
        return y.to(compute_dtype(x))


def build_norm(config: Norm, width: int) -> nn.Module:
    """A norm over ``width`` channels."""
    return RmsNorm(config, width) if config.kind == "rms" else LayerNorm(config, width)
