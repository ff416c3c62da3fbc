"""Conversions of weights between Tarn's layout and that of published architectures.

A ``Pair`` says which of our tensors are which of theirs, and through which steps: each step knows
the way there and back, so that what is written is read again to the bit (gains that are stored
less one, to rounding).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Tensors = Sequence[Tensor]


@dataclass(frozen=True, slots=True)
class Step:
    """From tensors as we hold them to tensors as they do, and back."""

    there: Callable[[Tensors], Tensors]
    back: Callable[[Tensors], Tensors]

    @property
    def inverse(self) -> "Step":
        return Step(self.back, self.there)


@dataclass(frozen=True, slots=True)
class Pair:
    """Tensors of ours that are tensors of theirs: one and one, several fused, one taken apart."""

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    steps: tuple[Step, ...] = ()

    def there(self, tensors: Tensors) -> Tensors:
        """Theirs, of ours in the order of ``ours``."""
        for step in self.steps:
            tensors = step.there(tensors)
        return tensors

    def back(self, tensors: Tensors) -> Tensors:
        """Ours, of theirs in the order of ``theirs``."""
        for step in reversed(self.steps):
            tensors = step.back(tensors)
        return tensors


def pair(ours: str, theirs: str, *steps: Step) -> Pair:
    """One tensor that is one of theirs."""
    return Pair((ours,), (theirs,), steps)


def each(there: Callable[[Tensor], Tensor], back: Callable[[Tensor], Tensor]) -> Step:
    """A step that every tensor takes on its own."""
    return Step(
        lambda tensors: [there(tensor) for tensor in tensors],
        lambda tensors: [back(tensor) for tensor in tensors],
    )


TRANSPOSED = each(Tensor.t, Tensor.t)  # theirs has the inputs first, as GPT-2's Conv1D
LESS_ONE = each(lambda w: w - 1, lambda w: w + 1)  # theirs multiplies by 1 + w, as Gemma's norms


def half_split(d_head: int, width: int) -> Step:
    """Rows (or gains) of heads of ``d_head`` channels of which the first ``width`` turn.

    We turn neighbouring channels, as Su et al. 2021 (arXiv:2104.09864) do; theirs turns channel i
    with channel i + width / 2. The same rotations, once each head's channels are reordered.
    """
    order = [*range(0, width, 2), *range(1, width, 2), *range(width, d_head)]
    there = torch.tensor(order)
    return each(lambda w: _reordered(w, there), lambda w: _reordered(w, there.argsort()))


def _reordered(rows: Tensor, order: Tensor) -> Tensor:
    """Within each head; ``rows`` is [heads x d_head, ...]."""
    heads = rows.unflatten(0, (-1, len(order)))
    return heads.index_select(1, order.to(rows.device)).flatten(0, 1)


def joined(sizes: Sequence[int], dim: int = 0) -> Step:
    """Ours are several, of ``sizes`` along ``dim``; theirs is one, in which they follow."""
    return Step(
        lambda tensors: [torch.cat(list(tensors), dim)],
        lambda tensors: tensors[0].split(list(sizes), dim),
    )


STACKED = Step(  # ours is one, [experts, ...]; theirs are one for each expert
    lambda tensors: tensors[0].unbind(),
    lambda tensors: [torch.stack(list(tensors))],
)
