"""Text to token ids: cut into pre-tokens, look each up among those seen before, merge the others.

Text repeats its words, so nearly every pre-token is found in a cache and costs a look-up. The rest
are merged, lowest merge first: a short one by looking at all of its pairs each time, a long one
(a megabyte of one letter is a pre-token too) with a heap. What a cache may hold is bounded, and it
starts anew when it is full; it changes the speed alone, never the ids.
"""

# mypy: disallow_untyped_defs=False

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from datalake.config import Refusal
from training.tokenizer import pair_table
from training.tokenizer.compiled import compiled
from training.tokenizer.pair_table import pair_key, pair_row
from training.tokenizer.scanner import RULES, scan, scan_table
from training.tokenizer.texts import Texts, frozen
from training.tokenizer.word_table import (
    EMPTY,
    KEY,
    LENGTH,
    PLACE,
    VALUE,
    find_row,
    first_row,
    new_table,
    word_key,
)

NUM_BYTES = 256
_SINGLE_THREAD_BYTES = 1 << 18  # below this, threads cost more than they save
_SHARES_PER_THREAD = 4  # so that no thread waits long for the last

_CACHE_ROWS = 1 << 18  # 8 MB a thread; half of them are used
_CACHE_TEXT = 1 << 21
_CACHE_IDS = 1 << 20
_LONGEST_CACHED = 64  # bytes; longer ones hardly repeat
_LONGEST_SCANNED = 48  # bytes of a pre-token, above which a heap finds the next merge sooner

_WORDS, _TEXT_BYTES, _IDS = range(3)
_COUNT_BITS = np.uint64(40)  # a cached value is an id, or (count, place of the first) above it
_PLACE_MASK = np.uint64((1 << 40) - 1)
_NO_MERGE = np.int64(1 << 62)
_NONE = -1


class Encoder:
    """Encodes texts by one list of merges. Threads may share it: each call borrows its caches."""

    def __init__(
        self, merges: np.ndarray, pattern: str, classes: np.ndarray, byte_ids: np.ndarray
    ) -> None:
        if pattern not in RULES:
            raise Refusal(f"pattern must be one of {', '.join(RULES)}, got {pattern}")
        self._byte_ids = frozen(byte_ids.astype(np.uint32))
        self._pairs = frozen(pair_table.table_of(merges, NUM_BYTES))
        self._rule = RULES[pattern]
        self._scan_table = scan_table(classes)
        self._idle: list[_Cache] = []  # append and pop are atomic

    def encode(self, texts: Texts, num_threads: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Ids of all texts, uint32, and where each begins, int64 ``[texts + 1]``."""
        threads = num_threads or os.cpu_count() or 1
        if texts.num_bytes <= _SINGLE_THREAD_BYTES or threads == 1:
            parts = [self._encode(texts, slice(0, len(texts)))]
        else:
            with ThreadPoolExecutor(threads) as pool:
                shares = texts.shares(threads * _SHARES_PER_THREAD)
                parts = list(pool.map(lambda share: self._encode(texts, share), shares))
        lengths = np.concatenate([lengths for _, lengths in parts])
        return np.concatenate([ids for ids, _ in parts]), np.append(0, np.cumsum(lengths))

    def _encode(self, texts: Texts, share: slice) -> tuple[np.ndarray, np.ndarray]:
        """Ids of a run of texts, and how many each has."""
        offsets = texts.offsets[share.start : share.stop + 1]
        sizes = np.diff(offsets)
        longest = int(sizes.max(initial=0))
        scratch = (
            *(np.empty(longest, np.int64) for _ in range(2)),
            np.empty(3 * longest, np.int64),
        )
        ids = np.empty(int(sizes.sum()), np.uint32)  # at most one a byte
        lengths = np.empty(len(sizes), np.int64)
        try:
            cache = self._idle.pop()
        except IndexError:
            cache = _Cache()
        count = _encode(
            texts.data,
            offsets,
            self._scan_table,
            self._rule,
            self._pairs,
            self._byte_ids,
            cache.ends,
            cache.words,
            cache.used,
            scratch,
            ids,
            lengths,
        )
        self._idle.append(cache)
        return ids[:count], lengths


class _Cache:
    """Pre-tokens that one thread has merged before, and their ids."""

    def __init__(self) -> None:
        self.words = (
            new_table(_CACHE_ROWS),
            np.empty(_CACHE_TEXT, np.uint8),
            np.empty(_CACHE_IDS, np.uint32),
        )
        self.used = np.zeros(3, np.int64)
        self.ends = np.empty(4096, np.int64)


@compiled
def _encode(data, offsets, table, rule, pairs, byte_ids, ends, words, used, scratch, ids, lengths):
    """Write the ids of every text to ``ids`` and their number to ``lengths``; returns their sum."""
    rows, text, cached = words
    count = 0
    for document in range(len(offsets) - 1):
        before = count
        at, stop = offsets[document], offsets[document + 1]
        while at < stop:
            for i in range(scan(data, at, stop, table, rule, ends)):
                end = ends[i]
                key = word_key(data, at, end)
                row = find_row(rows, text, data, at, end, key)
                value = rows[row, VALUE]
                if rows[row, KEY] == EMPTY:
                    num_ids = _merge(data, at, end, pairs, byte_ids, scratch, ids, count)
                    if end - at <= _LONGEST_CACHED:
                        _remember(data, at, end, key, row, ids, count, num_ids, words, used)
                    count += num_ids
                elif value <= _PLACE_MASK:
                    ids[count] = value
                    count += 1
                else:
                    place = np.int64(value & _PLACE_MASK)
                    for _ in range(np.int64(value >> _COUNT_BITS)):
                        ids[count] = cached[place]
                        count += 1
                        place += 1
                at = end
        lengths[document] = count - before
    return count


@compiled
def _remember(data, at, end, key, row, ids, first, num_ids, words, used):
    """Enter a merged word into the cache, which is emptied where it has no room for it."""
    rows, text, cached = words
    size = end - at
    if (
        2 * used[_WORDS] >= len(rows)
        or used[_TEXT_BYTES] + size > len(text)
        or used[_IDS] + num_ids > len(cached)
    ):
        rows[:] = EMPTY
        used[:] = 0
        row = first_row(rows, key)
    place = used[_TEXT_BYTES]
    for i in range(size):
        text[place + i] = data[at + i]
    rows[row, KEY] = key
    rows[row, PLACE] = place
    rows[row, LENGTH] = size
    if num_ids == 1:
        rows[row, VALUE] = ids[first]
    else:
        rows[row, VALUE] = np.uint64(num_ids) << _COUNT_BITS | np.uint64(used[_IDS])
        for i in range(num_ids):
            cached[used[_IDS] + i] = ids[first + i]
        used[_IDS] += num_ids
    used[_WORDS] += 1
    used[_TEXT_BYTES] += size


@compiled
def _merge(data, at, end, pairs, byte_ids, scratch, ids, first):
    """Write the ids of one pre-token to ``ids`` from ``first`` on; returns how many they are."""
    for i in range(end - at):
        ids[first + i] = byte_ids[data[at + i]]
    if end - at <= _LONGEST_SCANNED:
        return _merge_by_scanning(end - at, pairs, scratch, ids, first)
    return _merge_by_heap(end - at, pairs, scratch, ids, first)


@compiled
def _token_of(a, b, pairs):
    """The token that the pair (a, b) is merged into, or ``_NO_MERGE``: the smaller, the sooner."""
    key = pair_key(a, b)
    row = pair_row(key, pairs)
    return pairs[row, pair_table.VALUE] if pairs[row, pair_table.KEY] == key else _NO_MERGE


@compiled
def _merge_by_scanning(count, pairs, scratch, ids, first):
    merged = scratch[2]  # what each id and the next would become
    for i in range(count - 1):
        merged[i] = _token_of(ids[first + i], ids[first + i + 1], pairs)
    while count > 1:
        best = 0
        for i in range(1, count - 1):
            if merged[i] < merged[best]:
                best = i
        token = merged[best]
        if token == _NO_MERGE:
            break
        count -= 1
        ids[first + best] = token
        for i in range(best + 1, count):
            ids[first + i] = ids[first + i + 1]
        for i in range(best, count - 1):
            merged[i] = merged[i + 1]
        if best > 0:
            merged[best - 1] = _token_of(ids[first + best - 1], token, pairs)
        if best + 1 < count:
            merged[best] = _token_of(token, ids[first + best + 1], pairs)
    return count


@compiled
def _merge_by_heap(count, pairs, scratch, ids, first):
    """As by scanning, with a heap of (token, place) and links between the ids that are left."""
    before, after, heap = scratch
    size = 0
    for i in range(count):
        before[i], after[i] = i - 1, i + 1
    after[count - 1] = _NONE
    for i in range(count - 1):
        size = _push(heap, size, _token_of(ids[first + i], ids[first + i + 1], pairs), i)
    while size:
        token, place = heap[0] >> 32, heap[0] & 0xFFFFFFFF
        size -= 1
        _sink(heap, size)
        following = after[place]
        if before[place] == place or following == _NONE:  # merged into another, or the last
            continue
        if _token_of(ids[first + place], ids[first + following], pairs) != token:
            continue
        ids[first + place] = token
        after[place] = after[following]
        before[following] = following  # it is no more
        if after[place] != _NONE:
            before[after[place]] = place
            follower = ids[first + after[place]]
            size = _push(heap, size, _token_of(token, follower, pairs), place)
        if place > 0:
            leader = ids[first + before[place]]
            size = _push(heap, size, _token_of(leader, token, pairs), before[place])
    num_ids = place = 0
    while place != _NONE:
        ids[first + num_ids] = ids[first + place]
        num_ids += 1
        place = after[place]
    return num_ids


@compiled
def _push(heap, size, token, place):
    """Enter a merge, unless there is none, into a heap of ``size``; returns the new size."""
    if token == _NO_MERGE:
        return size
    entry = token << 32 | place
    at = size
    while at > 0 and entry < heap[(at - 1) // 2]:
        heap[at] = heap[(at - 1) // 2]
        at = (at - 1) // 2
    heap[at] = entry
    return size + 1


@compiled
def _sink(heap, size):
    """Put the entry at ``size`` in the place of the top, and move it down to where it belongs."""
    entry = heap[size]
    at = 0
    while 2 * at + 1 < size:
        child = 2 * at + 1
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if entry <= heap[child]:
            break
        heap[at] = heap[child]
        at = child
    heap[at] = entry
