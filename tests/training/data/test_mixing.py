"""Rows are counted by the source of their text, and read in given shares."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.loader import batch
from training.data.mixing import apportioned, bytes_by_source, mixed_order, placed
from training.data.rows import Rows

SEEDS = st.integers(0, 2**63)


def test_bytes_of_a_row_belong_to_the_documents_that_they_come_from() -> None:
    tokens = np.array([[1, 2, 0, 3], [3, 1, 1, 0]], np.uint16)
    found = bytes_by_source(
        tokens,
        pa.array([["a", "b"], ["b", "a"]], pa.list_(pa.string())),
        pa.array([[0, 2], [0, 3]], pa.list_(pa.int32())),
        sources=np.array([0, 1, 1, 0]),
        num_sources=3,
        bytes_per_token=np.array([0, 5, 7, 11]),
    )
    # The first token of a row is no target in it, and <|endoftext|>, 0 here, has no bytes.
    assert found.tolist() == [[7, 11, 0], [0, 10, 0]]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6).filter(any), st.integers(0, 5000))
def test_rows_are_apportioned_to_within_one_of_their_share(shares: list[float], total: int) -> None:
    counts = apportioned(np.array(shares), total)
    assert counts.sum() == total
    assert np.all(np.abs(counts - np.array(shares) / sum(shares) * total) <= 1 + 1e-9)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 150), st.integers(1, 150), SEEDS)
def test_no_row_is_read_twice_before_its_source_is_used_up(
    web: int, code: int, num_web: int, num_code: int, seed: int
) -> None:
    owners = np.repeat([0, 1], [web, code])
    order = mixed_order(owners, np.array([num_web, num_code]), seed)
    for source, size, number in ((0, web, num_web), (1, code, num_code)):
        own = order[owners[order] == source]
        assert len(own) == number
        for first in range(0, number, size):
            epoch = own[first : first + size]
            assert len(set(epoch.tolist())) == len(epoch)


@given(st.integers(0, 300), st.integers(1, 300), SEEDS)
def test_every_stretch_of_a_run_holds_the_sources_in_their_shares(
    num_web: int, num_code: int, seed: int
) -> None:
    owners = np.repeat([0, 1], [40, 70])
    order = mixed_order(owners, np.array([num_web, num_code]), seed)
    seen = np.cumsum(owners[order])
    wanted = np.arange(1, len(order) + 1) * num_code / len(order)
    assert np.abs(seen - wanted).max() <= 1


def test_runs_of_other_shares_read_the_rows_of_a_source_in_the_same_order() -> None:
    owners = np.repeat([0, 1, -1], [50, 70, 5])
    few, many = (mixed_order(owners, np.array([30, n]), 7) for n in (20, 90))
    code = [order[owners[order] == 1].tolist() for order in (few, many)]
    assert code[1][:20] == code[0]
    assert not np.any(owners[many] == -1)


@given(st.integers(1, 12), st.integers(1, 9), SEEDS)
def test_the_loader_reads_placed_rows_in_their_order(steps: int, slots: int, seed: int) -> None:
    rows = Rows.whole(np.arange(60, dtype=np.uint16).reshape(20, 3))
    order = np.random.default_rng(0).integers(0, 20, steps * slots)
    run = placed(rows, order, seed)
    read = np.concatenate([batch(run, seed, step, slots).tokens.numpy() for step in range(steps)])
    assert (read == rows.tokens[order]).all()


def test_the_bytes_of_a_part_of_a_table_are_counted_alike() -> None:
    doc_ids = pa.array([["x"], ["a"], ["b"]], pa.list_(pa.string())).slice(1)
    starts = pa.array([[0], [0], [0]], pa.list_(pa.int32())).slice(1)
    tokens = np.ones((2, 3), np.uint16)
    found = bytes_by_source(tokens, doc_ids, starts, np.array([0, 1]), 2, np.array([0, 4]))
    assert found.tolist() == [[8, 0], [0, 8]]


def test_a_source_without_rows_gives_none_where_none_are_wanted() -> None:
    order = mixed_order(np.array([0, 0]), np.array([3, 0]), 1)
    assert sorted(order.tolist()) in ([0, 0, 1], [0, 1, 1])
    with pytest.raises(IndexError):
        order[3]
