"""A mixture of experts: of many small feed-forward layers, each token meets a few.

Shazeer et al. 2017, arXiv:1701.06538; many narrow experts, and shared ones beside them: Dai et al.
2024, arXiv:2401.06066. No token is dropped, however many an expert gets.
"""

import math
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from datalake.config import Refusal
from training.models.configs.feed_forward import GATED, Activation, DenseConfig
from training.models.configs.parts import Params, Part, Sizes, Tagged, dense


class LossBalance(Tagged):
    """Even loads by a loss: experts sum(share of tokens x mean score), 1 where even.

    Fedus et al. 2021, arXiv:2101.03961, equation 4. Its gradient disturbs that of the text.
    """

    kind: Literal["loss"] = "loss"
    weight: PositiveFloat = 0.01  # Fedus et al. 2021


class BiasBalance(Tagged):
    """Even loads without a loss: a bias, for choosing alone, goes up where too few tokens come.

    Wang et al. 2024, arXiv:2408.15664; DeepSeek-V3, arXiv:2412.19437.
    """

    kind: Literal["bias"] = "bias"
    rate: PositiveFloat = 0.001  # a step, of scores between 0 and 1 (both papers)


Balance = Annotated[LossBalance | BiasBalance, Field(discriminator="kind")]


class ExpertsConfig(Part):
    """The ``top_k`` experts of the highest scores read a token; scores weigh what they say."""

    kind: Literal["experts"] = "experts"
    num_experts: PositiveInt
    top_k: PositiveInt
    d_expert: PositiveInt  # width of one
    activation: Activation = "swiglu"
    d_shared: PositiveInt | None = None  # width of what reads every token; None: nothing does
    shared_gate: bool = False  # what that says times sigmoid of a projection (Qwen3-Next)
    scores: Literal["softmax", "sigmoid"] = "softmax"  # sigmoid: DeepSeek-V3
    normalize_top_k: bool  # weights of the chosen ones add up to ``scale``
    scale: PositiveFloat = 1.0  # of the weights
    # Experts lie in groups; a token chooses within the ``top_groups`` whose two best scores add up
    # to most, which bounds the devices that it is sent to (DeepSeek-V3).
    num_groups: PositiveInt = 1
    top_groups: PositiveInt = 1
    balance: Balance | None = None
    # Weight of the mean squared log-sum-exp of the logits: keeps them small; 0.001 in Zoph et al.
    # 2022, arXiv:2202.08906.
    z_loss: PositiveFloat | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.top_k > self.num_experts:
            raise Refusal(
                f"top_k must be at most num_experts, got {self.top_k} and {self.num_experts}"
            )
        if self.normalize_top_k and self.top_k == 1:  # a constant: nothing to learn from
            raise Refusal("normalize_top_k must be no where top_k is 1, got yes")
        if self.z_loss is not None and self.scores != "softmax":
            raise Refusal(
                f"z_loss must be left out where scores are {self.scores}, got {self.z_loss}"
            )
        if self.shared_gate and self.d_shared is None:
            raise Refusal("shared_gate must be left out where d_shared is, got yes")
        self._check_groups()
        return self

    def _check_groups(self) -> None:
        experts, groups = self.num_experts, self.num_groups
        if experts % groups:
            raise Refusal(
                f"num_experts must be a multiple of num_groups, got {experts} and {groups}"
            )
        if self.top_groups > groups:
            raise Refusal(
                f"top_groups must be at most num_groups, got {self.top_groups} and {groups}"
            )
        if groups > 1 and experts < 2 * groups:  # a group is judged by its two best
            raise Refusal(
                f"num_groups must leave 2 experts or more in each, got {groups} of {experts}"
            )
        reach = self.top_groups * experts // groups
        if self.top_k > reach:
            raise Refusal(
                f"top_k must be at most the {reach} experts of top_groups, got {self.top_k}"
            )

    @property
    def shared(self) -> DenseConfig | None:
        """What reads every token."""
        if self.d_shared is None:
            return None
        return DenseConfig(d_ff=self.d_shared, activation=self.activation)

    def num_params(self, sizes: Sizes) -> Params:
        ups = 2 if self.activation in GATED else 1
        expert = (ups + 1) * sizes.d_model * self.d_expert
        always = dense((self.num_experts + self.shared_gate) * sizes.d_model)
        if self.shared is not None:
            always = always.plus(self.shared.num_params(sizes))
        routed = Params(matrices=self.num_experts * expert, active=self.top_k * expert)
        return always.plus(routed)

    def resized(self, old: Sizes, new: Sizes) -> Self:
        """As many experts, wider or narrower."""
        ratio = new.d_model / old.d_model
        d_shared = None if self.d_shared is None else math.ceil(self.d_shared * ratio)
        return self.model_copy(
            update={"d_expert": math.ceil(self.d_expert * ratio), "d_shared": d_shared}
        )
