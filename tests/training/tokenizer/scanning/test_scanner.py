import numpy as np
import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.tokenizer.naive import pieces as regex_pieces
from tests.training.tokenizer.texts_to_try import SOURCE, texts
from training.tokenizer import patterns
from training.tokenizer.patterns import PATTERNS, character_classes, class_runs, classes_from_runs
from training.tokenizer.scanning.scanner import pieces, scan_table

CLASSES, _ = character_classes()
TABLE = scan_table(CLASSES)


@pytest.mark.parametrize("pattern", PATTERNS)
@settings(max_examples=500)
@given(text=texts)
def test_pieces_are_those_of_the_regular_expression(pattern, text):
    assert pieces(text.encode(), TABLE, pattern) == regex_pieces(text, pattern)


@pytest.mark.parametrize("pattern", PATTERNS)
@given(data=st.binary(max_size=60))
def test_pieces_of_any_bytes_join_to_them(pattern, data):
    found = pieces(data, TABLE, pattern)
    assert b"".join(found) == data
    assert all(found)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_pieces_of_source_code_are_those_of_the_regular_expression(pattern):
    assert pieces(SOURCE.encode(), TABLE, pattern) == regex_pieces(SOURCE, pattern)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_character_is_cut_as_by_the_regular_expression(pattern):
    """One character of each run of equal classes, between a letter and a digit."""
    starts = np.flatnonzero(np.diff(CLASSES, prepend=np.uint8(0)))
    text = "".join(f" a{chr(c)}1 {chr(c)}" for c in starts if not 0xD800 <= c < 0xE000)
    assert pieces(text.encode(), TABLE, pattern) == regex_pieces(text, pattern)


@pytest.mark.parametrize(
    ("pattern", "cut"),
    [
        ("gpt2", ["you", "'re", " in", "  ", " 2025", "!!", "\n\n"]),
        ("cl100k", ["you", "'re", " in", "  ", " ", "202", "5", "!!\n\n"]),
        ("cl100k_digits", ["you", "'re", " in", "  ", " ", "2", "0", "2", "5", "!!\n\n"]),
        ("o200k", ["you're", " in", "  ", " ", "202", "5", "!!\n\n"]),
    ],
)
def test_a_textbook_line_is_cut_as_each_pattern_is_known_to(pattern, cut):
    assert pieces(b"you're in   2025!!\n\n", TABLE, pattern) == [piece.encode() for piece in cut]


def test_classes_are_one_a_character_and_survive_their_runs():
    assert np.array_equal(classes_from_runs(class_runs(CLASSES)), CLASSES)
    assert len(CLASSES) == patterns.NUM_CHARACTERS
    letters = patterns.UPPER | patterns.LOWER | patterns.LETTER
    for character in "aÅß漢ʰǅ":
        assert CLASSES[ord(character)] & letters
        assert regex.fullmatch(r"\p{L}", character)


@pytest.mark.parametrize(
    "broken", [b"\xff", b"\xc3\xc3", b"\xc0\xaf", b"\xe2\x82", b"\xed\xa0\x80", b"\xf5\x80"]
)
def test_bytes_that_are_no_character_are_symbols(broken):
    assert pieces(b"a" + broken, TABLE, "gpt2") == [b"a", broken]
