"""Best fit decreasing: pieces of unequal length into rows of equal length, none of them cut.

The longest piece comes first, and each goes to the row where it leaves the least room (Ding et al.
2024, "Fewer Truncations Improve Language Modeling", arXiv:2404.10830). Pieces of one length are
placed together: the tightest row takes as many of them as it holds before another row is looked at,
since what is left of it is tighter still. So a turn of the loop is for a length and a room, not for
a piece. A room that is used up shrinks to its remainder by the length, less than half of it, which
leaves O(n + T log T) work for n pieces and rows of T places.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np


def best_fit(lengths: np.ndarray, capacity: int) -> tuple[np.ndarray, np.ndarray]:
    """Row of each piece, from 0, and its first place there: int64 ``[pieces]`` each.

    ``lengths`` are int ``[pieces]``, in 1 .. ``capacity``. Equally long pieces are placed in the
    order given; of rows with equal room the one that was opened first is filled first.
    """
    rows, starts = np.empty((2, len(lengths)), np.int64)
    open_rows = _OpenRows()
    num_rows = 0
    for length, pieces in _longest_first(lengths):
        while len(pieces):
            room, found = open_rows.tightest(length)
            if not len(found):
                room = capacity
                wanted = -(-len(pieces) // (room // length))
                found = np.arange(num_rows, num_rows + wanted)
                num_rows += wanted
            each = room // length
            used = min(len(found), -(-len(pieces) // each))
            placed, pieces = np.split(pieces, [used * each])
            turn = np.arange(len(placed))
            rows[placed] = found[turn // each]
            starts[placed] = capacity - room + turn % each * length
            in_last = len(placed) - (used - 1) * each
            open_rows.add(room - each * length, found[: used - 1])
            open_rows.add(room - in_last * length, found[used - 1 : used])
            open_rows.add(room, found[used:])
    return rows, starts


class _OpenRows:
    """Rows by the room that is left in them."""

    def __init__(self) -> None:
        self._rows: dict[int, list[np.ndarray]] = {}
        self._rooms = 0  # bit r is set where a row has room r

    def add(self, room: int, rows: np.ndarray) -> None:
        if room and len(rows):
            self._rows.setdefault(room, []).append(rows)
            self._rooms |= 1 << room

    def tightest(self, length: int) -> tuple[int, np.ndarray]:
        """The least room of at least ``length``, and its rows, taken out, in ascending order."""
        enough = self._rooms >> length
        if not enough:
            return 0, np.empty(0, np.int64)
        room = length + (enough & -enough).bit_length() - 1
        self._rooms ^= 1 << room
        parts = self._rows.pop(room)
        return room, parts[0] if len(parts) == 1 else np.sort(np.concatenate(parts))


def _longest_first(lengths: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Every length that occurs, descending, and the pieces of that length in their order."""
    order = np.argsort(-lengths.astype(np.int64), kind="stable")
    firsts = np.flatnonzero(np.diff(lengths[order], prepend=0))
    for first, end in pairwise([*firsts.tolist(), len(order)]):
        yield int(lengths[order[first]]), order[first:end]
