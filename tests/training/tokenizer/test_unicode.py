"""Ids on all of Unicode: every code point, and a megabyte of each kind of text."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.tokenizer.languages import LANGUAGES, SIZE, megabyte
from tests.training.tokenizer.naive import pieces as regex_pieces
from tests.training.tokenizer.oracle import (
    classes_of_tiktoken,
    known_alike,
    oracle,
    unlike_tiktoken,
)
from tests.training.tokenizer.tokenizers_to_try import CLASSES, SCAN_TABLE, TOKENIZERS
from training.tokenizer.patterns import NUM_CHARACTERS, OTHER, PATTERNS
from training.tokenizer.scanning.scanner import pieces

ORACLES = {pattern: oracle(tokenizer) for pattern, tokenizer in TOKENIZERS.items()}
CHARACTERS = [chr(c) for c in range(NUM_CHARACTERS) if not 0xD800 <= c < 0xE000]


slow = pytest.mark.slow


def others(pattern: str) -> list[Any]:
    """The other named patterns, for wide sweeps."""
    return [pytest.param(other, marks=slow) for other in PATTERNS if other != pattern]


def around(character: str) -> str:
    """``character`` alone, and beside letters, digits, blanks, line ends and apostrophes."""
    c = character
    return f"{c}a{c}B 1{c}2 {c}\n{c}  {c}{c}'{c}'s{c}/"


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("step", [61, pytest.param(1, marks=slow)])
def test_characters_of_every_plane_have_the_ids_of_tiktoken(pattern, step):
    characters = [c for c in CHARACTERS if c not in unlike_tiktoken()][::step]
    texts = [
        "".join(map(around, characters[at : at + 1000])) for at in range(0, len(characters), 1000)
    ]
    ids, offsets = TOKENIZERS[pattern].encode_batch(texts)
    for text, (begin, end) in zip(texts, pairwise(offsets), strict=True):
        assert ids[begin:end].tolist() == ORACLES[pattern].encode_ordinary(text)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_characters_that_tiktoken_does_not_know_yet_are_cut_as_regex_does(pattern):
    text = "".join(map(around, sorted(unlike_tiktoken())))
    assert pieces(text.encode(), SCAN_TABLE, pattern) == regex_pieces(text, pattern)
    ids = TOKENIZERS[pattern].encode(text)
    assert TOKENIZERS[pattern].decode(ids) == text


def test_tiktoken_differs_only_where_a_newer_unicode_names_a_character():
    """It has no class for them; U+0295 alone became a letter without case."""
    theirs = classes_of_tiktoken()
    known = {c for c in unlike_tiktoken() if theirs[ord(c)] != OTHER}
    assert known <= {"\u0295"}
    assert not any(c.isascii() for c in unlike_tiktoken())


def test_the_scanner_may_know_the_classes_of_ascii_by_heart():
    assert np.array_equal(CLASSES[:128], classes_of_tiktoken()[:128])


@pytest.mark.parametrize("pattern", ["o200k", *others("o200k")])
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_megabyte_of_every_kind_of_text_has_the_ids_of_tiktoken(language, pattern):
    text = known_alike(megabyte(language))
    assert len(text.encode()) > 0.9 * SIZE
    texts = [text[at : at + 5000] for at in range(0, len(text), 5000)]
    ids, offsets = TOKENIZERS[pattern].encode_batch(texts)
    for part, (begin, end) in zip(texts, pairwise(offsets), strict=True):
        assert ids[begin:end].tolist() == ORACLES[pattern].encode_ordinary(part)
    whole = TOKENIZERS[pattern].encode(text)
    assert TOKENIZERS[pattern].decode(whole) == text


@pytest.mark.parametrize("pattern", PATTERNS)
@settings(max_examples=300)
@given(text=st.text(st.characters() | st.sampled_from("\ud83d\ude00\udfff a1'\n"), max_size=30))
def test_any_python_string_comes_back_with_lone_surrogates_replaced(pattern, text):
    spelled = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    tokenizer = TOKENIZERS[pattern]
    assert tokenizer.decode(tokenizer.encode(text)) == spelled
    assert tokenizer.decode(tokenizer.encode_batch([text, ""])[0]) == spelled
    alike = known_alike(text)
    assert tokenizer.encode(alike).tolist() == ORACLES[pattern].encode_ordinary(alike)


def test_two_halves_of_a_pair_are_their_character_and_a_lone_one_is_replaced():
    tokenizer = TOKENIZERS["gpt2"]
    assert tokenizer.decode(tokenizer.encode("a\ud83d\ude00b")) == "a😀b"
    assert tokenizer.decode(tokenizer.encode("a\ude00\ud83db")) == "a\ufffd\ufffdb"
    assert tokenizer.decode(tokenizer.encode_with_special("\ud83d")) == "\ufffd"
