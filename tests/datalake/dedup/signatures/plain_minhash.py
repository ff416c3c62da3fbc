"""MinHash again in plain Python, a string a shingle: what the kernels must agree with."""

import unicodedata
from collections.abc import Callable, Iterable

import numpy as np

from datalake.dedup.signatures.minhash import Banding
from datalake.filters.measures.characters import ALONE, TABLE_SIZE, character_classes

_WORD = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_SEED = 0xCBF29CE484222325
_MERSENNE_61 = (1 << 61) - 1


def fold(character: str) -> str:
    return unicodedata.normalize("NFD", character.casefold())


def plain_words(text: str, fold: Callable[[str], str] = fold) -> list[str]:
    """Words of a text, folded character by character."""
    words, stands_alone = [""], False
    for character in text:
        category = unicodedata.category(character)
        if category == "Cf" and character != "\u200b":
            continue
        if "VARIATION SELECTOR" in unicodedata.name(character, ""):
            continue
        if ord(character) >= TABLE_SIZE:
            category, character = "Cn", " "
        if category[0] == "M":
            words[-1] += fold(character)
            continue
        alone = bool(character_classes()[ord(character)] & ALONE)
        joins = character.isalnum() or character == "_"
        if stands_alone or alone or not joins:
            words.append("")
        stands_alone = alone
        words[-1] += fold(character) if joins else ""
    return [word for word in words if word]


def word_hash(word: str) -> int:
    content = word.encode()
    h = _SEED
    for k in range(0, len(content) // 8 * 8 + 1, 8):
        h = _multiply_fold(h ^ int.from_bytes(content[k : k + 8], "little"), 0xA0761D6478BD642F)
    return h


def shingle_hashes(words: list[str], shingle_words: int) -> list[int]:
    hashes = [word_hash(word) for word in words]
    shingles = set()
    for k in range(len(hashes) - shingle_words + 1):
        h = 0
        for one in hashes[k : k + shingle_words]:
            h = (h * _GOLDEN + one) & _WORD
        shingles.add(mix(h))
    return sorted(shingles)


def plain_minima(words: list[str], banding: Banding) -> np.ndarray:
    """Minima of a document's shingles: uint64 [num_perm]."""
    shingles = shingle_hashes(words, banding.shingle_words)
    if banding.recipe == "fineweb":
        rule = [
            min(((h * a + b) & _WORD) % _MERSENNE_61 for h in shingles)
            for a, b in _pairs(banding.permutations())
        ]
    else:
        rule = [
            min(((h >> 32) * a + b) & 0xFFFFFFFF for h in shingles)
            for a, b in _pairs(banding.affine_permutations())
        ]
    return np.array(rule, np.uint64)


def plain_keys(minima: np.ndarray, num_rows: int) -> list[int]:
    """The key of each band, as int64."""
    keys = []
    for start in range(0, len(minima), num_rows):
        h = _SEED ^ start // num_rows
        for minimum in minima[start : start + num_rows].tolist():
            h = mix(((h ^ minimum) * _GOLDEN) & _WORD)
        keys.append(int(np.uint64(h).view(np.int64)))
    return keys


def mix(h: int) -> int:
    h = ((h ^ h >> 30) * 0xBF58476D1CE4E5B9) & _WORD
    h = ((h ^ h >> 27) * 0x94D049BB133111EB) & _WORD
    return h ^ h >> 31


def _multiply_fold(a: int, b: int) -> int:
    product = a * b
    return (product & _WORD) ^ product >> 64


def _pairs(permutations: tuple[np.ndarray, np.ndarray]) -> Iterable[tuple[int, int]]:
    return zip(*(one.tolist() for one in permutations), strict=True)
