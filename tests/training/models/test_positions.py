import math

import torch

from tests.training.models.random_weights import awake, small_config, tokens
from training.models.configs.positions import Rope
from training.models.positions import rotary_table, sinusoidal_table

CPU = torch.device("cpu")


def test_position_zero_is_not_turned_and_one_turns_the_first_pair_by_one_radian() -> None:
    table = rotary_table(Rope(), 8, 24, CPU)
    assert torch.equal(table[0], torch.ones(4, dtype=torch.complex64))
    torch.testing.assert_close(table[1, 0].angle(), torch.tensor(1.0))


def test_pairs_turn_slower_by_powers_of_theta() -> None:
    speeds = rotary_table(Rope(theta=10_000.0), 8, 24, CPU)[1].angle()
    torch.testing.assert_close(speeds, torch.tensor([1.0, 0.1, 0.01, 0.001]))


def test_far_positions_are_as_exact_as_near_ones() -> None:
    table = rotary_table(Rope(), 8, 100_000, CPU)
    torch.testing.assert_close(table[99_999, 0].real, torch.tensor(math.cos(99_999.0)))


def test_sinusoids_are_those_of_the_transformer_paper() -> None:
    table = sinusoidal_table(32, 24, CPU)
    assert table.shape == (24, 32)
    position, pair = 7, 5
    angle = position / 10_000 ** (2 * pair / 32)
    torch.testing.assert_close(table[position, 2 * pair].item(), math.sin(angle))
    torch.testing.assert_close(table[position, 2 * pair + 1].item(), math.cos(angle))


def test_without_positions_and_shift_earlier_tokens_are_a_set() -> None:
    model = awake(small_config(positions="none", token_shift=False, num_layers=1))
    ids = tokens(1, 10)
    shuffled = torch.cat((ids[:, :9].flip(1), ids[:, 9:]), dim=1)
    torch.testing.assert_close(model(ids)[:, -1], model(shuffled)[:, -1], atol=1e-4, rtol=1e-4)
    rotary = awake(small_config(token_shift=False, num_layers=1))
    assert not torch.allclose(rotary(ids)[:, -1], rotary(shuffled)[:, -1], atol=1e-2)
