"""Mamba-2: a state space layer whose state does not grow with what was read.

Dao and Gu 2024, arXiv:2405.21060. Each head keeps a matrix of d_head x d_state, which fades by a
rate of its own at every step and takes up a step's worth of input; how long a step is, what is
written and what is read, the token says.
"""

import math
from typing import Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from datalake.config import Refusal
from training.models.configs.parts import MixerConfig, Params, Sizes, dense


class Mamba2Config(MixerConfig):
    """Heads with a state each, after a short convolution and before a gated norm.

    Defaults are those of the published models, but for ``chunk``, which changes the speed alone.
    """

    kind: Literal["mamba2"] = "mamba2"
    num_heads: PositiveInt  # d_model / 32 in the published models: twice the width in all
    d_head: PositiveInt = 64
    d_state: PositiveInt = 128
    num_groups: PositiveInt = 1  # of heads that write and read by the same B and C
    width: int = Field(default=4, ge=2)  # taps of the convolution
    taps_bias: bool = True
    bias: bool = False  # on the projections in and out
    dt_min: float = Field(default=0.0, ge=0)  # limits of a step
    dt_max: PositiveFloat | None = None
    norm_eps: PositiveFloat = 1e-5
    # Tokens that are read at once, at most. 8 heads of 64 x 64 on one thread read 2 rows of 512
    # forward and backward in 0.14 s; with 32 or 128 at once 0.16 and 0.25, the published 256 0.51.
    chunk: PositiveInt = 64

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.num_heads % self.num_groups:
            raise Refusal(
                "num_heads must be a multiple of num_groups, "
                f"got {self.num_heads} and {self.num_groups}"
            )
        if self.dt_max is not None and self.dt_min > self.dt_max:
            raise Refusal(f"dt_min must be at most dt_max, got {self.dt_min} and {self.dt_max}")
        return self

    @property
    def d_inner(self) -> int:
        """Of all heads together."""
        return self.num_heads * self.d_head

    @property
    def d_filtered(self) -> int:
        """Channels that the convolution filters: inputs, B and C."""
        return self.d_inner + 2 * self.num_groups * self.d_state

    @property
    def d_projected(self) -> int:
        """Gates, filtered channels, and a step of each head."""
        return self.d_inner + self.d_filtered + self.num_heads

    def chunk_size(self, time: int) -> int:
        """Tokens of each chunk that a row of ``time`` is cut into: as even as it goes."""
        return math.ceil(time / math.ceil(time / self.chunk))

    def num_params(self, sizes: Sizes) -> Params:
        matrices = sizes.d_model * (self.d_projected + self.d_inner)
        vectors = self.d_filtered * (self.width + self.taps_bias) + self.d_inner
        vectors += 3 * self.num_heads + self.bias * (self.d_projected + sizes.d_model)
        return dense(matrices, vectors)

    def reading_flops(self, sizes: Sizes, context: int) -> int:
        """Of the chunked form as it is computed.

        All pairs of a chunk, also those that are masked and padding; no state enters the first
        chunk, and none is made of the last.
        """
        size = self.chunk_size(context)
        num_chunks = math.ceil(context / size)
        pairs = size**2 * (self.num_groups * self.d_state + self.d_inner)
        states = size * self.d_inner * self.d_state  # of one chunk, made or read
        inside, carried = 2 * num_chunks * pairs, 4 * (num_chunks - 1) * states
        return super().reading_flops(sizes, context) + inside + carried

    def decoding_flops(self, sizes: Sizes, context: int) -> int:
        """Of the recurrence; to fade a state and to write into it is no matrix product."""
        return super().decoding_flops(sizes, context) + 2 * self.d_inner * self.d_state

    def state_bytes(self, sizes: Sizes, context: int, bytes_per_value: int) -> int:
        """States in float32, float64 in a model of float64, and the last inputs of the filter."""
        states = self.d_inner * self.d_state * max(4, bytes_per_value)
        return states + (self.width - 1) * self.d_filtered * bytes_per_value

    def resized(self, old: Sizes, new: Sizes) -> Self:
        """Heads as wide as before, as many more as the model is wider."""
        in_group = self.num_heads / self.num_groups * new.d_model / old.d_model
        return self.model_copy(update={"num_heads": max(1, round(in_group)) * self.num_groups})
