"""Scaling laws: known laws are recovered, and intervals cover what the fit cannot know."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from datalake.config import Refusal
from training.scaling.fit import Law, Parametric, SmallRun, by_budget, fit, iso_flops, parametric

Loss = Callable[[float, float], float]  # (N, D) -> bits per byte
BUDGETS = (1e11, 3e11, 9e11)


def hoffmann(n: float, d: float, alpha: float = 0.34, beta: float = 0.28) -> float:
    """Their law with constants of small models: 1.3 to 2 bits per byte at these budgets."""
    return 0.6 + 40 * n**-alpha + 33 * d**-beta


def table(
    loss: Loss,
    budgets: Sequence[float] = BUDGETS,
    sizes: Sequence[float] = (0.4, 0.8, 1.6, 3.2),
    noise: float = 0.0,
    seed: int = 0,
) -> list[SmallRun]:
    """Runs at ``sizes`` times about the best N of each budget, with log-normal ``noise``."""
    random = np.random.default_rng(seed)
    return [
        SmallRun(
            run=f"{flops:.0e}-{size}",
            flops=flops,
            num_params=int(n),
            num_tokens=int(flops / 6 / n),
            d_model=int(math.sqrt(n)),
            num_layers=4,
            batch_tokens=512,
            loss=loss(int(n), int(flops / 6 / n)) * math.exp(random.normal(0, noise)),
        )
        for flops in budgets
        for size in sizes
        for n in [size * best(loss, flops)[0]]
    ]


def best(loss: Loss, flops: float) -> tuple[float, float]:
    """N and loss of the optimum, by search."""
    sizes = np.exp(np.linspace(math.log(1e3), math.log(1e10), 20001))
    losses = [loss(n, flops / 6 / n) for n in sizes]
    return float(sizes[np.argmin(losses)]), min(losses)


@pytest.mark.parametrize(("alpha", "beta"), [(0.34, 0.28), (0.25, 0.4), (0.5, 0.5)])
def test_the_parametric_fit_recovers_the_law_that_made_the_table(alpha: float, beta: float) -> None:
    found = parametric(table(lambda n, d: hoffmann(n, d, alpha, beta)))
    assert pytest.approx(0.6, rel=0.05) == found.E
    assert found.alpha == pytest.approx(alpha, rel=0.01)
    assert found.beta == pytest.approx(beta, rel=0.01)
    assert found.cost_exponent == pytest.approx(1, rel=1e-4)
    assert found.unit_cost == pytest.approx(6, rel=1e-3)


@pytest.mark.parametrize(("alpha", "beta"), [(0.34, 0.28), (0.25, 0.4), (0.5, 0.5)])
def test_the_minima_recover_the_exponent_of_the_best_size(alpha: float, beta: float) -> None:
    def law(n: float, d: float) -> float:
        return hoffmann(n, d, alpha, beta)

    curves = iso_flops(table(law))
    assert curves.exponent == pytest.approx(beta / (alpha + beta), abs=0.03)
    for flops, minimum in zip(curves.budgets, curves.minima, strict=True):
        assert curves.best_params(flops) == pytest.approx(best(law, flops)[0], rel=0.1)
        assert minimum == pytest.approx(best(law, flops)[1], rel=5e-3)


def test_a_minimum_beside_the_sizes_that_were_run_is_found() -> None:
    curves = iso_flops(table(hoffmann, sizes=(1.5, 2.5, 4)))
    assert curves.best_params(3e11) == pytest.approx(best(hoffmann, 3e11)[0], rel=0.25)
    assert curves.minima[1] == pytest.approx(best(hoffmann, 3e11)[1], rel=5e-3)


def test_each_parabola_runs_through_its_minimum_and_near_its_runs() -> None:
    runs = table(hoffmann)
    curves = iso_flops(runs)
    for place, group in enumerate(by_budget(runs)):
        found = curves.curve(place, curves.places[place])
        assert found == pytest.approx(curves.minima[place])
        for run in group:
            assert curves.curve(place, run.num_params) == pytest.approx(run.loss, rel=0.01)


def test_losses_that_do_not_curve_stand_for_themselves() -> None:
    runs = table(lambda n, d: 2 - 0.001 * math.log(n) ** 2)
    curves = iso_flops(runs)
    assert curves.minima == tuple(min(run.loss for run in group) for group in by_budget(runs))
    assert not curves.fitted


# Two real sweeps whose ladders began above the best size: by budget, N -> bits per byte.
ONE_SIDED = (
    (
        {311_296: 2.6215, 503_808: 2.6575, 720_896: 2.6608, 962_560: 2.7034},
        {311_296: 2.3696, 503_808: 2.4126, 720_896: 2.4141},
        {311_296: 2.0794, 503_808: 2.1289, 720_896: 2.1584},
    ),
    (
        {311_296: 2.4891, 503_808: 2.5146, 720_896: 2.5481, 962_560: 2.595},
        {311_296: 2.2032, 503_808: 2.2571, 720_896: 2.3037},
        {311_296: 1.8394, 503_808: 1.9197, 720_896: 1.9931},
    ),
)


@pytest.mark.parametrize("sweep", ONE_SIDED)
def test_sizes_all_on_one_side_of_the_minimum_still_give_a_sane_plan(
    sweep: tuple[dict[int, float], ...],
) -> None:
    """Free fits put N* at 1e-21 and let it fall with compute."""
    budgets = ((1.54e11, 66_560), (4.63e11, 200_000), (1.39e12, 600_000))
    law = fit(
        [
            SmallRun(
                run=f"{n}-{flops}",
                flops=flops,
                num_params=n,
                num_tokens=int(tokens * 311_296 / n),
                d_model=32,
                num_layers=4,
                batch_tokens=512,
                loss=loss,
            )
            for (flops, tokens), group in zip(budgets, sweep, strict=True)
            for n, loss in group.items()
        ]
    )
    assert 0.25 <= law.iso_flops.exponent <= 0.6
    assert 1.5e5 < law.iso_flops.best_params(1.2e13) < 1.5e6
    predicted = law.predict(1.2e13)
    assert predicted.low < predicted.loss < predicted.high
    assert predicted.low < 1.55 < predicted.high  # what such models came to


@pytest.mark.parametrize("factor", [3, 10, 30])
def test_the_parametric_rule_is_chosen_for_its_own_law_and_predicts_it(factor: float) -> None:
    law = fit(table(hoffmann))
    flops = factor * BUDGETS[-1]
    predicted = law.predict(flops)
    assert law.rule.kind == "parametric"
    assert predicted.loss == pytest.approx(best(hoffmann, flops)[1], rel=2e-3)
    assert predicted.low <= best(hoffmann, flops)[1] <= predicted.high


def _falls_ever_faster(n: float, d: float) -> float:
    """Small models, early: the slope over log compute steepens, which no floor can explain."""
    log_c = math.log(6 * n * d / 1e11)
    optimum = math.log(2e5) + 0.5 * log_c
    height = math.log(2.4) - 0.08 * log_c - 0.008 * log_c**2
    return math.exp(height + 0.03 * (math.log(n) - optimum) ** 2)


def test_the_power_law_is_chosen_where_it_predicts_the_held_out_budget_better() -> None:
    law = fit(table(_falls_ever_faster))
    assert law.rule.kind == "power_law"
    assert abs(law.hold_out_errors["power_law"]) < abs(law.hold_out_errors["parametric"])


@pytest.mark.parametrize("loss", [hoffmann, _falls_ever_faster])
@pytest.mark.parametrize("noise", [0.001, 0.005])
def test_the_interval_covers_the_truth_at_nine_times_the_top_budget(
    loss: Loss, noise: float
) -> None:
    flops = 9 * BUDGETS[-1]
    truth = best(loss, flops)[1]
    laws = [fit(table(loss, sizes=(0.5, 1, 2), noise=noise, seed=seed)) for seed in range(12)]
    covered = [(p := law.predict(flops)).low <= truth <= p.high for law in laws]
    assert sum(covered) >= 11


def test_the_interval_grows_with_the_square_of_the_extrapolation() -> None:
    law = fit(table(_falls_ever_faster, noise=0.002))
    error = abs(law.hold_out_errors[law.rule.kind]) + law.iso_flops.noise

    def excess(reach: int) -> float:
        says = law.predict(BUDGETS[-1] * 3**reach)
        everyone = (law.rule, *law.others, *law.leave_one_out)
        return math.log(says.high / max(r.best_loss(BUDGETS[-1] * 3**reach) for r in everyone))

    assert error > 0
    assert [excess(reach) / error for reach in (1, 2, 3)] == pytest.approx([1, 4, 9], rel=1e-3)


def test_four_budgets_bring_the_log_quadratic_into_the_choice() -> None:
    law = fit(table(_falls_ever_faster, budgets=(3e10, *BUDGETS)))
    assert law.rule.kind == "log_quadratic"
    truth = best(_falls_ever_faster, 9 * BUDGETS[-1])[1]
    assert law.predict(9 * BUDGETS[-1]).loss == pytest.approx(truth, rel=1e-2)


def test_uneven_whole_steps_stay_one_budget() -> None:
    runs = [run.model_copy(update={"flops": run.flops * (1 - 0.002 * i)})
            for i, run in enumerate(table(hoffmann))]  # fmt: skip
    assert [len(group) for group in by_budget(runs)] == [4, 4, 4]


def test_the_order_of_rows_changes_nothing() -> None:
    runs = table(hoffmann, noise=0.003)
    assert fit(sorted(runs, key=lambda run: run.loss)).predict(1e13) == fit(runs).predict(1e13)


def test_a_law_survives_being_written_and_read() -> None:
    law = fit(table(hoffmann, noise=0.003))
    assert Law.model_validate_json(law.model_dump_json()) == law
    assert isinstance(law.rule, Parametric) or law.rule.kind == "power_law"


def test_two_budgets_are_refused() -> None:
    with pytest.raises(Refusal) as refusal:
        fit(table(hoffmann, budgets=BUDGETS[:2], sizes=(1, 2)))
    assert str(refusal.value) == (
        "scaling_runs must hold at least three budgets of two runs each, "
        "got [2, 2] runs at [100000000000.0, 300000000000.0] FLOPs"
    )
