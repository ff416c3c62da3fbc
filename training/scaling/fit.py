"""From a table of small runs to a law: the loss that a budget can buy, with an interval.

Three rules read the same table, as in Hoffmann et al. 2022 (arXiv:2203.15556):

- *parametric* (their approach 3): L = E + A / N^alpha + B / D^beta over all runs, minimised at the
  wanted budget. For fixed exponents it is linear, so a grid over (alpha, beta) with non-negative
  least squares finds the global optimum in milliseconds; quasi-Newton fits follow their start
  (Besiroglu et al. 2024, arXiv:2404.10102).
- *power law* and *log quadratic* of the minima (their approach 2): a line, or a parabola, through
  log L* over log C, where L* is the minimum of each budget's parabola over log N.

Which one extrapolates is an empirical question in small runs, where the slope still steepens. So
each rule predicts the top budget from the others, the best one is taken, and its error there is
what the interval grows by, with the square of the extrapolation in log compute.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from datalake.config import Config, Refusal

BEYOND_EDGE = math.log(2)  # how far beside the sizes that were run a minimum is believed
PLACE_ERROR = 0.3  # of log N, where an edge or the lowest run is taken for the minimum
# Of N* in C: 0.46 to 0.54 (Hoffmann et al.; marin 0.535; nanochat 0.54, and 0.37 to 0.70 by other
# counts of N).
USUAL_EXPONENT, EXPONENT_SPREAD, EXPONENTS = 0.5, 0.15, (0.25, 0.75)
# Of log L over log N, half of alpha beta (1 - E / L) with the exponents of Hoffmann et al.; less
# than a tenth of it is noise.
USUAL_CURVATURE, LEAST_CURVATURE = 0.03, 0.003
UNKNOWN_NOISE = 0.005  # of log L, where no curve was fitted: as small runs of one seed differ
SAME_BUDGET = 1.25  # runs whose FLOPs differ by less belong to one budget; whole steps are uneven


class SmallRun(Config):
    """One row of ``scaling_runs``."""

    run: str
    flops: float
    num_params: int  # N: what multiplies every token
    num_tokens: int  # D
    d_model: int
    num_layers: int
    batch_tokens: int
    loss: float  # validation, bits per byte


class IsoFlops(Config):
    """Parabolas of log L over log N, one per budget, with one curvature, and where they lead."""

    curvature: float
    offset: float
    exponent: float  # N* ~ C^exponent
    budgets: tuple[float, ...] = Field(strict=False)  # FLOPs, ascending
    minima: tuple[float, ...] = Field(strict=False)  # bits per byte, the least at each budget
    places: tuple[float, ...] = Field(strict=False)  # N of each minimum
    noise: float  # standard deviation of log L around the parabolas
    fitted: bool  # False where the runs show no minimum, and the best ones stand in

    def best_params(self, flops: float) -> float:
        """N*: the compute-optimal number of parameters that multiply."""
        return math.exp(self.offset + self.exponent * math.log(flops))

    def curve(self, budget: int, num_params: float) -> float:
        """The fitted loss of a model of ``num_params`` at one of ``budgets``."""
        away = math.log(num_params / self.places[budget])
        return self.minima[budget] * math.exp(self.curvature * away**2)

    def penalty(self, flops: float, num_params: float) -> float:
        """Factor on the loss, at least 1, for a model of another size than the best one."""
        return math.exp(self.curvature * math.log(num_params / self.best_params(flops)) ** 2)


class Parametric(Config):
    """L = E + A / N^alpha + B / D^beta, at a cost per token of ``unit_cost`` N^``cost_exponent``.

    The cost is measured on the runs: attention makes it less than linear in N when models are
    small.
    """

    kind: Literal["parametric"] = "parametric"
    E: float
    A: float
    B: float
    alpha: float
    beta: float
    unit_cost: float
    cost_exponent: float

    def best_loss(self, flops: float) -> float:
        """The least loss at ``flops`` over all sizes."""
        log_n = np.linspace(math.log(1e3), math.log(1e13), 4001)
        log_d = math.log(flops / self.unit_cost) - self.cost_exponent * log_n
        losses = self.E + self.A * np.exp(-self.alpha * log_n) + self.B * np.exp(-self.beta * log_d)
        return float(losses.min())


class OfMinima(Config):
    """log L* as a polynomial in log C: of degree 1 a power law without a floor, or of degree 2."""

    kind: Literal["power_law", "log_quadratic"]
    coefficients: tuple[float, ...] = Field(strict=False)  # highest power first
    log_center: float  # log C is taken from here

    def best_loss(self, flops: float) -> float:
        return math.exp(np.polyval(self.coefficients, math.log(flops) - self.log_center))


Kind = Literal["parametric", "power_law", "log_quadratic"]
Rule = Annotated[Parametric | OfMinima, Field(discriminator="kind")]


class Prediction(Config):
    """A loss in bits per byte, and the interval it is expected in."""

    loss: float
    low: float
    high: float


class Law(Config):
    """What the small runs say about budgets that nobody has spent yet."""

    runs: tuple[SmallRun, ...] = Field(strict=False)
    iso_flops: IsoFlops
    rule: Rule  # the one that predicted the held-out budget best
    others: tuple[Rule, ...] = Field(strict=False)
    leave_one_out: tuple[Rule, ...] = Field(strict=False)  # ``rule`` without each of the runs
    hold_out_errors: dict[Kind, float]  # log(predicted / found) at the top budget

    @property
    def top_flops(self) -> float:
        return self.iso_flops.budgets[-1]

    def predict(self, flops: float) -> Prediction:
        """The loss of the best model for ``flops``.

        The interval spans what the other rules say and what any one run's absence would change,
        and is widened by the hold-out error, times the square of how much further ``flops`` lies
        beyond the top budget than that lies beyond the one before it (in log compute).
        """
        says = [rule.best_loss(flops) for rule in (self.rule, *self.others, *self.leave_one_out)]
        step = math.log(self.top_flops / self.iso_flops.budgets[-2])
        reach = max(1.0, math.log(flops / self.top_flops) / step)
        error = abs(self.hold_out_errors[self.rule.kind]) + self.iso_flops.noise
        widening = math.exp(error * reach**2)
        return Prediction(loss=says[0], low=min(says) / widening, high=max(says) * widening)


def fit(runs: Sequence[SmallRun]) -> Law:
    """The law of ``runs``. Refuses fewer than three budgets, or one with a single run."""
    budgets = by_budget(runs)
    runs = [run for group in budgets for run in group]
    if len(budgets) < 3 or min(map(len, budgets)) < 2:
        raise Refusal(
            "scaling_runs must hold at least three budgets of two runs each, "
            f"got {[len(group) for group in budgets]} runs at "
            f"{[float(f'{_flops(group):.3g}') for group in budgets]} FLOPs"
        )
    top = iso_flops(runs)
    lower = [run for group in budgets[:-1] for run in group]
    errors = {
        rule.kind: math.log(rule.best_loss(top.budgets[-1]) / top.minima[-1])
        for rule in _rules(lower)
    }
    rules = {rule.kind: rule for rule in _rules(runs)}
    chosen = min(errors, key=lambda kind: abs(errors[kind]))
    without = ([run for run in runs if run is not left_out] for left_out in runs)
    refitted = [rule for some in without for rule in _rules(some) if rule.kind == chosen]
    return Law(
        runs=tuple(runs),
        iso_flops=top,
        rule=rules.pop(chosen),
        others=tuple(rules.values()),
        leave_one_out=tuple(refitted),
        hold_out_errors=errors,
    )


def by_budget(runs: Sequence[SmallRun]) -> list[list[SmallRun]]:
    """Runs of about equal FLOPs together, cheapest budget first, smallest model first."""
    groups: list[list[SmallRun]] = []
    for run in sorted(runs, key=lambda run: run.flops):
        if groups and run.flops < SAME_BUDGET * groups[-1][0].flops:
            groups[-1].append(run)
        else:
            groups.append([run])
    return [sorted(group, key=lambda run: run.num_params) for group in groups]


def iso_flops(runs: Sequence[SmallRun]) -> IsoFlops:
    """The parabolas of ``runs``, by ordinary least squares: one curvature, a minimum per budget.

    A minimum may lie beside the sizes that were run, but not far. The line through the minima
    weighs budgets by their FLOPs, since the top one lies nearest to what will be asked, and its
    slope leans towards ``USUAL_EXPONENT`` as far as three minima leave it open. Where losses do
    not curve upwards, the best run of each budget stands for its minimum.
    """
    budgets = by_budget(runs)
    log_c = np.log([_flops(group) for group in budgets])
    sizes = [np.log([run.num_params for run in group]) for group in budgets]
    n, y = np.concatenate(sizes), np.log([run.loss for group in budgets for run in group])
    center = n.mean()
    n = n - center
    member = np.repeat(np.eye(len(budgets)), [len(group) for group in budgets], axis=0)
    features = np.column_stack([member, member * n[:, None], n**2])
    solution, _, rank, _ = np.linalg.lstsq(features, y)
    heights, slopes, curvature = *np.split(solution[:-1], 2), float(solution[-1])
    if rank < len(solution) or curvature < LEAST_CURVATURE:
        return _best_runs(budgets, log_c)
    smallest, largest = (np.array([pick(size) for size in sizes]) - center for pick in (min, max))
    bottoms = -slopes / (2 * curvature)
    places = np.clip(bottoms, smallest - BEYOND_EDGE, largest + BEYOND_EDGE)
    spare = max(1, len(y) - rank)  # degrees of freedom
    noise = float(np.sqrt(np.sum((features @ solution - y) ** 2) / spare))
    spread = np.mean([size.std() * math.sqrt(len(size)) for size in sizes])
    error = noise / (2 * curvature * float(spread))
    if (places != bottoms).any():  # a place that was cut off is an edge, not a minimum
        error = max(error, PLACE_ERROR)
    exponent, at_top = _line(log_c, places + center, error)
    return IsoFlops(
        curvature=curvature,
        offset=at_top - exponent * float(log_c[-1]),
        exponent=exponent,
        budgets=tuple(np.exp(log_c).tolist()),
        minima=tuple(np.exp(heights + slopes * places + curvature * places**2).tolist()),
        places=tuple(np.exp(places + center).tolist()),
        noise=noise,
        fitted=True,
    )


def _line(log_c: np.ndarray, log_n: np.ndarray, error: float) -> tuple[float, float]:
    """Slope of log N* over log C, and log N* at the last budget: weighted ridge regression.

    ``error`` is the standard deviation of each of ``log_n``. The slope stays among those that were
    ever found: more compute never asks for a smaller model.
    """
    weights = np.exp(log_c - log_c.max())
    weights /= weights.sum()
    c, n = log_c - weights @ log_c, log_n - weights @ log_n
    trust = (error / EXPONENT_SPREAD) ** 2 / len(log_c)  # in the usual exponent
    slope = (weights @ (c * n) + trust * USUAL_EXPONENT) / (weights @ (c * c) + trust)
    slope = float(np.clip(slope, *EXPONENTS))
    return slope, float(weights @ log_n + slope * c[-1])


def _best_runs(budgets: Sequence[Sequence[SmallRun]], log_c: np.ndarray) -> IsoFlops:
    best = [min(group, key=lambda run: run.loss) for group in budgets]
    exponent, at_top = _line(log_c, np.log([run.num_params for run in best]), PLACE_ERROR)
    return IsoFlops(
        curvature=USUAL_CURVATURE,
        offset=at_top - exponent * float(log_c[-1]),
        exponent=exponent,
        budgets=tuple(np.exp(log_c).tolist()),
        minima=tuple(run.loss for run in best),
        places=tuple(float(run.num_params) for run in best),
        noise=UNKNOWN_NOISE,
        fitted=False,
    )


def _rules(runs: Sequence[SmallRun]) -> list[Parametric | OfMinima]:
    """Every rule that ``runs`` are enough for."""
    curves = iso_flops(runs)
    rules: list[Parametric | OfMinima] = [parametric(runs), of_minima(curves, 1)]
    return [*rules, of_minima(curves, 2)] if len(curves.budgets) >= 3 else rules


def of_minima(curves: IsoFlops, degree: Literal[1, 2]) -> OfMinima:
    """The polynomial of ``degree`` through the minima, in log L and log C."""
    log_c = np.log(curves.budgets)
    coefficients = np.polyfit(log_c - log_c.mean(), np.log(curves.minima), degree)
    return OfMinima(
        kind="power_law" if degree == 1 else "log_quadratic",
        coefficients=tuple(coefficients.tolist()),
        log_center=float(log_c.mean()),
    )


def parametric(runs: Sequence[SmallRun]) -> Parametric:
    """The parametric law of least squared relative error."""
    n = np.array([run.num_params for run in runs], dtype=float)
    d = np.array([run.num_tokens for run in runs], dtype=float)
    loss = np.array([run.loss for run in runs])
    cost = np.array([run.flops for run in runs]) / d
    cost_exponent, log_unit = np.polyfit(np.log(n), np.log(cost), 1)
    alphas = betas = np.linspace(0.05, 1.5, 30)
    for _ in range(4):  # each round zooms into the neighbourhood of the best point
        _, alpha, beta, (E, A, B) = min(
            (_linear_fit(n, d, loss, alpha, beta) for alpha in alphas for beta in betas),
            key=lambda found: found[0],
        )
        width_a, width_b = alphas[1] - alphas[0], betas[1] - betas[0]
        alphas = np.linspace(max(0.01, alpha - width_a), alpha + width_a, 9)
        betas = np.linspace(max(0.01, beta - width_b), beta + width_b, 9)
    return Parametric(
        E=float(E),
        A=float(A),
        B=float(B),
        alpha=float(alpha),
        beta=float(beta),
        unit_cost=float(np.exp(log_unit)),
        cost_exponent=float(cost_exponent),
    )


def _linear_fit(
    n: np.ndarray, d: np.ndarray, loss: np.ndarray, alpha: float, beta: float
) -> tuple[float, float, float, np.ndarray]:
    """Residual, the exponents again, and the best E, A, B >= 0 for them."""
    from scipy.optimize import nnls

    scale_n, scale_d = n.mean() ** alpha, d.mean() ** beta  # keeps the columns comparable
    columns = np.column_stack([np.ones_like(n), scale_n * n**-alpha, scale_d * d**-beta])
    coefficients, residual = nnls(columns / loss[:, None], np.ones_like(n))
    return residual, alpha, beta, coefficients * [1, scale_n, scale_d]


def _flops(group: Sequence[SmallRun]) -> float:
    """The budget of a group: the geometric mean of what its runs spent."""
    return float(np.exp(np.mean(np.log([run.flops for run in group]))))
