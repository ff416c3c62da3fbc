import dataclasses
import math

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from datalake.config import Refusal
from evaluation.likelihood import (
    DocumentSums,
    Likelihood,
    PackedRows,
    model_nats,
    packed_rows,
    sum_by_document,
)
from tests.evaluation.packed import END, documents, table
from training.models.language_model import LanguageModel, build
from training.models.presets.own import tarn

VOCAB = 50
CONTEXT = 16
BYTES = np.where(np.arange(VOCAB) == END, 0, 1 + np.arange(VOCAB) % 7)


def rows_of(texts: list[np.ndarray]) -> PackedRows:
    return packed_rows(table(texts, CONTEXT).to_batches(), "validation")


def targets(rows: PackedRows) -> np.ndarray:
    """What is predicted; ``END`` where nothing is."""
    return np.where(rows.scored, rows.tokens[:, 1:], END)


def uniform(rows: PackedRows) -> np.ndarray:
    return np.full(rows.scored.shape, math.log(VOCAB), np.float32)


def small_model(seed: int = 0) -> LanguageModel:
    config = tarn(vocab_size=VOCAB, context_length=CONTEXT, d_model=16, num_layers=2, num_heads=2)
    model = build(config, seed=seed)
    with torch.no_grad():  # zero-initialised outputs would make every model uniform
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=_generator(seed)))
    return model


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


likelihoods = st.builds(
    Likelihood, nats=st.floats(0, 1e6), num_tokens=st.integers(1, 10**6), num_bytes=st.integers(1)
)


@given(likelihoods, likelihoods, likelihoods)
def test_parts_add_up_in_any_order(a, b, c):
    left, right = (a + b) + c, c + (b + a)
    assert (left.num_tokens, left.num_bytes) == (right.num_tokens, right.num_bytes)
    assert left.nats == pytest.approx(right.nats)


def test_a_uniform_model_has_the_vocabulary_as_perplexity():
    rows = rows_of(documents(20, VOCAB))
    sums = sum_by_document(rows, {"uniform": uniform(rows)}, BYTES)
    assert sums.likelihood("uniform").perplexity == pytest.approx(VOCAB, rel=1e-6)


def test_one_bit_for_each_byte_is_one_bit_per_byte():
    rows = rows_of(documents(20, VOCAB))
    nats = np.full(rows.scored.shape, math.log(2), np.float32)
    sums = sum_by_document(rows, {"coin": nats}, np.where(np.arange(VOCAB) == END, 0, 1))
    assert sums.likelihood("coin").bits_per_byte == pytest.approx(1, rel=1e-6)


def test_documents_add_up_to_the_whole_split():
    rows = rows_of(documents(30, VOCAB))
    nats = np.random.default_rng(0).random(rows.scored.shape, np.float32)
    sums = sum_by_document(rows, {"some": nats}, BYTES)
    scored = BYTES[targets(rows)] > 0
    whole = sums.likelihood("some")
    assert whole.nats == pytest.approx(nats[scored].sum(dtype=np.float64), rel=1e-12)
    assert whole.num_tokens == scored.sum()
    assert whole.num_bytes == BYTES[targets(rows)].sum()
    odd = np.arange(len(sums.doc_ids)) % 2 == 1
    assert sums.only(odd).likelihood("some") + sums.only(~odd).likelihood("some") == whole


def test_every_target_counts_for_the_document_it_belongs_to():
    texts = documents(30, VOCAB)
    rows = rows_of(texts)
    sums = sum_by_document(rows, {"uniform": uniform(rows)}, BYTES)
    assert len(sums.doc_ids) == len(texts)
    for doc_id, num_tokens, num_bytes in zip(
        sums.doc_ids, sums.num_tokens, sums.num_bytes, strict=True
    ):
        text = texts[int(doc_id, 16)]
        assert num_tokens == len(text) - 1  # all but the end of text that opens it
        assert num_bytes == BYTES[text].sum()


def test_documents_come_in_order_of_their_ids_wherever_they_stand():
    texts = documents(30, VOCAB)
    rows = rows_of(texts)
    renamed = dataclasses.replace(rows, doc_ids=tuple(reversed(rows.doc_ids)))
    one, other = (
        sum_by_document(each, {"uniform": uniform(rows)}, BYTES) for each in (rows, renamed)
    )
    assert other.doc_ids.tolist() == sorted(other.doc_ids.tolist()) == one.doc_ids.tolist()
    assert (other.num_bytes == one.num_bytes[::-1]).all()


def test_a_document_cut_by_a_row_counts_once():
    texts = [np.array([END, *range(1, 3 * CONTEXT)], np.uint16)]
    rows = rows_of(texts)
    assert rows.tokens.shape == (3, CONTEXT + 1)
    sums = sum_by_document(rows, {"uniform": uniform(rows)}, BYTES)
    assert sums.doc_ids.tolist() == ["0" * 32]
    assert sums.num_tokens.tolist() == [3 * CONTEXT - 1]


def test_special_tokens_change_nothing():
    rows = rows_of(documents(20, VOCAB))
    cheap, dear = uniform(rows), uniform(rows)
    dear[targets(rows) == END] = 1e6
    sums = sum_by_document(rows, {"cheap": cheap, "dear": dear}, BYTES)
    assert (sums.nats["cheap"] == sums.nats["dear"]).all()


def test_rows_are_taken_in_the_order_of_their_ids():
    rows = table(documents(20, VOCAB), CONTEXT)
    shuffled = rows.take(pa.array(np.random.default_rng(0).permutation(len(rows))))
    one = packed_rows(rows.to_batches(), "validation")
    other = packed_rows(shuffled.to_batches(max_chunksize=3), "validation")
    assert (one.tokens == other.tokens).all()
    assert one.doc_ids == other.doc_ids
    assert (one.documents == other.documents).all()


def test_openings_point_at_the_first_token_of_each_document():
    texts = documents(30, VOCAB)
    rows = rows_of(texts)
    openings = list(rows.openings())
    assert len({document for document, _, _ in openings}) == len(openings) == 30
    for document, row, position in openings:
        text = texts[int(rows.doc_ids[document], 16)]
        inside = rows.tokens[row, position : position + len(text)]
        assert (inside == text[: len(inside)]).all()


def test_a_document_that_is_seen_twice_opens_once():
    rows = rows_of(documents(30, VOCAB))
    twice = PackedRows(
        rows=rows.rows.take(np.tile(np.arange(len(rows.rows)), 2)),
        doc_ids=rows.doc_ids,
        piece_documents=np.tile(rows.piece_documents, 2),
        piece_offsets=np.tile(rows.piece_offsets, 2),
    )
    assert list(twice.openings()) == list(rows.openings())


def test_batch_size_changes_nothing_but_rounding():
    rows, model = rows_of(documents(40, VOCAB)), small_model()
    alone = model_nats(model, rows.rows, rows_per_batch=1)
    for rows_per_batch in (2, 7, 1000):
        together = model_nats(model, rows.rows, rows_per_batch)
        assert np.abs(together - alone).max() < 1e-5
        one, many = (
            sum_by_document(rows, {"model": nats}, BYTES).likelihood("model")
            for nats in (alone, together)
        )
        assert one.bits_per_byte == pytest.approx(many.bits_per_byte, rel=1e-6)


def test_the_models_nats_are_its_log_softmax():
    rows, model = rows_of(documents(10, VOCAB)), small_model()
    found = model_nats(model, rows.rows, 4)
    told = []
    for row, start in np.argwhere(np.diff(rows.pieces, axis=1, prepend=-2) != 0).tolist():
        piece = rows.tokens[row, rows.pieces[row] == rows.pieces[row, start]]
        if rows.pieces[row, start] < 0:
            continue
        tokens = torch.from_numpy(piece.astype(np.int64))[None]
        with torch.no_grad():
            logits = model(tokens[:, :-1]).double()
        expected = -logits.log_softmax(-1).gather(-1, tokens[:, 1:, None])[0, :, 0].numpy()
        assert np.allclose(found[row, start : start + len(expected)], expected, atol=1e-5)
        told += expected.tolist()
    assert len(told) == rows.scored.sum()
    assert np.std(told) > 0.1  # the model says something
    assert (found[~rows.scored] == 0).all()


def test_scoring_is_in_single_precision_inside_autocast_too():
    rows, model = rows_of(documents(10, VOCAB)), small_model()
    plain = model_nats(model, rows.rows, 4)
    with torch.autocast("cpu", torch.bfloat16):
        inside = model_nats(model, rows.rows, 4)
    assert (plain == inside).all()


def test_scoring_gives_the_threads_back_and_tells_how_far_it_is():
    rows, model = rows_of(documents(20, VOCAB)), small_model()
    before, told = torch.get_num_threads(), []
    torch.set_num_threads(3)
    try:
        model_nats(model, rows.rows, 7, lambda done: told.append((done, torch.get_num_threads())))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert told == [(done, 1) for done in [*range(7, len(rows.tokens), 7), len(rows.tokens)]]


def test_the_number_of_threads_changes_no_bit():
    rows, model = rows_of(documents(40, VOCAB)), small_model()
    before = torch.get_num_threads()
    try:
        found = []
        for num_threads in (1, 4):
            torch.set_num_threads(num_threads)
            found.append(model_nats(model, rows.rows, 3))
    finally:
        torch.set_num_threads(before)
    assert (found[0] == found[1]).all()


def test_two_models_keep_their_order_whatever_the_batch_size():
    rows = rows_of(documents(40, VOCAB))
    gaps = []
    for rows_per_batch in (1, 5, 64):
        nats = {
            str(seed): model_nats(small_model(seed), rows.rows, rows_per_batch) for seed in (0, 1)
        }
        sums = sum_by_document(rows, nats, BYTES)
        gaps.append(sums.likelihood("0").bits_per_byte - sums.likelihood("1").bits_per_byte)
    assert len({gap > 0 for gap in gaps}) == 1


def test_a_document_without_a_scored_target_is_left_out():
    texts = [np.array([END, 1, 2], np.uint16), np.array([END], np.uint16)]
    texts.append(np.arange(CONTEXT, dtype=np.uint16) + 1)
    rows = rows_of(texts)
    sums = sum_by_document(rows, {"uniform": uniform(rows)}, BYTES)
    assert sums.doc_ids.tolist() == [f"{0:032x}", f"{2:032x}"]


def test_targets_of_zero_bytes_alone_are_refused():
    rows = rows_of([np.zeros(2 * CONTEXT + 1, np.uint16)])
    with pytest.raises(Refusal) as refusal:
        sum_by_document(rows, {"uniform": uniform(rows)}, BYTES)
    assert str(refusal.value) == "targets must hold a scored token, got 48 of zero bytes each"


def test_an_empty_split_is_refused_by_its_name():
    message = "split validation of table tokens must hold at least one row, got none"
    for batches in ([], table(documents(3, VOCAB), CONTEXT).slice(0, 0).to_batches()):
        with pytest.raises(Refusal) as refusal:
            packed_rows(batches, "validation")
        assert str(refusal.value) == message


def changed(column: str, values: list) -> list[pa.RecordBatch]:
    rows = table(documents(9, VOCAB), CONTEXT).slice(0, len(values))
    place = rows.schema.get_field_index(column)
    return rows.set_column(place, column, pa.array(values, rows.schema.types[place])).to_batches()


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        (
            changed("tokens", [bytes(34), bytes(32)]),
            "token rows must be equally many uint16, got [32, 34] bytes",
        ),
        (changed("doc_starts", [[0], [1]]), "doc_starts of every token row must begin with 0"),
        (changed("doc_starts", [[]]), "doc_starts of every token row must begin with 0"),
        (
            changed("doc_starts", [[0, 5, 5]]),
            "doc_starts of every token row must ascend below its num_tokens",
        ),
        (
            changed("doc_ids", [["a", "b", "c", "d"]]),
            "doc_ids and doc_offsets of split validation must be one for each doc_start",
        ),
    ],
)
def test_rows_that_do_not_name_their_documents_are_refused(batches, message):
    with pytest.raises(Refusal) as refusal:
        packed_rows(batches, "validation")
    assert str(refusal.value) == message


def test_sums_of_chosen_documents_keep_all_scorers():
    sums = DocumentSums(
        doc_ids=np.array(["a", "b"]),
        num_tokens=np.array([1, 2]),
        num_bytes=np.array([3, 4]),
        nats={"model": np.array([0.5, 0.25]), "bigram": np.array([1.0, 2.0])},
    )
    second = sums.only(np.array([False, True]))
    assert second.likelihood("bigram") == Likelihood(nats=2.0, num_tokens=2, num_bytes=4)
