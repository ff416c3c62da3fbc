"""One spelling for equal text."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datalake.transforms.normalise import normalise, without_addresses

any_text = st.text(st.characters(), max_size=60)  # surrogates too


@given(any_text)
def test_normal_text_stays_as_it_is(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


@given(any_text)
def test_normal_text_is_nfc_in_utf_8_without_controls(text: str) -> None:
    found = normalise(text)
    found.encode("utf-8")
    assert unicodedata.is_normalized("NFC", found)
    assert not any(unicodedata.category(c) == "Cc" for c in found if c not in "\t\n")
    assert not set(found) & set("\r\u00a0\u3000\u2028\ufeff\u200b\u00ad")


@given(any_text)
def test_canonically_equal_texts_become_equal(text: str) -> None:
    assert normalise(unicodedata.normalize("NFD", text)) == normalise(text)


@given(st.text(st.sampled_from("ab \t\n#é漢"), max_size=60))
def test_ordinary_text_loses_nothing(text: str) -> None:
    assert normalise(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Return\u00a0self+value.", "Return self+value."),
        ("a\r\nb\rc\n", "a\nb\nc\n"),
        ("a\u2028b\u0085c", "a\nb\nc"),
        ("\ufeffstart", "start"),
        ("soft\u00adhyphen zero\u200bwidth", "softhyphen zerowidth"),
        ("bell\x07 form\x0cfeed", "bell formfeed"),
        ("e\u0301", "\u00e9"),
        ("half \ud800 pair", "half \ufffd pair"),
        # Joiners carry meaning: in Persian words and in emoji.
        ("\u0645\u06cc\u200c\u062f\u0627\u0646", "\u0645\u06cc\u200c\u062f\u0627\u0646"),
        ("\U0001f469\u200d\U0001f4bb", "\U0001f469\u200d\U0001f4bb"),
    ],
)  # fmt: skip
def test_spellings_become_one(text: str, expected: str) -> None:
    assert normalise(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<object object at 0x7fb648450bc0>", "<object object at 0x00000000>"),
        ("<PyDLL 'None', handle 7fb648df42e0>", "<PyDLL 'None', handle 00000000>"),
        ("at 0x7FB648450BC0; to 'X' at 0x7fb645bb99d0", "at 0x00000000; to 'X' at 0x00000000"),
        # Words and numbers that look like one.
        ("at decade's end", "at decade's end"),
        ("at 123456 a day", "at 123456 a day"),
        ("handle facade", "handle 00000000"),
        ("at 0x7f", "at 0x7f"),
        ("what 0x7fb648450bc0", "what 0x7fb648450bc0"),
    ],
)
def test_addresses_of_objects_become_zeros(text: str, expected: str) -> None:
    assert without_addresses(text) == expected


@given(st.text(max_size=40))
def test_zeros_stay_zeros(text: str) -> None:
    text = f"{text}<x at 0x12345678abcd>{text}"
    assert without_addresses(without_addresses(text)) == without_addresses(text)
