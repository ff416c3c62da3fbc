"""Rotary positions: how fast each pair of channels turns.

Su et al. 2021, arXiv:2104.09864.
"""

from typing import Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from datalake.config import Config, Refusal

THETA = 10_000.0  # Su et al. 2021, section 3.2.2


class Stretch(Config):
    """Llama 3's way to longer contexts: slow pairs turn ``factor`` times slower, fast ones as ever.

    Grattafiori et al. 2024, arXiv:2407.21783; between the two wave lengths it is interpolated.
    """

    factor: float = Field(ge=1)
    low: PositiveFloat = 1.0  # pairs with fewer turns in ``context`` tokens are slowed down
    high: PositiveFloat = 4.0  # pairs with more are left alone
    context: PositiveInt  # tokens that the model was first trained on

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.low >= self.high:
            raise Refusal(f"stretch.low must be below stretch.high, got {self.low} and {self.high}")
        return self


class Rope(Config):
    """Which channels of a head turn, and how fast."""

    theta: float = Field(default=THETA, gt=1)
    fraction: float = Field(default=1.0, gt=0, le=1)  # of a head's channels, from the first on
    factor: PositiveFloat = 1.0  # all turn so many times slower (Gemma 3's global layers)
    stretch: Stretch | None = None

    def width(self, d_head: int) -> int:
        """Channels of ``d_head`` that turn. Refuses an odd number: they turn in pairs."""
        width = int(self.fraction * d_head)
        if width % 2 or not width:
            raise Refusal(
                f"rope.fraction of {d_head} channels must be an even number above 0, "
                f"got {self.fraction:g} which is {width}"
            )
        return width
