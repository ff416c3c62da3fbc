"""Softmax attention: many heads, grouped key-value heads, full or in a sliding window.

Vaswani et al. 2017, arXiv:1706.03762; grouped queries Ainslie et al. 2023, arXiv:2305.13245.
"""

import math
from typing import Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from datalake.config import Refusal
from training.models.configs.parts import MixerConfig, Params, Sizes, dense
from training.models.configs.positions import Rope


class AttentionConfig(MixerConfig):
    """Each position reads earlier ones by the likeness of its query to their keys."""

    kind: Literal["attention"] = "attention"
    num_heads: PositiveInt  # of 32 channels or more: 16 cost 0.035 bits per byte
    # Grouped queries save cache, not loss: one key-value head per query head is worth 1.18x
    # compute at d_model 768 (marin), so that is the default.
    num_kv_heads: PositiveInt = Field(default_factory=lambda fields: fields["num_heads"])
    d_head: PositiveInt | None = None  # None: d_model / num_heads
    window: PositiveInt | None = None  # keys a query sees, itself included; None sees them all
    rope: Rope | None = None
    # Henry et al. 2020, arXiv:2010.04245: keeps scores bounded at any rate. Over each head, or
    # over all of them at once (OLMo 2, arXiv:2501.00656).
    qk_norm: Literal["none", "head", "all"] = "none"
    qk_gain: bool = False  # a learned gain in that norm
    qk_eps: PositiveFloat = 1e-6
    bias: bool = False  # on queries, keys and values
    out_bias: bool = False
    scale: PositiveFloat | None = None  # of scores; None: 1 / sqrt(d_head)
    softcap: PositiveFloat | None = None  # c tanh(score / c), Gemma 2, arXiv:2408.00118
    # A table of values per token, mixed into the values (modded-nanogpt): 1.06x there.
    value_embedding: bool = False
    gate: bool = False  # output times sigmoid of a projection (Qwen3-Next)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.num_heads % self.num_kv_heads:
            raise Refusal(
                "num_heads must be a multiple of num_kv_heads, "
                f"got {self.num_heads} and {self.num_kv_heads}"
            )
        if self.qk_gain and self.qk_norm == "none":
            raise Refusal("qk_gain must be left out where qk_norm is none, got yes")
        return self

    @property
    def is_pairwise(self) -> bool:
        return True

    @property
    def span(self) -> int | None:
        return self.window

    def turning(self, sizes: Sizes) -> tuple[Rope, int] | None:
        return None if self.rope is None else (self.rope, self.head_width(sizes))

    def check(self, sizes: Sizes) -> None:
        d_model, context = sizes.d_model, sizes.context_length
        if self.d_head is None and d_model % self.num_heads:
            raise Refusal(
                f"d_model must be a multiple of num_heads, got {d_model} and {self.num_heads}"
            )
        width = self.head_width(sizes)
        if width % 2:  # channels go in pairs through rotations and kernels
            raise Refusal(f"d_head, or d_model / num_heads, must be even, got {width}")
        if self.rope is not None:
            self.rope.width(width)
        if self.window is not None and self.window > context:
            raise Refusal(f"window must be at most context_length, got {self.window} and {context}")

    def head_width(self, sizes: Sizes) -> int:
        return self.d_head or sizes.d_model // self.num_heads

    def kv_width(self, sizes: Sizes) -> int:
        """Of all key (or value) heads together."""
        return self.num_kv_heads * self.head_width(sizes)

    def for_any_width(self, sizes: Sizes) -> Self:
        scale = self.scale or 8 / self.head_width(sizes)
        return self.model_copy(update={"scale": scale})

    def num_params(self, sizes: Sizes) -> Params:
        d_model, d_kv = sizes.d_model, self.kv_width(sizes)
        d_query = self.num_heads * self.head_width(sizes)
        matrices = 2 * d_model * d_query + 2 * d_model * d_kv + self.gate * d_model * d_query
        vectors = self.bias * (d_query + 2 * d_kv) + self.out_bias * d_model
        if self.qk_gain:
            vectors += 2 * self.head_width(sizes) if self.qk_norm == "head" else d_query + d_kv
        tables = 0
        if self.value_embedding:
            vectors += 2
            tables = sizes.vocab_size * d_kv
        return dense(matrices, vectors, tables)

    def reading_flops(self, sizes: Sizes, context: int) -> int:
        pairs = num_pairs(context, self.window)
        width = self.num_heads * self.head_width(sizes)
        return super().reading_flops(sizes, context) + 4 * width * pairs

    def decoding_flops(self, sizes: Sizes, context: int) -> int:
        seen = min(context + 1, self.window or context + 1)
        width = self.num_heads * self.head_width(sizes)
        return super().decoding_flops(sizes, context) + 4 * width * seen

    def state_bytes(self, sizes: Sizes, context: int, bytes_per_value: int) -> int:
        held = min(context, self.window or context)
        return 2 * held * self.kv_width(sizes) * bytes_per_value

    def resized(self, old: Sizes, new: Sizes) -> Self:
        """Heads as wide as before, or, where the width does not divide, the widest that do.

        So 48 channels with heads of 32 become 2 of 24. Refuses a width that has no heads of an
        even number of channels.
        """
        group = self.num_heads // self.num_kv_heads
        if self.d_head is not None:
            num_heads = max(1, round(self.num_kv_heads * new.d_model / old.d_model)) * group
        else:
            width = self.head_width(old)
            for num_heads in range(math.ceil(new.d_model / width), new.d_model // 2 + 1):
                if new.d_model % (2 * num_heads) == 0 and num_heads % group == 0:
                    break
            else:
                raise Refusal(
                    f"d_model must be a multiple of an even head and a group of {group}, "
                    f"got {new.d_model}"
                )
        return self.model_copy(update={"num_heads": num_heads, "num_kv_heads": num_heads // group})


def num_pairs(context: int, window: int | None) -> int:
    """How many keys the queries of a row of ``context`` tokens read in all."""
    if window is None or window >= context:
        return context * (context + 1) // 2
    return window * (window + 1) // 2 + (context - window) * window
