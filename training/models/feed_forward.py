"""The position-wise feed-forward layer: up, a nonlinearity, down."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from training.models.variants import ModelConfig


class FeedForward(nn.Module):
    """[..., d_model] -> [..., d_model] through d_ff channels; SwiGLU has a third matrix."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.activation = config.activation
        self.up = nn.Linear(config.d_model, config.d_ff, bias=False)
        if config.activation == "swiglu":
            self.gate = nn.Linear(config.d_model, config.d_ff, bias=False)
        self.down = nn.Linear(config.d_ff, config.d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.activation == "swiglu":
            return self.down(F.silu(self.gate(x)) * self.up(x))
        if self.activation == "gelu":
            return self.down(F.gelu(self.up(x)))
        return self.down(relu2(self.up(x)))


def relu2(x: Tensor) -> Tensor:
    """max(x, 0)^2."""
    return _Relu2.apply(x)


class _Relu2(torch.autograd.Function):
    """Keeps max(x, 0) alone: the gradient 2 max(x, 0) is zero where x is, so no mask is needed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        positive = x.relu()
        ctx.save_for_backward(positive)
        return positive * positive

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        (positive,) = ctx.saved_tensors
        return torch.mul(positive, dy).mul_(2)
