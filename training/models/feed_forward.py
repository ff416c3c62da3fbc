"""The position-wise feed-forward layer, as ``configs/feed_forward.py`` describes it."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from training.models.configs.feed_forward import GATED, Activation, DenseConfig
from training.models.configs.parts import Sizes


class FeedForward(nn.Module):
    """[..., d_model] -> [..., d_model] through d_ff channels; gated ones have a third matrix."""

    def __init__(self, config: DenseConfig, sizes: Sizes) -> None:
        super().__init__()
        self.activation: Activation = config.activation
        self.up = nn.Linear(sizes.d_model, config.d_ff, bias=config.bias)
        if config.activation in GATED:
            self.gate = nn.Linear(sizes.d_model, config.d_ff, bias=config.bias)
        self.down = nn.Linear(config.d_ff, sizes.d_model, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.gate(x) if self.activation in GATED else None
        return self.down(activate(self.activation, self.up(x), gate))


def activate(activation: Activation, up: Tensor, gate: Tensor | None = None) -> Tensor:
    """The nonlinearity of ``up``; of gated kinds that of ``gate``, times ``up``."""
    if gate is not None:
        return (F.silu(gate) if activation == "swiglu" else F.gelu(gate, approximate="tanh")) * up
    if activation == "relu":
        return up.relu()
    if activation == "relu2":
        return relu2(up)
    return F.gelu(up, approximate="tanh" if activation == "gelu_tanh" else "none")


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
