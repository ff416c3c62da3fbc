from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datalake.config import Refusal
from datalake.schemas import TABLES
from training.data.packing import Documents, copies, held_out, pack, shuffled, uniform

END = 0
ARROW = TABLES["tokens"].arrow


def documents(texts: list[list[int]]) -> Documents:
    return Documents(
        doc_ids=np.array([f"doc{i}" for i in range(len(texts))]),
        offsets=np.cumsum([0, *map(len, texts)]),
        tokens=np.array([token for text in texts for token in text], np.uint16),
    )


def rows_of(
    texts: list[list[int]], order: list[int], context_length: int, tokens_per_batch: int = 4096
) -> list[dict]:
    packed = pack(
        documents(texts), np.array(order, np.int64), "train", context_length, END, tokens_per_batch
    )
    rows = pa.Table.from_batches([batch.cast(ARROW) for batch in packed], ARROW).to_pylist()
    return [row | {"tokens": np.frombuffer(row["tokens"], "<u2").tolist()} for row in rows]


@st.composite
def packings(draw: st.DrawFn) -> tuple[list[list[int]], list[int], int]:
    token = st.integers(1, 65_535)
    texts = draw(st.lists(st.lists(token, max_size=9), min_size=1, max_size=9))
    order = draw(st.lists(st.integers(0, len(texts) - 1), min_size=1, max_size=12))
    return texts, order, draw(st.integers(1, 8))


def stream_of(texts: list[list[int]], order: list[int]) -> tuple[list[int], list[int]]:
    """All tokens in order, each document opened by END, and whose each is: a place in ``order``."""
    tokens = [token for i in order for token in [END, *texts[i]]]
    return tokens, [place for place, i in enumerate(order) for _ in [END, *texts[i]]]


@given(packings())
def test_every_token_is_a_target_exactly_once_and_in_order(packing):
    texts, order, context_length = packing
    stream, _ = stream_of(texts, order)
    rows = rows_of(*packing)
    targets = [token for row in rows for token in row["tokens"][1:]]
    assert targets[: len(stream) - 1] == stream[1:]
    filling = targets[len(stream) - 1 :]
    assert len(filling) < context_length and set(filling) <= {END}


@given(packings())
def test_a_row_begins_with_the_last_token_of_the_row_before(packing):
    rows = [row["tokens"] for row in rows_of(*packing)]
    assert {len(row) for row in rows} <= {packing[2] + 1}
    for row, before in zip(rows, [[END], *rows], strict=False):
        assert row[0] == before[-1]


@given(packings())
def test_spans_name_the_document_of_every_token(packing):
    texts, order, context_length = packing
    _, owners = stream_of(texts, order)
    for row in rows_of(*packing):
        first = row["row_id"] * context_length
        named = []
        for name, start, end in zip(
            row["doc_ids"], row["doc_starts"], [*row["doc_starts"][1:], None], strict=True
        ):
            named += [name] * len(row["tokens"][start:end])
        owned = [f"doc{order[place]}" for place in owners[first : first + context_length + 1]]
        assert named[: len(owned)] == owned
        assert set(named[len(owned) :]) <= set(named[len(owned) - 1 : len(owned)])
        assert row["doc_starts"][0] == 0
        assert all(row["tokens"][start] == END for start in row["doc_starts"][1:])


@given(packings(), st.integers(1, 30))
def test_batches_of_any_size_hold_the_same_rows(packing, tokens_per_batch):
    assert rows_of(*packing, tokens_per_batch=tokens_per_batch) == rows_of(*packing)


def test_three_documents_are_packed_as_drawn_by_hand():
    assert rows_of([[1, 2, 3], [4], [5, 6]], [2, 0, 1], context_length=4) == [
        {
            "row_id": 0,
            "split": "train",
            "tokens": [END, 5, 6, END, 1],
            "doc_ids": ["doc2", "doc0"],
            "doc_starts": [0, 3],
        },
        {
            "row_id": 1,
            "split": "train",
            "tokens": [1, 2, 3, END, 4],
            "doc_ids": ["doc0", "doc1"],
            "doc_starts": [0, 3],
        },
    ]


# What is held out -------------------------------------------------------------------------------

clustered = st.lists(
    st.tuples(st.sampled_from([f"cluster{i}" for i in range(40)]), st.sampled_from("ab")),
    min_size=12,
    max_size=80,
    unique_by=lambda document: document[0],
)


def split_of(rows: list[tuple[str, str]], fraction: float = 0.2, seed: int = 0) -> dict[str, bool]:
    clusters, sources = (np.array(column) for column in zip(*rows, strict=True))
    held = held_out(clusters, sources, fraction, seed)
    return dict(zip(clusters.tolist(), held.tolist(), strict=True))


@given(clustered, st.randoms(), st.lists(st.integers(0, 11), max_size=20))
def test_neither_order_nor_duplicates_change_what_is_held_out(rows, random, repeated):
    again = [*rows, *(rows[i] for i in repeated)]
    random.shuffle(again)
    assert split_of(again) == split_of(rows)


@given(clustered, st.integers(0, 5))
def test_copies_of_a_document_are_never_on_both_sides(rows, seed):
    clusters = np.array([cluster for cluster, _ in rows] * 2)
    held = held_out(clusters, np.array([s for _, s in rows] * 2), 0.3, seed)
    assert np.array_equal(held[: len(rows)], held[len(rows) :])


@given(clustered, st.integers(0, 5))
def test_every_source_of_two_clusters_holds_out_at_least_one(rows, seed):
    held = split_of(rows, 0.01, seed)
    for source in "ab":
        own = [held[cluster] for cluster, of in rows if of == source]
        assert any(own) or len(own) < 2
        assert not all(own) or len(own) < 2


@given(st.lists(st.integers(1000, 2000), max_size=30, unique=True))
def test_a_document_that_is_added_moves_no_other(added):
    rows = [(f"cluster{i}", "ab"[i % 2]) for i in range(80)]  # the fraction serves both sources
    before, after = split_of(rows), split_of([*rows, *((f"cluster{i}", "a") for i in added)])
    assert {cluster: after[cluster] for cluster in before} == before


def test_the_fraction_held_out_is_about_what_was_asked_for():
    clusters = np.array([f"c{i}" for i in range(20_000)])
    held = [held_out(clusters, clusters[:1].repeat(20_000), 0.02, seed) for seed in (0, 1)]
    for chosen in held:
        assert 0.016 < chosen.mean() < 0.024  # four standard deviations
    assert 0 < (held[0] & held[1]).mean() < 0.002  # seeds choose apart


def test_what_a_small_source_holds_out_is_for_the_seed_to_say():
    rows = [(f"cluster{i}", "a") for i in range(12)]
    chosen = [{c for c, held in split_of(rows, 1e-9, seed).items() if held} for seed in range(9)]
    assert all(len(names) == 1 for names in chosen)
    assert len(set.union(*chosen)) > 1


def test_a_source_of_one_cluster_stays_in_training():
    held = split_of([("x", "a"), *((f"c{i}", "b") for i in range(50))], 0.01)
    assert not held["x"] and any(held.values())


@pytest.mark.parametrize("clusters", [[], ["only"]])
def test_a_split_with_an_empty_side_is_refused(clusters):
    names = np.array(clusters, str)
    with pytest.raises(
        Refusal,
        match="validation_fraction must leave documents on both sides, got 0.5 for "
        f"{len(clusters)} clusters of duplicates",
    ):
        held_out(names, names, 0.5)


# How often, and in which order ------------------------------------------------------------------


@given(st.floats(0, 5), st.integers(0, 10**6))
def test_a_weight_is_rounded_to_one_of_its_two_neighbours(weight, number):
    times = copies(np.array([f"d{number}"]), np.array([weight]))[0]
    assert np.floor(weight) <= times <= np.ceil(weight)


def test_weights_are_met_on_average():
    ids = np.array([f"d{i}" for i in range(20_000)])
    times = copies(ids, np.full(len(ids), 2.3))
    assert Counter(times.tolist()).keys() == {2, 3}
    assert times.mean() == pytest.approx(2.3, abs=0.013)  # four standard deviations


@pytest.mark.parametrize(("weight", "got"), [(-0.5, "-0.5"), (float("nan"), "nan")])
def test_a_weight_that_is_no_number_of_times_is_refused(weight, got):
    with pytest.raises(Refusal, match=f"corpus.weight must be at least 0, got {got}"):
        copies(np.array(["a", "b"]), np.array([1.0, weight]))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=20), st.randoms(), st.integers(0, 3))
def test_the_order_of_documents_does_not_come_from_the_table(times, random, seed):
    ids = np.array([f"d{i}" for i in range(len(times))])
    order = shuffled(ids, np.array(times), seed)
    assert Counter(order.tolist()) == Counter({i: n for i, n in enumerate(times) if n})
    other = list(range(len(times)))
    random.shuffle(other)
    again = shuffled(ids[other], np.array(times)[other], seed)
    assert ids[order].tolist() == ids[other][again].tolist()


def test_shuffling_mixes_documents_and_scatters_copies():
    ids = np.array([f"{i:05}" for i in range(2000)])
    order = shuffled(ids, np.full(2000, 2), seed=1)
    assert abs(np.corrcoef(order, np.arange(4000))[0, 1]) < 0.08
    places = np.argsort(order, kind="stable").reshape(2000, 2)
    assert abs(places[:, 1] - places[:, 0]).mean() == pytest.approx(4000 / 3, rel=0.1)
    assert not np.array_equal(order, shuffled(ids, np.full(2000, 2), seed=2))


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text("ab"), st.integers(-3, 3))
def test_a_draw_depends_on_name_purpose_and_seed_alone(name, purpose, seed):
    first = uniform([name, "other"], purpose, seed)
    assert 0 <= first[0] < 1
    assert first[0] == uniform(["x", name], purpose, seed)[1]
    assert first[0] != uniform([name], purpose, seed + 1)[0]
    assert first[0] != uniform([name], purpose + "c", seed)[0]
