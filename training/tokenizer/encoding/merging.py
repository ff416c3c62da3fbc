"""One pre-token's bytes merged into tokens, by the list of merges, without merging anything.

The rule is: the merge learned first is done first, and where it occurs several times, from left to
right. What comes of it is known by its neighbours. Say that two tokens fit if the rule leaves them
as they are where their bytes alone are the text. What is done within a stretch of text that no
merge has left or entered does not depend on what surrounds it. So the first merge across a border
between two tokens would also have been done with these two alone: tokens of which all neighbours
fit are what the rule gives. There is one such list for every text and for every beginning of it. A
search that takes the longest token first, and goes back where it does not fit the one before, never
has to come to the same place twice (van Antwerpen and Neubeck 2024, ``bpe`` in GitHub's rust-gems).
The time is linear in the text, a megabyte of one letter included.

Most pairs that are looked up are no merge. A filter of a few bits a merge, which stays in the
processor's cache where the table of merges does not, answers for nearly all of these; and whether
two tokens fit is kept for a while.

A merge whose token is not what the rule makes of that token's own bytes is never done, and is left
out.
"""

# mypy: disallow_untyped_defs=False

from dataclasses import dataclass

import numpy as np

from datalake.config import Refusal
from training.compiled import compiled, inlined
from training.tokenizer.encoding.token_trie import longest_token, token_trie
from training.tokenizer.texts import frozen

NUM_SCRATCH = 2  # int64 of scratch per byte of a pre-token
UNDECIDED = np.uint64((1 << 64) - 1)  # no two ids, and whether they fit

_ID_BITS = 21  # of each of three ids in a row
_SHIFT = np.uint64(_ID_BITS)
_ID = np.uint64((1 << _ID_BITS) - 1)
_NO_PAIR = np.uint64((1 << 64) - 1)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio (Knuth, vol. 3, 6.4)
_HALF = np.uint64(32)
_HIGH_BITS = np.uint64(40)  # of a product the high bits are the well mixed ones
_ONE = np.uint64(1)
_ROWS_PER_WORD = 16  # of the filter: eight bits a merge at least
_SIXTH, _BIT = np.uint64(6), np.uint64(63)
_NO_LIMIT = 1 << _ID_BITS
_NONE = -1


@dataclass(frozen=True, slots=True, eq=False)
class MergeTable:
    """The merges as compiled loops look them up."""

    trie: np.ndarray  # of the tokens' bytes (token_trie)
    sizes: np.ndarray  # int32: bytes of each token
    shorter: np.ndarray  # int32: longest other token with which the token begins, _NONE if none
    parts: np.ndarray  # int32 [tokens, 2]: what each was merged of; a byte's are itself
    rows: np.ndarray  # uint64: left, right and merged id in one number, in an open-addressing table
    filter_bits: np.ndarray  # uint64: a bit set for each pair of the table, and few others
    unreached: int | None  # the first token that its own bytes are not merged into

    @classmethod
    def of(cls, merges: np.ndarray, byte_ids: np.ndarray) -> "MergeTable":
        """The table of ``merges`` ``[merges, 2]``, whose ids follow those of the bytes.

        Raises Refusal where a merge is of a token that comes later, or there are too many.
        """
        num_bytes = len(byte_ids)
        num_tokens = num_bytes + len(merges)
        if num_tokens >= 1 << _ID_BITS:
            raise Refusal(
                f"merges must be fewer than {(1 << _ID_BITS) - num_bytes}, got {len(merges)}"
            )
        late = np.flatnonzero(merges.max(axis=1, initial=0) >= np.arange(num_bytes, num_tokens))
        if len(late):
            raise Refusal(
                "merges must be of tokens that come before, "
                f"got {merges[late[0]].tolist()} for token {num_bytes + late[0]}"
            )
        parts = np.repeat(np.arange(num_tokens, dtype=np.int32)[:, None], 2, axis=1)
        parts[num_bytes:] = merges
        rows = np.full(1 << (2 * len(merges) + 1).bit_length(), _NO_PAIR, np.uint64)
        filter_bits = np.zeros(max(len(rows) // _ROWS_PER_WORD, 1), np.uint64)
        reached = np.ones(num_tokens, np.bool_)
        _fill(rows, filter_bits, parts, num_bytes, reached)
        tokens = [bytes([byte]) for byte in np.argsort(byte_ids).tolist()]
        for left, right in merges.tolist():
            tokens.append(tokens[left] + tokens[right])
        sizes = np.array([len(token) for token in tokens], np.int32)
        trie = token_trie({tokens[i]: i for i in np.flatnonzero(reached).tolist()})
        shorter = np.full(num_tokens, _NONE, np.int32)
        _find_shorter(trie, np.frombuffer(b"".join(tokens), np.uint8), sizes, reached, shorter)
        return cls(
            trie=frozen(trie),
            sizes=frozen(sizes),
            shorter=frozen(shorter),
            parts=frozen(parts),
            rows=frozen(rows),
            filter_bits=frozen(filter_bits),
            unreached=None if reached.all() else int(reached.argmin()),
        )

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        return self.trie, self.sizes, self.shorter, self.parts, self.rows, self.filter_bits


@compiled
def merge(data, at, size, merges, decided, scratch):
    """Number of tokens that ``size`` bytes at ``at`` become; their ids begin ``scratch[0]``.

    ``merges`` is ``MergeTable.arrays``, ``decided`` uint64, a power of two of ``UNDECIDED`` that
    later calls are handed again, ``scratch`` int64 ``[NUM_SCRATCH, at least size]``.
    """
    trie, sizes, shorter, parts, rows, filter_bits = merges
    ids, dead = scratch[0], scratch[1]
    end = at + size
    place = at
    count = 0
    went_back = False
    token, after = longest_token(trie, data, place, end)
    while True:
        if (not went_back or dead[after - at - 1] == 0) and (
            count == 0 or _fit(ids[count - 1], token, decided, parts, rows, filter_bits)
        ):
            ids[count] = token
            count += 1
            place = after
            if place == end:
                return count
            token, after = longest_token(trie, data, place, end)
        elif shorter[token] != _NONE:
            token = np.int64(shorter[token])
            after = place + sizes[token]
        else:
            if not went_back:
                dead[:size] = 0
                went_back = True
            dead[place - at - 1] = 1
            count -= 1
            token = ids[count]
            after = place
            place -= sizes[token]


@inlined
def _fit(left, right, decided, parts, rows, filter_bits):
    """Whether the two fit, looked up where it has been decided lately."""
    key = np.uint64(left) << _SHIFT | np.uint64(right)
    row = key * _GOLDEN >> _HIGH_BITS & np.uint64(len(decided) - 1)
    if decided[row] >> _ONE != key:
        together = _no_merge_across(left, right, _NO_LIMIT, parts, rows, filter_bits)
        decided[row] = key << _ONE | np.uint64(together)
    return decided[row] & _ONE == _ONE


@inlined
def _no_merge_across(left, right, limit, parts, rows, filter_bits):
    """Whether no merge before ``limit`` is across the border between the two, as they are built.

    Goes back in time: of the last and the first token at the border the later one is taken apart.
    """
    together = True
    while True:
        key = np.uint64(left) << _SHIFT | np.uint64(right)
        mixed = key * _GOLDEN
        bit = mixed >> _HIGH_BITS & np.uint64(64 * len(filter_bits) - 1)
        if filter_bits[bit >> _SIXTH] >> (bit & _BIT) & _ONE:
            row = mixed >> _HALF & np.uint64(len(rows) - 1)
            while rows[row] >> _SHIFT != key and rows[row] != _NO_PAIR:
                row = (row + _ONE) & np.uint64(len(rows) - 1)
            if rows[row] != _NO_PAIR and np.int64(rows[row] & _ID) < limit:
                together = False
                break
        if left > right:
            limit = left
            part = np.int64(parts[left, 1])
            if part == left:
                break
            left = part
        else:
            limit = right + 1
            part = np.int64(parts[right, 0])
            if part == right:
                break
            right = part
    return together


@compiled
def _fill(rows, filter_bits, parts, num_bytes, reached):
    """Enter every merge whose token is made of its own bytes; say which are not."""
    for token in range(num_bytes, len(parts)):
        left, right = np.int64(parts[token, 0]), np.int64(parts[token, 1])
        reached[token] = (
            reached[left]
            and reached[right]
            and _no_merge_across(left, right, token, parts, rows, filter_bits)
        )
        if reached[token]:
            key = np.uint64(left) << _SHIFT | np.uint64(right)
            mixed = key * _GOLDEN
            bit = mixed >> _HIGH_BITS & np.uint64(64 * len(filter_bits) - 1)
            filter_bits[bit >> _SIXTH] |= _ONE << (bit & _BIT)
            row = mixed >> _HALF & np.uint64(len(rows) - 1)
            while rows[row] != _NO_PAIR:
                row = (row + _ONE) & np.uint64(len(rows) - 1)
            rows[row] = key << _SHIFT | np.uint64(token)


@compiled
def _find_shorter(trie, text, sizes, reached, shorter):
    """Of each token the longest that is less of the same bytes."""
    at = 0
    for token in range(len(sizes)):
        if reached[token] and sizes[token] > 1:
            shorter[token] = longest_token(trie, text, at, at + sizes[token] - 1)[0]
        at += sizes[token]
