import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from training.data.best_fit import best_fit


def one_by_one(lengths: list[int], capacity: int) -> tuple[list[int], list[int]]:
    """Best fit decreasing as it is told in textbooks."""
    rooms: list[int] = []
    rows, starts = [0] * len(lengths), [0] * len(lengths)
    for piece in sorted(range(len(lengths)), key=lambda piece: -lengths[piece]):
        fitting = [(room, row) for row, room in enumerate(rooms) if room >= lengths[piece]]
        if not fitting:
            rooms.append(capacity)
        rows[piece] = min(fitting)[1] if fitting else len(rooms) - 1
        starts[piece] = capacity - rooms[rows[piece]]
        rooms[rows[piece]] -= lengths[piece]
    return rows, starts


@st.composite
def pieces(draw: st.DrawFn) -> tuple[list[int], int]:
    capacity = draw(st.integers(1, 40))
    longest = draw(st.integers(1, capacity))
    return draw(st.lists(st.integers(1, longest), max_size=60)), capacity


@given(pieces())
def test_pieces_lie_where_best_fit_puts_them_one_by_one(pieces):
    lengths, capacity = pieces
    rows, starts = best_fit(np.array(lengths, np.int64), capacity)
    assert (rows.tolist(), starts.tolist()) == one_by_one(lengths, capacity)


def test_many_pieces_fill_their_rows():
    lengths = np.random.default_rng(0).geometric(1 / 300, 50_000) % 1000 + 1
    rows, starts = best_fit(lengths, 1001)
    assert rows.max() + 1 <= 1.001 * lengths.sum() / 1001
    order = np.lexsort((starts, rows))
    ends = starts + lengths
    assert ends.max() <= 1001
    together = np.diff(rows[order]) == 0
    assert np.array_equal(ends[order][:-1][together], starts[order][1:][together])
