"""What a step reads is a function of its number, on any number of ranks, ahead of time or not."""

import gc
import threading
import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from datalake.config import Refusal
from training.data.loader import Batch, Loader, batch_of
from training.data.order import Epochs, row_ids
from training.data.rows import Rows

SEEDS = st.integers(-(2**63), 2**64 - 1)


def rows_of(num_rows: int) -> Rows:
    return Rows.whole(np.arange(num_rows * 3, dtype=np.uint16).reshape(num_rows, 3))


def same(one: Batch, other: Batch) -> bool:
    return torch.equal(one.tokens, other.tokens) and torch.equal(one.pieces, other.pieces)


@given(st.integers(1, 60), SEEDS, st.integers(0, 5000), st.integers(1, 6), st.integers(1, 6))
def test_any_number_of_ranks_reads_the_same_rows(
    num_rows: int, seed: int, step: int, world: int, share: int
) -> None:
    slots = world * share
    loader = Loader(rows_of(num_rows), seed, slots)
    alone = loader.batch(step).tokens
    parts = [loader.batch(step, range(r, slots, world)).tokens for r in range(world)]
    together = torch.stack(parts, dim=1).flatten(0, 1)
    assert torch.equal(alone, together)
    assert loader.row_ids(step).tolist() == row_ids(seed, step, slots, num_rows).tolist()
    assert torch.equal(alone[:, 0] // 3, torch.from_numpy(loader.row_ids(step)))


@given(st.integers(1, 60), SEEDS, st.integers(0, 2**40), st.integers(1, 9000))
def test_a_run_may_begin_at_any_step(num_rows: int, seed: int, step: int, slots: int) -> None:
    loader = Loader(rows_of(num_rows), seed, slots)
    assert loader.row_ids(step).tolist() == row_ids(seed, step, slots, num_rows).tolist()
    assert loader.num_targets(step).tolist() == [2] * slots


def test_a_batch_is_whole_rows_as_a_model_takes_them() -> None:
    rows = Rows.whole(np.array([[1, 2], [7, 65_535]], np.uint16))
    batch = Loader(rows, seed=0, slots_per_step=2).batch(0)
    assert (batch.tokens.dtype, batch.pieces.dtype) == (torch.int64, torch.int32)
    assert sorted(batch.tokens.tolist()) == [[1, 2], [7, 65_535]]
    assert batch.first(0).tokens.shape == (2, 1)


def test_an_order_of_another_table_is_refused() -> None:
    with pytest.raises(Refusal, match="order must be one of the table's 3 rows, got 4"):
        Loader(rows_of(3), 0, 2, Epochs(4, 0))


# Ahead ------------------------------------------------------------------------------------------


def reading() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("rows")]


@given(st.integers(1, 40), SEEDS, st.integers(1, 3), st.integers(1, 3), st.integers(1, 60))
def test_reading_ahead_changes_nothing(
    num_rows: int, seed: int, num_parts: int, size: int, num_steps: int
) -> None:
    loader = Loader(rows_of(num_rows), seed, num_parts * size)
    parts = [range(k, num_parts * size, num_parts) for k in range(num_parts)]
    first = seed % num_steps
    with loader.ahead(parts, num_steps) as ahead:
        for step in (*range(first, num_steps), first, 0, *range(num_steps)):
            for slots, batch in zip(parts, ahead.read(step), strict=True):
                assert same(batch, loader.batch(step, slots))
    assert not reading()


def test_steps_larger_than_a_copy_are_read_one_at_a_time() -> None:
    rows = Rows.whole(np.random.default_rng(0).integers(0, 9, (50, 2000)).astype(np.uint16))
    loader = Loader(rows, 0, 40)
    with loader.ahead([range(30), range(30, 40)], 5) as ahead:
        for step in range(5):
            one, other = ahead.read(step)
            assert same(one, loader.batch(step, range(30)))
            assert same(other, loader.batch(step, range(30, 40)))


def test_few_batches_wait_however_long_the_run() -> None:
    loader = Loader(rows_of(50), 0, 4)
    asked: list[int] = []
    look_up, loader.row_ids = loader.row_ids, lambda step: asked.append(step) or look_up(step)  # type: ignore
    with loader.ahead([range(4)], 10**12) as ahead:
        ahead.read(10**11)
        time.sleep(0.1)
        assert asked[0] == 10**11
        assert len(asked) <= 3 * 256


def test_what_goes_wrong_in_the_thread_is_raised_where_the_step_is_asked_for() -> None:
    loader = Loader(rows_of(50), 0, 4)

    def fail(step: int) -> np.ndarray:
        raise OSError("the disk is gone")

    loader.row_ids = fail  # type: ignore[method-assign]
    with pytest.raises(OSError, match="the disk is gone"), loader.ahead([range(4)], 9) as ahead:
        ahead.read(0)
    assert not reading()


def test_a_reader_that_is_dropped_leaves_no_thread() -> None:
    ahead = Loader(rows_of(50), 0, 4).ahead([range(4)], 9)
    batch = ahead.read(0)[0]
    assert reading()
    del ahead
    gc.collect()
    deadline = time.monotonic() + 5
    while reading() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not reading()
    assert batch.tokens.shape == (4, 3)


def test_a_step_beyond_the_run_is_refused() -> None:
    with Loader(rows_of(5), 0, 2).ahead([range(2)], 9) as ahead:
        for step in (-1, 9):
            with pytest.raises(Refusal, match=f"step must be 0 .. 8, got {step}"):
                ahead.read(step)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="pins memory for an accelerator")
def test_pinned_batches_hold_the_same_rows() -> None:
    loader = Loader(rows_of(50), 0, 4)
    with loader.ahead([range(2), range(2, 4)], 3, pinned=True) as ahead:
        for step in range(3):
            for slots, batch in zip((range(2), range(2, 4)), ahead.read(step), strict=True):
                assert batch.tokens.is_pinned()
                there = batch.to("cuda")
                torch.cuda.synchronize()
                assert same(there.to("cpu"), batch_of(loader.rows, loader.row_ids(step)[slots]))
