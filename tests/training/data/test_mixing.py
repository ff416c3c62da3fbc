"""Rows are counted by the source of their text, and read in given shares, epoch after epoch."""

from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datalake.config import Refusal
from training.data.loader import Loader
from training.data.mixing import (
    BLOCK,
    Mixture,
    apportioned,
    bytes_by_source,
    owner,
    tokens_by_source,
)
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


def test_the_bytes_of_a_part_of_a_table_are_counted_alike() -> None:
    doc_ids = pa.array([["x"], ["a"], ["b"]], pa.list_(pa.string())).slice(1)
    starts = pa.array([[0], [0], [0]], pa.list_(pa.int32())).slice(1)
    tokens = np.ones((2, 3), np.uint16)
    found = bytes_by_source(tokens, doc_ids, starts, np.array([0, 1]), 2, np.array([0, 4]))
    assert found.tolist() == [[8, 0], [0, 8]]


def test_tokens_of_a_row_belong_to_the_documents_that_they_come_from() -> None:
    starts = pa.array([[9], [0, 2], [0], [0, 3, 4]], pa.list_(pa.int32())).slice(1)
    found = tokens_by_source(starts, np.array([5, 4, 7]), np.array([0, 1, 1, 0, 1, 0]), 3)
    assert found.tolist() == [[2, 3, 0], [0, 4, 0], [6, 1, 0]]
    assert owner(found).tolist() == [1, 1, 0]
    assert owner(np.array([[0, 0], [0, 2]])).tolist() == [-1, 1]


# The order --------------------------------------------------------------------------------------

SIZES = st.lists(st.integers(0, 40), min_size=1, max_size=5).filter(any)


@st.composite
def mixtures(draw: st.DrawFn) -> Mixture:
    """Sources of few rows, one of them possibly without any, mixed in small blocks."""
    sizes = draw(SIZES)
    row_sources = np.repeat([-1, *range(len(sizes))], [draw(st.integers(0, 3)), *sizes])
    np.random.default_rng(draw(st.integers(0, 99))).shuffle(row_sources)
    counts = [draw(st.integers(0, 30)) if size else 0 for size in sizes]
    if not any(counts):
        counts[int(np.argmax(sizes))] = 1
    return Mixture(row_sources, np.array(counts), draw(SEEDS))


@given(mixtures(), st.integers(0, 9))
def test_shares_are_exact_in_every_block(mixture: Mixture, block: int) -> None:
    size = int(mixture.counts.sum())
    read = mixture.row_sources[mixture.ids(np.arange(block * size, (block + 1) * size))]
    assert np.bincount(read, minlength=len(mixture.counts)).tolist() == mixture.counts.tolist()


@given(mixtures(), st.integers(0, 200))
def test_every_stretch_of_a_run_holds_the_sources_in_their_shares(
    mixture: Mixture, stop: int
) -> None:
    read = mixture.row_sources[mixture.ids(np.arange(stop))]
    for source, count in enumerate(mixture.counts.tolist()):
        share = Fraction(count, int(mixture.counts.sum()))
        seen = int((read == source).sum())
        assert abs(seen - stop * share) <= len(mixture.counts)


@given(mixtures(), st.integers(0, 400))
def test_no_row_comes_again_before_all_of_its_source_were_read(
    mixture: Mixture, number: int
) -> None:
    ids = mixture.ids(np.arange(number))
    epochs = mixture.epochs(number)
    for source in range(len(mixture.counts)):
        own = ids[mixture.row_sources[ids] == source]
        size = int((mixture.row_sources == source).sum())
        assert epochs[source] == len(own) / max(size, 1)
        for first in range(0, len(own), max(size, 1)):
            epoch = own[first : first + size]
            assert len(set(epoch.tolist())) == len(epoch)


@given(mixtures(), st.integers(0, 2**40), st.integers(1, 40))
def test_a_sample_is_a_function_of_its_number(mixture: Mixture, first: int, number: int) -> None:
    whole = mixture.ids(np.arange(first, first + number))
    single = [int(mixture.ids(np.array([first + k]))[0]) for k in range(number)]
    assert whole.tolist() == single


@given(mixtures(), st.integers(0, 300))
def test_backwards_the_order_says_when_a_row_was_read(mixture: Mixture, stop: int) -> None:
    read = mixture.ids(np.arange(stop))
    for row in range(0, mixture.num_rows, 7):
        assert mixture.samples(row, stop).tolist() == np.flatnonzero(read == row).tolist()


@given(mixtures(), st.integers(0, 99), st.integers(1, 4), st.integers(1, 4))
def test_any_number_of_ranks_reads_the_same_mixture(
    mixture: Mixture, step: int, world: int, share: int
) -> None:
    rows = Rows.whole(np.arange(mixture.num_rows, dtype=np.uint16)[:, None].repeat(2, axis=1))
    slots = world * share
    loader = Loader(rows, 0, slots, mixture)
    alone = loader.batch(step).tokens[:, 0].tolist()
    assert alone == mixture.ids(np.arange(step * slots, (step + 1) * slots)).tolist()
    for rank in range(world):
        own = loader.batch(step, range(rank, slots, world)).tokens[:, 0].tolist()
        assert own == alone[rank::world]


def test_runs_of_other_shares_read_the_rows_of_a_source_in_the_same_order() -> None:
    owners = np.repeat([0, 1, -1], [50, 70, 5])
    few, many = (Mixture(owners, np.array([30, n]), 7).ids(np.arange(30 + n)) for n in (20, 90))
    code = [order[owners[order] == 1].tolist() for order in (few, many)]
    assert code[1][:20] == code[0]
    assert not np.any(owners[many] == -1)


def test_weights_are_kept_to_a_row_of_a_block() -> None:
    owners = np.repeat([0, 1, 2], [300, 5, 80])
    mixture = Mixture.of({"web": 3, "wiki": 1.5}, ("code", "web", "wiki"), owners, 0)
    assert mixture.counts.tolist() == [0, 2731, 1365]
    assert mixture.counts.sum() == BLOCK
    assert mixture.epochs(BLOCK).tolist() == [0, 2731 / 5, 1365 / 80]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"web": 1, "pdf": 1}, "mixture must name sources of code, web, wiki, got pdf"),
        ({"web": 0}, "mixture.web must be above 0, got 0"),
        ({"web": -1.5}, "mixture.web must be above 0, got -1.5"),
        ({"web": float("nan")}, "mixture.web must be above 0, got nan"),
        ({"web": float("inf")}, "mixture.web must be above 0, got inf"),
        (
            {"web": 1, "wiki": 1},
            "mixture.wiki must have a row that is mostly of it, got none; leave it out",
        ),
        (
            {"web": 1, "code": 1e-5},
            "mixture.code must be a row of every 4096, got a share of 1e-05",
        ),
    ],
)
def test_a_mixture_that_cannot_be_read_is_refused(weights: dict[str, float], message: str) -> None:
    with pytest.raises(Refusal) as refusal:
        Mixture.of(weights, ("code", "web", "wiki"), np.array([0, 1, -1]), 0)
    assert str(refusal.value) == message


def test_a_source_without_rows_gives_none_where_none_are_wanted() -> None:
    mixture = Mixture(np.array([0, 0]), np.array([3, 0]), 1)
    assert sorted(mixture.ids(np.arange(3)).tolist()) in ([0, 0, 1], [0, 1, 1])
    with pytest.raises(Refusal, match="source 1 must have a row to be read, got none"):
        Mixture(np.array([0, 0]), np.array([3, 1]), 1)
