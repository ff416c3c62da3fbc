"""What all layers know of the tokens of one forward pass, found once."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """Which tokens are read, where each stands, and what keeps documents apart.

    Where a state is continued, rows have positions of their own and hold no several documents.
    """

    ids: Tensor  # [batch, time]
    places: Tensor  # [batch, time] or [time]: place of a token in its document
    positions: Tensor | None = None  # [batch, time] int64 of a continued state; None: from 0 on
    documents: Tensor | None = None  # [batch, time]: one number a document; None: a row is one
    begins: Tensor | None = None  # [batch, time, 1]: whether a token is its document's first
    turns: tuple[Tensor, ...] = ()  # of each of the model's ropes, as ``place_heads`` takes them
    masks: tuple[Tensor, ...] = ()  # of each of its windows, as ``causal_attention`` takes them
