"""Linear attention, as ``configs/linear_attention.py`` describes it."""

from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn

from training.kernels.chunks import wide
from training.kernels.linear_attention import linear_attention, linear_attention_step
from training.models.configs.linear_attention import LinearAttentionConfig, chunks
from training.models.configs.parts import Sizes
from training.models.mixers.mixer import Mixer
from training.models.reading import Reading
from training.models.state import Memory


@dataclass
class Sums(Memory):
    """Of all that was read: keys' features times values, and times 1, in float32 at least."""

    sums: Tensor  # [batch, num_heads, d_head, d_head + 1]


class LinearAttention(Mixer):
    """Heads of queries, keys and values."""

    def __init__(self, config: LinearAttentionConfig, sizes: Sizes) -> None:
        super().__init__()
        self.config = config
        self.d_head = config.head_width(sizes)
        d_heads = config.num_heads * self.d_head
        self.query = nn.Linear(sizes.d_model, d_heads, bias=False)
        self.key = nn.Linear(sizes.d_model, d_heads, bias=False)
        self.value = nn.Linear(sizes.d_model, d_heads, bias=False)
        self.out = nn.Linear(d_heads, sizes.d_model, bias=False)

    def empty_memory(self, batch: int, room: int, like: Tensor) -> Sums:
        shape = batch, self.config.num_heads, self.d_head, self.d_head + 1
        return Sums(wide(like).new_zeros(shape))

    def forward(
        self,
        x: Tensor,
        seen: Reading,
        turns: Tensor | None = None,
        mask: Tensor | None = None,
        memory: Memory | None = None,
    ) -> Tensor:
        q, k, v = (
            project(x).unflatten(-1, (-1, self.d_head)).transpose(1, 2)
            for project in (self.query, self.key, self.value)
        )
        held = cast(Sums | None, memory)
        if held is not None and x.shape[1] == 1:
            mixed, held.sums = linear_attention_step(q, k, v, held.sums)
        else:
            size, _ = chunks(x.shape[1], self.config.chunk)
            begins = None if seen.begins is None else seen.begins[..., 0]
            sums = None if held is None else held.sums
            mixed, left = linear_attention(q, k, v, size, begins, sums)
            if held is not None:
                held.sums = cast(Tensor, left)
        return self.out(mixed.transpose(1, 2).flatten(2))
