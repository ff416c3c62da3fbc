"""The memory of n-grams, as ``configs/ngram_memory.py`` describes it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from training.kernels.rms_norm import rms_norm
from training.models.configs.ngram_memory import BITS, NgramMemoryConfig
from training.models.configs.parts import Sizes
from training.models.norms import compute_dtype
from training.models.reading import Reading
from training.models.state import Memory

NONE = -1  # the id where no token was


@dataclass
class LastIds(Memory):
    """The tokens that were read last."""

    ids: Tensor  # [batch, longest - 1] int64, oldest first, NONE before the first token


class NgramMemory(nn.Module):
    """g out(e), to be added to the stream x: e are the rows that the last tokens name, g is a gate.

    g = sigmoid(rms(x) . rms(key(e)) / sqrt(d_model)), one number a position; where rates transfer
    between widths (``width.py``) that is so at ``base_width``, and divided by d_model at others.
    ``look_up`` needs no x, so it may come before all layers: what lies in host memory travels while
    they compute.
    """

    def __init__(
        self, config: NgramMemoryConfig, sizes: Sizes, base_width: int | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self.scale = math.sqrt(base_width or sizes.d_model) / sizes.d_model
        table = HostTable if config.host else nn.Embedding
        self.embedding = table(config.num_tables * config.num_slots, config.d_table)
        self.key = nn.Linear(config.d_found, sizes.d_model, bias=False)
        self.out = nn.Linear(config.d_found, sizes.d_model, bias=False)

    def empty_memory(self, batch: int, room: int, like: Tensor) -> LastIds:
        """What it remembers of ``batch`` sequences of which nothing was read."""
        shape = batch, self.config.longest - 1
        return LastIds(torch.full(shape, NONE, dtype=torch.int64, device=like.device))

    def look_up(self, seen: Reading, memory: LastIds | None = None) -> Tensor:
        """Rows [batch, time, d_found] of the tokens of this pass, where the tokens are.

        ``memory`` goes on by these tokens.
        """
        ids, before = seen.ids, None
        if memory is not None:
            before = memory.ids
            memory.ids = torch.cat((before, ids), dim=1)[:, ids.shape[1] :]
        home = self.embedding.weight.device
        slots = slots_of(
            self.config,
            ids.to(home),
            seen.places.to(home),
            None if before is None else before.to(home),
        )
        found = self.embedding(slots).flatten(2)
        if home == ids.device:
            return found
        if ids.is_cuda:  # copies from pinned memory do not hold up the host
            found = found.pin_memory()
        return found.to(ids.device, non_blocking=True)

    def forward(self, x: Tensor, found: Tensor) -> Tensor:
        """[batch, time, d_model] of the stream x and of what ``look_up`` gave."""
        dtype = compute_dtype(x)
        likeness = rms_norm(x, dtype) * rms_norm(self.key(found), dtype)
        gate = torch.sigmoid(self.scale * likeness.sum(-1, keepdim=True))
        return gate * self.out(found)


def slots_of(
    config: NgramMemoryConfig, ids: Tensor, places: Tensor, before: Tensor | None = None
) -> Tensor:
    """Rows of the tables, int64 [batch, time, tables], that tokens ``ids`` [batch, time] name.

    Tables lie one after the other, by order and then by hash. ``places`` [batch, time] or [time]
    are those of tokens in their documents, over whose start no n-gram reaches: what would stand
    there is hashed as no token. ``before`` [batch, longest - 1] are the ids read before, NONE where
    there were none. The same on every device.
    """
    longest, time = config.longest, ids.shape[1]
    if before is None:
        before = ids.new_full((ids.shape[0], longest - 1), NONE)
    longer = torch.cat((before, ids), dim=1)
    back = range(longest)  # how far: 0 is the token itself
    grams = torch.stack([longer[:, longest - 1 - i :][:, :time] for i in back], dim=-1)
    inside = places[..., None] >= torch.arange(longest, device=ids.device)
    numbers = torch.where(inside, grams + 1, 0)  # [batch, time, longest], from 1 on
    constants = torch.tensor(config.hash_constants(), device=ids.device)
    sums = (numbers[..., None, :] * constants & (1 << BITS) - 1).sum(-1)
    top = (sums & (1 << BITS) - 1) >> BITS - 32
    starts = torch.arange(config.num_tables, device=ids.device) * config.num_slots
    return starts + (top * config.num_slots >> 32)


class HostTable(nn.Embedding):
    """An embedding in host memory: it follows the model to another dtype, not to a device."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        return super()._apply(lambda tensor: _at_home(tensor, fn(tensor.new_empty(0))), recurse)


def _at_home(tensor: Tensor, like: Tensor) -> Tensor:
    """``tensor`` in the dtype of ``like``: on the host, or without memory where that has none."""
    if like.is_meta:
        return tensor.to(like)
    if tensor.is_meta:
        return torch.empty(tensor.shape, dtype=like.dtype, device="cpu")
    return tensor.to(like.dtype)
