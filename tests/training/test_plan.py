"""Sweeps spend what they may, and a budget becomes a plan that says what it will come to."""

import math
import multiprocessing
import time
from pathlib import Path
from typing import Any

import pytest

from datalake.config import Refusal
from training.models.accounting import num_matmul_params, train_flops_per_token
from training.models.presets.own import tarn
from training.scaling import hyperparameters, sweep
from training.scaling.fit import Law, SmallRun, fit
from training.scaling.plan import Plan, TrainingPlanConfig, make_plan
from training.scaling.sweep import ScalingRunsConfig, Size, design
from training.schedule import OptimizerConfig

MODEL = tarn(vocab_size=8192, context_length=256, d_model=64, num_layers=4, num_heads=4)
LADDER = tuple(Size(d_model=d, num_layers=4) for d in (32, 48, 64, 96, 128, 192))


def sweep_settings(**changes: Any) -> ScalingRunsConfig:
    given: dict[str, Any] = {
        "model": MODEL,
        "ladder": LADDER,
        "optimizer": OptimizerConfig(),
        "target_flops": 1.2e13,
        "share": 0.33,
        "ratio": 3.0,
        "runs_per_budget": (3, 3, 3),
        "tokens_per_param": 0.6,
        "validation_rows": 64,
        "seed": 0,
        "precision": "float32",
        "workers": 2,
        "threads": 1,
        "retries": 1,
    }
    return ScalingRunsConfig(**(given | changes))


def plan_settings(**changes: Any) -> TrainingPlanConfig:
    given = {"flops": 1.2e13, "model": MODEL, "ladder": LADDER, "optimizer": OptimizerConfig()}
    return TrainingPlanConfig(**(given | changes))


@pytest.fixture(scope="module")
def law() -> Law:
    """Fitted to the sweep's own design, with losses of a known law."""
    return fit([_small_run(run) for run in design(sweep_settings())])


def _small_run(run: sweep.SmallRunDesign) -> SmallRun:
    n = num_matmul_params(run.model)
    d = run.num_steps * run.batch_rows * 256
    return SmallRun(
        run=run.name,
        flops=d * train_flops_per_token(run.model),
        num_params=n,
        num_tokens=d,
        d_model=run.model.d_model,
        num_layers=4,
        batch_tokens=run.batch_rows * 256,
        loss=0.5 + 30 * n**-0.3 + 21 * d**-0.25,
    )


@pytest.mark.parametrize("runs", [(3, 3, 3), (4, 3, 3), (2, 3, 3, 2)])
def test_the_sweep_spends_its_share_of_the_whole_and_reaches_towards_the_target(
    runs: tuple[int, ...],
) -> None:
    config = sweep_settings(runs_per_budget=runs, share=0.35)
    runs_made = design(config)
    assert len(runs_made) == sum(runs)
    spent = sum(run.flops for run in runs_made)
    assert spent / (spent + config.target_flops) == pytest.approx(0.35)
    assert config.budgets[-1] >= config.target_flops / 9
    ratios = [b / a for a, b in zip(config.budgets, config.budgets[1:], strict=False)]
    assert ratios == pytest.approx([3] * (len(runs) - 1))
    assert len({run.name for run in runs_made}) == len(runs_made)


def test_the_longest_runs_come_first() -> None:
    runs = design(sweep_settings())
    order = [(-run.flops, num_matmul_params(run.model)) for run in runs]
    assert order == sorted(order)


def test_larger_budgets_get_larger_models_around_the_expected_optimum() -> None:
    config = sweep_settings(tokens_per_param=0.6)
    runs = design(config)
    by_budget = [[r for r in runs if r.flops == flops] for flops in config.budgets]
    means = [sum(math.log(num_matmul_params(r.model)) for r in group) / 3 for group in by_budget]
    assert means == sorted(means)
    top = {r.model.d_model: r.flops / train_flops_per_token(r.model) for r in by_budget[-1]}
    ratios = [d / num_matmul_params(MODEL.resized(width)) for width, d in top.items()]
    assert min(ratios) < 0.6 < max(ratios)


def test_every_small_run_takes_enough_steps() -> None:
    assert all(run.num_steps >= sweep.MIN_STEPS for run in design(sweep_settings()))


def test_the_batch_passes_through_both_anchors_and_the_least_is_two_rows() -> None:
    assert hyperparameters.batch_tokens(1.1e6) == pytest.approx(512)
    assert hyperparameters.batch_tokens(1.3e9) == pytest.approx(524_288)
    assert hyperparameters.batch_tokens(1e8) == pytest.approx(42_000, rel=0.25)  # OLMo's rule
    assert hyperparameters.batch_rows(1.4e6, 256) == 2
    assert hyperparameters.batch_rows(3.3e6, 256) == 4
    assert hyperparameters.batch_rows(1e4, 256) == 2


def test_rates_are_the_references_at_its_batch_and_twice_as_large_at_the_other_anchor() -> None:
    reference = OptimizerConfig(muon_lr=0.01, adam_lr=4e-3, table_lr=0.1)
    assert hyperparameters.rates(reference, 512) == reference
    large = hyperparameters.rates(reference, 524_288)
    assert large.muon_lr == pytest.approx(0.02)
    assert large.table_lr == pytest.approx(0.2)
    assert large.adam_lr == reference.adam_lr


def test_a_plan_spends_its_budget_on_the_size_nearest_to_the_optimum(law: Law) -> None:
    plan = make_plan(law, plan_settings(), 13_000_000)
    best = law.iso_flops.best_params(1.2e13)
    distances = {
        size.d_model: abs(math.log(num_matmul_params(MODEL.resized(size.d_model)) / best))
        for size in LADDER
    }
    assert plan.model.d_model == min(distances, key=lambda d: distances[d])
    spent = plan.num_tokens * train_flops_per_token(plan.model)
    step = plan.batch_rows * 256 * train_flops_per_token(plan.model)
    assert 1.2e13 - step < spent <= 1.2e13
    assert plan.num_tokens == plan.num_steps * plan.batch_rows * 256
    assert plan.epochs == pytest.approx(plan.num_tokens / 13_000_000)
    assert plan.predicted.low < plan.predicted.loss < plan.predicted.high


def test_a_larger_budget_buys_a_larger_model_and_a_smaller_loss(law: Law) -> None:
    plans = [make_plan(law, plan_settings(flops=f), 10**9) for f in (3e12, 1.2e13, 4.8e13)]
    assert [p.num_matmul_params for p in plans] == sorted(p.num_matmul_params for p in plans)
    losses = [p.predicted.loss for p in plans]
    assert losses == sorted(losses, reverse=True)
    widths = [math.log(p.predicted.high / p.predicted.low) for p in plans]
    assert widths == sorted(widths)


def test_little_data_makes_the_model_larger_and_the_prediction_worse(law: Law) -> None:
    much = make_plan(law, plan_settings(), 10**9)
    little = make_plan(law, plan_settings(), int(much.num_tokens / 4 * 0.8))
    assert little.num_matmul_params > much.num_matmul_params
    assert little.epochs <= 4
    assert little.predicted.loss > much.predicted.loss


def test_a_recipe_may_override_any_choice(law: Law) -> None:
    chosen = plan_settings(
        size=Size(d_model=32, num_layers=2),
        batch_rows=16,
        muon_lr=0.5,
        adam_lr=0.25,
        table_lr=0.125,
    )
    plan = make_plan(law, chosen, 10**9)
    assert (plan.model.d_model, plan.model.num_layers, plan.batch_rows) == (32, 2, 16)
    rates = plan.optimizer
    assert (rates.muon_lr, rates.adam_lr, rates.table_lr) == (0.5, 0.25, 0.125)
    assert plan.predicted.loss > make_plan(law, plan_settings(), 10**9).predicted.loss


def test_a_plan_survives_being_written_and_read(law: Law) -> None:
    plan = make_plan(law, plan_settings(), 10**9)
    assert Plan.model_validate_json(plan.model_dump_json()) == plan


def test_a_budget_too_small_for_a_schedule_is_refused(law: Law) -> None:
    with pytest.raises(Refusal) as refusal:
        make_plan(law, plan_settings(flops=1e10), 10**9)
    least = 100 * 512 * train_flops_per_token(MODEL.resized(32))
    assert str(refusal.value) == (
        f"flops must be at least {least:.3g}, 100 steps of 512 tokens at d_model 32, got 1e+10"
    )


def test_a_budget_that_the_data_cannot_feed_is_refused(law: Law) -> None:
    with pytest.raises(Refusal) as refusal:
        make_plan(law, plan_settings(flops=1e13), 1000)
    per_token = train_flops_per_token(MODEL.resized(192))
    assert str(refusal.value) == (
        f"flops must be at most {4000 * per_token:.3g}, 4 epochs of 1000 tokens at d_model 192, "
        "got 1e+13; add data or larger sizes"
    )


def test_another_architecture_than_the_small_runs_is_refused(law: Law) -> None:
    other = MODEL.model_copy(update={"vocab_size": 4096})
    with pytest.raises(
        Refusal, match=r"^model must be the architecture of the small runs, got one with \d+ param"
    ):
        make_plan(law, plan_settings(model=other), 10**9)


def test_a_top_budget_too_far_below_the_target_is_refused() -> None:
    with pytest.raises(ValueError, match=r"share must leave the top budget at least 1/9 of target"):
        sweep_settings(share=0.2)


def test_more_runs_than_sizes_and_single_runs_are_refused() -> None:
    with pytest.raises(ValueError, match=r"runs_per_budget must be at most the 6 sizes of the"):
        sweep_settings(runs_per_budget=(7, 3, 3), share=0.5)
    with pytest.raises(ValueError, match=r"runs_per_budget must be at least 2, got \(1, 3, 3\)"):
        sweep_settings(runs_per_budget=(1, 3, 3))


def test_a_target_too_small_for_small_runs_is_refused() -> None:
    with pytest.raises(Refusal, match=r"^target_flops must be large enough for 20 steps of every"):
        design(sweep_settings(target_flops=1e11))


def _take(folder: Path, seconds: float) -> None:
    with sweep.taken(folder) as mine:
        if mine:
            (folder / "mine").touch()
            time.sleep(seconds)


def test_a_run_is_taken_by_one_process_and_free_again_when_that_dies(tmp_path: Path) -> None:
    holder = multiprocessing.get_context("fork").Process(target=_take, args=(tmp_path, 60))
    holder.start()
    while not (tmp_path / "mine").exists():
        assert holder.is_alive()
        time.sleep(0.01)
    with sweep.taken(tmp_path) as mine:
        assert not mine
    holder.kill()
    holder.join()
    with sweep.taken(tmp_path) as mine:
        assert mine
