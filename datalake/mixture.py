"""Mixture: how often a document of each source is seen in one epoch.

Weights are given directly, or computed so that each source makes a wanted share of the bytes. A
source that is small for its share is repeated, but no document more than ``max_epochs`` times:
beyond about four, a repeated token is worth ever less than a new one (Muennighoff et al. 2023,
arXiv:2305.16264). Where that bound binds, every weight shrinks alike, so the shares hold and the
epoch is shorter.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from datalake.config import Config, Refusal

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class WeightsConfig(Config):
    """Times that a document of each kind of source is seen in one epoch; 0 leaves it out."""

    kind: Literal["weights"]
    weights: dict[str, Weight]


class SharesConfig(Config):
    """Share of the training bytes that each kind of source shall have; 0 leaves it out."""

    kind: Literal["shares"]
    shares: dict[str, Weight]
    max_epochs: float = Field(default=4, gt=0)  # Muennighoff et al. 2023

    @model_validator(mode="after")
    def _shares_are_a_whole(self) -> Self:
        total = math.fsum(self.shares.values())
        if not math.isclose(total, 1, abs_tol=1e-6):
            raise ValueError(f"mixture.shares must sum to 1, got {total:g}")
        return self


MixtureConfig = Annotated[WeightsConfig | SharesConfig, Field(discriminator="kind")]


def source_weights(
    mixture: WeightsConfig | SharesConfig, num_bytes: Mapping[str, int]
) -> dict[str, float]:
    """Weight of a document of each source, from the bytes that each source has.

    Raises Refusal where a source has no weight or share, or a share has no documents.
    """
    given = mixture.weights if isinstance(mixture, WeightsConfig) else mixture.shares
    for source in sorted(num_bytes):
        if source not in given:
            raise Refusal(
                f"datalake.corpus.mixture.{mixture.kind} must name every kind of source, "
                f"got nothing for {source}"
            )
    if isinstance(mixture, WeightsConfig):
        return {source: mixture.weights[source] for source in num_bytes}
    for source, share in sorted(mixture.shares.items()):
        if share > 0 and not num_bytes.get(source):
            raise Refusal(
                f"datalake.corpus.mixture.shares must be 0 for a source without documents, "
                f"got {share:g} for {source}"
            )
    total = sum(num_bytes.values())
    wanted = {source: mixture.shares[source] * total / n for source, n in num_bytes.items()}
    shrink = min(1.0, mixture.max_epochs / max(wanted.values()))
    return {source: weight * shrink for source, weight in wanted.items()}
