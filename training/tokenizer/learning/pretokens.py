"""How often each pre-token occurs: all that byte-pair encoding needs to know of a corpus.

Threads take shares of the documents in turn and count them into tables of their own, without the
interpreter lock. At the end each thread adds up one part of the words, told apart by their hash,
from every table. Counts are whole numbers, so neither threads nor order nor partial counts change
them.
"""

# mypy: disallow_untyped_defs=False

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from training.compiled import compiled, inlined
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
from training.tokenizer.scanning.scanner import RULES, ascii_piece_size, piece_end, scan_table
from training.tokenizer.scanning.short_words import short_byte, short_key, short_length
from training.tokenizer.scanning.window import SIZE
from training.tokenizer.texts import Texts, frozen

_SHARES = 16  # of a batch of texts, for each thread


@dataclass(frozen=True, slots=True, eq=False)
class PretokenCounts:
    """Distinct pre-tokens, end to end in ``text``, and how often each occurs.

    Their order means nothing: what is learned from them does not depend on it.
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


def added_up(parts: Iterable[pa.RecordBatch | PretokenCounts]) -> PretokenCounts:
    """The sum of partial counts; batches are as ``PretokenCounts.batch`` makes them."""
    total = CountTable()
    for part in parts:
        if isinstance(part, PretokenCounts):
            data, offsets, counts = part.text, part.starts, part.counts
        else:
            words = Texts.of(part["word"])
            data, offsets, counts = words.data, words.offsets, part["count"].to_numpy()
        total.count_words(data, offsets, counts)
    return total.counts()


class PretokenCounter:
    """Counts pre-tokens batch by batch; memory grows with distinct pre-tokens, not with text.

    ``pattern`` is a name of ``patterns.PATTERNS``. Where ``flush`` is given, no thread's table
    grows beyond ``max_bytes``: it is handed to ``flush`` as partial counts, from the thread that
    counts, and emptied; ``counts`` is then what was not flushed. (A table has to hold one word,
    however long.)
    """

    def __init__(
        self,
        pattern: str,
        classes: np.ndarray,
        num_threads: int | None = None,
        flush: Callable[[PretokenCounts], None] | None = None,
        max_bytes: int = 1 << 28,
    ) -> None:
        self._rule = RULES[pattern]
        self._scan_table = scan_table(classes)
        num_threads = num_threads or os.cpu_count() or 1
        self._tables = [CountTable(flush, max_bytes) for _ in range(num_threads)]

    def add(self, texts: Texts, copies: np.ndarray | None = None) -> None:
        """Count ``texts``, each once or as often as ``copies`` ``[texts]``, whole numbers, says."""
        times = np.ones(len(texts), np.uint64) if copies is None else copies.astype(np.uint64)
        tables = self._tables
        shares = texts.shares(len(tables) * _SHARES if len(tables) > 1 else 1)
        left = iter(shares)

        def count(table: CountTable) -> None:
            for share in left:  # a thread that is held up takes fewer
                offsets = texts.offsets[share.start : share.stop + 1]
                table.count(texts.data, offsets, times[share], self._scan_table, self._rule)

        in_threads(count, [(table,) for table in tables[: len(shares)]])

    def counts(self) -> PretokenCounts:
        """What was counted so far and not flushed."""
        tables = self._tables
        if len(tables) == 1:
            return tables[0].counts()
        num_short = sum(int(table.state[_SHORT_WORDS]) for table in tables)
        totals = [CountTable(num_short=num_short // len(tables)) for _ in tables]

        def add_up(part: int, total: CountTable) -> PretokenCounts:
            for table in tables:
                total.absorb(table, part, len(totals))
            return total.counts()

        parts = in_threads(add_up, enumerate(totals))
        ends = np.cumsum([len(part.text) for part in parts])
        return PretokenCounts(
            text=np.concatenate([part.text for part in parts]),
            starts=np.concatenate(
                [np.zeros(1, np.int64)]
                + [
                    part.starts[1:] + (end - len(part.text))
                    for part, end in zip(parts, ends, strict=True)
                ]
            ),
            counts=np.concatenate([part.counts for part in parts]),
        )


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
        num_short: int = 1 << 12,
    ) -> None:
        self._flush, self._max_bytes = flush, max_bytes
        self._num_rows = 1 << max(2 * num_short, 2).bit_length()
        self._empty()

    def _empty(self) -> None:
        self.short, self.long = short_table(self._num_rows), long_table(1 << 10)
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

    def absorb(self, other: "CountTable", part: int, num_parts: int) -> None:
        """Add the counts of the words of ``other`` that are in one part of ``num_parts``."""
        self.state[_DOCUMENT] = 0
        text = frozen(other.text)
        while need := _absorb(
            other.short, other.long, text, part, num_parts, self.tables, self.state
        ):
            self._make_room(need)

    def counts(self) -> PretokenCounts:
        """What the table holds."""
        num_words = int(self.state[_SHORT_WORDS] + self.state[_LONG_WORDS])
        starts, counts = np.zeros(num_words + 1, np.int64), np.empty(num_words, np.int64)
        text = np.empty(_text_bytes(self.short, self.state), np.uint8)
        _export(self.tables, text, starts, counts)
        return PretokenCounts(text=text, starts=starts, counts=counts)

    def _make_room(self, num_bytes: int) -> None:
        full = 2 * self.state[_SHORT_WORDS] >= len(self.short)
        full_long = 2 * self.state[_LONG_WORDS] >= len(self.long)
        used = int(self.state[_TEXT_BYTES])
        wanted = 2 * (used + num_bytes) if used + num_bytes > len(self.text) else len(self.text)
        size = self.short.nbytes * (1 + full) + self.long.nbytes * (1 + full_long) + wanted
        if self._flush is not None and size > self._max_bytes and self.state[:2].any():
            self._flush(self.counts())
            document, at = self.state[_DOCUMENT], self.state[_AT]
            self._empty()
            self.state[_DOCUMENT], self.state[_AT] = document, at
            return
        if full:
            self.short = doubled_short(self.short)
        if full_long:
            self.long = doubled_long(self.long)
        if wanted > len(self.text):
            grown = np.empty(wanted, np.uint8)
            grown[:used] = self.text[:used]
            self.text = grown


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
def _absorb(short, long, text, part, num_parts, tables, state):
    """Adds one part of another table's counts; returns as ``_count``."""
    for row in range(state[_DOCUMENT], len(short)):
        low, high = short[row, LOW], short[row, HIGH]
        if high == EMPTY or (mixed(low, high) >> np.uint64(40)) % num_parts != part:
            continue
        if not _add_short(low, high, short[row, VALUE], tables, state):
            state[_DOCUMENT] = row
            return short_length(high)
    for row in range(max(state[_DOCUMENT] - len(short), 0), len(long)):
        key = long[row, HASH]
        if key == EMPTY or (key >> np.uint64(40)) % num_parts != part:
            continue
        at, size = np.int64(long[row, PLACE]), np.int64(long[row, LENGTH])
        if not _add_long(text, at, size, key, long[row, LONG_VALUE], tables, state):
            state[_DOCUMENT] = len(short) + row
            return size
    return _DONE


@compiled
def _text_bytes(short, state):
    """Length of all words of a table, end to end."""
    length = state[_TEXT_BYTES]
    for row in range(len(short)):
        length += short_length(short[row, HIGH])
    return length


@compiled
def _export(tables, text, starts, counts):
    """Write out what a table holds."""
    short, long, long_text = tables
    word = place = 0
    for row in range(len(short)):
        low, high = short[row, LOW], short[row, HIGH]
        if high == EMPTY:
            continue
        for i in range(short_length(high)):
            text[place] = short_byte(low, high, i)
            place += 1
        counts[word] = short[row, VALUE]
        word += 1
        starts[word] = place
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
