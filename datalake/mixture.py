"""Mixture: how often a document of each source is seen in one epoch.

Weights are given directly, or follow from the share of the bytes that each source shall have: named
in the recipe, by temperature, or fitted to small runs. A source that is small for its share is
repeated, but no document more than ``max_epochs`` times: beyond about four, a repeated token is
worth ever less than a new one (Muennighoff et al. 2023, arXiv:2305.16264). Where that bound binds,
every weight shrinks alike, so the shares hold and the epoch is shorter.

A budget says how long the epoch shall be. A weight that is no whole number is rounded up for some
documents and down for the others, by a hash of their ids (``training.data.packing.copies``), so the
same documents are seen in every run.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from datalake.config import Config, Refusal
from datalake.tables import Lake
from datalake.workspace import Inputs, Workspace

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Shares = dict[str, Weight]
FITTED = "mixtures/fitted.json"  # below the home of an installation; ``mixture_fit`` writes it


class Budget(Config):
    """How much text one epoch shall have."""

    tokens: float = Field(gt=0)
    bytes_per_token: float = Field(gt=0)  # of your tokenizer, on this mixture: ``tokens`` tells it


class _Mixture(Config):
    # Muennighoff et al. 2023; weights that are given directly may not be above it either.
    max_epochs: float = Field(default=4, gt=0)
    budget: Budget | None = None  # None: as long as the shares allow without leaving text out


class WeightsConfig(_Mixture):
    """Times that a document of each kind of source is seen in one epoch; 0 leaves it out."""

    kind: Literal["weights"]
    weights: Shares


class SharesConfig(_Mixture):
    """Share of the training bytes that each kind of source shall have; 0 leaves it out."""

    kind: Literal["shares"]
    shares: Shares

    @model_validator(mode="after")
    def _shares_are_a_whole(self) -> Self:
        _require_a_whole("mixture.shares", self.shares)
        return self


class TemperatureConfig(_Mixture):
    """Shares that grow as the size of a source to the power of 1 / ``temperature``.

    1 keeps the sizes; more raises small sources (Devlin et al. 2019 and Conneau et al. 2020,
    arXiv:1911.02116, take powers of 0.7 and 0.3 for languages).
    """

    kind: Literal["temperature"]
    temperature: float = Field(ge=1)
    left_out: tuple[str, ...] = ()  # sources that are not seen at all


class FittedConfig(_Mixture):
    """Shares that small runs found best, as ``mixture_fit`` last wrote them.

    Until it has run, ``shares``: those that the small runs vary.
    """

    kind: Literal["fitted"]
    shares: Shares

    @model_validator(mode="after")
    def _shares_are_a_whole(self) -> Self:
        _require_a_whole("mixture.shares", self.shares)
        return self


MixtureConfig = Annotated[
    WeightsConfig | SharesConfig | TemperatureConfig | FittedConfig, Field(discriminator="kind")
]


def source_weights(
    mixture: MixtureConfig, num_bytes: Mapping[str, int], fitted: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Weight of a document of each source, from the bytes that each source has.

    ``fitted`` are the shares of a fit, if there is one. Raises Refusal where a source has no weight
    or share, a share has no documents, or a weight or the budget asks for more repeats than
    ``max_epochs``.
    """
    if isinstance(mixture, WeightsConfig):
        _require_all("weights", mixture.weights, num_bytes)
        weights = {source: mixture.weights[source] for source in num_bytes}
        for source, weight in sorted(weights.items()):
            if weight > mixture.max_epochs:
                raise Refusal(
                    f"datalake.corpus.mixture.weights must be at most max_epochs "
                    f"({mixture.max_epochs:g}), got {weight:g} for {source}"
                )
    else:
        weights = _from_shares(mixture, _shares(mixture, num_bytes, fitted), num_bytes)
    return weights if mixture.budget is None else _within(mixture, weights, num_bytes)


def _shares(
    mixture: SharesConfig | TemperatureConfig | FittedConfig,
    num_bytes: Mapping[str, int],
    fitted: Mapping[str, float] | None,
) -> Mapping[str, float]:
    if isinstance(mixture, TemperatureConfig):
        power = 1 / mixture.temperature
        raised = {
            source: 0.0 if source in mixture.left_out else n**power
            for source, n in num_bytes.items()
        }
        total = math.fsum(raised.values()) or 1.0
        return {source: value / total for source, value in raised.items()}
    shares = fitted if fitted and isinstance(mixture, FittedConfig) else mixture.shares
    _require_all("shares", shares, num_bytes)
    for source, share in sorted(shares.items()):
        if share > 0 and not num_bytes.get(source):
            raise Refusal(
                "datalake.corpus.mixture.shares must be 0 for a source without documents, "
                f"got {share:g} for {source}"
            )
    return shares


def _from_shares(
    mixture: _Mixture, shares: Mapping[str, float], num_bytes: Mapping[str, int]
) -> dict[str, float]:
    total = sum(num_bytes.values())
    wanted = {source: shares[source] * total / n if n else 0.0 for source, n in num_bytes.items()}
    shrink = min(1.0, mixture.max_epochs / max(wanted.values(), default=1.0))
    return {source: weight * shrink for source, weight in wanted.items()}


def _within(
    mixture: _Mixture, weights: Mapping[str, float], num_bytes: Mapping[str, int]
) -> dict[str, float]:
    """``weights``, all stretched alike so that an epoch has the budget's bytes."""
    assert mixture.budget is not None
    wanted = mixture.budget.tokens * mixture.budget.bytes_per_token
    epoch = math.fsum(weights[source] * n for source, n in num_bytes.items())
    stretched = {source: w * wanted / epoch for source, w in weights.items()} if epoch else {}
    most = max(stretched.values(), default=0.0)
    if most > mixture.max_epochs * (1 + 1e-9):
        reach = mixture.budget.tokens * mixture.max_epochs / most
        raise Refusal(
            "datalake.corpus.mixture.budget.tokens must need no document more than max_epochs "
            f"({mixture.max_epochs:g}) times, got {mixture.budget.tokens:g} of at most {reach:.3g}"
        )
    return stretched or dict(weights)


def fitted_shares(workspace: Workspace) -> dict[str, float] | None:
    """The shares that ``mixture_fit`` wrote last, None where it never ran."""
    path = workspace.home / FITTED
    if not path.is_file():
        return None
    shares: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))["shares"]
    return shares


def write_manifest(
    workspace: Workspace,
    version: int,
    inputs: Inputs,
    mixture: MixtureConfig,
    weights: Mapping[str, float],
) -> str:
    """Folder with ``manifest.json``: what a version of the corpus was made of, and how.

    It names every table behind the corpus at its version, with rows, bytes and content digest, and
    the documents, bytes and weight of each source.
    """
    lake = workspace.lake
    tables = {
        name: [_table(lake, name, found) for found in sorted(versions)]
        for name, versions in lake.ancestry([("corpus", version)]).items()
    }
    said: dict[str, Any] = {
        "corpus": version,
        "mixture": mixture.model_dump(mode="json"),
        "weights": dict(sorted(weights.items())),
        "inputs": dict(inputs),
        "tables": tables,
    }

    def write(draft: Path) -> None:
        text = json.dumps(said, indent=1, sort_keys=True)
        (draft / "manifest.json").write_text(text + "\n", encoding="utf-8")

    folder, _ = workspace.save_artifact("manifest", write)
    return folder


def _table(lake: Lake, name: str, version: int) -> dict[str, Any]:
    parts = lake.parts(name, version)
    return {
        "version": version,
        "rows": sum(part.rows for part in parts),
        "bytes": sum(part.num_bytes for part in parts),
        "content": lake.content(name, version),
    }


def _require_all(key: str, given: Mapping[str, float], num_bytes: Mapping[str, int]) -> None:
    for source in sorted(num_bytes):
        if source not in given:
            raise Refusal(
                f"datalake.corpus.mixture.{key} must name every kind of source, "
                f"got nothing for {source}"
            )


def _require_a_whole(place: str, shares: Mapping[str, float]) -> None:
    total = math.fsum(shares.values())
    if not math.isclose(total, 1, abs_tol=1e-6):
        raise ValueError(f"{place} must sum to 1, got {total:g}")
