"""The catalogue of architectures: one class per kind, tagged ``kind``, with only its own fields.

The union of the classes, ``ModelConfig``, is the registry: a recipe picks an architecture by its
tag, and a new one is a class here, a file beside this one, and a case in ``block.py``.
"""

import math
from typing import Any, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from datalake.config import Config, Refusal

MAX_VOCAB_SIZE = 2**20  # three ids, as n-gram baselines pack them, fit 63 bits
ROPE_THETA = 10_000.0  # Su et al. 2021, arXiv:2104.09864, section 3.2.2


class TransformerConfig(Config):
    """A decoder-only transformer. The defaults are the choices that made small models better.

    A gain "x" below is of compute at equal loss. Bits per byte are of 4 layers of 64 trained with
    2e12 FLOPs on Python text, 512 tokens a step, where the defaults came to 2.283 and other seeds
    to 2.285, 2.289 and 2.297. What has no default, the sizes, a plan or a recipe must say.
    """

    kind: Literal["transformer"] = "transformer"
    vocab_size: int = Field(ge=2, le=MAX_VOCAB_SIZE)
    context_length: PositiveInt
    d_model: PositiveInt
    num_layers: PositiveInt
    num_heads: PositiveInt  # of 32 channels or more: 16 cost 0.035 bits per byte
    # Grouped queries (Ainslie et al. 2023, arXiv:2305.13245) save cache, not loss: one key-value
    # head per query head is worth 1.18x compute at d_model 768 (marin), so that is the default.
    num_kv_heads: PositiveInt = Field(default_factory=lambda fields: fields["num_heads"])
    # Four times the width (Vaswani et al. 2017, arXiv:1706.03762); SwiGLU has a third matrix and
    # keeps the count with 8/3 (Shazeer 2020, arXiv:2002.05202), so give it that.
    d_ff: PositiveInt = Field(default_factory=lambda fields: 4 * fields["d_model"])
    # Zhang and Sennrich 2019, arXiv:1910.07467, without gains as in nanochat: the matrix that
    # follows can hold them.
    norm: Literal["rms", "layer"] = "rms"
    # Before each sublayer (Xiong et al. 2020, arXiv:2002.04745), or after it, inside the residual
    # branch, as in OLMo 2 (arXiv:2501.00656).
    norm_place: Literal["pre", "post"] = "pre"
    # So et al. 2021, arXiv:2109.08668: two matrices, so faster. SwiGLU at equal FLOPs: 2.278.
    activation: Literal["relu2", "swiglu", "gelu"] = "relu2"
    positions: Literal["rope", "sinusoidal", "none"] = "rope"  # Su et al. 2021, arXiv:2104.09864
    rope_theta: float = Field(default=ROPE_THETA, gt=1)
    window: PositiveInt | None = None  # keys a query sees, itself included; None sees them all
    # Untied is worth 1.11x at 124M parameters (modded-nanogpt); with 16k vocabularies and d_model
    # 512-768 tied was better by 1.02-1.07x (marin). Tied here: 2.293.
    tied: bool = False
    # Henry et al. 2020, arXiv:2010.04245: keeps scores bounded at any rate. No loss here: 2.282.
    qk_norm: bool = True
    # A table of values per token on every second layer (modded-nanogpt): 1.06x there, 2.380
    # without here.
    value_embeddings: bool = True
    # The embedding is mixed back in before each block (modded-nanogpt): 2.299 without.
    x0_skip: bool = True
    # Each channel mixed with the previous position's before attention (Peng et al. 2023,
    # arXiv:2305.13048): 2.318 without.
    token_shift: bool = True

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.d_model % self.num_heads:
            raise Refusal(
                f"d_model must be a multiple of num_heads, got {self.d_model} and {self.num_heads}"
            )
        if self.num_heads % self.num_kv_heads:
            raise Refusal(
                "num_heads must be a multiple of num_kv_heads, "
                f"got {self.num_heads} and {self.num_kv_heads}"
            )
        if self.d_head % 2:  # channels go in pairs through rotations and kernels
            raise Refusal(f"d_model / num_heads must be even, got {self.d_head}")
        if self.positions != "rope" and self.rope_theta != ROPE_THETA:
            raise Refusal(
                f"rope_theta must be left out where positions is not rope, got {self.rope_theta}"
            )
        if self.window is not None and self.window > self.context_length:
            raise Refusal(
                "window must be at most context_length, "
                f"got {self.window} and {self.context_length}"
            )
        return self

    @property
    def d_head(self) -> int:
        return self.d_model // self.num_heads

    @property
    def d_kv(self) -> int:
        """Width of all key (or value) heads together."""
        return self.num_kv_heads * self.d_head

    @property
    def span(self) -> int:
        """Most positions that one query sees, itself included."""
        return self.window or self.context_length

    def has_value_embedding(self, layer: int) -> bool:
        """Whether ``layer``, counted from 0, has a value embedding: the odd ones do."""
        return self.value_embeddings and layer % 2 == 1

    def resized(self, d_model: int, num_layers: int | None = None) -> "TransformerConfig":
        """The same architecture at another size: d_ff / d_model stays, and heads are as wide.

        Where the width does not divide, heads are the widest that do: 48 channels with heads of
        32 become 2 of 24. Refuses a width that has no heads of an even number of channels.
        """
        group = self.num_heads // self.num_kv_heads
        for num_heads in range(math.ceil(d_model / self.d_head), d_model // 2 + 1):
            if d_model % (2 * num_heads) == 0 and num_heads % group == 0:
                break
        else:
            raise Refusal(
                f"d_model must be a multiple of an even head and a group of {group}, got {d_model}"
            )
        changes: dict[str, Any] = {
            "d_model": d_model,
            "num_layers": num_layers or self.num_layers,
            "num_heads": num_heads,
            "num_kv_heads": num_heads // group,
            "d_ff": math.ceil(self.d_ff * d_model / self.d_model),
        }
        return TransformerConfig(**(self.model_dump() | changes))


ModelConfig = TransformerConfig  # a second kind makes this a union discriminated by ``kind``
