"""Which language a document is in: of prose by its letters, of code by its file."""

import math
import re
from typing import Any

from resiliparse.parse.lang import detect_fast

from datalake.transforms.code_language import UNKNOWN, language_of

_SAMPLE = 20_000  # characters; the detector counts n-grams, which are settled long before
_NUM_GUESSES = 5
# A declared language wins over a better guess whose rank is this close. On the pages of Python's
# documentation, "en" was behind another language on 72 of 826, by up to 5 % on 66 of these; on
# short German, Italian, Spanish and Danish texts it is 7 to 13 % behind.
_CLOSE_CALL = 1.05
# One script, one language: the detector says "unknown" to short texts in these, and takes tables
# of numbers for them.
_SCRIPTS = {
    "ja": re.compile("[\u3040-\u30ff]"),  # kana; before Han, which Japanese has too
    "ko": re.compile("[\uac00-\ud7af]"),
    "zh": re.compile("[\u4e00-\u9fff]"),
    "th": re.compile("[\u0e00-\u0e7f]"),
}
_SCRIPT_SHARE = 0.3  # of the letters


def of_prose(text: str, declared: str | None = None) -> str:
    """ISO 639-1 code of the language of ``text``, or ``unknown``.

    ``declared`` is what the page says of itself, such as ``en-GB``. Many pages keep the language
    of their template, so it decides only where the letters leave it open.
    """
    sample = text[:_SAMPLE]
    if not any(map(str.isalpha, sample)):
        return UNKNOWN
    declared = (declared or "").split("-")[0].split("_")[0].strip().lower()
    for language, script in () if sample.isascii() else _SCRIPTS.items():
        letters = sum(map(str.isalpha, sample)) if script.search(sample) else 0
        if letters and len(script.findall(sample)) >= _SCRIPT_SHARE * letters:
            return language
    guesses: Any = detect_fast(sample, n_results=_NUM_GUESSES)  # pairs of code and rank
    possible = {g: rank for g, rank in guesses if g not in (*_SCRIPTS, UNKNOWN)}
    if not possible:
        return UNKNOWN
    best = min(possible, key=lambda guess: possible[guess])
    if possible.get(declared, math.inf) <= _CLOSE_CALL * possible[best]:
        return declared
    return best


def of_code(path: str, text: str | None = None) -> str:
    """Programming language of the file ``path``, by name and by ``text``, or ``unknown``."""
    return language_of(path, text)
