"""Signals: the compiled kernels against plain Python, then textbook cases and the edges."""

import pickle
import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datalake.dedup.signatures.minhash import Banding, BandsConfig
from datalake.filters.measures.characters import character_classes
from datalake.filters.measures.signal_columns import NUMBERS
from datalake.filters.measures.signals import (
    COPIED,
    INPUT_COLUMNS,
    Measuring,
    count_tokens,
    measure,
    measure_text,
    measured_digests,
)
from datalake.licences import licence_class
from datalake.schemas import TABLES
from tests.datalake.document_rows import documents
from tests.datalake.filters.measures.plain_signals import plain_signals
from tests.datalake.filters.texts import TEXTS

BANDING = Banding.of(BandsConfig())
MEASURING = Measuring(BANDING)


def signals(*texts: str) -> list[dict]:
    return measure(documents(*texts), MEASURING).to_pylist()


def numbers(text: str, mode: str = "unicode") -> dict[str, float]:
    (row,) = measure_text(pa.array([text], pa.large_string()), mode).tolist()
    return dict(zip(NUMBERS, row, strict=True))


@pytest.mark.parametrize("mode", ["unicode", "whitespace"])
@given(text=TEXTS)
@settings(max_examples=300, deadline=None)
def test_every_number_equals_plain_python(text: str, mode: str) -> None:
    assert numbers(text, mode) == pytest.approx(plain_signals(text, mode), rel=1e-9, abs=1e-12)


@given(st.lists(TEXTS, max_size=8))
@settings(max_examples=40, deadline=None)
def test_a_batch_is_its_documents_one_by_one(texts: list[str]) -> None:
    schema = TABLES["signals"].arrow
    rows = signals(*texts)
    alone = [signals(text)[0] for text in texts]
    for name in schema.names:
        if name not in ("doc_id", "uri", "url_key", "measured"):
            assert [row[name] for row in rows] == [row[name] for row in alone]


@pytest.mark.parametrize("vocabulary", [1, 3, 30, 3000])
def test_repetition_equals_plain_python_on_long_texts(vocabulary: int) -> None:
    draw = random.Random(vocabulary)
    words = [f"w{draw.randrange(vocabulary)}" for _ in range(3000)]
    words[2000:2400] = words[100:500]  # a long copied span
    breaks = [draw.choice([" "] * 8 + ["\n", "\n\n"]) for _ in words]
    text = "".join(word + gap for word, gap in zip(words, breaks, strict=True))
    assert numbers(text) == pytest.approx(plain_signals(text), rel=1e-9, abs=1e-12)


def test_a_slice_of_a_batch_is_measured_as_itself() -> None:
    batch = documents("one two", "three four five", "", "six")
    whole = measure(batch, MEASURING)
    assert measure(batch.slice(1, 2), MEASURING).equals(whole.slice(1, 2))


def test_rows_have_the_schema_and_carry_their_document_along() -> None:
    batch = documents("some text", "")
    rows = measure(batch, MEASURING)
    assert rows.schema.equals(TABLES["signals"].arrow)
    rows.validate(full=True)
    assert [rows[name].to_pylist() for name in COPIED] == [
        batch[name].to_pylist() for name in COPIED
    ]


def test_every_column_that_is_never_null_has_a_value() -> None:
    rows = measure(documents("some text", "", source=["web", "code"]), MEASURING)
    for column in TABLES["signals"].columns:
        assert column.nullable or rows[column.name].null_count == 0, column.name


def test_numbers_stand_in_the_order_of_the_schema() -> None:
    assert {c.name for c in TABLES["signals"].columns} >= set(NUMBERS)
    assert set(plain_signals("")) == set(NUMBERS)


@pytest.mark.parametrize("text", ["\n\n\n", " \t\u3000"])
def test_a_text_without_words_has_zeros_for_every_ratio(text: str) -> None:
    row = signals(text)[0]
    assert row["band_keys"] == [] and row["signature"] is None
    assert all(
        row[name] == 0
        for name in NUMBERS
        if "line" not in name and name not in ("num_characters", "space_fraction")
    )


@pytest.mark.parametrize("text", ["", "x", "。", "\x00", "\ue000", "\U0010ffff", "{", "."])
def test_a_text_of_one_character_or_none_is_measured(text: str) -> None:
    assert numbers(text) == pytest.approx(plain_signals(text), abs=1e-12)


def test_a_text_of_null_bytes_is_one_word_of_signs() -> None:
    row = numbers("\x00" * 5000)
    assert (row["num_words"], row["num_nonsymbol_words"]) == (1, 0)


def test_a_null_text_is_measured_as_an_empty_one() -> None:
    batch = documents("", "x")
    schema = pa.schema([f.with_nullable(True) for f in batch.schema])
    text = pa.array([None, "x"], pa.large_string())
    columns = [text if name == "text" else batch[name] for name in schema.names]
    rows = measure(pa.RecordBatch.from_arrays(columns, schema=schema), MEASURING)
    names = [name for name in rows.schema.names if name != "measured"]
    assert rows.select(names).equals(measure(batch, MEASURING).select(names))


def test_no_documents_give_no_rows() -> None:
    assert len(measure(documents(), MEASURING)) == 0


def test_bytes_that_are_not_utf_8_are_measured_without_harm() -> None:
    draw = np.random.default_rng(0)
    data = pa.py_buffer(draw.integers(0, 256, 40_000).astype(np.uint8).tobytes())
    offsets = pa.py_buffer(np.arange(0, 40_001, 200).tobytes())
    text = pa.LargeStringArray.from_buffers(200, offsets, data)
    row = measure_text(text)
    assert np.isfinite(row).all() and (row >= 0).all()
    batch = documents(*[""] * 200)
    rows = measure(
        batch.set_column(len(batch.schema) - 1, batch.schema.field("text"), text), MEASURING
    )
    assert len(rows) == 200


def test_a_page_that_repeats_one_sentence_is_nothing_but_duplicates() -> None:
    row = signals("buy our very cheap watches now\n" * 99 + "buy our very cheap watches now")[0]
    assert row["duplicate_line_fraction"] == 0.99
    assert row["top_2_gram_character_fraction"] == pytest.approx(7 * 100 / 3099)  # "buy our"
    assert row["duplicate_6_gram_character_fraction"] == pytest.approx(99 * 25 / 3099)


@pytest.mark.parametrize("times", [100_000, pytest.param(10_000_000, marks=pytest.mark.slow)])
def test_one_line_many_times_is_measured(times: int) -> None:
    row = numbers("buy our watches now\n" * times)
    assert row["num_lines"] == times
    assert row["repeated_line_ratio"] == pytest.approx(1 - 1 / times)
    assert row["duplicate_5_gram_character_fraction"] > 0.7
    assert row["fineweb_newline_ratio"] == pytest.approx((times - 1) / (4 * times))


@pytest.mark.parametrize("size", [1_000_000, pytest.param(200_000_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("piece", ["x", "日", "a ", "\n", "[1", '"', "0x", "ab", "\\u00", "items "])
def test_a_huge_document_is_measured(piece: str, size: int) -> None:
    text = piece * (size // len(piece.encode()))
    row = measure(documents(text, source="code"), MEASURING).to_pylist()[0]
    assert row["num_characters"] == len(text)


def test_occurrences_that_overlap_never_make_more_than_the_whole_text() -> None:
    assert signals("a a a a a")[0]["top_4_gram_character_fraction"] == 1.0


def test_scripts_without_spaces_have_words_unless_words_lie_between_spaces() -> None:
    for text in ("今日は天気がいいです。散歩に行きましょう。", "今天天气很好", "ที่นี่อากาศดีมาก"):
        assert numbers(text)["num_words"] > 5
        assert numbers(text, "whitespace")["num_words"] == 1
    repeats = "同じ文が続きます。" * 20
    assert numbers(repeats)["duplicate_5_gram_character_fraction"] > 0.5


def test_a_mark_belongs_to_the_character_before_it() -> None:
    assert numbers("ที่นี่")["num_words"] == 2  # two consonants, each with two marks


def test_tokens_of_a_column_are_those_of_the_signals() -> None:
    texts = ["Hello, world!", "日本語 test", "", None, "a_b c-d ...", "ที่นี่"]
    assert count_tokens(pa.array(texts, pa.string())).tolist() == [4, 4, 0, 0, 5, 4]
    for text in filter(None, texts):
        assert numbers(text)["num_tokens"] == count_tokens(pa.array([text]))[0]


def test_stop_words_are_counted_once_and_with_repeats() -> None:
    row = numbers("the cat and the hat The end")
    assert (row["num_stop_words"], row["num_stop_word_occurrences"]) == (2, 3)


def test_text_that_repeats_compresses_better() -> None:
    draw = random.Random(0)
    noise = "".join(chr(draw.randrange(33, 127)) for _ in range(2000))
    low, high = (row["compression_ratio"] for row in signals("again and " * 200, noise))
    assert low < 0.05 < 0.7 < high


def test_a_language_is_surer_of_its_own_text() -> None:
    german = "Das Wetter ist heute schön, und wir gehen mit den Kindern in den Wald spazieren."
    english = "The weather is fine today, and we go for a walk in the woods with the children."
    in_german, in_english, code, none = measure(
        documents(german, english, english, "", source=["web", "web", "code", "web"]), MEASURING
    )["language_score"].to_pylist()
    assert in_english > in_german
    assert code is None and none == 0


@pytest.mark.parametrize(
    ("licence", "said"),
    [
        ("CC0-1.0", "public domain"),
        ("MIT", "permissive"),
        ("LGPL-2.1-only", "copyleft limited"),
        ("GPL-3.0-only", "copyleft"),
        ("CC-BY-NC-4.0", "other"),
        ("GPL-3.0-only OR MIT", "permissive"),
        ("GPL-3.0-only AND MIT", "copyleft"),
        ("GPL-2.0-only WITH Classpath-exception-2.0", "copyleft"),
        ("LicenseRef-scancode-unknown-spdx", "unknown"),
        ("LicenseRef-mine AND MIT", "unknown"),
        (None, "unknown"),
        ("AND (", "unknown"),
    ],
)
def test_a_licence_belongs_to_the_class_of_its_best_choice(licence: str | None, said: str) -> None:
    assert licence_class(licence) == said


def test_a_digest_changes_with_every_column_that_is_measured() -> None:
    batch = documents("one", "two")
    first = measured_digests(batch)[0].as_py()
    assert first != measured_digests(batch)[1].as_py() and len(first) == 32
    for name in INPUT_COLUMNS:
        field = batch.schema.field(name)
        value = [7, 7] if pa.types.is_integer(field.type) else ["changed"] * 2
        other = batch.set_column(
            batch.schema.get_field_index(name), field, pa.array(value, field.type)
        )
        assert measured_digests(other)[0].as_py() != first, name


class Length:
    name = "length"

    def score(self, batch: pa.RecordBatch) -> np.ndarray:
        return np.array([len(text) for text in batch["text"].to_pylist()], np.float64)


def test_scores_stand_in_the_order_of_the_scorers() -> None:
    measuring = pickle.loads(pickle.dumps(Measuring(BANDING, scorers=(Length(), Length()))))
    rows = measure(documents("abc", ""), measuring)
    assert rows["score_names"].to_pylist() == [["length", "length"]] * 2
    assert rows["scores"].to_pylist() == [[3.0, 3.0], [0.0, 0.0]]


def test_class_tables_agree_with_the_interpreter_beyond_their_end() -> None:
    beyond = map(chr, range(len(character_classes()), 0x110000))
    assert not any(c.isalnum() or c.isspace() for c in beyond)
