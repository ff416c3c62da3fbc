"""Normalisation of the residual stream."""

from typing import Literal, Self

from pydantic import PositiveFloat, model_validator

from datalake.config import Config, Refusal


class Norm(Config):
    """To root mean square 1, or to mean 0 and deviation 1."""

    # Zhang and Sennrich 2019, arXiv:1910.07467, without gains as in nanochat: the matrix that
    # follows can hold them. "layer": Ba et al. 2016, arXiv:1607.06450.
    kind: Literal["rms", "layer"] = "rms"
    gain: bool = False
    bias: bool = False
    eps: PositiveFloat = 1e-6

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.bias and (self.kind, self.gain) != ("layer", True):
            raise Refusal(f"norm.bias must be left out of a {self.kind} norm without gain, got yes")
        return self

    def num_params(self, width: int) -> int:
        return (self.gain + self.bias) * width
