"""Shares of sources that small runs find best: a regression of their losses, and what it is worth.

The loss on every source has a law of its own (``mixture_laws``), and the target is a sum of them,
as Ye et al. 2024 (arXiv:2403.16952) predict the loss on text of many sources: weighed by the
recipe, or as the loss on all text is found to be made up of them. That one has no law of its own: a
mixing law has its least at a corner, and where the loss had its least between, such a law led to
mixtures 5 % worse. The search stays between the mixtures that were run; the laws say nothing
beyond.

The gain over the natural shares has an interval by resampling the residuals of held-out runs.
Where it reaches 0, the natural shares stand: a mixture is not changed for noise.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field, PositiveInt

from datalake.config import Config, Refusal
from datalake.mixture import FITTED
from datalake.mixture_laws import Kind, Law, compete, error, fit

AT_BORDER = 0.01  # of the range of a share
VARIES = 1e-3  # least range of a share for which a run says something
SETTLED = 0.01  # shares that differ by less are those that the corpus was made with
DIGITS = 6  # of the shares that are written; fewer would leave tiny sources out
SEARCH_STEPS = 400
NUM_STARTS = 4  # best runs that the search begins at, beside the natural mixture


class MixtureFitConfig(Config):
    """What the mixture shall be good for."""

    # Weights of the losses of sources, relative to each other; None: the loss on all text.
    target: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] | None = None
    num_resamples: PositiveInt = 1000  # enough for percentiles (Efron and Tibshirani 1993)
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    seed: int = 1


class Chosen(Config):
    """The law of the loss on one source."""

    kind: Kind
    coefficients: tuple[float, ...] = Field(strict=False)
    hold_out_errors: dict[Kind, float]  # root mean square of the log ratio, least first
    held_out: tuple[float, ...] = Field(strict=False)  # of each run, from the others
    spearman: float  # of held-out against observed losses; 0 of a constant

    @property
    def law(self) -> Law:
        return Law(self.kind, np.array(self.coefficients))


class MixtureFit(Config):
    """What the runs say; shares of the sources that vary come first, and sum to ``whole``."""

    sources: tuple[str, ...] = Field(strict=False)
    natural: tuple[float, ...] = Field(strict=False)  # of all sources
    best: tuple[float, ...] = Field(strict=False)  # of all sources
    whole: float
    weights: tuple[float, ...] = Field(strict=False)  # of the losses in the target
    laws: tuple[Chosen, ...] = Field(strict=False)
    shares: tuple[tuple[float, ...], ...] = Field(strict=False)  # of each run, varied sources
    losses: tuple[tuple[float, ...], ...] = Field(strict=False)
    observed: tuple[float, ...] = Field(strict=False)  # target of each run, bits per byte
    sum_error: float  # of the weighted losses as ``observed``: root mean square of the log ratio
    spearman: float  # of the target, held-out against observed
    predicted: float  # target at ``best``, bits per byte
    predicted_natural: float
    gain: float  # 1 - predicted / predicted_natural
    gain_low: float
    gain_high: float
    at_border: tuple[str, ...] = Field(strict=False)

    @property
    def significant(self) -> bool:
        return self.gain_low > 0

    @property
    def taken(self) -> dict[str, float]:
        """The shares to train with: ``best`` if it is surely better, else the natural ones."""
        shares = self.best if self.significant else self.natural
        rounded = [round(share, DIGITS) for share in shares]
        largest = int(np.argmax(rounded))
        rounded[largest] = round(1 - sum(rounded) + rounded[largest], DIGITS)
        return dict(zip(self.sources, rounded, strict=True))

    def target(self, shares: np.ndarray) -> np.ndarray:
        """Predicted loss at ``shares`` ``[..., varied sources]``, bits per byte."""
        return _target(self.weights, [chosen.law for chosen in self.laws], shares)


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """The table ``mixture_runs`` as arrays."""

    sources: tuple[str, ...]
    shares: np.ndarray  # [runs, varied sources]
    natural: np.ndarray  # [sources]
    losses: np.ndarray  # [runs, varied sources], bits per byte
    loss: np.ndarray  # [runs], on all text

    @property
    def varied(self) -> tuple[str, ...]:
        return self.sources[: self.shares.shape[1]]

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]]) -> "Runs":
        """Refuses runs that no regression can use."""
        rows = sorted(rows, key=lambda row: row["run"])
        number = len(rows[0]["losses"])
        if any(row["sources"] != rows[0]["sources"] for row in rows):
            raise Refusal("mixture_runs must all be of the same sources, got runs that differ")
        if number < 2:
            raise Refusal(
                "mixture_runs must vary at least two sources, got "
                f"{', '.join(rows[0]['sources'][:number]) or 'none'}"
            )
        if len(rows) < least_runs(number):
            raise Refusal(
                f"mixture_runs must hold at least {least_runs(number)} runs for {number} sources, "
                f"got {len(rows)}"
            )
        losses = np.array([[*row["losses"], row["loss"]] for row in rows], float)
        wrong = ~(np.isfinite(losses) & (losses > 0)).all(axis=1)
        if wrong.any():
            first = int(np.flatnonzero(wrong)[0])
            raise Refusal(
                "losses of mixture_runs must be finite and above 0, got "
                f"{losses[first].tolist()} in {rows[first]['run']}"
            )
        shares = np.array([row["shares"][:number] for row in rows], float)
        if (np.ptp(shares, axis=0) < VARIES).any():
            still = rows[0]["sources"][int(np.argmin(np.ptp(shares, axis=0)))]
            raise Refusal(f"mixture_runs must vary the share of every source, got {still} fixed")
        natural = np.array(rows[0]["natural"], float)
        return cls(tuple(rows[0]["sources"]), shares, natural, losses[:, :-1], losses[:, -1])


def least_runs(num_sources: int) -> int:
    """Runs without which no law of ``num_sources`` shares can be told from a constant.

    Twice the coefficients of the mixing law, so that each is held against a residual.
    """
    return 2 * (num_sources + 1)


def fit_mixture(runs: Runs, config: MixtureFitConfig) -> MixtureFit:
    """Laws, the best shares between those of ``runs``, and the gain with its interval."""
    number = len(runs.varied)
    weights, observed = _weights(runs, config.target)
    whole = float(runs.natural[:number].sum())
    natural = runs.natural[:number]
    competing = [compete(runs.shares, losses) for losses in runs.losses.T]
    kinds = [next(iter(says)) for says in competing]
    laws = [
        fit(kind, runs.shares, losses) for kind, losses in zip(kinds, runs.losses.T, strict=True)
    ]
    held = np.stack([says[kind] for says, kind in zip(competing, kinds, strict=True)], axis=1)
    best = _search(weights, laws, runs.shares, natural)
    predicted = float(_target(weights, laws, best))
    at_natural = float(_target(weights, laws, natural))
    if predicted >= at_natural:
        best, predicted = natural, at_natural
    low, high = _gains(runs, weights, laws, np.log(runs.losses / held), best, natural, config)
    return MixtureFit(
        sources=runs.sources,
        natural=tuple(runs.natural.tolist()),
        best=(*(best / best.sum() * whole).tolist(), *runs.natural[number:].tolist()),
        whole=whole,
        weights=tuple(weights.tolist()),
        laws=tuple(
            Chosen(
                kind=law.kind,
                coefficients=tuple(law.coefficients.tolist()),
                hold_out_errors={kind: error(held, losses) for kind, held in says.items()},
                held_out=tuple(says[law.kind].tolist()),
                spearman=_spearman(law.kind == "constant", says[law.kind], losses),
            )
            for law, says, losses in zip(laws, competing, runs.losses.T, strict=True)
        ),
        shares=tuple(map(tuple, runs.shares.tolist())),
        losses=tuple(map(tuple, runs.losses.tolist())),
        observed=tuple(observed.tolist()),
        sum_error=error(runs.losses @ weights, observed),
        spearman=_spearman(all(kind == "constant" for kind in kinds), held @ weights, observed),
        predicted=predicted,
        predicted_natural=at_natural,
        gain=1 - predicted / at_natural,
        gain_low=low,
        gain_high=high,
        at_border=_borders(runs, best),
    )


def _weights(runs: Runs, target: Mapping[str, float] | None) -> tuple[np.ndarray, np.ndarray]:
    """Of the loss on each source that varies, and the target of each run."""
    from scipy.optimize import nnls

    if target is None:
        weights, _ = nnls(runs.losses / runs.loss[:, None], np.ones(len(runs.loss)))
        return weights, runs.loss
    if unknown := sorted(set(target) - set(runs.varied)):
        raise Refusal(
            f"mixture_fit.target must name sources whose shares vary, "
            f"{', '.join(runs.varied)}, got {unknown[0]}"
        )
    weights = np.array([target.get(source, 0.0) for source in runs.varied])
    if not weights.sum() > 0:
        raise Refusal("mixture_fit.target must have a weight above 0, got none")
    weights = weights / weights.sum()
    return weights, runs.losses @ weights


def _target(weights: Sequence[float] | np.ndarray, laws: Sequence[Law], shares: Any) -> np.ndarray:
    losses = np.stack([law(np.asarray(shares)) for law in laws], axis=-1)
    return np.asarray(losses @ np.asarray(weights))


def _search(
    weights: np.ndarray, laws: Sequence[Law], shares: np.ndarray, natural: np.ndarray
) -> np.ndarray:
    """Shares of least target in the convex hull of ``shares``.

    Frank and Wolfe 1956: from the best runs, step by step towards the run in whose direction the
    target falls most, as far as it falls.
    """
    steps = np.concatenate([[0.0], np.geomspace(1e-5, 1, 60)])[:, None]
    ranked = np.argsort(_target(weights, laws, shares), kind="stable")
    places = [*shares[ranked[:NUM_STARTS]], natural]
    for k, place in enumerate(places):
        for _ in range(SEARCH_STEPS):
            nudges = 1e-6 * np.eye(len(place))
            slope = _target(weights, laws, place + nudges) - _target(weights, laws, place - nudges)
            along = place + steps * (shares[int(np.argmin(shares @ slope))] - place)
            least = int(np.argmin(_target(weights, laws, along)))
            if not least:
                break
            place = along[least]
        places[k] = place
    return min(places, key=lambda place: float(_target(weights, laws, place)))


def _gains(
    runs: Runs,
    weights: np.ndarray,
    laws: Sequence[Law],
    residuals: np.ndarray,
    best: np.ndarray,
    natural: np.ndarray,
    config: MixtureFitConfig,
) -> tuple[float, float]:
    """Interval of the gain at ``best``: the laws are fitted again to resampled residuals.

    Those of held-out runs, since the residuals of the runs that were fitted are too small. All
    residuals of a run stay together.
    """
    random = np.random.default_rng(config.seed)
    said = np.stack([law(runs.shares) for law in laws], axis=1)
    gains = np.empty(config.num_resamples)
    for k in range(config.num_resamples):
        drawn = residuals[random.integers(0, len(residuals), len(residuals))]
        again = [
            fit(law.kind, runs.shares, losses, law.coefficients)
            for law, losses in zip(laws, (said * np.exp(drawn)).T, strict=True)
        ]
        gains[k] = 1 - _target(weights, again, best) / _target(weights, again, natural)
    tail = (1 - config.confidence) / 2
    low, high = np.quantile(gains, [tail, 1 - tail])
    return float(low), float(high)


def _spearman(constant: bool, predicted: np.ndarray, observed: np.ndarray) -> float:
    from scipy.stats import spearmanr

    return 0.0 if constant else float(spearmanr(predicted, observed).statistic)


def _borders(runs: Runs, best: np.ndarray) -> tuple[str, ...]:
    """Sources whose best share is the least or the most that was tried."""
    low, high = runs.shares.min(axis=0), runs.shares.max(axis=0)
    near = AT_BORDER * (high - low)
    return tuple(
        f"{source} at its {side}"
        for source, share, a, b, margin in zip(runs.varied, best, low, high, near, strict=True)
        for side, reached in (("least", share <= a + margin), ("most", share >= b - margin))
        if reached
    )


def write_fitted(home: Path, found: MixtureFit, versions: Mapping[str, Any]) -> dict[str, float]:
    """Write ``FITTED`` below ``home``, in one step; returns the shares that stand there.

    Without a sure gain, shares that the corpus already has to within ``SETTLED`` stay as they are
    written, so that a mixture that has settled makes no new corpus.
    """
    path, shares = home / FITTED, found.taken
    if path.is_file() and not found.significant:
        before: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))["shares"]
        if before.keys() == shares.keys() and all(
            abs(before[source] - share) < SETTLED for source, share in shares.items()
        ):
            shares = before
    said = {
        "shares": shares,
        "from": dict(versions),
        "predicted": {
            "loss": found.predicted,
            "natural": found.predicted_natural,
            "gain": found.gain,
            "gain_low": found.gain_low,
            "gain_high": found.gain_high,
            "significant": found.significant,
        },
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    draft.replace(path)
    return shares
