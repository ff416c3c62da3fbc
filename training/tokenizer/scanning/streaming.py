"""Text of any size, cut where no pre-token is cut, so that its parts may be encoded alone.

A cut is safe between a letter or a number and white space or a symbol, unless that symbol is an
apostrophe or a mark. In every named pattern, whatever matches the letter or number is a word or a
number; a word goes on with letters (o200k: and marks) and then perhaps with a contraction, which
begins with an apostrophe, a number with numbers. So a pre-token ends at the cut. What comes before
it does not depend on what follows: a pattern looks ahead only behind white space, and the last
character before the cut is none. What follows does not depend on what came before, since no pattern
looks back. Bytes that are no UTF-8 are symbols, so the same holds for any bytes.

Of a regular expression of one's own no such place is known.
"""

# mypy: disallow_untyped_defs=False

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from training.compiled import compiled
from training.tokenizer.patterns import NUMBER, OTHER
from training.tokenizer.scanning.scanner import APOSTROPHE, LETTERS, SPACES, character
from training.tokenizer.texts import frozen

BLOCK_BYTES = 1 << 24

_LONGEST_CHARACTER = 4  # bytes


def safe_cut(data: np.ndarray, table: np.ndarray, begin: int = 0, end: int | None = None) -> int:
    """The last safe place in ``data[begin:end]``, as an index of ``data``; ``begin`` if none is.

    ``data`` is uint8, ``table`` is ``scanner.scan_table``'s. A place near ``end`` at which the
    character that follows may not be whole is not considered.
    """
    return int(_safe_cut(frozen(data), begin, len(data) if end is None else end, table))


def safe_cuts(data: np.ndarray, table: np.ndarray, size: int) -> np.ndarray:
    """0, safe places about ``size`` bytes apart, and the length of ``data``: int64, ascending."""
    cuts = [0]
    for target in range(size, len(data), size):
        cut = safe_cut(data, table, cuts[-1], target)
        if cut > cuts[-1]:
            cuts.append(cut)
    return frozen(np.array([*cuts, *([len(data)] if len(data) else [])], np.int64))


def safe_blocks(
    path: str | Path, table: np.ndarray, block_bytes: int = BLOCK_BYTES
) -> Iterator[np.ndarray]:
    """The bytes of a file, read-only uint8, in blocks of about ``block_bytes`` cut at safe places.

    Each block is new memory. One of a run without a safe place is as long as the run.
    """
    kept = np.empty(0, np.uint8)
    with Path(path).open("rb") as file:
        while True:
            block = np.empty(max(block_bytes, 2 * len(kept)), np.uint8)
            block[: len(kept)] = kept
            size = len(kept) + _fill(file, block[len(kept) :])
            if size < len(block):
                if size:
                    yield frozen(block[:size])
                return
            cut = safe_cut(block, table)
            if cut:
                yield frozen(block[:cut])
            kept = block[cut:]


def _fill(file, block):
    """Read until ``block`` is full or the file ends; returns the number of bytes read."""
    size = 0
    while size < len(block):
        count = file.readinto(memoryview(block[size:]))
        if not count:
            break
        size += count
    return size


@compiled
def _safe_cut(data, begin, end, table):
    place = end - _LONGEST_CHARACTER
    while place > begin:
        kind, _ = character(data, place, end, table)
        if kind & (SPACES | OTHER) and data[place] != APOSTROPHE and data[place] & 0xC0 != 0x80:
            before = place - 1
            while before > begin and data[before] & 0xC0 == 0x80 and place - before < 4:
                before -= 1
            kind, after = character(data, before, place, table)
            if after == place and kind & (LETTERS | NUMBER):
                return place
        place -= 1
    return begin
