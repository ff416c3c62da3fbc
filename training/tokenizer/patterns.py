r"""How text is cut into pre-tokens, the pieces that byte-pair encoding never merges across.

The patterns are those of GPT-2 (Radford et al. 2019), GPT-4 (``cl100k``) and GPT-4o (``o200k``) as
tiktoken defines them, written without possessive operators so that both ``regex`` and tiktoken's
engine read them alike. ``cl100k_digits`` takes digits one by one, so that a number's tokens do not
depend on its length (Chowdhery et al. 2022, arXiv:2204.02311, section 2).

``training.tokenizer.scanning.scanner`` cuts by these rules without a regular-expression engine. All
that it must know of Unicode is one byte per character, the ``CLASSES``: that table is made once,
when a tokenizer is trained, and travels with it, so that a newer Unicode never cuts old text anew.
"""

import numpy as np

from datalake.config import Refusal

_CL100K = (
    r"(?i:'[sdmt]|'ll|'ve|'re)"
    r"|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+"
    r"|{number}"
    r"| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*"
    r"|\s+(?![\s\S])"
    r"|\s*[\r\n]"
    r"|\s+(?!\S)"
    r"|\s"
)

PATTERNS: dict[str, str] = {
    "gpt2": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s",
    "cl100k": _CL100K.format(number=r"\p{N}{1,3}"),
    "cl100k_digits": _CL100K.format(number=r"\p{N}"),
    "o200k": (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
        r"(?i:'[sdmt]|'ll|'ve|'re)?"
        r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
        r"(?i:'[sdmt]|'ll|'ve|'re)?"
        r"|\p{N}{1,3}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n/]*"
        r"|\s*[\r\n]+"
        r"|\s+(?!\S)"
        r"|\s"
    ),
}

# One bit per class, so that a set of classes is one mask. A character is in exactly one of them.
OTHER, UPPER, LOWER, LETTER, MARK, NUMBER, SPACE, NEWLINE = (1 << bit for bit in range(8))
CLASSES = {
    UPPER: r"[\p{Lu}\p{Lt}]",
    LOWER: r"\p{Ll}",
    LETTER: r"[\p{Lm}\p{Lo}]",  # letters without case
    MARK: r"\p{M}",
    NUMBER: r"\p{N}",
    SPACE: r"[\p{White_Space}--[\r\n]]",
    NEWLINE: r"[\r\n]",
}
NUM_CHARACTERS = 0x110000

_SAMPLE = "".join(map(chr, range(0x80))) + "é\u0301\u00a0\u2028ǅʰ中９🙂\ue000"  # of every class


def check_pattern(pattern: str) -> str:
    """The regular expression that ``pattern`` names, or is.

    Raises Refusal where it does not compile, matches nothing at all (such a match cuts no text), or
    leaves a character between its matches: that one would be lost.
    """
    if pattern in PATTERNS:
        return PATTERNS[pattern]
    import regex

    try:
        compiled = regex.compile(pattern)
    except regex.error as error:
        names = ", ".join(PATTERNS)
        raise Refusal(
            f"pattern must be one of {names}, or a regular expression, got {pattern!r}: {error}"
        ) from None
    if compiled.match("") is not None:
        raise Refusal(f"pattern must not match the empty string, got {pattern!r}")
    for character in _SAMPLE:
        if compiled.fullmatch(character) is None:
            names = ", ".join(PATTERNS)
            raise Refusal(
                f"pattern must be one of {names}, or match every character, "
                f"got {pattern!r}, which leaves {character!r}"
            )
    return pattern


def decoded(data: bytes, number: int) -> str:
    """Text ``number``, for a pattern of one's own. Raises Refusal where it is no UTF-8."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise Refusal(
            f"text {number} must be UTF-8 where the pattern is one's own, "
            f"got byte 0x{data[error.start]:02x} at {error.start}"
        ) from None


def left_out(pattern: str, text: str, number: int) -> Refusal:
    """What to say of text ``number``, of which a pattern of one's own leaves something out."""
    import regex

    place = 0
    for match in regex.finditer(pattern, text):
        if match.start() > place:
            break
        place = match.end()
    return Refusal(
        f"text {number} must be matched by the pattern {pattern!r} from end to end, "
        f"got {text[place : place + 1]!r} at {place}, which it leaves out"
    )


def character_classes() -> tuple[np.ndarray, str]:
    """Class of every code point, uint8 ``[0x110000]``, and the version of ``regex`` it is from."""
    import regex

    table = np.full(NUM_CHARACTERS, OTHER, np.uint8)
    characters = "".join(map(chr, range(NUM_CHARACTERS)))
    for bit, members in CLASSES.items():
        for run in regex.finditer(f"(?V1){members}+", characters):
            table[run.start() : run.end()] = bit
    return table, f"regex {regex.__version__}"


def class_runs(table: np.ndarray) -> list[list[int]]:
    """``[length, class]`` of every run of equal classes: what a tokenizer's file holds."""
    starts = np.flatnonzero(np.diff(table, prepend=np.uint8(0)))
    lengths = np.diff(starts, append=len(table))
    return np.stack([lengths, table[starts]], axis=1).tolist()


def classes_from_runs(runs: list[list[int]]) -> np.ndarray:
    """The table that ``class_runs`` was made from."""
    lengths, classes = np.array(runs, np.int64).T
    return np.repeat(classes.astype(np.uint8), lengths)
