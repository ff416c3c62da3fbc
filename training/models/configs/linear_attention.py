"""Linear attention: a running sum in place of a cache.

Katharopoulos et al. 2020, arXiv:2006.16236.
"""

import math
from typing import Literal, Self

from pydantic import PositiveInt

from datalake.config import Refusal
from training.models.configs.parts import MixerConfig, Params, Sizes, dense

WIDE = 4  # bytes of a value that recurrences keep, unless the model computes in more


class LinearAttentionConfig(MixerConfig):
    """Each position reads a mean of earlier ones, weighed by products of positive features.

    It knows no places and cannot look in a window: for that, mix it with softmax attention, or
    with something local before it.
    """

    kind: Literal["linear_attention"] = "linear_attention"
    num_heads: PositiveInt
    d_head: PositiveInt | None = None  # None: d_model / num_heads
    # Tokens that are multiplied with each other at once: the products inside chunks cost as much
    # as those with the sums where a chunk is as long as a head is wide.
    chunk: PositiveInt = 64

    def check(self, sizes: Sizes) -> None:
        if self.d_head is None and sizes.d_model % self.num_heads:
            raise Refusal(
                f"d_model must be a multiple of num_heads, got {sizes.d_model} and {self.num_heads}"
            )

    def head_width(self, sizes: Sizes) -> int:
        return self.d_head or sizes.d_model // self.num_heads

    def num_params(self, sizes: Sizes) -> Params:
        return dense(4 * sizes.d_model * self.num_heads * self.head_width(sizes))

    def reading_flops(self, sizes: Sizes, context: int) -> int:
        """Chunks are counted as they are computed: whole ones, and all pairs of a chunk.

        The sum of weights is one channel of values more.
        """
        width = self.head_width(sizes)
        size, num_chunks = chunks(context, self.chunk)
        inside = num_chunks * size * size * (width + width + 1)
        between = (num_chunks - 1) * 2 * size * width * (width + 1)
        return super().reading_flops(sizes, context) + 2 * self.num_heads * (inside + between)

    def decoding_flops(self, sizes: Sizes, context: int) -> int:
        """The sums grow by a product, and are read."""
        width = self.head_width(sizes)
        step = 2 * 2 * self.num_heads * width * (width + 1)
        return super().decoding_flops(sizes, context) + step

    def state_bytes(self, sizes: Sizes, context: int, bytes_per_value: int) -> int:
        """The same after any number of tokens; float32 where the model computes in less."""
        width = self.head_width(sizes)
        return self.num_heads * width * (width + 1) * max(WIDE, bytes_per_value)

    def resized(self, old: Sizes, new: Sizes) -> Self:
        """Heads of about the same width."""
        if self.d_head is not None:
            num_heads = max(1, round(self.num_heads * new.d_model / old.d_model))
        else:
            num_heads = math.ceil(new.d_model / self.head_width(old))
            while new.d_model % num_heads:
                num_heads += 1
        return self.model_copy(update={"num_heads": num_heads})


def chunks(context: int, size: int) -> tuple[int, int]:
    """(tokens of a chunk, chunks) of a row, as even as it goes: of 65 tokens 33 and 2."""
    size = math.ceil(context / math.ceil(context / size))
    return size, math.ceil(context / size)
