"""tiktoken, built from our merges: what ids must be."""

from functools import cache

import numpy as np
import tiktoken

from training.tokenizer.bpe import NUM_BYTES, Tokenizer
from training.tokenizer.patterns import (
    LETTER,
    LOWER,
    MARK,
    NEWLINE,
    NUM_CHARACTERS,
    NUMBER,
    OTHER,
    PATTERNS,
    SPACE,
    UPPER,
)

# In an order in which a later class takes from an earlier one.
_CLASSES = {
    UPPER: r"[\p{Lu}\p{Lt}]",
    LOWER: r"\p{Ll}",
    LETTER: r"[\p{Lm}\p{Lo}]",
    MARK: r"\p{M}",
    NUMBER: r"\p{N}",
    SPACE: r"\s",
    NEWLINE: r"[\r\n]",
}


def oracle(tokenizer: Tokenizer) -> tiktoken.Encoding:
    ordinary = tokenizer.token_bytes[: NUM_BYTES + len(tokenizer.merges)]
    return tiktoken.Encoding(
        "oracle",
        pat_str=PATTERNS.get(tokenizer.pattern, tokenizer.pattern),
        mergeable_ranks={token: rank for rank, token in enumerate(ordinary)},
        special_tokens=tokenizer.special_tokens,
    )


@cache
def classes_of_tiktoken() -> np.ndarray:
    """Class of every code point as tiktoken's engine knows it, as ``character_classes`` gives.

    What a pattern does not match tiktoken drops, so what is left of all characters is the class.
    """
    table = np.full(NUM_CHARACTERS, OTHER, np.uint8)
    characters = "".join(chr(c) for c in range(NUM_CHARACTERS) if not 0xD800 <= c < 0xE000)
    ranks = {bytes([byte]): byte for byte in range(NUM_BYTES)}
    for bit, pattern in _CLASSES.items():
        engine = tiktoken.Encoding("one", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
        for character in bytes(engine.encode_ordinary(characters)).decode():
            table[ord(character)] = bit
    return table


@cache
def unlike_tiktoken() -> frozenset[str]:
    """Characters of another class to tiktoken, whose Unicode may be older, than to ``regex``."""
    from training.tokenizer.patterns import character_classes

    ours, theirs = character_classes()[0].copy(), classes_of_tiktoken()
    ours[0xD800:0xE000] = theirs[0xD800:0xE000]
    return frozenset(map(chr, np.flatnonzero(ours != theirs).tolist()))


def known_alike(text: str) -> str:
    """``text`` without the characters that ``regex`` and tiktoken class differently."""
    return "".join(c for c in text if c not in unlike_tiktoken())
