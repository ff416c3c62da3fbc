"""What decoding remembers between tokens: for each sequence of a batch, and each layer.

Every tensor has the batch first and a size that does not depend on how much was read, so that
sequences of different lengths share a batch, and a sequence can be copied (many samples of one
prompt), dropped (finished) or joined with others: ``select`` and ``join``. Tokens that may turn out
wrong, such as a draft's, are read after a ``mark``, to which ``rollback`` goes back. A mixer brings
the class of its memory and makes an empty one (``Mixer.empty_memory``).
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from datalake.config import Refusal

FAR = 2**62  # position of an empty slot: after every query, so causality hides it
Undo = dict[str, Any]  # what a memory was, by field


@dataclass
class Memory:
    """What one layer or model remembers: tensors with the batch first, and other memories."""

    def select(self, rows: Tensor) -> Self:
        """The sequences ``rows`` (int64, may repeat), copied."""
        parts = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return type(self)(**{name: _select(part, rows) for name, part in parts.items()})

    @classmethod
    def join(cls, memories: Sequence[Self]) -> Self:
        """One batch of the sequences of all ``memories``, in order."""
        names = [f.name for f in dataclasses.fields(cls)]
        return cls(**{name: _join([getattr(m, name) for m in memories]) for name in names})

    def mark(self, count: int) -> Undo:
        """What ``rollback`` needs to forget up to ``count`` tokens that are read from here on."""
        return {f.name: _mark(getattr(self, f.name), count) for f in dataclasses.fields(self)}

    def rollback(self, undo: Undo) -> None:
        """Remember exactly what was remembered at the ``mark``; it may be gone back to again."""
        for name, was in undo.items():
            setattr(self, name, _rolled_back(getattr(self, name), was))

    def num_bytes(self) -> int:
        return sum(_num_bytes(getattr(self, f.name)) for f in dataclasses.fields(self))


@dataclass
class KeyValueCache(Memory):
    """Keys and values of the last positions, in a ring: position p lies in slot p % slots."""

    keys: Tensor  # [batch, num_kv_heads, slots, d_head]
    values: Tensor  # the same
    positions: Tensor  # [batch, slots], FAR where empty

    @classmethod
    def empty(cls, batch: int, num_kv_heads: int, slots: int, d_head: int, like: Tensor) -> Self:
        """Nothing remembered yet; dtype and device of ``like``."""
        return cls(
            keys=like.new_zeros(batch, num_kv_heads, slots, d_head),
            values=like.new_zeros(batch, num_kv_heads, slots, d_head),
            positions=torch.full((batch, slots), FAR, device=like.device),
        )

    def extend(
        self, keys: Tensor, values: Tensor, positions: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """All keys, values and their positions that a query of the new tokens may see.

        ``keys`` and ``values`` [batch, num_kv_heads, time, d_head] at ``positions`` [batch, time],
        which continue what was read, are remembered as far as the ring reaches.
        """
        if positions.shape[1] == 1:  # the one slot that falls out is the one out of every sight
            self._write(keys, values, positions)
            return self.keys, self.values, self.positions
        seen = (
            torch.cat((self.keys, keys), dim=2),
            torch.cat((self.values, values), dim=2),
            torch.cat((self.positions, positions), dim=1),
        )
        slots = self.positions.shape[1]
        self._write(keys[:, :, -slots:], values[:, :, -slots:], positions[:, -slots:])
        return seen

    def mark(self, count: int) -> Undo:
        """Saves the slots that ``count`` more tokens overwrite, and no others."""
        slots = self.positions.shape[1]
        last = self.positions.masked_fill(self.positions == FAR, -1).amax(1, keepdim=True)
        after = torch.arange(1, min(count, slots) + 1, device=last.device)
        slot = (last + after) % slots
        return {
            "slot": slot,
            "keys": self.keys.gather(2, _index(slot, self.keys)),
            "values": self.values.gather(2, _index(slot, self.values)),
            "positions": self.positions.gather(1, slot),
        }

    def rollback(self, undo: Undo) -> None:
        self._put(**undo)

    def _write(self, keys: Tensor, values: Tensor, positions: Tensor) -> None:
        self._put(positions % self.positions.shape[1], keys, values, positions)

    def _put(self, slot: Tensor, keys: Tensor, values: Tensor, positions: Tensor) -> None:
        self.positions.scatter_(1, slot, positions)
        for ring, new in ((self.keys, keys), (self.values, values)):
            ring.scatter_(2, _index(slot, ring), new.to(ring.dtype))


@dataclass
class BlockMemory(Memory):
    """What one block remembers."""

    mixer: Memory
    local: Memory | None = None  # the last inputs of the mixer
    ngrams: Memory | None = None  # the last tokens, where it has a memory of n-grams


@dataclass
class DecodingState(Memory):
    """What a model remembers of a batch of sequences."""

    num_read: Tensor  # [batch] int64: tokens read so far
    room: int  # tokens that a sequence may have read in all
    blocks: list[BlockMemory]

    @classmethod
    def join(cls, memories: Sequence[Self]) -> Self:
        """One batch of the sequences of all ``memories``. Refuses states of different room."""
        rooms = sorted({memory.room for memory in memories})
        if len(rooms) > 1:
            raise Refusal(
                f"room must be the same in all states to join, got {rooms[0]} and {rooms[-1]}"
            )
        return super().join(memories)

    def mark(self, count: int) -> Undo:
        return {**super().mark(count), "count": count}

    def rollback(self, undo: Undo) -> None:
        """As of every memory. Refuses to forget more tokens than the mark was made for."""
        count, was = undo["count"], {name: x for name, x in undo.items() if name != "count"}
        num_read = int((self.num_read - undo["num_read"]).max())
        if num_read > count:
            raise Refusal(f"tokens to forget must be at most the mark's {count}, got {num_read}")
        super().rollback(was)


def _index(slot: Tensor, ring: Tensor) -> Tensor:
    """``slot`` [batch, time] for every head and channel of ``ring`` [batch, heads, slots, d]."""
    return slot[:, None, :, None].expand(-1, ring.shape[1], -1, ring.shape[3])


def _mark(part: object, count: int) -> object:
    if isinstance(part, Tensor):
        return part.clone()
    if isinstance(part, Memory):
        return part.mark(count)
    return [_mark(item, count) for item in part] if isinstance(part, list) else part


def _rolled_back(part: object, was: Any) -> object:
    if isinstance(part, Tensor):
        return was.clone()
    if isinstance(part, Memory):
        part.rollback(was)
        return part
    if isinstance(part, list):
        return [_rolled_back(*pair) for pair in zip(part, was, strict=True)]
    return was


def _select(part: object, rows: Tensor) -> object:
    if isinstance(part, Tensor):
        return part.index_select(0, rows)
    if isinstance(part, Memory):
        return part.select(rows)
    if isinstance(part, list):
        return [_select(item, rows) for item in part]
    return part


def _join(parts: Sequence) -> object:
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat(list(parts))
    if isinstance(first, Memory):
        return type(first).join(parts)
    if isinstance(first, list):
        return [_join(items) for items in zip(*parts, strict=True)]
    return first


def _num_bytes(part: object) -> int:
    if isinstance(part, Tensor):
        return part.nbytes
    if isinstance(part, Memory):
        return part.num_bytes()
    return sum(map(_num_bytes, part)) if isinstance(part, list) else 0
