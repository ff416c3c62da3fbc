"""What every sequence mixer does: read packed rows, prefill and decode with a memory of its own."""

from torch import Tensor, nn

from training.models.reading import Reading
from training.models.state import Memory


class Mixer(nn.Module):
    """[batch, time, d_model] -> the same, each position reading itself and earlier ones.

    ``seen`` tells of the tokens of this pass. ``turns`` are the rotations of its rope, ``mask``
    keeps the documents of a row apart for its window; both are made for all layers at once. With a
    ``memory`` the sequences continue what it holds, and it goes on by these tokens.
    """

    def empty_memory(self, batch: int, room: int, like: Tensor) -> Memory:
        """What it remembers of ``batch`` sequences of ``room`` tokens, of which none was read."""
        raise NotImplementedError

    def forward(
        self,
        x: Tensor,
        seen: Reading,
        turns: Tensor | None = None,
        mask: Tensor | None = None,
        memory: Memory | None = None,
    ) -> Tensor:
        raise NotImplementedError
