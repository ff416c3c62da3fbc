"""Rows cut into chunks, and where documents lie in these: what chunked recurrences share.

Inside a chunk a recurrence is a product of matrices; from chunk to chunk its state is carried
(Hua et al. 2022, arXiv:2202.10447). Masks keep apart what a document's first token separates.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


def wide(x: Tensor) -> Tensor:
    """``x`` in float32 at least, which is what recurrences add up in."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def cut(x: Tensor, size: int, axis: int) -> Tensor:
    """``x`` with its ``axis`` as two, [chunks, size]; zeros fill up the last chunk."""
    axis %= x.ndim
    lacking = -x.shape[axis] % size
    if lacking:
        x = F.pad(x, [0, 0] * (x.ndim - 1 - axis) + [0, lacking])
    return x.unflatten(axis, (-1, size))


class Borders(NamedTuple):
    """Where documents lie in the chunks of a batch of rows."""

    pairs: Tensor  # [batch or 1, chunks or 1, size, size]: j <= i, both of one document
    # [batch or 1, chunks, size] of 1 and 0: tokens of the document that was going on when the
    # chunk began; tokens of the document that goes on when it ends.
    going_on: Tensor
    at_end: Tensor

    @classmethod
    def find(cls, begins: Tensor | None, num_chunks: int, size: int, like: Tensor) -> "Borders":
        """``begins`` [batch, time]: whether a token is its document's first; None: none is."""
        causal = torch.ones(1, 1, size, size, dtype=torch.bool, device=like.device).tril()
        if begins is None:
            ones = like.new_ones(1, num_chunks, size)
            return cls(causal, ones, ones)
        begun = cut(begins.long(), size, 1).cumsum(-1)  # documents, since the chunk's start
        same = begun[..., :, None] == begun[..., None, :]
        at_end = begun == begun[..., -1:]
        return cls(causal & same, (begun == 0).to(like.dtype), at_end.to(like.dtype))
