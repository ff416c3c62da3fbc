"""Byte-pair encoding as the papers describe it, in a few slow lines: the truth for the fast one."""

from collections import Counter
from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import regex

from training.tokenizer.patterns import PATTERNS

Pair = tuple[bytes, bytes]


def pieces(text: str, pattern: str) -> list[bytes]:
    """Pre-tokens of ``text`` by a regular-expression engine."""
    return [
        match.group().encode() for match in regex.finditer(PATTERNS.get(pattern, pattern), text)
    ]


def count(texts: list[str], pattern: str) -> Counter[bytes]:
    """How often each pre-token occurs."""
    return Counter(piece for text in texts for piece in pieces(text, pattern))


def train(texts: list[str], pattern: str, num_merges: int) -> tuple[list[Pair], int]:
    """Merges in order, and the number of tokens that the texts then are."""
    return train_words(count(texts, pattern), num_merges)


def train_words(counted: Mapping[bytes, int], num_merges: int) -> tuple[list[Pair], int]:
    """The same from counted pre-tokens."""
    words = _as_bytes(counted)
    merges: list[Pair] = []
    while len(merges) < num_merges and (pairs := _pairs(words)):
        merges.append(max(pairs, key=lambda pair: (pairs[pair], pair)))
        words = {merged(word, merges[-1]): n for word, n in words.items()}
    return merges, sum(len(word) * n for word, n in words.items())


def is_greedy(counted: Mapping[bytes, int], merges: list[Pair]) -> bool:
    """Whether each merge, after those before it, is of a pair as frequent as any."""
    words = _as_bytes(counted)
    for pair in merges:
        pairs = _pairs(words)
        if pairs[pair] != max(pairs.values()):
            return False
        words = {merged(word, pair): n for word, n in words.items()}
    return True


def num_ties(counted: Mapping[bytes, int], merges: list[Pair]) -> int:
    """How many of the merges had a rival of the same count."""
    words, ties = _as_bytes(counted), 0
    for pair in merges:
        pairs = _pairs(words)
        ties += [*pairs.values()].count(pairs[pair]) > 1
        words = {merged(word, pair): n for word, n in words.items()}
    return ties


def spelled(pairs: np.ndarray) -> list[Pair]:
    """Merges of ids as merges of bytes."""
    tokens = [bytes([byte]) for byte in range(256)]
    merges = []
    for left, right in pairs.tolist():
        merges.append((tokens[left], tokens[right]))
        tokens.append(tokens[left] + tokens[right])
    return merges


def _as_bytes(counted: Mapping[bytes, int]) -> dict[tuple[bytes, ...], int]:
    return {tuple(bytes([byte]) for byte in word): n for word, n in counted.items()}


def _pairs(words: Mapping[tuple[bytes, ...], int]) -> Counter[Pair]:
    pairs: Counter[Pair] = Counter()
    for word, n in words.items():
        for pair in pairwise(word):
            pairs[pair] += n
    return pairs


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
