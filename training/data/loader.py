"""Which token rows a training step reads, and reading them while the step before is computed.

What a step reads is a pure function of (seed, step, slot): the loader has no state to save, a
resumed run reads what the undisturbed run would have read, and any number of ranks that share the
slots of a step read the same rows between them. An ``Order`` says which row that is.

Small steps are looked up and copied many at a time, because a call of NumPy costs as much as the
copy of a thousand tokens.
"""

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from types import TracebackType
from typing import Self

import numpy as np
import torch
from torch import Tensor

from datalake.config import Refusal
from training.data.order import Epochs, Order, row_kernels
from training.data.rows import Rows

_SAMPLES_TOGETHER = 4096  # of which an order is asked at once: 0.1 us each, 150 us for 4 alone
_TOKENS_TOGETHER = 1 << 18  # copied at once, where a step is smaller: handing over takes 40 us
_STEPS_TOGETHER = 256
_DEPTH = 2  # copies that wait while one is used


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Rows as the table holds them; what a model takes is made of them where they are.

    So two bytes a token are copied and travel, and not twelve.
    """

    ids: Tensor  # [rows, context_length + 1]: uint16 or uint32, as the int16 or int32 of its bits
    num_tokens: np.ndarray  # int64 [rows]
    further: np.ndarray  # int64, ascending: as ``Rows.further_pieces``

    def to(self, device: torch.device | str) -> "Batch":
        """On ``device``; from pinned memory, while the processor goes on."""
        return replace(self, ids=self.ids.to(device, non_blocking=True))

    @property
    def tokens(self) -> Tensor:
        """int64 ``[rows, context_length + 1]``."""
        unsigned = torch.uint16 if self.ids.dtype == torch.int16 else torch.uint32
        return self.ids.view(unsigned).long()

    @property
    def pieces(self) -> Tensor:
        """int32 ``[rows, context_length + 1]``, as ``Rows.pieces``."""
        device, length = self.ids.device, self.ids.shape[1]
        if device.type == "cpu" and (kernels := row_kernels()) is not None:
            found = np.empty(self.ids.shape, np.int32)
            kernels.number_pieces(self.further, self.num_tokens, found)
            return torch.from_numpy(found)
        numbers = torch.zeros(self.ids.shape, dtype=torch.int32, device=device)
        if self.has_several:
            numbers.view(-1)[torch.from_numpy(self.further).to(device)] = 1
            numbers = numbers.cumsum(1, dtype=torch.int32)
        if (self.num_tokens == length).all():
            return numbers
        num_tokens = torch.from_numpy(self.num_tokens).to(device)
        return numbers.masked_fill(torch.arange(length, device=device) >= num_tokens[:, None], -1)

    @property
    def has_several(self) -> bool:
        """Whether a row holds more than one piece: else none can read another."""
        return len(self.further) > 0

    def first(self, num_targets: int) -> "Batch":
        """The first ``num_targets`` targets of every row, and what they are predicted from."""
        row, place = np.divmod(self.further, self.ids.shape[1])
        inside = place <= num_targets
        return Batch(
            ids=self.ids[:, : num_targets + 1],
            num_tokens=np.minimum(self.num_tokens, num_targets + 1),
            further=(row * (num_targets + 1) + place)[inside],
        )

    def split(self, num_rows: Sequence[int]) -> tuple["Batch", ...]:
        """So many rows each, without a copy of their tokens."""
        ends = np.append(0, np.cumsum(num_rows))
        length = self.ids.shape[1]
        cuts = np.searchsorted(self.further, ends * length).tolist()
        return tuple(
            Batch(
                ids=ids,
                num_tokens=self.num_tokens[ends[k] : ends[k + 1]],
                further=self.further[cuts[k] : cuts[k + 1]] - ends[k] * length,
            )
            for k, ids in enumerate(self.ids.split(list(num_rows)))
        )


class Loader:
    """The rows of every step of a training: every row once an epoch, or as ``order`` says."""

    def __init__(
        self, rows: Rows, seed: int, slots_per_step: int, order: Order | None = None
    ) -> None:
        self.rows, self.slots_per_step = rows, slots_per_step
        self.order = Epochs(len(rows), seed) if order is None else order
        if self.order.num_rows != len(rows):
            raise Refusal(
                f"order must be one of the table's {len(rows)} rows, got {self.order.num_rows}"
            )
        self._steps_together = max(1, _SAMPLES_TOGETHER // slots_per_step)
        self._ids = lru_cache(4)(self._look_up)
        self._targets = lru_cache(4)(lambda block: rows.num_targets_of(self._ids(block)))

    def row_ids(self, step: int) -> np.ndarray:
        """Which rows train ``step``: their numbers in order of ``row_id``, int64 ``[slots]``."""
        block, within = divmod(step, self._steps_together)
        return self._ids(block)[within]

    def num_targets(self, step: int) -> np.ndarray:
        """How many tokens each of these rows predicts, int64 ``[slots]``."""
        block, within = divmod(step, self._steps_together)
        return self._targets(block)[within]

    def batch(self, step: int, slots: Sequence[int] | None = None) -> Batch:
        """The rows that ``step`` reads in ``slots``, a rank's share of it or a part; default all.

        ``slots`` are some of ``range(slots_per_step)``.
        """
        ids = self.row_ids(step)
        return batch_of(self.rows, ids if slots is None else ids[np.asarray(slots, np.int64)])

    def ahead(
        self, parts: Sequence[Sequence[int]], num_steps: int, pinned: bool = False
    ) -> "ReadAhead":
        """Reads, before they are asked for, the ``parts`` of steps below ``num_steps``."""
        return ReadAhead(self, parts, num_steps, pinned)

    def _look_up(self, block: int) -> np.ndarray:
        number = self._steps_together * self.slots_per_step
        ids = self.order.ids(np.arange(block * number, (block + 1) * number))
        return ids.reshape(self._steps_together, self.slots_per_step)


class ReadAhead:
    """The batches of one step after the other, read by a thread while the step before is computed.

    Every part of a step is some of its slots, and becomes one batch. What is read is what
    ``Loader.batch`` would give; only when differs. The thread holds few batches and waits for none
    to be taken, so it ends with the object, or at ``close``.
    """

    def __init__(
        self, loader: Loader, parts: Sequence[Sequence[int]], num_steps: int, pinned: bool
    ) -> None:
        self._loader, self._num_steps, self._pinned = loader, num_steps, pinned
        self._slots = np.concatenate([np.asarray(part, np.int64) for part in parts])
        self._num_rows = [len(part) for part in parts]
        tokens_per_step = len(self._slots) * loader.rows.tokens.shape[1]
        self._steps_together = min(max(1, _TOKENS_TOGETHER // tokens_per_step), _STEPS_TOGETHER)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="rows")
        self._reading: deque[Future[list[tuple[Batch, ...]]]] = deque()
        self._read: deque[tuple[Batch, ...]] = deque()
        self._next = self._asked = 0  # steps: the next to give, and the next to read

    def read(self, step: int) -> tuple[Batch, ...]:
        """One batch for each part of ``step``; any step may be asked for, the next one waits least.

        Raises what went wrong while it was read.
        """
        if not 0 <= step < self._num_steps:
            raise Refusal(f"step must be 0 .. {self._num_steps - 1}, got {step}")
        if step != self._next:
            self._forget()
            self._next = self._asked = step
        self._ask()
        if not self._read:
            self._read.extend(self._reading.popleft().result())
            self._ask()
        self._next += 1
        return self._read.popleft()

    def close(self) -> None:
        """End the thread. What was given stays valid."""
        self._forget()
        self._pool.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _ask(self) -> None:
        while len(self._reading) < _DEPTH and self._asked < self._num_steps:
            stop = min(self._asked + self._steps_together, self._num_steps)
            self._reading.append(self._pool.submit(self._copy, range(self._asked, stop)))
            self._asked = stop

    def _forget(self) -> None:
        for future in self._reading:
            future.cancel()
        self._reading.clear()
        self._read.clear()

    def _copy(self, steps: range) -> list[tuple[Batch, ...]]:
        ids = np.concatenate([self._loader.row_ids(step)[self._slots] for step in steps])
        batch = batch_of(self._loader.rows, ids)
        if self._pinned:
            batch = replace(batch, ids=batch.ids.pin_memory())
        parts = batch.split(self._num_rows * len(steps))
        number = len(self._num_rows)
        return [parts[k * number : (k + 1) * number] for k in range(len(steps))]


def batch_of(rows: Rows, ids: np.ndarray) -> Batch:
    """The rows of these numbers."""
    tokens, num_tokens, further = rows.read(ids)
    bits = tokens.view(np.int16 if tokens.itemsize == 2 else np.int32)
    return Batch(ids=torch.from_numpy(bits), num_tokens=num_tokens, further=further)
