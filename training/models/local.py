"""The last inputs mixed in before a mixer, as ``configs/local.py`` describes it."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.models.configs.local import LocalConfig
from training.models.configs.parts import Sizes
from training.models.reading import Reading
from training.models.state import Memory


@dataclass
class LastInputs(Memory):
    """What came in last, oldest first; zeros before a document's first position."""

    inputs: Tensor  # [batch, width - 1, d_model]

    def extend(self, x: Tensor) -> Tensor:
        """[batch, width - 1 + time, d_model]: what is remembered and then ``x``, remembered too."""
        longer = torch.cat((self.inputs.to(x.dtype), x), dim=1)
        self.inputs = longer[:, x.shape[1] :]
        return longer


class Shift(nn.Module):
    """x + shift (previous - x) per channel, [batch, time, d_model] -> the same."""

    def __init__(self, config: LocalConfig, sizes: Sizes) -> None:
        super().__init__()
        self.d_model = sizes.d_model
        self.shift = nn.Parameter(torch.empty(sizes.d_model))

    def empty_memory(self, batch: int, room: int, like: Tensor) -> LastInputs:
        return LastInputs(like.new_zeros(batch, 1, self.d_model))

    def forward(self, x: Tensor, seen: Reading, memory: LastInputs | None = None) -> Tensor:
        if memory is None:
            first = x.new_zeros(x.shape[0], 1, x.shape[2])
            previous = torch.cat((first, x[:, :-1]), dim=1)
        else:
            previous = memory.extend(x)[:, :-1]
        if seen.begins is not None:
            previous = previous.masked_fill(seen.begins, 0)
        return torch.lerp(x, previous, self.shift.to(x.dtype))
