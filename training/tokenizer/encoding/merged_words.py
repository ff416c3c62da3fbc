"""Pre-tokens merged before, and their ids: the table in which an encoder looks first.

Text repeats its words, so nearly every short pre-token costs one look-up. A word of up to fifteen
bytes *is* its key, its bytes and its length in two numbers, and lies in one row of half a cache
line with its first four ids: finding it compares two numbers and branches on nothing that the text
decides. Longer words, which hardly repeat, are merged each time.

What the table may hold is bounded, and it is emptied where it is full. It changes the speed alone,
never the ids. Memory is used as words come, so an encoder of short texts stays small.
"""

# mypy: disallow_untyped_defs=False

import numpy as np

from training.compiled import compiled, inlined
from training.tokenizer.encoding.merging import NUM_SCRATCH, UNDECIDED, merge
from training.tokenizer.scanning.scanner import ascii_piece_size, piece_end
from training.tokenizer.scanning.short_words import short_key
from training.tokenizer.scanning.window import SIZE

MOST_INLINE = 4  # ids in a row, and so how many more than there are may be written

_ROWS = 1 << 17  # 4 MB; half of the rows are used
_IDS = 1 << 18  # ids of words that have more than four
_PAIRS = 1 << 15  # of tokens, of which it is known whether they fit

# A row is its key, low and high, and four ids of 32 bits. Above the fifteen bytes, the key's last
# byte holds the length, and in a row the number of ids above it. An empty row has no length.
_LOW, _HIGH, _FIRST, _SECOND = range(4)
_EMPTY = np.uint64(0)
_COUNT_PLACE = np.uint64(60)
_HALF = np.uint64(32)
_ID = np.uint64((1 << 32) - 1)
_HIGH_BITS = np.uint64(40)  # of a product the high bits are the well mixed ones

# Odd numbers whose bits look random: 2^64 / golden ratio (Knuth, vol. 3, 6.4), and two of xxHash's.
_K1, _K2 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)
_K3 = np.uint64(0x165667B19E3779F9)

_WORDS, _IDS_HELD, DOCUMENT, AT, COUNT, BEFORE = range(6)


class MergedWords:
    """One thread's words, its scratch memory, and where its loop stands."""

    def __init__(self) -> None:
        self.tables = (
            np.zeros((_ROWS, 4), np.uint64),
            np.empty(_IDS, np.uint32),
            np.full(_PAIRS, UNDECIDED, np.uint64),
        )
        self.state = np.zeros(6, np.int64)
        self.scratch = np.empty((NUM_SCRATCH, 1 << 10), np.int64)

    def encode(
        self,
        data: np.ndarray,
        offsets: np.ndarray,
        vocabulary: tuple[np.ndarray, tuple[np.ndarray, ...]],
        rule: int,
        ids: np.ndarray,
        lengths: np.ndarray,
    ) -> int:
        """Write the ids of every text to ``ids``, their number to ``lengths``; returns their sum.

        ``vocabulary`` is the scanner's table and ``MergeTable.arrays``. ``ids``,
        uint16 or uint32, must have room for an id a byte and ``MOST_INLINE`` more.
        """
        self.state[DOCUMENT] = self.state[COUNT] = self.state[BEFORE] = 0
        self.state[AT] = offsets[0]
        while need := _encode(
            data, offsets, vocabulary, rule, self.tables, self.state, self.scratch, ids, lengths
        ):
            self.scratch = np.empty((NUM_SCRATCH, 2 * need), np.int64)
        return int(self.state[COUNT])


@compiled
def _encode(data, offsets, vocabulary, rule, tables, state, scratch, ids, lengths):
    """Encodes on from where ``state`` says. Zero when done, else the bytes a word has to merge."""
    table = vocabulary[0]
    rows = tables[0]
    count, before = state[COUNT], state[BEFORE]
    for document in range(state[DOCUMENT], len(offsets) - 1):
        at, stop = max(state[AT], offsets[document]), offsets[document + 1]
        while at < stop:
            size = ascii_piece_size(data, at, rule) if at + SIZE <= stop else np.int64(0)
            if size == 0:
                size = piece_end(data, at, stop, table, rule) - at
                if size >= SIZE:
                    if size > scratch.shape[1]:
                        state[DOCUMENT], state[AT] = document, at
                        state[COUNT], state[BEFORE] = count, before
                        return size
                    found = merge(data, at, size, vocabulary[1], tables[2], scratch)
                    for i in range(found):
                        ids[count + i] = scratch[0, i]
                    count += found
                    at += size
                    continue
            low, high = short_key(data, at, size)
            row = _short_row(rows, low, high)
            if rows[row, _HIGH] == _EMPTY:
                row = _remember(data, at, size, low, high, row, vocabulary, tables, state, scratch)
            found = np.int64(rows[row, _HIGH] >> _COUNT_PLACE)
            first, second = rows[row, _FIRST], rows[row, _SECOND]
            if found <= MOST_INLINE:
                ids[count] = first & _ID
                ids[count + 1] = first >> _HALF
                ids[count + 2] = second & _ID
                ids[count + 3] = second >> _HALF
            else:
                for i in range(found):
                    ids[count + i] = tables[1][np.int64(first) + i]
            count += found
            at += size
        lengths[document] = count - before
        before = count
    state[COUNT] = count
    return 0


@inlined
def _short_row(rows, low, high):
    """Row of the word with that key, or the empty row where it belongs."""
    mixed = low * _K1 + high * _K2
    mixed = (mixed ^ mixed >> _HALF) * _K3
    row = mixed >> _HIGH_BITS & np.uint64(len(rows) - 1)
    while (rows[row, _LOW] != low or (rows[row, _HIGH] ^ high) << np.uint64(4) != _EMPTY) and rows[
        row, _HIGH
    ] != _EMPTY:
        row = (row + np.uint64(1)) & np.uint64(len(rows) - 1)
    return row


@compiled
def _remember(data, at, size, low, high, row, vocabulary, tables, state, scratch):
    """Merge a word and enter it at ``row``, or elsewhere if the table had to be emptied."""
    rows, cached, decided = tables
    merges = vocabulary[1]
    if 2 * state[_WORDS] >= len(rows) or state[_IDS_HELD] + SIZE > len(cached):
        rows[:] = _EMPTY
        state[_WORDS] = state[_IDS_HELD] = 0
        row = _short_row(rows, low, high)
    found = merge(data, at, size, merges, decided, scratch)
    state[_WORDS] += 1
    rows[row, _LOW] = low
    rows[row, _HIGH] = high | np.uint64(found) << _COUNT_PLACE
    if found > MOST_INLINE:
        rows[row, _FIRST] = state[_IDS_HELD]
        for i in range(found):
            cached[state[_IDS_HELD] + i] = scratch[0, i]
        state[_IDS_HELD] += found
    else:
        for i in range(found, MOST_INLINE):
            scratch[0, i] = 0
        rows[row, _FIRST] = scratch[0, 0] | scratch[0, 1] << 32
        rows[row, _SECOND] = scratch[0, 2] | scratch[0, 3] << 32
    return row
