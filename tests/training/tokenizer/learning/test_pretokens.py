"""Counting: the same counts however the text is given, and all of the text."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datalake.config import Refusal
from datalake.schemas import TABLES
from datalake.workspace import Workspace
from tests.training.tokenizer import naive
from tests.training.tokenizer.texts_to_try import CORPUS, PROSE, SOURCE, texts
from training.data.packing import copies
from training.tokenizer.learning import counting, own_pretokens
from training.tokenizer.learning.corpus_counts import count_corpus, spark_counts
from training.tokenizer.learning.count_table import PretokenCounts
from training.tokenizer.learning.counting import count_files, counter
from training.tokenizer.learning.pretokens import PretokenCounter, added_up
from training.tokenizer.patterns import PATTERNS, character_classes
from training.tokenizer.texts import Texts

CLASSES, _ = character_classes()
OWN = r"\p{L}+|\s+|[^\s\p{L}]{1,4}"


def as_dict(counts: PretokenCounts) -> dict[bytes, int]:
    text, bounds = counts.text.tobytes(), counts.starts.tolist()
    words = [text[a:b] for a, b in pairwise(bounds)]
    assert len(set(words)) == len(words)
    return dict(zip(words, counts.counts.tolist(), strict=True))


@given(st.lists(texts, min_size=1, max_size=5), st.sampled_from([*PATTERNS, OWN]))
def test_counts_are_those_of_a_regular_expression_engine(corpus, pattern):
    counts = counter(pattern, CLASSES, 1)
    counts.add(Texts.of(corpus))
    assert as_dict(counts.counts()) == naive.count(corpus, pattern)


@given(st.lists(st.tuples(texts, st.integers(0, 3)), min_size=1, max_size=6), st.data())
def test_partial_counts_of_any_batches_and_full_tables_add_up(counted, data):
    corpus, times = [text for text, _ in counted], np.array([n for _, n in counted])
    pattern = data.draw(st.sampled_from(["gpt2", OWN]))
    parts: list[PretokenCounts] = []
    counts = counter(pattern, CLASSES, 1, parts.append, max_bytes=1)
    cut = data.draw(st.integers(0, len(corpus)))
    for share in (slice(cut), slice(cut, None)):
        counts.add(Texts.of(corpus[share]), times[share])
    whole = naive.count([text for text, n in counted for _ in range(n)], pattern)
    parts.append(counts.counts())
    assert as_dict(added_up(parts)) == whole
    assert as_dict(added_up([part.batch() for part in parts])) == whole


def test_a_full_table_hands_on_what_it_holds_and_stays_small():
    words = " ".join(f"w{n:x} {'long' * (n % 9)}{n}" for n in range(60_000))
    parts: list[PretokenCounts] = []
    counts = PretokenCounter("gpt2", CLASSES, 2, parts.append, max_bytes=1 << 20)
    counts.add(Texts.of([words, words[::-1]]))
    parts.append(counts.counts())
    assert len(parts) > 4
    assert max(len(part.text) for part in parts) <= 1 << 20
    assert as_dict(added_up(parts)) == naive.count([words, words[::-1]], "gpt2")


def test_processes_count_a_pattern_of_ones_own_as_one_process_does(monkeypatch):
    monkeypatch.setattr(own_pretokens, "_PIECE_BYTES", 4000)
    counts = counter(OWN, CLASSES, 2)
    counts.add(Texts.of([*CORPUS, SOURCE]), np.array([1, 2, 0]))
    assert as_dict(counts.counts()) == naive.count([SOURCE, CORPUS[1], CORPUS[1]], OWN)


@pytest.mark.parametrize("pattern", ["gpt2", "o200k", OWN])
def test_files_count_as_the_texts_in_them(tmp_path: Path, monkeypatch, pattern):
    monkeypatch.setattr(counting, "_BATCH_BYTES", 4096)
    monkeypatch.setattr(counting, "_SHARE_BYTES", 512)
    corpus = [*CORPUS, "", PROSE * 200, "tail's"]
    paths = [tmp_path / f"{n}.txt" for n in range(len(corpus))]
    for path, text in zip(paths, corpus, strict=True):
        path.write_bytes(text.encode())
    said: list[str] = []
    counts = count_files(paths, pattern, CLASSES, 1 if pattern == OWN else 2, said.append)
    assert as_dict(counts) == naive.count(corpus, pattern)
    assert said


def test_a_path_that_is_no_file_is_refused(tmp_path: Path):
    with pytest.raises(Refusal, match=r"files must be files that can be read, got .*nothing"):
        count_files([tmp_path / "nothing"], "gpt2", CLASSES)


def test_what_a_pattern_leaves_out_is_refused_with_its_place():
    counts = counter(r"[^ж]", CLASSES, 1)
    with pytest.raises(Refusal, match=r"text 1 must be matched .*, got 'ж' at 2, which it leaves"):
        counts.add(Texts.of(["fine", "a ж"]))


def test_an_empty_match_within_a_text_is_refused():
    with pytest.raises(Refusal, match="pattern must not match the empty string"):
        counter(r"(?=a)|[\s\S]", CLASSES, 1).add(Texts.of(["ba"]))


def test_bytes_that_are_no_text_are_refused_for_a_pattern_of_ones_own():
    with pytest.raises(Refusal, match=r"text 0 must be UTF-8 .*, got byte 0xff at 1"):
        counter(OWN, CLASSES, 1).add(Texts.of([b"a\xff"]))


def write_corpus(workspace: Workspace, corpus: list[tuple[str, float]], parts: int) -> int:
    """A version of ``corpus`` in ``parts`` parts."""
    for part in range(parts):
        rows = [
            {
                "doc_id": f"{number:032x}",
                "source": "web",
                "uri": "",
                "title": "",
                "language": "en",
                "licence": None,
                "archive": "",
                "member": "",
                "offset": 0,
                "length": 0,
                "num_bytes": len(text.encode()),
                "num_tokens": 0,
                "cluster": f"{number:032x}",
                "weight": weight,
                "text": text,
            }
            for number, (text, weight) in list(enumerate(corpus))[part::parts]
        ]
        table = pa.Table.from_pylist(rows, TABLES["corpus"].arrow)
        write = workspace.lake.append if part else workspace.lake.overwrite
        version = write("corpus", table).version
    return version


@pytest.mark.parametrize("pattern", ["cl100k", OWN])
def test_spark_counts_the_same_however_the_corpus_is_partitioned(
    spark_workspace: Workspace, pattern
):
    corpus = [
        (f"{SOURCE}{n}" if n % 3 else f"{PROSE}{n}", (1.0, 2.5, 0.0)[n % 3]) for n in range(7)
    ]
    ids = np.array([f"{number:032x}" for number in range(len(corpus))])
    times = copies(ids, np.array([weight for _, weight in corpus]))
    wanted = naive.count(
        [text for (text, _), n in zip(corpus, times, strict=True) for _ in range(n)], pattern
    )
    for parts, max_bytes in ((1, 1 << 27), (3, 1)):
        version = write_corpus(spark_workspace, corpus, parts)
        found = spark_counts(spark_workspace, version, pattern, CLASSES, max_bytes)
        assert as_dict(found) == wanted
        assert as_dict(count_corpus(spark_workspace, version, pattern, CLASSES)) == wanted


@pytest.mark.parametrize("num_words", [0, 1, 12_000])
def test_tables_of_many_threads_add_up_wherever_their_parts_are_cut(num_words):
    random = np.random.default_rng(num_words)
    words = [f" w{n:x}" + "long" * (n % 5) for n in range(num_words)]
    corpus = ["".join(random.choice(words, 500)) for _ in range(num_words // 40)]
    counts = PretokenCounter("gpt2", CLASSES, 48)  # some 340 rows a part: words run over every end
    counts.add(Texts.of(corpus))
    whole = naive.count(corpus, "gpt2")
    assert as_dict(counts.counts()) == whole
    counts.add(Texts.of(corpus))  # and on from there
    assert as_dict(counts.counts()) == {word: 2 * number for word, number in whole.items()}
