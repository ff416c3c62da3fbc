"""The Bloom filter keeps its promises, and streams are cut as plain Python with a set cuts them."""

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from datalake.config import Refusal
from datalake.dedup.repeats.bloom import (
    BloomFilter,
    DocumentStreamConfig,
    NGramStreamConfig,
    ParagraphStreamConfig,
    StreamConfig,
    num_blocks,
    rate,
    stream,
)
from tests.datalake.dedup.repeats.test_substrings import plain_tokens
from tests.datalake.document_rows import documents

KEYS = st.lists(st.integers(0, 2**64 - 1), max_size=200)


def keys(size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**64, size, np.uint64)


@given(KEYS, KEYS)
def test_a_key_that_was_added_is_always_seen(added: list[int], others: list[int]) -> None:
    bloom = BloomFilter(1000, 1e-3)
    seen = bloom.add(np.array(added, np.uint64))
    assert bloom.contains(np.array(added, np.uint64)).all()
    first = np.zeros(len(added), bool)
    first[[added.index(key) for key in set(added)]] = True
    assert not (~seen & ~first).any()  # every repeat is seen
    answers = bloom.contains(np.array(others, np.uint64))
    assert all(a for a, key in zip(answers, others, strict=True) if key in added)


@pytest.mark.parametrize("stated", [0.03, 1e-2, 1e-3, 1e-4])
def test_the_measured_false_positive_rate_is_the_stated_one(stated: float) -> None:
    bloom = BloomFilter(100_000, stated)
    bloom.add(keys(100_000))
    tried = 2_000_000
    measured = bloom.contains(keys(tried, seed=1)).sum() / tried
    assert measured == pytest.approx(stated, rel=0.05, abs=4 * (stated / tried) ** 0.5)
    assert bloom.false_positive_rate == pytest.approx(stated, rel=0.05)
    assert bloom.count == pytest.approx(100_000, rel=stated)


def test_keys_in_a_row_are_spread_like_any_others() -> None:
    bloom = BloomFilter(100_000, 1e-3)
    bloom.add(np.arange(100_000, dtype=np.uint64))
    others = np.arange(100_000, 1_100_000, dtype=np.uint64)
    assert bloom.contains(others).mean() == pytest.approx(1e-3, rel=0.15)


@pytest.mark.parametrize(("stated", "most"), [(1e-2, 1.15), (1e-4, 1.4), (1e-6, 2.3)])
def test_blocks_take_little_more_than_the_standard_formula(stated: float, most: float) -> None:
    standard = -1e6 * np.log(stated) / np.log(2) ** 2
    assert 1 < num_blocks(1_000_000, stated) * 512 / standard < most
    assert rate(1e6 / num_blocks(1_000_000, stated)) <= stated


def test_a_full_filter_refuses_another_key_and_no_known_one() -> None:
    bloom = BloomFilter(1000, 1e-4)
    held = keys(1000)
    bloom.add(held)
    held = keys(2000)[: 1000 + (1000 - bloom.count)]
    bloom.add(held)
    assert bloom.count == 1000
    assert bloom.add(held).all()
    message = (
        r"a bloom filter of capacity 1,000 must hold no more different keys to keep its false "
        r"positive rate of 0.0001, got another at .*; make one of a larger capacity"
    )
    with pytest.raises(Refusal, match=message):
        bloom.add(keys(10, seed=5))
    assert bloom.count == 1000


def test_a_saved_filter_goes_on_where_it_was(tmp_path: Path) -> None:
    bloom = BloomFilter(5000, 1e-3)
    bloom.add(keys(3000))
    path = tmp_path / "filter"
    bloom.save(path)
    bloom.save(path)
    assert [p.name for p in tmp_path.iterdir()] == ["filter"]
    again = BloomFilter.load(path)
    assert (again.count, again.capacity, again.stated_rate) == (bloom.count, 5000, 1e-3)
    assert (again.contains(keys(9000)) == bloom.contains(keys(9000))).all()


def test_a_file_that_is_no_whole_filter_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "filter"
    BloomFilter(5000, 1e-3).save(path)
    content = path.read_bytes()
    path.write_bytes(content[:-8] + b"\1" + content[-7:])
    with pytest.raises(Refusal, match=r"bytes that were saved, got .* that are not those"):
        BloomFilter.load(path)
    path.write_bytes(content[:-100])
    with pytest.raises(Refusal, match=r"must hold the .* bytes that were saved, got"):
        BloomFilter.load(path)
    path.write_bytes(b"PAR1")
    with pytest.raises(Refusal, match="must be a bloom filter saved by Tarn, got another file"):
        BloomFilter.load(path)


# Streams ---------------------------------------------------------------------------------------


def run(
    batches: list[pa.RecordBatch], config: StreamConfig
) -> tuple[set[tuple[int, str]], set[int]]:
    """(document, text that was cut), and the documents that were dropped."""
    cuts, dropped = set(), set()
    bloom = BloomFilter(config.capacity, config.false_positive_rate)
    for batch, (made, gone) in zip(batches, stream(batches, bloom, config), strict=True):
        texts = dict(zip(batch["doc_id"].to_pylist(), batch["text"].to_pylist(), strict=True))
        for row in made.to_pylist():
            cut = texts[row["doc_id"]].encode()[row["start"] : row["end"]].decode()
            cuts.add((int(row["doc_id"], 16), cut))
        names = batch["doc_id"].filter(gone).to_pylist()
        dropped |= {int(name, 16) for name in names}
    return cuts, dropped


def plain_n_grams(
    texts: list[str], shortest: int, longest: int, threshold: float
) -> tuple[set[tuple[int, str]], set[int]]:
    """The same with a set of tuples, which is never wrong."""
    held: set[tuple[str, ...]] = set()
    cuts, dropped = set(), set()
    for d, text in enumerate(texts):
        own, kept, mine = [], [], set()
        for line in text.splitlines(keepends=True):
            words = [token for token, _, _ in plain_tokens(line)]
            grams = [tuple(words[k : k + longest]) for k in range(len(words) - longest + 1)]
            if not grams and len(words) >= shortest:
                grams = [tuple(words)]
            own += grams
            if sum(gram in held for gram in grams) > threshold * len(grams):
                mine.add((d, line))
            else:
                kept += grams
        if sum(gram in held for gram in own) > threshold * len(own):
            dropped.add(d)
        else:
            cuts |= mine
            held.update(kept)
    return cuts, dropped


@pytest.mark.parametrize(
    ("shortest", "longest", "threshold"), [(2, 2, 0.5), (1, 3, 0.0), (2, 4, 0.8)]
)
@given(texts=st.lists(st.text("ab é中\n.", max_size=30), min_size=1, max_size=6))
def test_n_grams_decide_as_in_plain_python(
    shortest: int, longest: int, threshold: float, texts: list[str]
) -> None:
    config = NGramStreamConfig(
        kind="ngrams",
        capacity=10_000,
        false_positive_rate=1e-6,
        min_ngram_size=shortest,
        max_ngram_size=longest,
        threshold=threshold,
    )
    whole = documents(*texts)
    assert run([whole.slice(k, 2) for k in range(0, len(texts), 2)], config) == plain_n_grams(
        texts, shortest, longest, threshold
    )


def test_dclm_drops_a_document_of_seen_paragraphs_and_cuts_single_ones() -> None:
    draw = random.Random(0)
    lines = [" ".join(f"w{draw.randrange(999)}" for _ in range(30)) + "\n" for _ in range(5)]
    config = NGramStreamConfig(kind="ngrams", capacity=10_000, false_positive_rate=1e-4)
    texts = [lines[0] + lines[1], lines[0] + lines[2] + lines[3], lines[2] + lines[1], "short\n"]
    cuts, dropped = run([documents(*texts)], config)
    assert cuts == {(1, lines[0])}
    assert dropped == {2}


def test_documents_and_paragraphs_are_seen_whatever_their_case_and_spacing() -> None:
    common = {"capacity": 100, "false_positive_rate": 1e-6}
    batches = [documents("Ein Wort.\n\nUnd Àccent", "ein  wort."), documents("EIN\nWORT.", "中文")]
    rows = DocumentStreamConfig(kind="documents", **common)
    cuts = run(batches, rows)
    assert cuts == (set(), {0})  # the second batch numbers its documents from 0 again
    paragraphs = ParagraphStreamConfig(kind="paragraphs", min_characters=3, **common)
    assert run(batches, paragraphs) == ({(1, "ein  wort."), (0, "EIN\nWORT.")}, set())


def test_the_order_of_arrival_decides() -> None:
    config = DocumentStreamConfig(kind="documents", capacity=10, false_positive_rate=1e-6)
    batch = documents("same", "same")
    assert run([batch], config)[1] == {1}
    assert run([batch.take(pa.array([1, 0]))], config)[1] == {0}


def test_a_stream_of_more_n_grams_than_were_stated_is_refused() -> None:
    config = NGramStreamConfig(
        kind="ngrams", capacity=50, false_positive_rate=1e-6, min_ngram_size=1, max_ngram_size=1
    )
    batch = documents(" ".join(map(str, range(40))), " ".join(map(str, range(100))))
    with pytest.raises(Refusal, match="capacity 50 must hold no more different keys"):
        run([batch], config)


@pytest.mark.parametrize("kind", [DocumentStreamConfig, ParagraphStreamConfig, NGramStreamConfig])
def test_empty_texts_null_bytes_and_bytes_that_are_not_utf_8_pass(kind: type[StreamConfig]) -> None:
    name = {"Doc": "documents", "Par": "paragraphs", "NGr": "ngrams"}[kind.__name__[:3]]
    more = {"min_characters": 1} if name == "paragraphs" else {}
    config = kind(kind=name, capacity=1000, false_positive_rate=1e-6, **more)
    broken = b"\xff\xfe \xc3\n\xe4\xb8 \x00\xf0\x9f" * 20
    bounds = np.array([0, 0, len(broken), 2 * len(broken)], np.int64)
    text = pa.Array.from_buffers(
        pa.large_string(), 3, [None, pa.py_buffer(bounds), pa.py_buffer(broken * 2)]
    )
    names = pa.array(["a", "b", "c"])
    batch = pa.RecordBatch.from_arrays([names, names, text], ["doc_id", "source", "text"])
    bloom = BloomFilter(1000, 1e-6)
    ((cuts, dropped),) = stream([batch], bloom, config)
    if name == "paragraphs":
        assert cuts["doc_id"].to_pylist() == ["c"]
    elif name == "documents":
        assert dropped.to_pylist() == [False, False, True]
    assert not list(stream([], bloom, config))
    assert len(list(stream([batch.slice(0, 0)], bloom, config))) == 1


def test_a_stream_without_a_size_or_with_n_grams_upside_down_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"capacity\s+Field required"):
        DocumentStreamConfig.model_validate({"kind": "documents", "false_positive_rate": 0.01})
    message = "min_ngram_size must be at most max_ngram_size, got 14 and 13"
    with pytest.raises(ValidationError, match=message):
        NGramStreamConfig(kind="ngrams", capacity=1, false_positive_rate=0.1, min_ngram_size=14)
