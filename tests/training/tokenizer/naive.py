"""Byte-pair encoding as the papers describe it, in a few slow lines: the truth for the fast one."""

from collections import Counter
from itertools import pairwise

import regex

from training.tokenizer.patterns import PATTERNS

Pair = tuple[bytes, bytes]


def pieces(text: str, pattern: str) -> list[bytes]:
    """Pre-tokens of ``text`` by a regular-expression engine."""
    return [match.group().encode() for match in regex.finditer(PATTERNS[pattern], text)]


def train(texts: list[str], pattern: str, num_merges: int) -> tuple[list[Pair], int]:
    """Merges in order, and the number of tokens that the texts then are."""
    counted = Counter(piece for text in texts for piece in pieces(text, pattern))
    words = {tuple(bytes([byte]) for byte in word): n for word, n in counted.items()}
    merges: list[Pair] = []
    while len(merges) < num_merges:
        pairs: Counter[Pair] = Counter()
        for word, n in words.items():
            for pair in pairwise(word):
                pairs[pair] += n
        if not pairs:
            break
        merges.append(max(pairs, key=lambda pair: (pairs[pair], pair)))
        words = {merged(word, merges[-1]): n for word, n in words.items()}
    return merges, sum(len(word) * n for word, n in words.items())


def merged(word: tuple[bytes, ...], pair: Pair) -> tuple[bytes, ...]:
    """``word`` with ``pair`` merged wherever it occurs, from left to right."""
    out: list[bytes] = []
    i = 0
    while i < len(word):
        if word[i : i + 2] == pair:
            out.append(word[i] + word[i + 1])
            i += 2
        else:
            out.append(word[i])
            i += 1
    return tuple(out)


def encode(text: str, pattern: str, merges: list[Pair]) -> list[bytes]:
    """Tokens of ``text``: every merge, in order, on every pre-token."""
    tokens: list[bytes] = []
    for piece in pieces(text, pattern):
        word = tuple(bytes([byte]) for byte in piece)
        for pair in merges:
            word = merged(word, pair)
        tokens += word
    return tokens
