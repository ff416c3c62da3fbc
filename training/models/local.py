"""The last inputs mixed in before a mixer, as ``configs/local.py`` describes it."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.kernels.short_convolution import short_convolution
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
        # A copy, so that nothing else stays alive; as wide as before, whatever a norm hands on.
        self.inputs = longer[:, x.shape[1] :].to(self.inputs.dtype, copy=True)
        return longer


class Local(nn.Module):
    """[batch, time, d_model] -> the same: every channel with its last inputs of a document."""

    def __init__(self, config: LocalConfig, sizes: Sizes) -> None:
        super().__init__()
        self.num_before, self.d_model = config.width - 1, sizes.d_model

    def empty_memory(self, batch: int, room: int, like: Tensor) -> LastInputs:
        return LastInputs(like.new_zeros(batch, self.num_before, self.d_model))

    def forward(self, x: Tensor, seen: Reading, memory: LastInputs | None = None) -> Tensor:
        raise NotImplementedError


class Shift(Local):
    """x + shift (previous - x) per channel."""

    def __init__(self, config: LocalConfig, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        self.shift = nn.Parameter(torch.empty(sizes.d_model))

    def forward(self, x: Tensor, seen: Reading, memory: LastInputs | None = None) -> Tensor:
        if memory is None:
            first = x.new_zeros(x.shape[0], 1, x.shape[2])
            previous = torch.cat((first, x[:, :-1]), dim=1)
        else:
            previous = memory.extend(x)[:, :-1]
        if seen.begins is not None:
            previous = previous.masked_fill(seen.begins, 0)
        return torch.lerp(x, previous, self.shift.to(x.dtype))


class Convolution(Local):
    """A causal filter per channel."""

    def __init__(self, config: LocalConfig, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        self.taps = nn.Parameter(torch.empty(sizes.d_model, config.width))

    def initial(self, name: str, draft: Tensor, generator: torch.Generator) -> Tensor:
        draft[:, -1] = 1  # the identity: the last tap is of the input itself
        return draft

    def forward(self, x: Tensor, seen: Reading, memory: LastInputs | None = None) -> Tensor:
        return filtered(x, self.taps, None, seen, memory)


def filtered(
    x: Tensor, taps: Tensor, bias: Tensor | None, seen: Reading, memory: LastInputs | None
) -> Tensor:
    """``short_convolution`` of what is read, after what ``memory`` holds, which goes on by it."""
    if memory is None:
        return short_convolution(x, taps, bias, seen.places)
    num_before = taps.shape[1] - 1
    before = memory.extend(x)[:, :num_before]
    return short_convolution(x, taps, bias, seen.places, before)


def build_local(config: LocalConfig, sizes: Sizes) -> Local:
    return (Shift if config.kind == "shift" else Convolution)(config, sizes)
