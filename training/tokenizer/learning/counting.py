"""Pre-token counts by whatever pattern, and of files of any size.

A named pattern is counted by compiled code (``pretokens``), a regular expression of one's own by
the engine of ``regex``, which holds the interpreter and is therefore given processes.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from datalake.config import Refusal
from training.tokenizer.learning.count_table import PretokenCounts
from training.tokenizer.learning.own_pretokens import OwnPretokenCounter
from training.tokenizer.learning.pretokens import PretokenCounter
from training.tokenizer.patterns import PATTERNS
from training.tokenizer.scanning.scanner import scan_table
from training.tokenizer.scanning.streaming import safe_blocks, safe_cuts
from training.tokenizer.texts import Texts, frozen

_BATCH_BYTES = 1 << 24  # of text, for each thread
_SHARE_BYTES = 1 << 20  # about which threads can share a file


def counter(
    pattern: str,
    classes: np.ndarray,
    num_workers: int | None = None,
    flush: Callable[[PretokenCounts], None] | None = None,
    max_bytes: int = 1 << 28,
) -> PretokenCounter | OwnPretokenCounter:
    """A counter for a pattern by name, or of one's own; ``num_workers`` is all cores by default."""
    made = PretokenCounter if pattern in PATTERNS else OwnPretokenCounter
    return made(pattern, classes, num_workers, flush, max_bytes)


def count_files(
    paths: Sequence[Path],
    pattern: str,
    classes: np.ndarray,
    num_workers: int | None = None,
    say: Callable[[str], None] | None = None,
) -> PretokenCounts:
    """Counts of the text in files, each of which is one text.

    Memory grows with distinct pre-tokens, and with a file only where the pattern is one's own: no
    place is known at which such a pattern may be cut. Raises Refusal for a path that is no file.
    """
    for path in paths:
        if not path.is_file():
            raise Refusal(f"files must be files that can be read, got {path}")
    num_workers = num_workers or os.cpu_count() or 1
    counts = counter(pattern, classes, num_workers)
    num_bytes = said = 0
    for texts in _batches(paths, pattern, classes, num_workers * _BATCH_BYTES):
        counts.add(texts)
        num_bytes += texts.num_bytes
        if say is not None and num_bytes >= 2 * said:  # ever less often
            said = num_bytes
            say(f"{num_bytes:,} bytes counted")
    return counts.counts()


def _batches(
    paths: Sequence[Path], pattern: str, classes: np.ndarray, batch_bytes: int
) -> Iterator[Texts]:
    """The files' text in batches of about ``batch_bytes``, cut so that threads can share them."""
    table = scan_table(classes)
    blocks: list[np.ndarray] = []
    offsets, size = [np.zeros(1, np.int64)], 0
    for path in paths:
        whole = pattern not in PATTERNS
        for block in [np.fromfile(path, np.uint8)] if whole else safe_blocks(path, table):
            cuts = np.array([0, len(block)]) if whole else safe_cuts(block, table, _SHARE_BYTES)
            blocks.append(block)
            offsets.append(size + cuts[1:])
            size += len(block)
            if size >= batch_bytes:
                yield Texts(frozen(np.concatenate(blocks)), frozen(np.concatenate(offsets)))
                blocks, offsets, size = [], [np.zeros(1, np.int64)], 0
    if size:
        yield Texts(frozen(np.concatenate(blocks)), frozen(np.concatenate(offsets)))
