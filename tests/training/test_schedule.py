import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from datalake.config import Refusal
from training.schedule import OptimizerConfig, multiplier

fractions = st.tuples(st.floats(0, 1), st.floats(0, 1)).filter(lambda pair: sum(pair) <= 1)


@given(fractions, st.integers(1, 3000))
def test_rates_rise_stay_and_fall_within_zero_and_one(
    shape: tuple[float, float], num_steps: int
) -> None:
    config = OptimizerConfig(warmup_fraction=shape[0], decay_fraction=shape[1])
    values = [multiplier(step, num_steps, config) for step in range(num_steps)]
    assert all(0 < value <= 1 for value in values)
    top = values.index(max(values))
    assert values[: top + 1] == sorted(values[: top + 1])
    assert values[top:] == sorted(values[top:], reverse=True)


def test_the_borders_of_the_phases() -> None:
    config = OptimizerConfig(warmup_fraction=0.1, decay_fraction=0.5)
    at = {step: multiplier(step, 100, config) for step in (0, 8, 9, 10, 50, 51, 98, 99)}
    assert at == pytest.approx({0: 0.1, 8: 0.9, 9: 1, 10: 1, 50: 1, 51: 0.98, 98: 0.04, 99: 0.02})


def test_without_phases_the_rate_is_constant() -> None:
    config = OptimizerConfig(warmup_fraction=0, decay_fraction=0)
    assert {multiplier(step, 7, config) for step in range(7)} == {1.0}


@pytest.mark.parametrize("step", [-1, 10])
def test_a_step_outside_the_run_is_refused(step: int) -> None:
    with pytest.raises(Refusal, match=f"step must be in 0 to 9, got {step}"):
        multiplier(step, 10, OptimizerConfig())


def test_phases_longer_than_the_run_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"must be at most 1, got 0\.5 and 0\.6"):
        OptimizerConfig(warmup_fraction=0.5, decay_fraction=0.6)


def test_betas_out_of_range_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"betas must be in \[0, 1\), got \(0\.9, 1\.0\)"):
        OptimizerConfig(betas=(0.9, 1.0))


def test_a_list_of_two_is_taken_as_betas() -> None:
    config = OptimizerConfig.model_validate({"betas": [0.8, 0.9]})
    assert config.betas == (0.8, 0.9)
