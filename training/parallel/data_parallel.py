"""Data parallelism: every rank has the whole model and its share of each step's rows.

The training loss is computed beside the model, not inside its ``forward``, so that logits are never
held whole; DistributedDataParallel hooks into ``forward`` and would average nothing. Averaging the
gradients here, after the backward pass, is the same arithmetic in the open (Li et al. 2020,
arXiv:2006.15704, section 3.2.1).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from datalake.config import Refusal


@dataclass(frozen=True, slots=True)
class DataParallel:
    """This process among those that train one model together; alone by default.

    With more than one, torch.distributed's default group must exist.
    """

    rank: int = 0
    world: int = 1

    def share(self, num_rows: int) -> range:
        """The slots 0 .. num_rows - 1 of a step that this rank reads: every ``world``-th.

        Equal shares make the mean of the ranks' means the mean of all rows.
        """
        if num_rows % self.world:
            raise Refusal(
                f"batch_rows must be a multiple of the {self.world} workers, got {num_rows}"
            )
        return range(self.rank, num_rows, self.world)

    @torch.no_grad()
    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor, in place, with its mean over the ranks; in buckets, one per dtype.

        Every rank calls it equally often, with tensors of equal shapes in equal order.
        """
        if self.world == 1:
            return
        by_dtype: dict[torch.dtype, list[Tensor]] = {}
        for tensor in tensors:
            by_dtype.setdefault(tensor.dtype, []).append(tensor)
        for bucket in by_dtype.values():
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            dist.all_reduce(flat)
            flat /= self.world
            parts = flat.split([tensor.numel() for tensor in bucket])
            for tensor, part in zip(bucket, parts, strict=True):
                tensor.copy_(part.view_as(tensor))

    def gather(self, value: Any) -> Sequence[Any]:
        """``value`` of every rank, by rank, on every rank; it must pickle."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value)
        return values
