"""Where a token stands: rotary angles on queries and keys, or what is added to the embedding.

Tables are functions of the config and not buffers of the model: so they keep their precision when
a model is cast, and exist when it was built without memory (on torch's meta device).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from training.kernels.tables import remembered
from training.models.configs.positions import Rope, Stretch


@remembered
def rotary_table(rope: Rope, d_head: int, context: int, device: torch.device) -> Tensor:
    """Unit numbers [context, d_head / 2]: position p turns pair i by p theta^(-2i / width).

    Su et al. 2021, arXiv:2104.09864. Neighbouring channels are a pair, as in the paper;
    ``kernels/heads.py`` multiplies by them. ``width`` channels turn; the pairs behind them by 0.
    """
    width = rope.width(d_head)
    speeds = rope.theta ** -(torch.arange(0, width, 2, dtype=torch.float64) / width) / rope.factor
    if rope.stretch is not None:
        speeds = _stretched(speeds, rope.stretch)
    speeds = F.pad(speeds, (0, (d_head - width) // 2))
    angles = torch.outer(torch.arange(context, dtype=torch.float64), speeds)
    return torch.polar(torch.ones_like(angles), angles).to(device, torch.complex64)


def _stretched(speeds: Tensor, stretch: Stretch) -> Tensor:
    """Slow pairs slower by the factor, fast ones as they are, those between by their turns."""
    turns = stretch.context * speeds / (2 * math.pi)
    fast = ((turns - stretch.low) / (stretch.high - stretch.low)).clamp(0, 1)
    return fast * speeds + (1 - fast) * speeds / stretch.factor


@remembered
def sinusoidal_table(d_model: int, context: int, device: torch.device) -> Tensor:
    """[context, d_model] of sines and cosines (Vaswani et al. 2017, section 3.5)."""
    pairs = torch.arange(0, d_model, 2, dtype=torch.float64) / d_model
    angles = torch.outer(torch.arange(context, dtype=torch.float64), 10_000.0**-pairs)
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2).to(device, torch.float32)
