"""The index of all benchmark items: which n-gram stands in which item, and where.

Hashes of n-grams are sorted, with the places of each; a directory by their high bits finds one in a
look or two, and a bitmap for every length of n-gram tells the absent ones first. Two different
n-grams of the items never share a hash: where they would, another seed is taken. About 40 bytes
for each n-gram (``BYTES_PER_TOKEN``).
"""

import unicodedata
from dataclasses import dataclass
from functools import cache
from itertools import count
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa

from datalake.filters.measures.characters import ALONE, TABLE_SIZE, character_classes, lower_cases
from datalake.text_bytes import text_bytes

Tokens = Literal["words", "joined words", "characters"]

# Hash 8, length 1, first place 4, place 4, token 8, directory up to 4, bitmap 1 to 2, text 6.
BYTES_PER_TOKEN = 40
_HITS = 4096  # room for hits of a batch at first


class Arrays(NamedTuple):
    """What the compiled search reads."""

    text: np.ndarray  # uint8 [bytes]: items, one after the other
    starts: np.ndarray  # int32 [tokens] into ``text``
    stops: np.ndarray  # int32 [tokens]
    item_firsts: np.ndarray  # int64 [items + 1] into tokens
    hashes: np.ndarray  # uint64 [grams], ascending
    gram_lengths: np.ndarray  # int16 [grams], tokens
    place_firsts: np.ndarray  # int32 [grams + 1] into ``places``
    places: np.ndarray  # int32 [places]: token that the n-gram begins at
    directory: np.ndarray  # int32 [2^bits + 1] into grams, by the high bits of a hash
    shift: np.uint64  # 64 - bits
    lengths: np.ndarray  # int64 [lengths] that occur
    bits: np.ndarray  # uint8 [bytes]: a bitmap for each length
    bit_firsts: np.ndarray  # uint64 [lengths] into ``bits``
    bit_masks: np.ndarray  # uint64 [lengths]
    seed: np.uint64
    follow: int
    budget: int  # tokens that may differ where skip-grams are followed
    least: int  # tokens of the shortest match there


@dataclass(frozen=True)
class Grams:
    """Which n-grams stand for which item: runs of ``lengths`` that begin in a range of tokens."""

    items: np.ndarray  # int64 [runs]
    lengths: np.ndarray  # int64 [runs], tokens of each n-gram
    firsts: np.ndarray  # int64 [runs], tokens from the item's first
    lasts: np.ndarray  # int64 [runs], one past


@dataclass(frozen=True)
class Index:
    """Items by their n-grams."""

    arrays: Arrays
    tokens: Tokens

    @property
    def num_grams(self) -> int:
        return len(self.arrays.hashes)

    @property
    def num_bytes(self) -> int:
        return sum(a.nbytes for a in self.arrays if isinstance(a, np.ndarray))

    def items_of(self, places: np.ndarray) -> np.ndarray:
        """Number of the item that each token belongs to."""
        return np.searchsorted(self.arrays.item_firsts, places, side="right") - 1

    def hits(self, text: pa.Array) -> np.ndarray:
        """Every n-gram of the items in every text: ``int64 [hits, NUM_FIELDS]``, see ``find``."""
        from datalake.dedup.benchmarks import kernels as kernels

        data, offsets = text_bytes(text)
        room = _HITS
        while True:
            hits = np.empty((room, kernels.NUM_FIELDS), np.int64)
            found = kernels.find(data, offsets, codes_of(self.tokens), self.arrays, hits)
            if found <= room:
                return hits[:found]
            room = found

    def expanded(self, hits: np.ndarray) -> np.ndarray:
        """Hits with a row for every place of their n-gram, whose token is named."""
        from datalake.dedup.benchmarks import kernels as kernels

        if not len(hits) or hits[0, kernels.TOKEN] >= 0:
            return hits
        first = self.arrays.place_firsts[hits[:, kernels.GRAM]].astype(np.int64)
        sizes = self.arrays.place_firsts[hits[:, kernels.GRAM] + 1] - first
        rows = np.repeat(np.arange(len(hits)), sizes)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        made = hits[rows]
        made[:, kernels.TOKEN] = self.arrays.places[first[rows] + within]
        return made


def count_tokens(text: pa.Array, tokens: Tokens) -> np.ndarray:
    """How many tokens each text has: ``int64 [texts]``."""
    from datalake.dedup.benchmarks import kernels as kernels

    data, offsets = text_bytes(text)
    counts = np.zeros(len(text), np.int64)
    kernels.count_tokens(data, offsets, codes_of(tokens), counts)
    return counts


def token_starts(text: pa.Array, tokens: Tokens) -> tuple[np.ndarray, np.ndarray]:
    """First byte of every token, from its text's first, and where each text's tokens begin."""
    from datalake.dedup.benchmarks import kernels as kernels

    data, offsets = text_bytes(text)
    firsts = np.append(0, np.cumsum(count_tokens(text, tokens)))
    hashes, starts, stops = _token_arrays(int(firsts[-1]))
    kernels.tokenise(data, offsets, codes_of(tokens), np.uint64(0), hashes, starts, stops)
    return starts - np.repeat(offsets[:-1], np.diff(firsts)), firsts


def build(
    text: pa.Array,
    tokens: Tokens,
    grams: Grams,
    following: tuple[int, int, int] = (0, 0, 0),
    max_items: int | None = None,
) -> Index:
    """The index of the n-grams of ``text``, an item each.

    ``following``: how a match is followed, how many tokens of it may differ, and the least of it.
    An n-gram that stands in more than ``max_items`` items is left out.
    """
    for seed in count():
        made = _build(text, tokens, grams, np.uint64(seed), following, max_items)
        if made is not None:
            return made
    raise AssertionError("unreachable")


def _build(
    text: pa.Array,
    tokens: Tokens,
    grams: Grams,
    seed: np.uint64,
    following: tuple[int, int, int],
    max_items: int | None,
) -> Index | None:
    """The index, or None where two different n-grams have one hash under this seed."""
    from datalake.dedup.benchmarks import kernels as kernels

    data, offsets = text_bytes(text)
    codes = codes_of(tokens)
    item_firsts = np.append(0, np.cumsum(count_tokens(text, tokens)))
    token_hashes, starts, stops = _token_arrays(int(item_firsts[-1]))
    kernels.tokenise(data, offsets, codes, seed, token_hashes, starts, stops)
    base = item_firsts[grams.items]
    num_places = int(np.sum(grams.lasts - grams.firsts))
    hashes, places = np.empty(num_places, np.uint64), np.empty(num_places, np.int64)
    sizes = np.empty(num_places, np.int64)
    kernels.gram_hashes(
        token_hashes,
        base + grams.firsts,
        base + grams.lasts,
        grams.lengths,
        hashes,
        places,
        sizes,
    )
    order = np.argsort(hashes, kind="stable")
    hashes, places, sizes = hashes[order], places[order], sizes[order]
    groups = np.cumsum(np.diff(hashes, prepend=hashes[:1]) != 0)
    if not kernels.same_grams(data, starts, stops, codes, groups, places, sizes):
        return None
    if max_items is not None:
        items = np.searchsorted(item_firsts, places, side="right")
        other = np.ones(num_places, bool)
        by_item = np.lexsort((items, groups))
        g, i = groups[by_item], items[by_item]
        other[1:] = (g[1:] != g[:-1]) | (i[1:] != i[:-1])
        common = np.bincount(g, weights=other, minlength=1) > max_items
        stays = ~common[groups]
        hashes, places, sizes = hashes[stays], places[stays], sizes[stays]
    unique, heads = np.unique(hashes, return_index=True)
    lengths = np.unique(sizes)
    first = int(offsets[0])
    bits = max(1, len(unique).bit_length())
    slots = (unique >> np.uint64(64 - bits)).astype(np.int64)
    directory = np.searchsorted(slots, np.arange((1 << bits) + 1)).astype(np.int32)
    bitmap, bit_firsts, masks = _bitmap(unique, sizes[heads], lengths)
    follow, budget, least = following
    return Index(
        Arrays(
            text=data[first : int(offsets[-1])].copy(),
            starts=(starts - first).astype(np.int32),
            stops=(stops - first).astype(np.int32),
            item_firsts=item_firsts,
            hashes=unique,
            gram_lengths=sizes[heads].astype(np.int16),
            place_firsts=np.append(heads, len(places)).astype(np.int32),
            places=places.astype(np.int32),
            directory=directory,
            shift=np.uint64(64 - bits),
            lengths=lengths,
            bits=bitmap,
            bit_firsts=bit_firsts,
            bit_masks=masks,
            seed=seed,
            follow=follow,
            budget=budget,
            least=least,
        ),
        tokens,
    )


def _bitmap(
    hashes: np.ndarray, gram_lengths: np.ndarray, lengths: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bitmaps of 8 to 16 bits an n-gram, of at least 64, where each begins, and their masks."""
    from datalake.dedup.benchmarks import kernels as kernels

    sizes = [
        1 << max(6, (8 * int(np.sum(gram_lengths == length)) - 1).bit_length())
        for length in lengths
    ]
    firsts = np.append(0, np.cumsum(sizes) // 8)
    bits = np.zeros(int(firsts[-1]), np.uint8)
    masks = np.array(sizes, np.uint64) - np.uint64(1)
    firsts = firsts[:-1].astype(np.uint64)
    kernels.fill_bitmap(hashes, gram_lengths, lengths, bits, firsts, masks)
    return bits, firsts, masks


def _token_arrays(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.empty(size, np.uint64), np.empty(size, np.int64), np.empty(size, np.int64)


@cache
def codes_of(tokens: Tokens) -> np.ndarray:
    """What each code point is to the search, and what it is folded to: ``uint32 [TABLE_SIZE]``.

    A word is a run of letters, digits and marks in lower case, and a character of a script without
    spaces is a word. Everything else is punctuation, which ends a word or, in ``joined words``, is
    taken out of it, as is a lone mark. Of ``characters`` each one is a token but white space.
    """
    from datalake.dedup.benchmarks import kernels as kernels

    points = np.arange(TABLE_SIZE, dtype=np.uint32)
    characters = [chr(point) for point in range(TABLE_SIZE)]
    spaces = np.fromiter(map(str.isspace, characters), bool, TABLE_SIZE)
    if tokens == "characters":
        kinds = np.where(spaces, kernels.SEPARATOR, kernels.ALONE)
        return (kinds.astype(np.uint32) << np.uint32(kernels.KIND_SHIFT)) | points
    inside = np.fromiter(map(str.isalnum, characters), bool, TABLE_SIZE)
    marks = np.fromiter((unicodedata.category(c)[0] == "M" for c in characters), bool, TABLE_SIZE)
    between = kernels.IGNORED if tokens == "joined words" else kernels.SEPARATOR
    kinds = np.full(TABLE_SIZE, between)
    kinds[spaces] = kernels.SEPARATOR
    kinds[0] = kernels.SEPARATOR
    kinds[marks] = kernels.MARK
    kinds[inside] = kernels.INSIDE
    kinds[(character_classes() & ALONE) > 0] = kernels.ALONE
    return (kinds.astype(np.uint32) << np.uint32(kernels.KIND_SHIFT)) | lower_cases()
