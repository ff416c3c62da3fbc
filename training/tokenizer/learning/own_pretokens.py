"""Pre-token counts by a regular expression of one's own: exact, and as slow as its engine."""

import multiprocessing
import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pyarrow as pa

from datalake.config import Refusal
from training.tokenizer.learning.count_table import PretokenCounts
from training.tokenizer.learning.pretokens import added_up
from training.tokenizer.patterns import check_pattern, decoded, left_out
from training.tokenizer.texts import Texts

_WORD_BYTES = 100  # about what a dictionary needs besides the bytes of a word
_PIECE_BYTES = 1 << 22  # of text at a time to a process: about half a second


class OwnPretokenCounter:
    """Counts pre-tokens as ``PretokenCounter`` does; processes take the place of threads."""

    def __init__(
        self,
        pattern: str,
        classes: np.ndarray,
        num_processes: int | None = None,
        flush: Callable[[PretokenCounts], None] | None = None,
        max_bytes: int = 1 << 28,
    ) -> None:
        """``classes`` are for named patterns. Raises Refusal as ``patterns.check_pattern``."""
        self._pattern = check_pattern(pattern)
        self._num_processes = num_processes or os.cpu_count() or 1
        self._flush, self._max_bytes = flush, max_bytes
        self._words: Counter[str] = Counter()
        self._num_bytes = 0
        self._parts: list[PretokenCounts] = []

    def add(self, texts: Texts, copies: np.ndarray | None = None) -> None:
        """Count ``texts``, each once or as often as ``copies`` ``[texts]``, whole numbers, says.

        Raises Refusal where a text is no UTF-8, or has a character that the pattern leaves out.
        """
        times = np.ones(len(texts), np.int64) if copies is None else copies
        pieces = texts.shares(-(-texts.num_bytes // _PIECE_BYTES)) if texts.num_bytes else []
        if self._num_processes == 1 or len(pieces) == 1:
            for number in range(len(texts)):
                self._count(texts, number, int(times[number]))
            return
        spawn = multiprocessing.get_context("spawn")  # a fork would copy the locks of threads
        with ProcessPoolExecutor(min(self._num_processes, len(pieces)), spawn) as processes:
            todo = [
                processes.submit(
                    _count_piece,
                    self._pattern,
                    texts.data[texts.offsets[piece.start] : texts.offsets[piece.stop]].tobytes(),
                    texts.offsets[piece.start : piece.stop + 1] - texts.offsets[piece.start],
                    times[piece],
                    piece.start,
                )
                for piece in pieces
            ]
            self._parts = [added_up([*self._parts, *(done.result() for done in todo)])]

    def counts(self) -> PretokenCounts:
        """What was counted so far and not flushed."""
        own = _as_counts(self._words)
        return added_up([*self._parts, own]) if self._parts else own

    def _count(self, texts: Texts, number: int, times: int) -> None:
        data = texts.data[texts.offsets[number] : texts.offsets[number + 1]].tobytes()
        if times == 0:
            return
        for word, count in count_text(data, self._pattern, number).items():
            if word not in self._words:
                self._num_bytes += len(word) + _WORD_BYTES
            self._words[word] += times * count
        if self._flush is not None and self._num_bytes > self._max_bytes:
            self._flush(_as_counts(self._words))
            self._words, self._num_bytes = Counter(), 0


def count_text(data: bytes, pattern: str, number: int) -> Counter[str]:
    """Counts of what a regular expression cuts a text into; ``number`` names the text in errors.

    Raises Refusal where the text is no UTF-8, where a match is empty, or a character is left out.
    """
    import regex

    text = decoded(data, number)
    compiled = regex.compile(pattern)
    words = Counter(match.group() for match in compiled.finditer(text))
    if "" in words:
        raise Refusal(f"pattern must not match the empty string, got {pattern!r}")
    if sum(len(word) * count for word, count in words.items()) < len(text):
        raise left_out(pattern, text, number)
    return words


def _count_piece(
    pattern: str, data: bytes, offsets: np.ndarray, times: np.ndarray, first: int
) -> PretokenCounts:
    """Counts of the texts of a piece, in a process of its own; ``first`` is the first's number."""
    words: Counter[str] = Counter()
    for i in range(len(times)):
        if times[i]:
            found = count_text(data[offsets[i] : offsets[i + 1]], pattern, first + i)
            for word, count in found.items():
                words[word] += int(times[i]) * count
    return _as_counts(words)


def _as_counts(words: Counter[str]) -> PretokenCounts:
    column = Texts.of(pa.array(words, pa.large_string()))
    return PretokenCounts(
        text=column.data[: column.offsets[-1]],
        starts=column.offsets,
        counts=np.fromiter(words.values(), np.int64, len(words)),
    )
