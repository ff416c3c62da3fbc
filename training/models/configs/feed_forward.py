"""The position-wise feed-forward layer: up, a nonlinearity, down."""

import math
from typing import Literal, Self

from pydantic import PositiveInt

from training.models.configs.parts import Params, Part, Sizes, dense

# "gelu_tanh" and "geglu" use the approximation by tanh, as GPT-2 and Gemma do. Gated ones (Shazeer
# 2020, arXiv:2002.05202) have a third matrix and keep the count of four widths with 8/3 of one.
# ReLU^2, So et al. 2021, arXiv:2109.08668.
Activation = Literal["relu", "relu2", "gelu", "gelu_tanh", "swiglu", "geglu"]
GATED = ("swiglu", "geglu")


class DenseConfig(Part):
    """Every channel of every token."""

    kind: Literal["dense"] = "dense"
    d_ff: PositiveInt
    activation: Activation = "relu2"
    bias: bool = False

    def num_params(self, sizes: Sizes) -> Params:
        ups = 2 if self.activation in GATED else 1
        vectors = self.bias * (ups * self.d_ff + sizes.d_model)
        return dense((ups + 1) * sizes.d_model * self.d_ff, vectors)

    def resized(self, old: Sizes, new: Sizes) -> Self:
        return self.model_copy(update={"d_ff": math.ceil(self.d_ff * new.d_model / old.d_model)})
