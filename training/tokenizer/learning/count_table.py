"""Words and how often each was counted, in open-addressing tables that grow by doubling.

Compiled loops own no memory: one that finds no room says how much it needs, and is called again.

Tables of several threads are added up in the largest of them. A word lies at or behind the row that
its hash says, so in tables of one size it lies in the same part of each: threads take parts of the
rows, and what a part cannot settle alone, where a word has run over its end, is added at last.
"""

# mypy: disallow_untyped_defs=False

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa

from training.compiled import compiled, inlined
from training.prefetch import prefetch
from training.tokenizer.learning.word_table import (
    EMPTY,
    HASH,
    HIGH,
    LENGTH,
    LONG_VALUE,
    LOW,
    PLACE,
    VALUE,
    doubled_long,
    doubled_short,
    long_hash,
    long_row,
    long_table,
    mixed,
    short_row,
    short_table,
)
from training.tokenizer.scanning.scanner import ascii_piece_size, piece_end
from training.tokenizer.scanning.short_words import short_byte, short_key, short_length
from training.tokenizer.scanning.window import SIZE, put_window_words
from training.tokenizer.texts import frozen

_NUM_ROWS = 1 << 14  # of short words at first
_AHEAD = 16  # rows whose memory is asked for before they are read
_FULL = 0.75  # of the rows of a sum; a table that counts doubles at half


@dataclass(frozen=True, slots=True, eq=False)
class PretokenCounts:
    """Distinct pre-tokens, end to end in ``text``, and how often each occurs.

    Their order means nothing: what is learned from them does not depend on it. Short words of one
    ending lie together, so that the places of a pair do too, and merging pairs is faster.
    """

    text: np.ndarray  # uint8
    starts: np.ndarray  # int64 [words + 1]
    counts: np.ndarray  # int64 [words]

    @property
    def num_bytes(self) -> int:
        """Length of the text that was counted."""
        return int(self.counts @ np.diff(self.starts))

    def batch(self) -> pa.RecordBatch:
        """The columns ``word`` (binary) and ``count`` (int64)."""
        buffers = [None, pa.py_buffer(self.starts), pa.py_buffer(self.text)]
        words = pa.Array.from_buffers(pa.large_binary(), len(self.counts), buffers)
        return pa.record_batch({"word": words, "count": self.counts})


def in_threads(function: Callable, arguments: Iterable[tuple]) -> list:
    """What ``function`` returns for each of some arguments, each in a thread of its own."""
    todo = list(arguments)
    if len(todo) == 1:
        return [function(*todo[0])]
    with ThreadPoolExecutor(max(len(todo), 1)) as threads:
        return list(threads.map(lambda one: function(*one), todo))


# What a loop remembers while it waits; _TEXT_BYTES are of long words.
_SHORT_WORDS, _LONG_WORDS, _TEXT_BYTES, _DOCUMENT, _AT = range(5)
_DONE = 0


class CountTable:
    """One thread's words and counts; it grows by doubling when a loop asks for room."""

    def __init__(
        self,
        flush: Callable[[PretokenCounts], None] | None = None,
        max_bytes: int = 1 << 28,
    ) -> None:
        self._flush, self._max_bytes = flush, max_bytes
        self.empty()

    def empty(self) -> None:
        """Forget all words."""
        self.short, self.long = short_table(_NUM_ROWS), long_table(1 << 10)
        self.text = np.empty(1 << 16, np.uint8)
        self.state = np.zeros(5, np.int64)

    @property
    def tables(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.short, self.long, self.text

    def count(
        self,
        data: np.ndarray,
        offsets: np.ndarray,
        times: np.ndarray,
        scan_table: np.ndarray,
        rule: int,
    ) -> None:
        """Count the pre-tokens of texts."""
        self.state[_DOCUMENT], self.state[_AT] = 0, offsets[0]
        while need := _count(data, offsets, times, scan_table, rule, self.tables, self.state):
            self._make_room(need)

    def count_words(self, data: np.ndarray, offsets: np.ndarray, times: np.ndarray) -> None:
        """Count words, none of them empty, that were cut before."""
        self.state[_DOCUMENT] = 0
        data, offsets, times = frozen(data), frozen(offsets), times.astype(np.uint64)
        while need := _count_words(data, offsets, times, self.tables, self.state):
            self._make_room(need)

    def absorb_long(self, other: "CountTable") -> None:
        """Add the counts of the long words of ``other``."""
        self.state[_DOCUMENT] = 0
        text = frozen(other.text)
        while need := _absorb_long(other.long, text, self.tables, self.state):
            self._grow(need)

    def widen(self, num_rows: int) -> None:
        """Give the table of short words ``num_rows`` rows, a power of two, if it has fewer."""
        while len(self.short) < num_rows:
            self.short = doubled_short(self.short)

    def absorb_short(self, other: "CountTable", num_threads: int) -> None:
        """Add the counts of the short words of ``other``; both have as many rows, enough for all.

        Each thread takes a part of the rows.
        """

        def add(first: int, end: int) -> tuple[int, np.ndarray]:
            left = np.empty(end - first, np.int64)
            added, num_left = _absorb_short(other.short, first, end, self.short, left)
            return added, left[:num_left]

        for added, left in in_threads(add, self._parts(num_threads)):
            self.state[_SHORT_WORDS] += added + _absorb_left(other.short, left, self.short)

    def counts(self, num_threads: int = 1) -> PretokenCounts:
        """What the table holds."""

        def find(first: int, end: int) -> tuple[np.ndarray, int]:
            rows, ends = np.empty(end - first, np.int64), np.empty(end - first, np.uint64)
            number, num_bytes = _find_short(self.short, first, end, rows, ends)
            return rows[:number][np.argsort(ends[:number])], num_bytes

        parts = in_threads(find, self._parts(num_threads))
        words = np.cumsum([0, *(len(rows) for rows, _ in parts)])
        places = np.cumsum([0, *(num_bytes for _, num_bytes in parts)])
        num_words = int(words[-1] + self.state[_LONG_WORDS])
        starts, counts = np.zeros(num_words + 1, np.int64), np.empty(num_words, np.int64)
        text = np.empty(int(places[-1] + self.state[_TEXT_BYTES]), np.uint8)

        def write(part: int) -> None:
            if part == len(parts):
                _export_long(self.long, self.text, words[-1], places[-1], text, starts, counts)
                return
            _export_short(
                self.short,
                parts[part][0],
                words[part],
                *places[part : part + 2],
                text,
                starts,
                counts,
            )

        in_threads(write, [(part,) for part in range(len(parts) + 1)])
        return PretokenCounts(text=text, starts=starts, counts=counts)

    def _parts(self, number: int) -> Iterable[tuple[int, int]]:
        return pairwise((len(self.short) * np.arange(number + 1) // number).tolist())

    def _make_room(self, num_bytes: int) -> None:
        used = self.state[:2].any()
        if self._flush is not None and used and self._room_with(num_bytes) > self._max_bytes:
            self._flush(self.counts())
            document, at = self.state[_DOCUMENT], self.state[_AT]
            self.empty()
            self.state[_DOCUMENT], self.state[_AT] = document, at
        else:
            self._grow(num_bytes)

    def _wanted(self, num_bytes: int) -> tuple[bool, bool, int]:
        """Whether short and long words want a larger table, and the bytes that long ones want."""
        used = int(self.state[_TEXT_BYTES]) + num_bytes
        return (
            bool(2 * self.state[_SHORT_WORDS] >= len(self.short)),
            bool(2 * self.state[_LONG_WORDS] >= len(self.long)),
            2 * used if used > len(self.text) else len(self.text),
        )

    def _room_with(self, num_bytes: int) -> int:
        short, long, text = self._wanted(num_bytes)
        return self.short.nbytes * (1 + short) + self.long.nbytes * (1 + long) + text

    def _grow(self, num_bytes: int) -> None:
        short, long, text = self._wanted(num_bytes)
        if short:
            self.short = doubled_short(self.short)
        if long:
            self.long = doubled_long(self.long)
        if text > len(self.text):
            used = int(self.state[_TEXT_BYTES])
            grown = np.empty(text, np.uint8)
            grown[:used] = self.text[:used]
            self.text = grown


def summed(tables: Sequence[CountTable]) -> PretokenCounts:
    """What the tables hold together, by a thread for each; all of it is in one of them after."""
    total, *others = sorted(tables, key=lambda table: -len(table.short))
    for other in others:
        total.absorb_long(other)
    num_rows, num_short = len(total.short), sum(int(table.state[_SHORT_WORDS]) for table in tables)
    while others and num_short > _FULL * num_rows:
        num_rows *= 2
    in_threads(lambda table: table.widen(num_rows), [(table,) for table in tables])
    for other in others:
        total.absorb_short(other, len(tables))
        other.empty()
    return total.counts(len(tables))


@compiled
def _count(data, offsets, times, scan_table, rule, tables, state):
    """Counts on from where ``state`` says. ``_DONE``, or the size of a word that needs room."""
    for document in range(state[_DOCUMENT], len(offsets) - 1):
        at, stop = max(state[_AT], offsets[document]), offsets[document + 1]
        if times[document] == 0:
            continue
        while at < stop:
            size = ascii_piece_size(data, at, rule) if at + SIZE <= stop else np.int64(0)
            if size == 0:
                size = piece_end(data, at, stop, scan_table, rule) - at
            if not _add(data, at, size, times[document], tables, state):
                state[_DOCUMENT], state[_AT] = document, at
                return size
            at += size
    return _DONE


@compiled
def _count_words(data, offsets, times, tables, state):
    """As ``_count``, of words."""
    for word in range(state[_DOCUMENT], len(times)):
        size = offsets[word + 1] - offsets[word]
        if not _add(data, offsets[word], size, times[word], tables, state):
            state[_DOCUMENT] = word
            return size
    return _DONE


@inlined
def _add(data, at, size, times, tables, state):
    """Count a word; False where it is new and the tables have no room for it."""
    if size < SIZE:
        low, high = short_key(data, at, size)
        added = _add_short(low, high, times, tables, state)
    else:
        added = _add_long(data, at, size, long_hash(data, at, size), times, tables, state)
    return added


@inlined
def _add_short(low, high, times, tables, state):
    rows = tables[0]
    row = short_row(rows, low, high)
    added = True
    if rows[row, HIGH] == EMPTY:
        added = 2 * state[_SHORT_WORDS] < len(rows)
        if added:
            state[_SHORT_WORDS] += 1
            rows[row, LOW], rows[row, HIGH] = low, high
    if added:
        rows[row, VALUE] += times
    return added


@compiled
def _add_long(data, at, size, key, times, tables, state):
    _, rows, text = tables
    row = long_row(rows, text, data, at, size, key)
    if rows[row, HASH] == EMPTY:
        place = state[_TEXT_BYTES]
        if 2 * state[_LONG_WORDS] >= len(rows) or place + size > len(text):
            return False
        for i in range(size):
            text[place + i] = data[at + i]
        rows[row, HASH] = key
        rows[row, PLACE], rows[row, LENGTH] = np.uint64(place), np.uint64(size)
        state[_LONG_WORDS] += 1
        state[_TEXT_BYTES] += size
    rows[row, LONG_VALUE] += times
    return True


@compiled
def _absorb_short(rows, first, end, total, left):
    """Add some rows of a table to the same rows of another, as many as there.

    Returns how many words were new, and how many rows ``left`` names: those of words that begin
    before the first of these rows, or might lie behind the last.
    """
    added = num_left = 0
    for row in range(first, end):
        low, high = rows[row, LOW], rows[row, HIGH]
        if high == EMPTY:
            continue
        at = np.int64(mixed(low, high) & np.uint64(len(total) - 1))
        if at < first:
            at = end
        while (
            at < end
            and (total[at, LOW] != low or total[at, HIGH] != high)
            and total[at, HIGH] != EMPTY
        ):
            at += 1
        if at >= end:
            left[num_left] = row
            num_left += 1
            continue
        if total[at, HIGH] == EMPTY:
            total[at, LOW], total[at, HIGH] = low, high
            added += 1
        total[at, VALUE] += rows[row, VALUE]
    return added, num_left


@compiled
def _absorb_left(rows, left, total):
    """Add the rows that no part could; returns how many words were new."""
    added = 0
    for row in left:
        low, high = rows[row, LOW], rows[row, HIGH]
        at = short_row(total, low, high)
        if total[at, HIGH] == EMPTY:
            total[at, LOW], total[at, HIGH] = low, high
            added += 1
        total[at, VALUE] += rows[row, VALUE]
    return added


@compiled
def _absorb_long(long, text, tables, state):
    """Add another table's long words; returns as ``_count``."""
    for row in range(state[_DOCUMENT], len(long)):
        key = long[row, HASH]
        if key == EMPTY:
            continue
        at, size = np.int64(long[row, PLACE]), np.int64(long[row, LENGTH])
        if not _add_long(text, at, size, key, long[row, LONG_VALUE], tables, state):
            state[_DOCUMENT] = row
            return size
    return _DONE


@compiled
def _find_short(short, first, end, rows, ends):
    """Used rows among some, and a number for each by which words of one ending lie together.

    Returns how many there are, and the length of their words.
    """
    number = num_bytes = 0
    for row in range(first, end):
        high = short[row, HIGH]
        if high != EMPTY:
            rows[number], ends[number] = row, short[row, LOW]
            number += 1
            num_bytes += short_length(high)
    return number, num_bytes


@compiled
def _export_short(short, rows, word, place, end, text, starts, counts):
    """Write out the words of rows, from a word on, and their text from ``place`` to ``end``."""
    last = len(rows) - 1
    for i in range(len(rows)):
        prefetch(short, rows[min(i + _AHEAD, last)])
        row = rows[i]
        low, high = short[row, LOW], short[row, HIGH]
        size = short_length(high)
        if place + SIZE <= end:  # the next words write over what is too much
            put_window_words(text, place, low, high)
        else:
            for k in range(size):
                text[place + k] = short_byte(low, high, k)
        place += size
        counts[word] = short[row, VALUE]
        word += 1
        starts[word] = place


@compiled
def _export_long(long, long_text, word, place, text, starts, counts):
    """Write out the long words."""
    for row in range(len(long)):
        if long[row, HASH] == EMPTY:
            continue
        at = np.int64(long[row, PLACE])
        for i in range(at, at + np.int64(long[row, LENGTH])):
            text[place] = long_text[i]
            place += 1
        counts[word] = long[row, LONG_VALUE]
        word += 1
        starts[word] = place
