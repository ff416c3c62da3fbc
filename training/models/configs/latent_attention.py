"""Multi-head latent attention: keys and values of all heads are expanded from one small latent.

DeepSeek-AI 2024, arXiv:2405.04434 section 2.1, and arXiv:2412.19437. A key is a part of its own
for every head, without position, and a turned part that all heads share (decoupled RoPE). So what
decoding has to remember of a token is its latent and the turned part: with the sizes of DeepSeek-V3
(128 heads of 128 channels, a rank of 512 and 64 turned channels) 576 values where keys and values
are 32,768.
"""

from typing import Literal, Self

from pydantic import PositiveFloat, PositiveInt, model_validator

from datalake.config import Refusal
from training.models.configs.attention import num_pairs
from training.models.configs.parts import MixerConfig, Params, Sizes, dense
from training.models.configs.positions import Rope


class LatentAttentionConfig(MixerConfig):
    """Softmax attention whose keys and values share a latent of ``kv_rank`` channels."""

    kind: Literal["latent_attention"] = "latent_attention"
    num_heads: PositiveInt
    d_key: PositiveInt  # channels of a head's query and key that know no position
    d_rope: PositiveInt  # channels beside them that turn; of the keys one for all heads
    d_value: PositiveInt  # channels of a head's value
    kv_rank: PositiveInt  # channels of the latent
    q_rank: PositiveInt | None  # of the latent of queries; None: they are not compressed
    rope: Rope = Rope()
    eps: PositiveFloat = 1e-6  # of the norms of both latents
    scale: PositiveFloat | None = None  # of scores; None: 1 / sqrt(d_key + d_rope)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.d_rope % 2:
            raise Refusal(f"d_rope must be even, since channels turn in pairs, got {self.d_rope}")
        self.rope.width(self.d_rope)
        return self

    @property
    def is_pairwise(self) -> bool:
        return True

    @property
    def d_query(self) -> int:
        """Channels of a head's query and key."""
        return self.d_key + self.d_rope

    @property
    def d_memory(self) -> int:
        """Channels that decoding remembers of a token."""
        return self.kv_rank + self.d_rope

    @property
    def d_expanded(self) -> int:
        """Channels that the latent is expanded to, of all heads."""
        return self.num_heads * (self.d_key + self.d_value)

    def turning(self, sizes: Sizes) -> tuple[Rope, int]:
        return self.rope, self.d_rope

    def for_any_width(self, sizes: Sizes) -> Self:
        return self.model_copy(update={"scale": self.scale or 8 / self.d_query})

    def num_params(self, sizes: Sizes) -> Params:
        queries = self.num_heads * self.d_query
        matrices = (
            (self.q_rank or sizes.d_model) * queries
            + sizes.d_model * ((self.q_rank or 0) + self.d_memory)
            + self.kv_rank * self.d_expanded
            + self.num_heads * self.d_value * sizes.d_model
        )
        return dense(matrices, vectors=self.kv_rank + (self.q_rank or 0))

    def reading_flops(self, sizes: Sizes, context: int) -> int:
        """With keys and values expanded."""
        pairs = self.num_heads * num_pairs(context, None)
        products = 2 * (self.d_query + self.d_value) * pairs
        return super().reading_flops(sizes, context) + products

    def decoding_flops(self, sizes: Sizes, context: int) -> int:
        """With the latent as it is.

        What expands it multiplies the query and the mixed latents instead: as many FLOPs.
        """
        products = 2 * self.num_heads * (self.d_memory + self.kv_rank) * (context + 1)
        return super().decoding_flops(sizes, context) + products

    def state_bytes(self, sizes: Sizes, context: int, bytes_per_value: int) -> int:
        return context * self.d_memory * bytes_per_value

    def resized(self, old: Sizes, new: Sizes) -> Self:
        """Heads as wide as before; their number and the ranks go with the width."""

        def scaled(count: int) -> int:
            return max(1, round(count * new.d_model / old.d_model))

        return self.model_copy(
            update={
                "num_heads": scaled(self.num_heads),
                "kv_rank": scaled(self.kv_rank),
                "q_rank": None if self.q_rank is None else scaled(self.q_rank),
            }
        )
