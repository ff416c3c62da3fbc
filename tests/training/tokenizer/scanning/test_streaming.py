from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datalake.config import Refusal
from tests.training.tokenizer.texts_to_try import PROSE, SOURCE, texts
from tests.training.tokenizer.tokenizers_to_try import CLASSES, SCAN_TABLE, TOKENIZERS
from training.tokenizer.bpe import Tokenizer
from training.tokenizer.encoding import own_pattern
from training.tokenizer.patterns import PATTERNS
from training.tokenizer.scanning.scanner import pieces
from training.tokenizer.scanning.streaming import safe_blocks, safe_cut, safe_cuts

any_bytes = st.binary(max_size=40) | texts.map(str.encode)
no_bytes = st.just(b"")


def cuts_of(data: bytes) -> set[int]:
    """Every place at which some beginning of ``data`` may be cut."""
    array = np.frombuffer(data, np.uint8)
    return {safe_cut(array, SCAN_TABLE, 0, end) for end in range(len(data) + 1)}


@pytest.mark.parametrize("pattern", PATTERNS)
@settings(max_examples=300)
@given(data=any_bytes | st.tuples(any_bytes, any_bytes).map(b"".join))
def test_what_is_cut_at_a_safe_place_has_the_pre_tokens_of_the_whole(pattern, data):
    whole = pieces(data, SCAN_TABLE, pattern)
    ends = {0, *accumulate(map(len, whole))}
    for cut in cuts_of(data):
        assert cut in ends
        parts = [pieces(part, SCAN_TABLE, pattern) for part in (data[:cut], data[cut:])]
        assert parts[0] + parts[1] == whole


@given(st.lists(st.sampled_from(["the", "Ω", "x1", "日本", "'s", "'", " ", "\n", ",", "é"])))
def test_every_place_before_a_blank_or_comma_after_a_letter_is_found(words):
    text = "".join(words)
    data = f"{text}....".encode()  # a cut is taken only where what follows is seen whole
    wanted = {0}
    for i in range(1, len(text)):
        if text[i - 1].isalnum() and text[i] in " \n,":
            wanted.add(len(text[:i].encode()))
    assert wanted <= cuts_of(data)
    assert max(wanted) <= max(cuts_of(data))


def test_apostrophes_marks_and_broken_characters_are_no_safe_place():
    for text in ["a'", "a\u0301", "ก\u0e48"]:
        assert cuts_of(text.encode() + b"bbbb") == {0}
    assert cuts_of("aé".encode() + b"bbbb") == {0}
    assert cuts_of(b"a\xffbbbb") == {0, 1}  # a byte that is no character is a symbol
    assert cuts_of("日".encode()[:2] + b" bbbb") == {0}  # and this is no letter


def test_cuts_are_about_as_far_apart_as_asked():
    data = np.frombuffer((SOURCE * 20).encode(), np.uint8)
    cuts = safe_cuts(data, SCAN_TABLE, 1000)
    assert cuts[0] == 0 and cuts[-1] == len(data)
    assert np.all(np.diff(cuts) > 0) and np.diff(cuts).max() < 1300
    assert safe_cuts(data[:0], SCAN_TABLE, 1000).tolist() == [0]


@pytest.mark.parametrize("pattern", PATTERNS)
@settings(max_examples=60)
@given(data=any_bytes, copies=st.integers(0, 5), block_bytes=st.integers(1, 50))
def test_a_file_has_the_ids_of_the_whole_however_small_its_blocks(
    tmp_path_factory, pattern, data, copies, block_bytes
):
    path = tmp_path_factory.getbasetemp() / "text"
    path.write_bytes(data * copies)
    tokenizer = TOKENIZERS[pattern]
    ids = [i for part in tokenizer.encode_file(path, 1, block_bytes) for i in part.tolist()]
    assert ids == tokenizer.encode(data * copies).tolist()


def test_threads_change_no_id_of_a_file(tmp_path: Path):
    path = tmp_path / "text"
    path.write_text((SOURCE + PROSE) * 200, encoding="utf-8")
    tokenizer = TOKENIZERS["o200k"]
    parts = list(tokenizer.encode_file(path, num_threads=3, block_bytes=1 << 20))
    assert len(parts) > 1
    assert np.array_equal(np.concatenate(parts), tokenizer.encode(path.read_bytes()))


def test_blocks_are_bounded_and_grow_only_where_no_place_is_safe(tmp_path: Path):
    path = tmp_path / "text"
    path.write_bytes(b"some words, " * 1000 + b"a" * 50_000 + b" words" * 1000)
    sizes = [len(block) for block in safe_blocks(path, SCAN_TABLE, 1000)]
    assert sum(sizes) == path.stat().st_size
    assert max(sizes[:11]) <= 1000  # before the run
    assert 50_000 <= max(sizes) <= 200_000
    assert max(sizes[-3:]) <= 1000 or len(sizes) < 20


def test_a_pattern_of_ones_own_encodes_a_file_as_one_up_to_a_limit(tmp_path: Path, monkeypatch):
    path = tmp_path / "text"
    path.write_text(SOURCE, encoding="utf-8")
    own = Tokenizer(TOKENIZERS["gpt2"].merges, r"\p{L}+|\P{L}", CLASSES)
    (part,) = own.encode_file(path, block_bytes=100)
    assert np.array_equal(part, own.encode(SOURCE))
    monkeypatch.setattr(own_pattern, "LONGEST_FILE", 100)
    with pytest.raises(Refusal, match="text must be at most 100 bytes long where the pattern is"):
        list(own.encode_file(path))
