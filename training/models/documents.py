"""Rows in which several documents lie one after the other, each to be read as if it were alone."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from training.models.attention import document_mask


@dataclass(frozen=True, kw_only=True, slots=True)
class Documents:
    """Where documents begin and who reads whom: found once a forward pass, for all layers."""

    positions: Tensor  # [batch, time] int64: place of a token in its document
    begins: Tensor  # [batch, time, 1]: whether a token is the first of its document
    mask: Tensor  # as ``causal_attention`` takes it

    @classmethod
    def locate(cls, numbers: Tensor, window: int | None, dtype: torch.dtype) -> Self:
        """The documents of ``numbers`` [batch, time]: tokens of one document have one number.

        ``window`` and ``dtype`` are those of the attention that will read the mask.
        """
        begins = torch.ones_like(numbers, dtype=torch.bool)
        begins[:, 1:] = numbers[:, 1:] != numbers[:, :-1]
        place = torch.arange(numbers.shape[1], device=numbers.device)
        first = torch.where(begins, place, 0).cummax(dim=1).values
        return cls(
            positions=place - first,
            begins=begins[:, :, None],
            mask=document_mask(numbers, window, dtype),
        )
