"""Text to token ids: cut into pre-tokens, look each up among those merged before, merge others."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from datalake.config import Refusal
from training.tokenizer.encoding.merged_words import MOST_INLINE, MergedWords
from training.tokenizer.encoding.merging import MergeTable
from training.tokenizer.scanning.scanner import RULES, scan_table
from training.tokenizer.scanning.streaming import safe_blocks, safe_cuts
from training.tokenizer.texts import Texts

_SINGLE_THREAD_BYTES = 1 << 18  # below this, threads cost more than they save
_SHARE_BYTES = 1 << 18  # of a block of a file
_SHARES_PER_THREAD = 4  # so that no thread waits long for the last


class Encoder:
    """Encodes texts by one list of merges. Threads may share it: each call borrows its words."""

    def __init__(
        self,
        merges: np.ndarray,
        pattern: str,
        classes: np.ndarray,
        byte_ids: np.ndarray,
        dtype: type[np.unsignedinteger],
    ) -> None:
        if pattern not in RULES:
            raise Refusal(f"pattern must be one of {', '.join(RULES)}, got {pattern}")
        self._rule = RULES[pattern]
        self._dtype = dtype
        self._vocabulary = (scan_table(classes), MergeTable.of(merges, byte_ids).arrays)
        self._idle: list[MergedWords] = []  # append and pop are atomic

    def encode(self, texts: Texts, num_threads: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Ids of all texts, and where each begins, int64 ``[texts + 1]``."""
        threads = num_threads or os.cpu_count() or 1
        if texts.num_bytes <= _SINGLE_THREAD_BYTES or threads == 1:
            ids, lengths = self._encode(texts, slice(0, len(texts)))
        else:
            with ThreadPoolExecutor(threads) as pool:
                shares = texts.shares(threads * _SHARES_PER_THREAD)
                parts = list(pool.map(lambda share: self._encode(texts, share), shares))
            ids = np.concatenate([ids for ids, _ in parts])
            lengths = np.concatenate([lengths for _, lengths in parts])
        offsets = np.zeros(len(lengths) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        return ids, offsets

    def encode_file(
        self, path: Path, num_threads: int | None, block_bytes: int
    ) -> Iterator[np.ndarray]:
        """Ids of a file, block by block, each shared by the threads."""
        table = self._vocabulary[0]
        for block in safe_blocks(path, table, block_bytes):
            yield self.encode(Texts(block, safe_cuts(block, table, _SHARE_BYTES)), num_threads)[0]

    def _encode(self, texts: Texts, share: slice) -> tuple[np.ndarray, np.ndarray]:
        """Ids of a run of texts, and how many each has."""
        offsets = texts.offsets[share.start : share.stop + 1]
        ids = np.empty(int(offsets[-1] - offsets[0]) + MOST_INLINE, self._dtype)
        lengths = np.empty(len(offsets) - 1, np.int64)
        try:
            words = self._idle.pop()
        except IndexError:
            words = MergedWords()
        count = words.encode(texts.data, offsets, self._vocabulary, self._rule, ids, lengths)
        self._idle.append(words)
        return ids[:count], lengths
