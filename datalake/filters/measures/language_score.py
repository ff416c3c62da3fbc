"""How sure it is that a text is in the language that its row of ``documents`` names."""

import re
from typing import Any

# One script, one language: in these the detector is unsure of short texts (transforms.language).
_SCRIPTS = {
    "ja": re.compile("[\u3040-\u30ff\u4e00-\u9fff]"),
    "ko": re.compile("[\uac00-\ud7af]"),
    "zh": re.compile("[\u4e00-\u9fff]"),
    "th": re.compile("[\u0e00-\u0e7f]"),
}
_SAMPLE = 4000  # characters from the start
_NUM_GUESSES = 10
_USUALLY_WRONG = 1200  # ranks above are usually false, says the detector's documentation


def language_score(text: bytes, language: str) -> float:
    """0 (not at all) .. 1, of UTF-8 ``text`` and the ISO 639-1 code ``language``.

    Resiliparse's detector gives a language a rank, 0 for a perfect match of n-grams; the score is
    ``max(0, 1 - rank / 2400)``, so that 0.5 is the rank from which its guesses are usually false,
    and 0 where the language is not among its first ten guesses, or there is no letter. For
    Chinese, Japanese, Korean and Thai it is the share of letters that belong to the script, if
    that is more.
    """
    from resiliparse.parse.lang import detect_fast

    sample = text[: 4 * _SAMPLE].decode("utf-8", "ignore")[:_SAMPLE]
    if not any(map(str.isalpha, sample)):
        return 0.0
    guesses: Any = detect_fast(sample, n_results=_NUM_GUESSES)  # pairs of code and rank
    ranks = dict(guesses)
    score = max(0.0, 1 - ranks[language] / (2 * _USUALLY_WRONG)) if language in ranks else 0.0
    script = _SCRIPTS.get(language)
    if script is None:
        return score
    letters = sum(map(str.isalpha, sample))
    return max(score, min(1.0, len(script.findall(sample)) / letters))
