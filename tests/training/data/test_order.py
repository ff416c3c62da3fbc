"""A keyed permutation for every epoch: no row twice, any step at once, and backwards."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data import order
from training.data.order import Epochs, row_ids

SIZES = st.integers(1, 400)
SEEDS = st.integers(-(2**63), 2**64 - 1)


@given(SIZES, SEEDS, st.integers(0, 5))
def test_an_epoch_reads_every_row_once(num_rows: int, seed: int, epoch: int) -> None:
    ids = row_ids(seed, epoch, num_rows, num_rows)
    assert sorted(ids.tolist()) == list(range(num_rows))


@given(SIZES, SEEDS, st.integers(1, 50), st.integers(1, 20))
def test_steps_of_any_size_draw_without_replacement(
    num_rows: int, seed: int, slots: int, num_steps: int
) -> None:
    drawn = np.concatenate([row_ids(seed, step, slots, num_rows) for step in range(num_steps)])
    times = np.bincount(drawn, minlength=num_rows)
    assert times.max() - times.min() <= 1
    assert times.sum() == slots * num_steps


@given(SIZES, SEEDS, st.integers(0, 1000), st.integers(1, 12))
def test_a_step_depends_on_how_many_rows_were_drawn_before_it_alone(
    num_rows: int, seed: int, step: int, slots: int
) -> None:
    """So a run may change its batch, and one that resumes reads what it would have read."""
    whole = row_ids(seed, step, slots, num_rows)
    single = [row_ids(seed, step * slots + slot, 1, num_rows)[0] for slot in range(slots)]
    assert whole.tolist() == single


@given(SIZES, SEEDS, st.integers(0, 1500))
def test_backwards_the_order_says_when_a_row_was_read(num_rows: int, seed: int, stop: int) -> None:
    epochs = Epochs(num_rows, seed)
    read = epochs.ids(np.arange(stop))
    for row in {0, num_rows // 2, num_rows - 1}:
        assert epochs.samples(row, stop).tolist() == np.flatnonzero(read == row).tolist()


@given(SIZES, SEEDS, st.lists(st.integers(0, 5000), max_size=9))
def test_compiled_loops_permute_as_numpy_does(num_rows: int, seed: int, samples: list[int]) -> None:
    drawn = np.array(samples, np.int64)
    assert order.row_kernels() is not None
    found = Epochs(num_rows, seed).ids(drawn)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order, "row_kernels", lambda: None)
        assert Epochs(num_rows, seed).ids(drawn).tolist() == found.tolist()


def test_every_epoch_and_every_seed_has_an_order_of_its_own() -> None:
    size = 5000
    orders = [row_ids(seed, epoch, size, size) for seed in (0, 1) for epoch in (0, 1, 2)]
    for i, one in enumerate(orders):
        assert abs(np.corrcoef(one, np.arange(size))[0, 1]) < 0.06  # four standard deviations
        for other in orders[:i]:
            assert abs(np.corrcoef(one, other)[0, 1]) < 0.06
            assert (one == other).sum() < 8  # one is expected


def test_neighbours_in_the_table_are_spread_over_the_epoch() -> None:
    size = 10_007
    places = np.argsort(row_ids(3, 0, size, size))
    gaps = np.abs(np.diff(places))
    assert gaps.mean() == pytest.approx(size / 3, rel=0.03)  # as between two random places
    digits = np.bincount(row_ids(3, 0, size, size)[:1000] * 10 // size, minlength=10)
    assert digits.min() > 60 and digits.max() < 145  # 100 are expected; four standard deviations


def test_the_order_of_a_seed_stays_what_it_was() -> None:
    """Checkpoints name a seed: another order would make their history untrue."""
    assert row_ids(0, 0, 6, 1000).tolist() == [153, 221, 486, 515, 271, 963]
    assert row_ids(0, 10**12, 3, 1000).tolist() == [293, 387, 680]
