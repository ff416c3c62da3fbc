"""What lets a small model copy cheaply: the last inputs, mixed in before the mixer."""

from typing import Literal, Self

from pydantic import Field, model_validator

from datalake.config import Refusal
from training.models.configs.parts import Params, Part, Sizes, dense


class LocalConfig(Part):
    """Each channel with the last ``width`` positions of its document, itself included.

    "shift": with the previous position alone, weighed per channel (Peng et al. 2023,
    arXiv:2305.13048); "convolution": a causal filter per channel, which starts as the identity.
    """

    kind: Literal["shift", "convolution"] = "shift"
    width: int = Field(default=2, ge=2)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.kind == "shift" and self.width != 2:
            raise Refusal(f"width of a shift must be 2, got {self.width}")
        return self

    def num_params(self, sizes: Sizes) -> Params:
        return dense(0, vectors=sizes.d_model * (1 if self.kind == "shift" else self.width))

    def state_bytes(self, sizes: Sizes, context: int, bytes_per_value: int) -> int:
        return (self.width - 1) * sizes.d_model * bytes_per_value
