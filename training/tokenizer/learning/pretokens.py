"""How often each pre-token occurs: all that byte-pair encoding needs to know of a corpus.

Threads take shares of the documents in turn and count them into tables of their own, without the
interpreter lock, which are added up at the end. Counts are whole numbers, so neither threads nor
order nor partial counts change them.
"""

import os
from collections.abc import Callable, Iterable

import numpy as np
import pyarrow as pa

from training.tokenizer.learning.count_table import CountTable, PretokenCounts, in_threads, summed
from training.tokenizer.scanning.scanner import RULES, scan_table
from training.tokenizer.texts import Texts

_SHARES = 16  # of a batch of texts, for each thread


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
        """What was counted so far and not flushed"""
        return summed(self._tables)
