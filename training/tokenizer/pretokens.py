"""How often each pre-token occurs: all that byte-pair encoding needs to know of a corpus.

Threads count shares of the documents into tables of their own, without the interpreter lock, and
the tables are added up at the end: whole numbers, so neither threads nor order change the counts.
"""

# mypy: disallow_untyped_defs=False

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from training.tokenizer.compiled import compiled
from training.tokenizer.patterns import PatternName
from training.tokenizer.scanner import RULES, scan, scan_table
from training.tokenizer.texts import Texts, frozen
from training.tokenizer.word_table import (
    EMPTY,
    KEY,
    LENGTH,
    PLACE,
    VALUE,
    doubled,
    find_row,
    new_table,
    word_key,
)


@dataclass(frozen=True, slots=True, eq=False)
class PretokenCounts:
    """Distinct pre-tokens, end to end in ``text``, and how often each occurs."""

    text: np.ndarray  # uint8
    starts: np.ndarray  # int64 [words + 1]
    counts: np.ndarray  # int64 [words]

    @property
    def num_bytes(self) -> int:
        """Length of the text that was counted."""
        return int(self.counts @ np.diff(self.starts))


class PretokenCounter:
    """Counts pre-tokens batch by batch; memory grows with distinct pre-tokens, not with text."""

    def __init__(
        self, pattern: PatternName, classes: np.ndarray, num_threads: int | None = None
    ) -> None:
        self._rule = RULES[pattern]
        self._scan_table = scan_table(classes)
        self._tables = [_CountTable() for _ in range(num_threads or os.cpu_count() or 1)]

    def add(self, texts: Texts, copies: np.ndarray | None = None) -> None:
        """Count ``texts``, each once or as often as ``copies`` ``[texts]``, whole numbers, says."""
        times = np.ones(len(texts), np.uint64) if copies is None else copies.astype(np.uint64)

        def count(table: "_CountTable", share: slice) -> None:
            offsets = texts.offsets[share.start : share.stop + 1]
            table.count(texts.data, offsets, times[share], self._scan_table, self._rule)

        with ThreadPoolExecutor(len(self._tables)) as threads:
            list(threads.map(count, self._tables, texts.shares(len(self._tables))))

    def counts(self) -> PretokenCounts:
        """What was counted so far, words in an order that means nothing."""
        total = _CountTable()
        for table in self._tables:
            total.absorb(table)
        rows = total.rows[total.rows[:, KEY] != EMPTY]
        rows = rows[np.argsort(rows[:, PLACE])]
        return PretokenCounts(
            text=total.text[: total.state[_TEXT_BYTES]],
            starts=np.append(rows[:, PLACE], total.state[_TEXT_BYTES]).astype(np.int64),
            counts=rows[:, VALUE].astype(np.int64),
        )


_WORDS, _TEXT_BYTES, _DOCUMENT, _AT = range(4)  # what a counting loop remembers while it waits


class _CountTable:
    """One thread's words and counts; it grows by doubling when the loop asks for room."""

    def __init__(self) -> None:
        self.rows = new_table(1 << 14)
        self.text = np.empty(1 << 18, np.uint8)
        self.state = np.zeros(4, np.int64)

    def count(
        self,
        data: np.ndarray,
        offsets: np.ndarray,
        times: np.ndarray,
        scan_table: np.ndarray,
        rule: int,
    ) -> None:
        ends = np.empty(4096, np.int64)
        self.state[_DOCUMENT], self.state[_AT] = 0, offsets[0]
        while need := _count(
            data, offsets, times, scan_table, rule, ends, self.rows, self.text, self.state
        ):
            self._make_room(need)

    def absorb(self, other: "_CountTable") -> None:
        self.state[_DOCUMENT] = 0
        while need := _absorb(other.rows, frozen(other.text), self.rows, self.text, self.state):
            self._make_room(need)

    def _make_room(self, num_bytes: int) -> None:
        if 2 * self.state[_WORDS] >= len(self.rows):
            self.rows = doubled(self.rows)
        used = self.state[_TEXT_BYTES]
        if used + num_bytes > len(self.text):
            grown = np.empty(2 * (used + num_bytes), np.uint8)
            grown[:used] = self.text[:used]
            self.text = grown


@compiled
def _count(data, offsets, times, scan_table, rule, ends, rows, text, state):
    """Counts on from where ``state`` says. Zero when done, else the bytes a new word needs."""
    for document in range(state[_DOCUMENT], len(offsets) - 1):
        at = max(state[_AT], offsets[document])
        while at < offsets[document + 1] and times[document]:
            for i in range(scan(data, at, offsets[document + 1], scan_table, rule, ends)):
                if not _add(data, at, ends[i], times[document], rows, text, state):
                    state[_DOCUMENT], state[_AT] = document, at
                    return ends[i] - at
                at = ends[i]
    return 0


@compiled
def _absorb(other, other_text, rows, text, state):
    """Adds another table's counts. Zero when done, else the bytes a new word needs."""
    for row in range(state[_DOCUMENT], len(other)):
        if other[row, KEY] == EMPTY:
            continue
        at = np.int64(other[row, PLACE])
        end = at + np.int64(other[row, LENGTH])
        if not _add(other_text, at, end, other[row, VALUE], rows, text, state):
            state[_DOCUMENT] = row
            return end - at
    return 0


@compiled
def _add(data, at, end, times, rows, text, state):
    """Count a word; False where it is new and the table, or its text, has no room for it."""
    key = word_key(data, at, end)
    row = find_row(rows, text, data, at, end, key)
    if rows[row, KEY] != EMPTY:
        rows[row, VALUE] += times
        return True
    place = state[_TEXT_BYTES]
    if 2 * state[_WORDS] >= len(rows) or place + end - at > len(text):
        return False
    for i in range(end - at):
        text[place + i] = data[at + i]
    rows[row, KEY] = key
    rows[row, PLACE] = np.uint64(place)
    rows[row, LENGTH] = np.uint64(end - at)
    rows[row, VALUE] = times
    state[_WORDS] += 1
    state[_TEXT_BYTES] += end - at
    return True
