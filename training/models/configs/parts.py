"""What every part of a model answers: can it be built, what does it hold, what does it cost.

The conventions, the same everywhere, so that laws, plans and utilisation figures agree: a multiply
and an add are two FLOPs and only matrix products are counted; the backward pass costs twice the
forward (Kaplan et al. 2020, arXiv:2001.08361); tables that are only looked up cost nothing;
attention is counted causally: each query with the keys that it may read, itself included.
"""

from typing import NamedTuple, Self

from datalake.config import Config
from training.models.configs.positions import Rope


class Sizes(NamedTuple):
    """What a part needs to know of the model around it."""

    d_model: int
    context_length: int
    vocab_size: int


class Params(NamedTuple):
    """Parameters by what they are to a token."""

    matrices: int = 0  # multiply a token; of experts all that there are
    active: int = 0  # of these, what one token meets: the N of a law
    tables: int = 0  # looked up
    vectors: int = 0  # scale, shift or mix

    def plus(self, other: "Params", times: int = 1) -> "Params":
        return Params(*(a + times * b for a, b in zip(self, other, strict=True)))

    @property
    def total(self) -> int:
        return self.matrices + self.tables + self.vectors


def dense(matrices: int, vectors: int = 0, tables: int = 0) -> Params:
    """Of a part whose matrices all multiply every token."""
    return Params(matrices=matrices, active=matrices, tables=tables, vectors=vectors)


class Tagged(Config):
    """One of several kinds. Which, counts as given, so that it is never left out when written."""

    def model_post_init(self, context: object) -> None:
        if "kind" in type(self).model_fields:
            self.model_fields_set.add("kind")


class Part(Tagged):
    """A part of a block. Every method takes the ``sizes`` of the model that it stands in."""

    def check(self, sizes: Sizes) -> None:
        """Raises Refusal for settings that the model's sizes make impossible."""

    def num_params(self, sizes: Sizes) -> Params:
        raise NotImplementedError

    def reading_flops(self, sizes: Sizes, context: int) -> int:
        """FLOPs of the forward pass over one row of ``context`` tokens."""
        return 2 * self.num_params(sizes).active * context

    def training_flops(self, sizes: Sizes, context: int) -> int:
        """FLOPs of the forward and the backward pass over one row of ``context`` tokens."""
        return 3 * self.reading_flops(sizes, context)

    def decoding_flops(self, sizes: Sizes, context: int) -> int:
        """FLOPs to read one more token when ``context`` tokens were read before."""
        return 2 * self.num_params(sizes).active

    def state_bytes(self, sizes: Sizes, context: int, bytes_per_value: int) -> int:
        """What decoding remembers of one sequence of which ``context`` tokens were read.

        ``bytes_per_value`` is of the dtype that the model computes in.
        """
        return 0

    def resized(self, old: Sizes, new: Sizes) -> Self:
        """The same part in a model of another width: proportions stay."""
        return self


class MixerConfig(Part):
    """A sequence mixer: the part of a block that reads other positions."""

    def turning(self, sizes: Sizes) -> tuple[Rope, int] | None:
        """Its rotary positions and the width of the heads that they turn; made once a pass."""
        return None

    def for_any_width(self, sizes: Sizes) -> Self:
        """The same where what is learned at one width is to hold at others (``width.py``)."""
        return self

    @property
    def is_pairwise(self) -> bool:
        """Whether it reads pairs of positions, so that a mask keeps documents apart."""
        return False

    @property
    def span(self) -> int | None:
        """Keys that a query of a pairwise one sees, itself included; None sees them all."""
        return None
