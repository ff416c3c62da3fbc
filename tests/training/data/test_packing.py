from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datalake.config import Refusal
from datalake.schemas import TABLES
from training.data.loader import batch_of
from training.data.packing import (
    Documents,
    arrange,
    copies,
    hold_out,
    pack,
    shuffled,
    uniform,
)
from training.data.rows import Rows, dtype_of
from training.losses import targets

END = 0
ARROW = TABLES["tokens"].arrow


def table_of(
    texts: list[list[int]],
    times: list[int],
    context_length: int,
    vocab_size: int = 1 << 16,
    backwards: bool = False,
    **how: int,
) -> pa.Table:
    """Rows of documents doc0, doc1, ..., each with so many copies."""
    place = range(len(texts))[:: -1 if backwards else 1]
    documents = Documents(
        doc_ids=np.array([f"doc{i}" for i in place]),
        offsets=np.cumsum([0, *(len(texts[i]) for i in place)]),
        tokens=np.array([t for i in place for t in texts[i]], dtype_of(vocab_size)),
    )
    order, draws = shuffled(documents.doc_ids, np.array([times[i] for i in place], np.int64))
    packing = arrange(np.diff(documents.offsets), order, draws, context_length)
    batches = pack(documents, packing, "train", END, vocab_size, **how)
    return pa.Table.from_batches([batch.cast(ARROW) for batch in batches], ARROW)


def held_out(
    clusters: np.ndarray, sources: np.ndarray, fraction: float, seed: int = 0
) -> np.ndarray:
    """Which documents are for validation, bool ``[documents]``."""
    return hold_out(pa.array(clusters), pa.array(sources), fraction, seed)(clusters)


@st.composite
def packings(draw: st.DrawFn) -> tuple[list[list[int]], list[int], int]:
    token = st.integers(1, 65_535)
    texts = draw(st.lists(st.lists(token, max_size=20), min_size=1, max_size=12))
    times = draw(st.lists(st.integers(0, 3), min_size=len(texts), max_size=len(texts)))
    return texts, times, draw(st.integers(1, 9))


def pieces_of(table: pa.Table) -> list[tuple[str, int, list[int]]]:
    """Document, offset and tokens of every piece, as the columns say and nothing else."""
    pieces = []
    for row in table.to_pylist():
        tokens = np.frombuffer(row["tokens"], dtype_of(row["vocab_size"])).tolist()
        ends = [*row["doc_starts"][1:], row["num_tokens"]]
        for doc, offset, start, end in zip(
            row["doc_ids"], row["doc_offsets"], row["doc_starts"], ends, strict=True
        ):
            pieces.append((doc, offset, tokens[start:end]))
    return pieces


@given(packings(), st.sampled_from([1 << 16, 1 << 17]))
def test_every_target_of_every_document_is_there_once_for_each_of_its_copies(packing, vocab_size):
    texts, times, _ = packing
    found: dict[tuple[str, int], int] = Counter()
    for doc, offset, (before, *predicted) in pieces_of(table_of(*packing, vocab_size)):
        whole = [END, *texts[int(doc.removeprefix("doc"))], END]
        assert [before, *predicted] == whole[offset : offset + len(predicted) + 1]
        assert predicted
        for place in range(offset, offset + len(predicted)):
            found[doc, place] += 1
    assert found == {
        (f"doc{i}", place): times[i]
        for i, text in enumerate(texts)
        for place in range(len(text) + 1)
        if times[i]
    }


@given(packings())
def test_a_document_is_in_as_few_pieces_as_can_be(packing):
    texts, times, context_length = packing
    counts = Counter(doc for doc, _, _ in pieces_of(table_of(*packing)))
    for i, text in enumerate(texts):
        assert counts[f"doc{i}"] == times[i] * -(-(len(text) + 1) // context_length)


@given(packings())
def test_what_a_row_is_not_filled_with_is_end_of_text(packing):
    for row in table_of(*packing).to_pylist():
        tokens = np.frombuffer(row["tokens"], "<u2")
        assert len(tokens) == packing[2] + 1
        assert row["doc_starts"][0] == 0 and row["doc_starts"] == sorted(set(row["doc_starts"]))
        assert row["doc_starts"][-1] + 2 <= row["num_tokens"] <= len(tokens)
        assert not tokens[row["num_tokens"] :].any()


@given(packings().filter(lambda packing: any(packing[1])))
def test_what_the_loader_predicts_is_every_target(packing):
    texts, times, _ = packing
    rows = Rows.from_table(table_of(*packing))
    read = batch_of(rows, np.arange(len(rows)))
    predicted = targets(read.tokens, read.pieces)
    scored = Counter(predicted[predicted >= 0].tolist())
    wanted: Counter[int] = Counter()
    for text, number in zip(texts, times, strict=True):
        for token in [*text, END]:
            wanted[token] += number
    assert scored == +wanted
    assert rows.num_targets.sum() == wanted.total()


@given(packings(), st.integers(1, 30))
def test_neither_the_order_of_documents_nor_the_size_of_batches_changes_a_row(packing, size):
    table = table_of(*packing)
    assert table_of(*packing, tokens_per_batch=size) == table
    assert table_of(*packing, backwards=True) == table


def test_three_documents_are_packed_as_drawn_by_hand():
    texts = [[1, 2, 3, 4, 5, 6], [7], []]
    table = table_of(texts, [1, 1, 1], context_length=4, first_row=1 << 32)
    assert table["row_id"].to_pylist() == [1 << 32, (1 << 32) + 1, (1 << 32) + 2]
    rows = [
        (
            np.frombuffer(row["tokens"], "<u2").tolist(),
            row["num_tokens"],
            list(zip(row["doc_ids"], row["doc_starts"], row["doc_offsets"], strict=True)),
        )
        for row in table.to_pylist()
    ]
    assert sorted(rows) == [
        ([END, 1, 2, 3, 4], 5, [("doc0", 0, 0)]),
        ([END, 7, END, END, END], 5, [("doc1", 0, 0), ("doc2", 3, 0)]),
        ([4, 5, 6, END, END], 4, [("doc0", 0, 4)]),
    ]


def test_rows_of_a_long_document_are_spread_over_the_split():
    texts = [list(range(1, 2000)), *([k] for k in range(1, 2001))]
    rows = table_of(texts, [1] * len(texts), context_length=4)["doc_ids"].to_pylist()
    places = np.array([place for place, names in enumerate(rows) if names == ["doc0"]])
    assert len(places) == 500
    for half in (places[places < len(rows) / 2], places[places >= len(rows) / 2]):
        assert len(half) == pytest.approx(250, abs=25)


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


@given(clustered, st.floats(0.01, 0.5), st.integers(0, 5))
def test_the_rule_says_of_one_document_what_it_says_of_all(rows, fraction, seed):
    clusters, sources = (np.array(column) for column in zip(*rows, strict=True))
    try:
        rule = hold_out(pa.array(clusters), pa.array(sources), fraction, seed)
    except Refusal:
        return
    all_at_once = held_out(clusters, sources, fraction, seed)
    assert [bool(rule(clusters[i : i + 1])[0]) for i in range(len(rows))] == all_at_once.tolist()


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
    order, draws = shuffled(ids, np.array(times), seed)
    assert np.array_equal(draws, np.sort(draws))
    assert Counter(order.tolist()) == Counter({i: n for i, n in enumerate(times) if n})
    other = list(range(len(times)))
    random.shuffle(other)
    again, _ = shuffled(ids[other], np.array(times)[other], seed)
    assert ids[order].tolist() == ids[other][again].tolist()


def test_shuffling_mixes_documents_and_scatters_copies():
    ids = np.array([f"{i:05}" for i in range(2000)])
    order, _ = shuffled(ids, np.full(2000, 2), seed=1)
    assert abs(np.corrcoef(order, np.arange(4000))[0, 1]) < 0.08
    places = np.argsort(order, kind="stable").reshape(2000, 2)
    assert abs(places[:, 1] - places[:, 0]).mean() == pytest.approx(4000 / 3, rel=0.1)
    assert not np.array_equal(order, shuffled(ids, np.full(2000, 2), seed=2)[0])


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text("ab"), st.integers(-3, 3))
def test_a_draw_depends_on_name_purpose_and_seed_alone(name, purpose, seed):
    first = uniform([name, "other"], purpose, seed)
    assert 0 <= first[0] < 1
    assert first[0] == uniform(["x", name], purpose, seed)[1]
    assert first[0] != uniform([name], purpose, seed + 1)[0]
    assert first[0] != uniform([name], purpose + "c", seed)[0]
