"""A memory of n-grams: what stood after the last few tokens, looked up and not computed.

A small model spends its first layers on finding out which words the last tokens make. Here hashes
of the last two and three token ids name rows of tables, and a gate that reads the context decides
how much of what was found enters the residual stream: the principle of Engram (DeepSeek, January
2026, "Conditional memory via scalable lookup"). Which rows a pass reads depends on its ids alone,
so tables may be far larger than what computes and lie in the host's memory: the rows are fetched
before the first layer runs.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from datalake.config import Refusal
from training.models.configs.parts import Params, Part, Sizes, dense

# A hash is the top of a sum of ids times odd constants of 43 bits (``hash_constants``): with ids of
# at most 20 bits no product leaves int64, so that every device computes the same; and for fixed
# ranges of at most 2^24 slots such sums spread evenly (Dietzfelbinger et al. 1997,
# https://doi.org/10.1006/jagm.1997.0873).
BITS = 43
MAX_SLOTS = 2**24
ID_BYTES = 8  # remembered ids are int64


class NgramMemoryConfig(Part):
    """Each position with the rows that its last tokens name, through a gate."""

    kind: Literal["ngram"] = "ngram"
    # How many tokens a key has, the position's own included.
    orders: Annotated[tuple[int, ...], Field(strict=False)] = (2, 3)
    num_slots: int = Field(ge=1, le=MAX_SLOTS)  # rows of a table
    num_hashes: PositiveInt = 2  # tables of an order: what collides in one does not in another
    d_table: PositiveInt  # channels of a row
    host: bool = False  # tables stay in host memory, wherever the model goes

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.orders or len(set(self.orders)) < len(self.orders):
            raise Refusal(f"orders must be different numbers of tokens, got {self.orders}")
        if not all(1 <= order <= 8 for order in self.orders):
            raise Refusal(f"orders must be in 1 to 8, got {self.orders}")
        return self

    @property
    def longest(self) -> int:
        return max(self.orders)

    @property
    def num_tables(self) -> int:
        return len(self.orders) * self.num_hashes

    @property
    def d_found(self) -> int:
        """Channels of what a position finds in all tables."""
        return self.num_tables * self.d_table

    def hash_constants(self) -> list[list[int]]:
        """[tables][longest]: what ids are multiplied by, the position's own first; 0: not read.

        Fixed by the order, the hash and the place alone.
        """
        return [
            [_odd(order, hash_, place) if place < order else 0 for place in range(self.longest)]
            for order in self.orders
            for hash_ in range(self.num_hashes)
        ]

    def num_params(self, sizes: Sizes) -> Params:
        matrices = 2 * sizes.d_model * self.d_found  # of keys and of values
        return dense(matrices, tables=self.num_tables * self.num_slots * self.d_table)

    def state_bytes(self, sizes: Sizes, context: int, bytes_per_value: int) -> int:
        return (self.longest - 1) * ID_BYTES

    def resized(self, old: Sizes, new: Sizes) -> Self:
        """Rows as wide in proportion, in as many slots."""
        width = max(1, round(self.d_table * new.d_model / old.d_model))
        return self.model_copy(update={"d_table": width})


def _odd(*place: int) -> int:
    """An odd number of at most BITS bits that looks random: SplitMix64 of ``place``.

    Steele et al. 2014, https://doi.org/10.1145/2714064.2660195.
    """
    state = 0
    for number in place:
        state = (state + number + 0x9E3779B97F4A7C15) % 2**64
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB % 2**64
        state ^= state >> 31
    return state % 2**BITS | 1
