import math
from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from datalake.config import Refusal
from tests.training.models.random_weights import VARIANTS, awake, small_config, tokens
from training.inference.sampling import choose, generate, generate_batch, stream

PROMPTS = [[1, 2, 3], [4, 5, 6, 7, 8], [9], [1, 2, 3]]


def quantiles(count: int) -> np.ndarray:
    """Evenly spread draws: each token comes as often as its probability says."""
    return (np.arange(count) + 0.5) / count


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS.keys())
def test_log_probabilities_are_those_of_the_full_forward_pass(variant: dict) -> None:
    model = awake(small_config(**variant))
    for prompt, drawn in zip(PROMPTS, generate_batch(model, PROMPTS, 12, seed=5), strict=True):
        ids = torch.tensor([[*prompt, *drawn.ids]])
        log_p = F.log_softmax(model(ids[:, :-1])[0, len(prompt) - 1 :], dim=-1)
        reference = log_p.gather(1, ids[0, len(prompt) :, None])[:, 0]
        torch.testing.assert_close(torch.tensor(drawn.log_probs), reference, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_log_probabilities_stay_those_of_the_forward_pass_when_sequences_end(
    temperature: float,
) -> None:
    model = awake(small_config())
    prompts = [[i + 1] * (1 + i % 7) for i in range(24)]
    drawn = generate_batch(model, prompts, 16, temperature, seed=4, stop_ids=set(range(6)))
    lengths = {len(completion.ids) for completion in drawn}
    assert len(lengths) > 5  # they were dropped a few at a time
    for prompt, completion in zip(prompts, drawn, strict=True):
        ids = torch.tensor([[*prompt, *completion.ids]])
        log_p = F.log_softmax(model(ids[:, :-1])[0, len(prompt) - 1 :] / temperature, dim=-1)
        reference = log_p.gather(1, ids[0, len(prompt) :, None])[:, 0]
        ours = torch.tensor(completion.log_probs)
        torch.testing.assert_close(ours, reference, atol=1e-4, rtol=1e-4)


def test_a_sequence_does_not_depend_on_its_neighbours() -> None:
    model = awake(small_config())
    together = generate_batch(model, PROMPTS, 10, seed=3)
    assert together[0].ids == generate(model, PROMPTS[0], 10, seed=3).ids
    swapped = generate_batch(model, [PROMPTS[2], *PROMPTS[1:]], 10, seed=3)
    assert [c.ids for c in swapped[1:]] == [c.ids for c in together[1:]]


def test_equal_prompts_are_drawn_apart_and_seeds_repeat() -> None:
    model = awake(small_config())
    one, other = (generate_batch(model, PROMPTS, 10, seed=seed) for seed in (0, 1))
    assert one == generate_batch(model, PROMPTS, 10, seed=0)
    assert one[0].ids != one[3].ids
    assert one[0].ids != other[0].ids


def test_a_seed_of_its_own_makes_a_draw_independent_of_its_place() -> None:
    model = awake(small_config())
    seeds = [7, 1 << 90, 0]
    together = generate_batch(model, PROMPTS[:3], 10, seeds=seeds)
    backwards = generate_batch(model, PROMPTS[2::-1], 10, seeds=seeds[::-1])
    assert [one.ids for one in backwards[::-1]] == [one.ids for one in together]
    for prompt, seed, one in zip(PROMPTS[:3], seeds, together, strict=True):
        assert generate_batch(model, [prompt], 10, seeds=[seed])[0].ids == one.ids
    assert generate_batch(model, PROMPTS[:3], 10, seeds=range(3)) == generate_batch(
        model, PROMPTS[:3], 10
    )
    assert generate_batch(model, PROMPTS[:1], 10, seeds=[8])[0].ids != together[0].ids


def test_temperature_zero_takes_the_likeliest_token_whatever_the_seed() -> None:
    model = awake(small_config())
    ids = list(PROMPTS[1])
    for _ in range(8):
        ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    for seed in (0, 1):
        assert list(generate(model, PROMPTS[1], 8, temperature=0, seed=seed).ids) == ids[5:]


def test_tokens_come_as_often_as_the_softmax_says() -> None:
    logits = torch.tensor([0.0, 1.0, 2.0, -1.0])
    for temperature in (0.5, 1.0, 3.0):
        ids, log_probs = choose(logits.expand(1000, 4), quantiles(1000), temperature)
        p = torch.softmax(logits / temperature, dim=-1)
        counts = torch.bincount(ids, minlength=4) / 1000
        torch.testing.assert_close(counts, p, atol=1e-3, rtol=0)
        torch.testing.assert_close(log_probs.exp().float(), p[ids])


def test_a_draw_takes_the_token_where_the_cumulated_probability_passes_it() -> None:
    logits = 3 * torch.randn(400, 200)  # of a vocabulary that chunks do not divide
    ids, log_probs = choose(logits, quantiles(400), 0.7)
    p = torch.softmax(logits.double() / 0.7, dim=-1)
    reference = torch.searchsorted(p.cumsum(-1), torch.from_numpy(quantiles(400))[:, None])
    assert torch.equal(ids, reference[:, 0])
    exact = F.log_softmax(logits / 0.7, dim=-1).gather(1, ids[:, None])[:, 0]
    torch.testing.assert_close(log_probs, exact, atol=1e-5, rtol=0)


@pytest.mark.parametrize("draw", [0.0, 0.5, 0.75, np.nextafter(1.0, 0.0)])
def test_no_draw_takes_an_impossible_token(draw: float) -> None:
    possible = [70, 71, 130, 300]  # first and last of their chunks, and of the vocabulary, are not
    logits = torch.full((1, 401), -math.inf)
    logits[0, possible] = torch.tensor([0.0, -200.0, 1e-3, 0.0])
    ids, log_probs = choose(logits, np.array([draw]), 1.0)
    assert ids.item() in {70, 130, 300} and log_probs.item() > -2


def test_top_k_keeps_the_k_likeliest_and_renormalises() -> None:
    logits = torch.log(torch.tensor([0.1, 0.4, 0.2, 0.3]))
    ids, log_probs = choose(logits.expand(700, 4), quantiles(700), 1.0, top_k=2)
    assert Counter(ids.tolist()) == {1: 400, 3: 300}
    assert log_probs.exp().unique().tolist() == pytest.approx([3 / 7, 4 / 7])


def test_top_k_of_one_is_greedy_and_of_everything_changes_nothing() -> None:
    logits, draws = torch.randn(50, 9), quantiles(50)
    assert torch.equal(choose(logits, draws, 2.0, top_k=1)[0], logits.argmax(-1))
    for settings in ({"top_k": 9}, {"top_k": 100}, {"top_p": 1.0}):
        plain, kept = choose(logits, draws, 2.0), choose(logits, draws, 2.0, **settings)
        assert torch.equal(plain[0], kept[0])
        torch.testing.assert_close(plain[1], kept[1])


def test_top_p_keeps_the_fewest_tokens_that_reach_it() -> None:
    logits = torch.log(torch.tensor([0.1, 0.4, 0.2, 0.3]))
    for top_p, kept in ((0.3, {1}), (0.41, {1, 3}), (0.75, {1, 3, 2}), (0.95, {0, 1, 2, 3})):
        ids, _ = choose(logits.expand(900, 4), quantiles(900), 1.0, top_p=top_p)
        assert set(ids.tolist()) == kept


def test_top_p_is_of_what_top_k_left() -> None:
    logits = torch.log(torch.tensor([0.4, 0.3, 0.2, 0.1]))
    ids, _ = choose(logits.expand(90, 4), quantiles(90), 1.0, top_k=2, top_p=0.55)
    assert set(ids.tolist()) == {0}  # 4/7 of the two


def test_the_last_draw_below_one_takes_a_token_that_is_possible() -> None:
    logits = torch.tensor([[0.0, -math.inf, 0.0, -math.inf]])
    ids, log_probs = choose(logits, np.array([np.nextafter(1.0, 0.0)]), 1.0)
    assert ids.item() == 2
    assert log_probs.item() == pytest.approx(math.log(0.5))


def test_a_stop_token_ends_its_sequence_and_is_its_last() -> None:
    model = awake(small_config())
    free = generate_batch(model, PROMPTS, 12, seed=2)
    stop = free[1].ids[4]
    for before, after in zip(
        free, generate_batch(model, PROMPTS, 12, seed=2, stop_ids={stop}), strict=True
    ):
        if stop in before.ids:
            assert after.ids == before.ids[: before.ids.index(stop) + 1]
            assert after.finish == "stop"
        else:
            assert (after.ids, after.finish) == (before.ids, "length")


def test_generation_ends_where_the_context_is_full() -> None:
    model = awake(small_config())
    drawn = generate_batch(model, [[1] * 20, [1] * 23, [1]], 100)
    assert [(len(c.ids), c.finish) for c in drawn] == [(4, "length"), (1, "length"), (23, "length")]


def test_a_full_context_among_many_sequences_does_not_stop_them() -> None:
    model = awake(small_config())
    prompts = [[2] * 23, *([i] for i in range(30))]
    drawn = generate_batch(model, prompts, 100, seed=1)
    assert [len(completion.ids) for completion in drawn] == [1] + [23] * 30
    without = generate_batch(model, [[2] * 3, *prompts[1:]], 100, seed=1)
    assert [c.ids for c in drawn[1:]] == [c.ids for c in without[1:]]


def test_a_stream_gives_each_token_as_it_is_drawn() -> None:
    model = awake(small_config())
    drawn = list(stream(model, PROMPTS[:2], 3))
    assert [token.sequence for token in drawn] == [0, 1, 0, 1, 0, 1]
    assert [token.finish for token in drawn] == [None] * 4 + ["length"] * 2
    assert not torch.is_inference_mode_enabled() and torch.is_grad_enabled()


def test_half_precision_samples_with_log_probabilities_near_the_exact_ones() -> None:
    model = awake(small_config())
    with torch.autocast("cpu", torch.bfloat16):
        drawn = generate(model, tokens(1, 6)[0].tolist(), 10)
    ids = torch.tensor([[*tokens(1, 6)[0].tolist(), *drawn.ids]])
    log_p = F.log_softmax(model(ids[:, :-1])[0, 5:], -1).gather(1, ids[0, 6:, None])[:, 0]
    torch.testing.assert_close(torch.tensor(drawn.log_probs), log_p, atol=0.3, rtol=0.1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompts": []}, "prompts must be at least one, got none"),
        ({"prompts": [[1], []]}, "prompt must be of 1 to 23 tokens, .* got 0"),
        ({"prompts": [[1] * 24]}, "prompt must be of 1 to 23 tokens, .* got 24"),
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1, got 0"),
        ({"temperature": -0.5}, "temperature must be at least 0, got -0.5"),
        ({"seeds": [1, 2]}, "seeds must be one for each of 1 prompts, got 2"),
        ({"top_k": 0}, "top_k must be at least 1, got 0"),
        ({"top_p": 0.0}, "top_p must be above 0 and at most 1, got 0.0"),
        ({"top_p": 1.5}, "top_p must be above 0 and at most 1, got 1.5"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict, message: str) -> None:
    model = awake(small_config())
    settings = {"prompts": [[1]], "max_new_tokens": 4, **changes}
    with pytest.raises(Refusal, match=message):
        generate_batch(model, **settings)
