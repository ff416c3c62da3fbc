"""Exact duplicates: what the digest ignores, and what it does not."""

from hypothesis import given
from hypothesis import strategies as st

from datalake.dedup.exact import text_digest

WORDS = st.lists(st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1), max_size=12)
GAPS = st.sampled_from([" ", "\n", "\r\n", "\t ", "\u00a0", "\u3000", ""])


@given(words=WORDS, first=GAPS, second=GAPS)
def test_spacing_does_not_change_the_digest(words: list[str], first: str, second: str) -> None:
    assert text_digest(first.join(words).encode()) == text_digest(second.join(words).encode())


@given(st.text(st.characters(max_codepoint=127)))
def test_ascii_and_other_text_take_the_same_rule(text: str) -> None:
    marked = text_digest((text + "é").encode())
    assert marked == text_digest(("".join(text.lower().split()) + "é").encode())
    assert text_digest(text.encode()) == text_digest("".join(text.lower().split()).encode())


def test_case_does_not_change_the_digest_and_a_letter_does() -> None:
    assert text_digest(b"Hello, World\n") == text_digest(b"hello,\tworld")
    assert text_digest("ÄRGER".encode()) == text_digest("ärger".encode())
    assert text_digest(b"hello, world") != text_digest(b"hello, word")


def test_the_digest_is_blake2b_of_the_folded_text() -> None:
    import hashlib

    assert text_digest(b"A b") == hashlib.blake2b(b"ab", digest_size=16).hexdigest()
