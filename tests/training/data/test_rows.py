"""Token rows as Parquet holds them become arrays, and the pieces of their documents numbers."""

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datalake.config import Refusal
from tests.training.data.token_rows import table
from training.data import rows as data_rows
from training.data.loader import batch_of
from training.data.order import row_kernels
from training.data.rows import Rows, shape_of


def write(path: Path, row_ids: list[int], rows: list[bytes], **options: int) -> str:
    pq.write_table(table(row_ids, rows), path, **options)
    return str(path)


def row(*tokens: int) -> bytes:
    return np.array(tokens, "<u2").tobytes()


def test_rows_of_all_parts_come_in_order_of_their_ids(tmp_path: Path) -> None:
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


def test_no_rows_at_all_are_refused(tmp_path: Path) -> None:
    empty = write(tmp_path / "empty", [], [])
    with pytest.raises(Refusal, match="token rows must be at least one, got none in 0 files"):
        Rows.from_files([])
    with pytest.raises(Refusal, match="token rows must be at least one, got none in 1 files"):
        Rows.from_files([empty])


def test_rows_of_different_lengths_are_refused(tmp_path: Path) -> None:
    one, two = (write(tmp_path / str(n), [n], [row(*range(n))]) for n in (2, 3))
    with pytest.raises(Refusal, match="token rows must be equally long, got 2 and 3"):
        Rows.from_files([one, two])
    mixed = write(tmp_path / "mixed", [0, 1], [row(1, 2), row(1)])
    with pytest.raises(
        Refusal, match=r"token rows must be equally many uint16, got \[2, 4\] bytes"
    ):
        Rows.from_files([mixed])


def test_rows_that_are_no_whole_tokens_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"token rows must be equally many uint16, got \[3\] bytes"):
        Rows.from_files([write(tmp_path / "odd", [0], [b"abc"])])


def test_a_missing_row_is_refused() -> None:
    columns = table([0], [row(1)])
    columns = columns.set_column(1, "tokens", pa.array([None], pa.binary()))
    with pytest.raises(Refusal, match="token rows must not be null, got a null"):
        Rows.from_table(columns)


def packed(random: np.random.Generator, num_rows: int, length: int) -> Rows:
    """Rows of some pieces each, some of them not filled."""
    num_tokens = np.where(random.random(num_rows) < 0.7, length, random.integers(1, length + 1))
    starts = [
        np.unique(np.append(random.integers(0, n, random.integers(0, 4)), 0)) for n in num_tokens
    ]
    return Rows(
        tokens=random.integers(0, 1 << 16, (num_rows, length)).astype(np.uint16),
        num_tokens=num_tokens.astype(np.int64),
        piece_offsets=np.cumsum([0, *map(len, starts)]),
        piece_starts=np.concatenate(starts),
        vocab_size=1 << 16,
    )


@given(st.integers(0, 2**32), st.integers(1, 12), st.integers(1, 40), st.integers(0, 9))
def test_pieces_are_numbered_from_where_they_begin(
    seed: int, num_rows: int, length: int, number: int
) -> None:
    random = np.random.default_rng(seed)
    rows = packed(random, num_rows, length)
    ids = random.integers(0, num_rows, number)
    found = rows.pieces(ids)
    assert (found.dtype, found.shape) == (np.int32, (number, length))
    for row, numbers in zip(ids, found.tolist(), strict=True):
        first, stop = rows.piece_offsets[row : row + 2]
        begins = rows.piece_starts[first:stop].tolist()
        expected = [sum(b <= place for b in begins) - 1 for place in range(length)]
        filled = rows.num_tokens[row]
        assert numbers == expected[:filled] + [-1] * (length - filled)
    scored = (np.diff(found) == 0) & (found[:, 1:] >= 0)
    assert rows.num_targets_of(ids).tolist() == scored.sum(axis=1).tolist()
    assert rows.num_targets[ids].tolist() == scored.sum(axis=1).tolist()
    assert rows.take(ids).pieces().tolist() == found.tolist()


@given(st.integers(0, 2**32), st.integers(1, 12), st.integers(1, 90), st.integers(0, 9))
def test_compiled_loops_read_what_numpy_reads(
    seed: int, num_rows: int, length: int, number: int
) -> None:
    random = np.random.default_rng(seed)
    rows = packed(random, num_rows, length)
    if seed % 2:
        rows = dataclasses.replace(rows, tokens=rows.tokens.astype(np.uint32) * 60_000)
    ids = random.integers(0, num_rows, number)
    assert row_kernels() is not None
    tokens, num_tokens, further = rows.read(ids)
    assert tokens.dtype == rows.tokens.dtype
    assert tokens.tolist() == rows.tokens[ids].tolist()
    assert num_tokens.tolist() == rows.num_tokens[ids].tolist()
    assert further.tolist() == rows.further_pieces(ids).tolist()


def test_without_numba_rows_are_read_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = packed(np.random.default_rng(0), 9, 20)
    ids = np.array([8, 0, 0, 3])
    expected = [array.tolist() for array in rows.read(ids)]
    monkeypatch.setattr(data_rows, "row_kernels", lambda: None)
    assert [array.tolist() for array in rows.read(ids)] == expected
    with pytest.raises(Refusal, match=r"row must be 0 .. 8, got 3 and 9"):
        rows.read(np.array([3, 9]))


@given(
    st.integers(0, 2**32),
    st.integers(1, 12),
    st.integers(2, 90),
    st.lists(st.integers(0, 4), min_size=1),
)
def test_a_batch_makes_tokens_and_pieces_of_rows_as_they_lie_in_the_table(
    seed: int, num_rows: int, length: int, parts: list[int]
) -> None:
    random = np.random.default_rng(seed)
    rows = packed(random, num_rows, length)
    if seed % 2:
        rows = dataclasses.replace(rows, tokens=rows.tokens.astype(np.uint32) * 60_000)
    ids = random.integers(0, num_rows, sum(parts))
    whole = batch_of(rows, ids)
    for own, batch in zip(np.split(ids, np.cumsum(parts)[:-1]), whole.split(parts), strict=True):
        pieces = rows.pieces(own)
        assert batch.tokens.tolist() == rows.tokens[own].astype(np.int64).tolist()
        assert batch.pieces.tolist() == pieces.tolist()
        assert batch.has_several == bool((pieces > 0).any())
        num_targets = int(random.integers(0, length))
        first = batch.first(num_targets)
        assert first.tokens.tolist() == rows.tokens[own, : num_targets + 1].tolist()
        assert first.pieces.tolist() == pieces[:, : num_targets + 1].tolist()


def test_a_row_outside_of_the_table_is_refused() -> None:
    rows = Rows.whole(np.zeros((3, 2), np.uint16))
    with pytest.raises(Refusal, match=r"row must be 0 .. 2, got 0 and 3"):
        rows.read(np.array([0, 3]))
    with pytest.raises(Refusal, match=r"row must be 0 .. 2, got -1 and 2"):
        rows.read(np.array([2, -1]))


def test_a_token_outside_of_the_vocabulary_is_refused(tmp_path: Path) -> None:
    pq.write_table(table([0], [row(1, 300)], vocab_size=300), tmp_path / "a")
    with pytest.raises(Refusal, match="token ids must be below vocab_size 300, got 300"):
        Rows.from_files([str(tmp_path / "a")])


def test_vocabulary_and_length_are_read_off_the_first_row(tmp_path: Path) -> None:
    empty = write(tmp_path / "empty", [], [])
    pq.write_table(table([5], [bytes(4 * 7)], vocab_size=70_000), tmp_path / "a")
    assert shape_of([empty, str(tmp_path / "a")]) == (70_000, 7)
    with pytest.raises(Refusal, match="token rows must be at least one, got none in 1 files"):
        shape_of([empty])
