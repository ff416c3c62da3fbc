"""Losses: closed forms, reference values, and what must not change them."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from alignment.losses import (
    Reduction,
    advantages,
    dpo,
    kl_k3,
    pair_reward,
    policy_gradient,
    sequence_log_probs,
    sft,
)
from datalake.config import Refusal

TOKENS = Reduction("tokens")


def _wave(shape: tuple[int, ...], scale: float = 1.0, phase: float = 0.0) -> Tensor:
    n = math.prod(shape)
    return (scale * torch.sin(1.2345 * torch.arange(n, dtype=torch.float64) + phase)).view(shape)


def _masked(*lengths: int) -> Tensor:
    return torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]


# Advantages -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("grpo", [0.848710, -1.091199, 0.848710, -0.606221]),
        ("dr_grpo", [0.4375, -0.5625, 0.4375, -0.3125]),
        ("rloo", [0.583333, -0.75, 0.583333, -0.416667]),
    ],
)
def test_advantages_equal_the_reference_values(kind: str, expected: list[float]) -> None:
    rewards = torch.tensor([[1, 0, 1, 0.25]], dtype=torch.float64)
    made, live = advantages(rewards, kind)  # type: ignore[arg-type]
    torch.testing.assert_close(
        made, torch.tensor([expected], dtype=torch.float64), atol=1e-6, rtol=0
    )
    assert live.tolist() == [True]


@pytest.mark.parametrize("kind", ["grpo", "dr_grpo", "rloo"])
@settings(max_examples=60, deadline=None)
@given(
    rewards=st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.7, 1.0]), min_size=2, max_size=8),
    shift=st.floats(-3, 3),
)
def test_advantages_add_up_to_zero_and_do_not_see_a_shift(
    kind: str, rewards: list[float], shift: float
) -> None:
    values = torch.tensor([rewards], dtype=torch.float64)
    made, live = advantages(values, kind)  # type: ignore[arg-type]
    assert made.sum().abs() < 1e-9
    assert live.item() == (len(set(rewards)) > 1)
    shifted, _ = advantages(values + shift, kind)  # type: ignore[arg-type]
    if live.item():
        torch.testing.assert_close(made, shifted, atol=1e-6, rtol=1e-6)


def test_rloo_is_the_reward_above_the_mean_of_the_others() -> None:
    rewards = _wave((3, 5))
    made, _ = advantages(rewards, "rloo")
    for g in range(3):
        for i in range(5):
            others = torch.cat([rewards[g, :i], rewards[g, i + 1 :]])
            assert made[g, i] == pytest.approx(float(rewards[g, i] - others.mean()))


@pytest.mark.parametrize("kind", ["grpo", "dr_grpo", "rloo"])
def test_a_group_without_variance_is_not_live_and_pulls_nowhere(kind: str) -> None:
    rewards = torch.tensor([[0.1] * 6, [0, 0, 0, 0, 0, 1.0]], dtype=torch.float32)
    made, live = advantages(rewards, kind)  # type: ignore[arg-type]
    assert live.tolist() == [False, True]
    assert made[0].tolist() == [0] * 6 and made[1, 5] > 0


@pytest.mark.parametrize("kind", ["grpo", "dr_grpo", "rloo"])
def test_what_was_not_judged_enters_no_mean_and_gets_no_advantage(kind: str) -> None:
    rewards = torch.tensor([[1, 0, torch.nan, 0.25, 1]], dtype=torch.float64)
    judged = torch.tensor([[True, True, False, True, True]])
    made, live = advantages(rewards, kind, judged)  # type: ignore[arg-type]
    alone, _ = advantages(rewards[:, [0, 1, 3, 4]], kind)  # type: ignore[arg-type]
    torch.testing.assert_close(made[:, [0, 1, 3, 4]], alone)
    assert made[0, 2] == 0 and live.item()
    nothing, dead = advantages(rewards, kind, torch.zeros_like(judged))  # type: ignore[arg-type]
    assert not dead.item() and not nothing.any()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_reward_that_is_not_finite_is_refused_by_its_place(bad: float) -> None:
    rewards = torch.tensor([[1, 0.0], [0, bad]])
    with pytest.raises(Refusal, match=f"finite, got {bad} for answer 1 of group 1"):
        advantages(rewards, "grpo")


def test_an_unknown_kind_of_advantage_is_refused() -> None:
    with pytest.raises(Refusal, match="one of grpo, dr_grpo, rloo, got ppo"):
        advantages(torch.zeros(1, 2), "ppo")  # type: ignore[arg-type]


# Preferences ----------------------------------------------------------------------------------


def test_dpo_at_the_reference_is_log_two_and_pulls_the_answers_apart_alike() -> None:
    reference = _wave((2, 4))
    policy = reference.clone().requires_grad_()
    loss, metrics = dpo(policy[0], policy[1], reference[0], reference[1], beta=0.1)
    assert loss.item() == pytest.approx(math.log(2))
    loss.backward()
    assert policy.grad is not None
    torch.testing.assert_close(policy.grad[0], torch.full((4,), -0.1 * 0.5 / 4).double())
    torch.testing.assert_close(policy.grad[1], -policy.grad[0])
    assert metrics == {"chosen_shift": 0, "rejected_shift": 0, "margin": 0, "accuracy": 0}


def test_dpo_equals_its_formula_and_shows_both_shifts() -> None:
    c, r, rc, rr = (_wave((5,), 3, phase) for phase in (0, 1, 2, 3))
    loss, metrics = dpo(c, r, rc, rr, beta=0.3)
    by_hand = [
        math.log(1 + math.exp(-0.3 * ((a - b) - (d - e))))
        for a, b, d, e in zip(c.tolist(), rc.tolist(), r.tolist(), rr.tolist(), strict=True)
    ]
    assert loss.item() == pytest.approx(sum(by_hand) / 5)
    assert metrics["chosen_shift"] == pytest.approx(float((c - rc).mean()))
    assert metrics["rejected_shift"] == pytest.approx(float((r - rr).mean()))


def test_dpo_does_not_see_when_both_answers_fall_but_its_metrics_do() -> None:
    zeros = torch.zeros(3)
    loss, metrics = dpo(zeros + 1, zeros - 1, zeros, zeros, beta=0.1)
    fallen, fallen_metrics = dpo(zeros - 9, zeros - 11, zeros, zeros, beta=0.1)
    torch.testing.assert_close(loss, fallen)
    assert metrics["chosen_shift"] == 1 and fallen_metrics["chosen_shift"] == -9


def test_a_beta_of_nothing_is_refused() -> None:
    with pytest.raises(Refusal, match="beta must be above 0, got 0"):
        dpo(*[torch.zeros(1)] * 4, beta=0)


def test_pair_reward_equals_its_formula_and_only_centring_sees_a_shift() -> None:
    chosen, rejected = _wave((6,)), _wave((6,), phase=2)
    loss, metrics = pair_reward(chosen, rejected, margin=0.2)
    by_hand = torch.log1p(torch.exp(-(chosen - rejected - 0.2))).mean()
    torch.testing.assert_close(loss, by_hand)
    torch.testing.assert_close(pair_reward(chosen + 5, rejected + 5, margin=0.2)[0], loss)
    centred, _ = pair_reward(chosen + 5, rejected + 5, centring=0.01, margin=0.2)
    expected = loss + 0.01 * (chosen + rejected + 10).square().mean()
    torch.testing.assert_close(centred, expected)
    assert metrics["accuracy"] == float((chosen > rejected).double().mean())


def test_a_reward_that_says_nothing_is_right_half_of_the_time() -> None:
    loss, metrics = pair_reward(torch.zeros(4), torch.zeros(4))
    assert loss.item() == pytest.approx(math.log(2)) and metrics["accuracy"] == 0.5


# Tokens ---------------------------------------------------------------------------------------


def test_masked_tokens_change_nothing_whatever_they_hold() -> None:
    mask = _masked(3, 5, 1)
    log_probs = (-_wave((3, 5)).abs()).requires_grad_()
    dirty = torch.where(mask, log_probs, -torch.inf)
    for kind, length in (("tokens", None), ("sequences", None), ("constant", 5)):
        reduction = Reduction(kind, length)  # type: ignore[arg-type]
        torch.testing.assert_close(sft(dirty, mask, reduction), sft(log_probs, mask, reduction))
    torch.testing.assert_close(sequence_log_probs(dirty, mask), sequence_log_probs(log_probs, mask))
    sft(dirty, mask, TOKENS).backward()
    assert log_probs.grad is not None and log_probs.grad.isfinite().all()
    assert not log_probs.grad[~mask].any()


def test_reductions_divide_by_tokens_by_answers_or_by_a_constant() -> None:
    mask, values = _masked(1, 3), torch.tensor([[6.0, 9, 9], [1, 2, 3]])
    assert Reduction("tokens")(values, mask) == 12 / 4
    assert Reduction("sequences")(values, mask) == (6 + 2) / 2
    assert Reduction("constant", 10)(values, mask) == 12 / 20


@pytest.mark.parametrize("kind", ["tokens", "sequences", "constant"])
def test_parts_of_a_batch_add_up_to_the_whole(kind: str) -> None:
    values, mask = _wave((4, 6)), _masked(6, 2, 3, 1)
    whole = Reduction(kind, 6)(values, mask)  # type: ignore[arg-type]
    total = float(mask.sum()) if kind == "tokens" else 4.0
    part = Reduction(kind, 6, total)  # type: ignore[arg-type]
    torch.testing.assert_close(part(values[:1], mask[:1]) + part(values[1:], mask[1:]), whole)


def test_a_batch_without_a_token_to_learn_is_refused() -> None:
    with pytest.raises(Refusal, match="a batch must have a token to learn, got none"):
        sft(torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.bool), TOKENS)


def test_a_constant_divisor_without_its_constant_is_refused() -> None:
    with pytest.raises(Refusal, match="max_length must be given for a constant divisor"):
        Reduction("constant")(torch.zeros(1, 1), torch.ones(1, 1, dtype=torch.bool))


# Policy gradient ------------------------------------------------------------------------------


def test_on_policy_the_gradient_is_the_advantage_times_that_of_the_log_probability() -> None:
    mask = _masked(4, 2)
    log_probs = (-_wave((2, 4)).abs()).requires_grad_()
    advantage = torch.tensor([0.5, -2.0], dtype=torch.float64)
    reduction = Reduction("constant", 8)
    loss, metrics = policy_gradient(log_probs, log_probs.detach(), advantage, mask, reduction)
    loss.backward()
    expected = torch.where(mask, -advantage[:, None] / 16, 0.0)
    torch.testing.assert_close(log_probs.grad, expected)
    assert metrics == {"clip_fraction": 0, "ratio_deviation": 0, "sampler_kl": 0}


def test_the_pull_per_token_does_not_depend_on_how_long_the_answers_are() -> None:
    pulls = []
    for lengths in ((2, 2), (2, 8)):
        mask = _masked(*lengths)
        log_probs = torch.zeros(mask.shape, requires_grad=True)
        advantage = torch.tensor([1.0, -1.0])
        loss, _ = policy_gradient(
            log_probs, log_probs.detach(), advantage, mask, Reduction("constant", 8)
        )
        loss.backward()
        assert log_probs.grad is not None
        pulls.append(log_probs.grad[:, 0].tolist())
    assert pulls[0] == pulls[1]


def test_clipping_stops_the_pull_only_in_the_direction_of_the_advantage() -> None:
    ratios = torch.tensor([[1.5, 0.5], [1.5, 0.5]])
    log_probs = ratios.log().requires_grad_()
    mask = torch.ones(2, 2, dtype=torch.bool)
    loss, metrics = policy_gradient(
        log_probs, torch.zeros(2, 2), torch.tensor([1.0, -1.0]), mask, TOKENS, clip=(0.2, 0.28)
    )
    by_hand = -(1.28 + 0.5 - 1.5 - 0.8) / 4
    assert loss.item() == pytest.approx(by_hand)
    loss.backward()
    assert log_probs.grad is not None
    assert (log_probs.grad == 0).tolist() == [[True, False], [False, True]]
    assert metrics["clip_fraction"] == 0.5
    assert metrics["ratio_deviation"] == pytest.approx(0.5)


def test_sampler_kl_is_the_mean_log_ratio_of_the_sampler_to_the_policy() -> None:
    mask = _masked(2, 1)
    log_probs, sampler = -_wave((2, 2)).abs(), -_wave((2, 2), phase=1).abs()
    _, metrics = policy_gradient(log_probs, sampler, torch.ones(2).double(), mask, TOKENS)
    assert metrics["sampler_kl"] == pytest.approx(float((sampler - log_probs)[mask].mean()))


def test_k3_is_never_negative_and_zero_only_at_the_reference() -> None:
    reference = -_wave((64,)).abs()
    assert not kl_k3(reference, reference).any()
    assert (kl_k3(reference + _wave((64,), 2, 1), reference) >= 0).all()
    assert kl_k3(torch.tensor([0.0]), torch.tensor([math.log(2)])).item() == pytest.approx(
        2 - math.log(2) - 1
    )


def test_k3_is_an_unbiased_estimate_of_the_divergence() -> None:
    p = torch.softmax(_wave((7,)), 0)
    q = torch.softmax(_wave((7,), phase=1), 0)
    exact = (p * (p / q).log()).sum()
    torch.testing.assert_close((p * kl_k3(p.log(), q.log())).sum(), exact)
