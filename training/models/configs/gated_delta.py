"""The gated delta rule: a matrix of fixed size that forgets and corrects itself.

Yang et al. 2024, arXiv:2412.06464; laid out as in Qwen3-Next.
"""

from typing import Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from datalake.config import Refusal
from training.models.configs.linear_attention import WIDE, chunks
from training.models.configs.parts import MixerConfig, Params, Sizes, dense


class GatedDeltaConfig(MixerConfig):
    """Each position corrects what the state of its heads answers to a key, and asks it a query.

    Queries, keys and values go through a short convolution and SiLU before that, and what comes
    out is normalised head by head and gated.
    """

    kind: Literal["gated_delta"] = "gated_delta"
    num_heads: PositiveInt  # of values, each with a state
    num_key_heads: PositiveInt = Field(default_factory=lambda fields: fields["num_heads"])
    d_key: PositiveInt  # of a head
    d_value: PositiveInt  # of a head
    width: int = Field(default=4, ge=2)  # positions that the convolution mixes, Yang et al. 2024
    # Tokens that are solved for at once. The paper's and Qwen3-Next's size.
    chunk: PositiveInt = 64
    eps: PositiveFloat = 1e-6  # of the norm of what comes out

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.num_heads % self.num_key_heads:
            raise Refusal(
                "num_heads must be a multiple of num_key_heads, "
                f"got {self.num_heads} and {self.num_key_heads}"
            )
        return self

    @property
    def d_keys(self) -> int:
        """Of all heads together."""
        return self.num_key_heads * self.d_key

    @property
    def d_values(self) -> int:
        """Of all heads together."""
        return self.num_heads * self.d_value

    @property
    def num_mixed(self) -> int:
        """Channels that the convolution mixes: queries, keys and values."""
        return 2 * self.d_keys + self.d_values

    def num_params(self, sizes: Sizes) -> Params:
        # In: queries, keys, values, gate, decay and share. Out: values.
        matrices = sizes.d_model * (2 * self.d_keys + 3 * self.d_values + 2 * self.num_heads)
        vectors = self.width * self.num_mixed + 2 * self.num_heads + self.d_value
        return dense(matrices, vectors)

    def reading_flops(self, sizes: Sizes, context: int) -> int:
        """Chunks are counted as they are computed: whole ones, and all pairs of a chunk.

        Solving for the corrections inside a chunk by substitution is no product of matrices.
        """
        size, num_chunks = chunks(context, self.chunk)
        d_key, d_value, num_heads = self.d_key, self.d_value, self.num_heads
        later = num_chunks - 1  # which a state enters
        inside = num_chunks * size * size * (2 * self.d_keys + 2 * self.d_values)
        corrected = later * size * size * num_heads * d_key
        between = later * 3 * size * num_heads * d_key * d_value
        return super().reading_flops(sizes, context) + 2 * (inside + corrected + between)

    def decoding_flops(self, sizes: Sizes, context: int) -> int:
        """The state answers a key, is corrected, and answers a query."""
        step = 3 * 2 * self.num_heads * self.d_key * self.d_value
        return super().decoding_flops(sizes, context) + step

    def state_bytes(self, sizes: Sizes, context: int, bytes_per_value: int) -> int:
        """The same after any number of tokens: matrices, and the convolution's last inputs.

        Matrices are in float32 where the model computes in less.
        """
        matrices = self.num_heads * self.d_key * self.d_value * max(WIDE, bytes_per_value)
        return matrices + (self.width - 1) * self.num_mixed * bytes_per_value

    def resized(self, old: Sizes, new: Sizes) -> Self:
        """Heads as wide as before, more or fewer of them."""
        num_key_heads = max(1, round(self.num_key_heads * new.d_model / old.d_model))
        group = self.num_heads // self.num_key_heads
        update = {"num_heads": num_key_heads * group, "num_key_heads": num_key_heads}
        return self.model_copy(update=update)
