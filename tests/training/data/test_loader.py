from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from datalake.config import Refusal
from tests.training.data.token_rows import table
from training.data.loader import batch, row_ids
from training.data.rows import Rows

sizes = st.integers(1, 400)
seeds = st.integers(-(2**63), 2**64 - 1)


@given(sizes, seeds, st.integers(0, 5))
def test_an_epoch_reads_every_row_once(num_rows, seed, epoch):
    ids = row_ids(seed, epoch, num_rows, num_rows)
    assert sorted(ids.tolist()) == list(range(num_rows))


@given(sizes, seeds, st.integers(1, 50), st.integers(1, 20))
def test_steps_of_any_size_draw_without_replacement(num_rows, seed, slots, num_steps):
    drawn = np.concatenate([row_ids(seed, step, slots, num_rows) for step in range(num_steps)])
    times = np.bincount(drawn, minlength=num_rows)
    assert times.max() - times.min() <= 1
    assert times.sum() == slots * num_steps


@given(sizes, seeds, st.integers(0, 1000), st.integers(1, 12))
def test_a_step_depends_on_how_many_rows_were_drawn_before_it_alone(num_rows, seed, step, slots):
    """So a run may change its batch, and one that resumes reads what it would have read."""
    whole = row_ids(seed, step, slots, num_rows)
    single = [row_ids(seed, step * slots + slot, 1, num_rows)[0] for slot in range(slots)]
    assert whole.tolist() == single


@given(st.integers(1, 60), seeds, st.integers(0, 9), st.integers(1, 6), st.integers(1, 6))
def test_any_number_of_ranks_reads_the_same_rows(num_rows, seed, step, world, share):
    rows = Rows.whole(np.arange(num_rows * 3, dtype=np.uint16).reshape(num_rows, 3))
    slots = world * share
    alone = batch(rows, seed, step, slots).tokens
    parts = [batch(rows, seed, step, slots, range(r, slots, world)).tokens for r in range(world)]
    together = torch.stack(parts, dim=1).flatten(0, 1)
    assert torch.equal(alone, together)
    assert torch.equal(alone[:, 0] // 3, torch.from_numpy(row_ids(seed, step, slots, num_rows)))


def test_every_epoch_and_every_seed_has_an_order_of_its_own():
    size = 5000
    orders = [row_ids(seed, epoch, size, size) for seed in (0, 1) for epoch in (0, 1, 2)]
    for i, order in enumerate(orders):
        assert abs(np.corrcoef(order, np.arange(size))[0, 1]) < 0.06  # four standard deviations
        for other in orders[:i]:
            assert abs(np.corrcoef(order, other)[0, 1]) < 0.06
            assert (order == other).sum() < 8  # one is expected


def test_neighbours_in_the_table_are_spread_over_the_epoch():
    size = 10_007
    places = np.argsort(row_ids(3, 0, size, size))
    gaps = np.abs(np.diff(places))
    assert gaps.mean() == pytest.approx(size / 3, rel=0.03)  # as between two random places
    digits = np.bincount(row_ids(3, 0, size, size)[:1000] * 10 // size, minlength=10)
    assert digits.min() > 60 and digits.max() < 145  # 100 are expected; four standard deviations


# Reading ----------------------------------------------------------------------------------------


def write(path: Path, row_ids: list[int], rows: list[bytes], **options: int) -> str:
    pq.write_table(table(row_ids, rows), path, **options)
    return str(path)


def row(*tokens: int) -> bytes:
    return np.array(tokens, "<u2").tobytes()


def test_rows_of_all_parts_come_in_order_of_their_ids(tmp_path: Path):
    expected = np.random.default_rng(0).integers(0, 2**16, (50, 4)).astype(np.uint16)
    order = np.random.default_rng(1).permutation(50)
    paths = [
        write(
            tmp_path / f"{k}.parquet",
            part.tolist(),
            [row(*expected[i]) for i in part],
            row_group_size=4,
        )
        for k, part in enumerate(np.split(order, [7, 7, 30]))
    ]
    rows = Rows.from_files([paths[0], paths[1], f"file://{paths[2]}", paths[3]])
    assert np.array_equal(rows.tokens, expected)
    assert (rows.tokens.dtype, len(rows), rows.context_length) == (np.uint16, 50, 3)


def test_a_batch_is_whole_rows_as_a_model_takes_them(tmp_path: Path):
    rows = Rows.from_files([write(tmp_path / "a", [1, 0], [row(7, 65_535), row(1, 2)])])
    tokens = batch(rows, seed=0, step=0, slots_per_step=2).tokens
    assert tokens.dtype == torch.int64
    assert sorted(tokens.tolist()) == [[1, 2], [7, 65_535]]


def test_no_rows_at_all_are_refused(tmp_path: Path):
    empty = write(tmp_path / "empty", [], [])
    with pytest.raises(Refusal, match="token rows must be at least one, got none in 0 files"):
        Rows.from_files([])
    with pytest.raises(Refusal, match="token rows must be at least one, got none in 1 files"):
        Rows.from_files([empty])


def test_rows_of_different_lengths_are_refused(tmp_path: Path):
    one, two = (write(tmp_path / str(n), [n], [row(*range(n))]) for n in (2, 3))
    with pytest.raises(Refusal, match="token rows must be equally long, got 2 and 3"):
        Rows.from_files([one, two])
    mixed = write(tmp_path / "mixed", [0, 1], [row(1, 2), row(1)])
    with pytest.raises(
        Refusal, match=r"token rows must be equally many uint16, got \[2, 4\] bytes"
    ):
        Rows.from_files([mixed])


def test_rows_that_are_no_whole_tokens_are_refused(tmp_path: Path):
    with pytest.raises(Refusal, match=r"token rows must be equally many uint16, got \[3\] bytes"):
        Rows.from_files([write(tmp_path / "odd", [0], [b"abc"])])


def test_a_missing_row_is_refused(tmp_path: Path):
    with pytest.raises(Refusal, match="token rows must not be null, got a null"):
        Rows.from_files([write(tmp_path / "null", [0], [None])])  # type: ignore[list-item]
