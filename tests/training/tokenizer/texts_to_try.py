"""Texts that are hard to cut, and a corpus small enough to train on in every test."""

from pathlib import Path

import hypothesis.strategies as st

import training.tokenizer.scanning.scanner as some_module

# Every kind of character that a pattern asks about, next to each other more often than in prose:
# cased, caseless and modifier letters, marks, numbers that are no digits, all white space, slashes,
# contractions in every case (U+017F is a lower-case s to a case-blind engine).
_CHARACTERS = list(" \n\r\t'aAbBsStTlLdDmMvVrReE019²½ⅷ٣,./!_-ſKǅʰªߍ日本한ก\u0301\u0345\u0bbe")
_CHARACTERS += list("\x00\x1c\x85\u00a0\u1680\u2003\u2028\u3000\ufeffé߁😀🇩\U0001d7d8\U00010400")
_PIECES = [
    *_CHARACTERS,
    "'ſ",
    "'ll",
    "'RE",
    "'Ve",
    "  ",
    "\r\n",
    "\n\n",
    "self",
    "HTTPServer",
    "=====",
]

awkward = st.lists(st.sampled_from(_PIECES), max_size=30).map("".join)
any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
texts = awkward | any_text

SOURCE = Path(some_module.__file__).read_text(encoding="utf-8")
PROSE = (
    "Naïve façades, l'été: 12,345.67 € — “don’t” don't DON'T; 日本語のテキスト 😀😀 \n\n"
    "\tx1 x22 x333\n  "
)
CORPUS = [SOURCE, PROSE * 3]
