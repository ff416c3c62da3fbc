"""Compiled parts of the search for repeated passages: tokens as numbers, and equal runs of them.

``intern`` gives every different token a number, by its bytes and not by a hash of them, so equal
numbers mean equal tokens. ``name_pairs`` is one step of prefix doubling: from the names of runs of
h tokens it makes names of runs of up to 2h, equal exactly where the runs are.
"""

# mypy: disallow_untyped_defs=False, check_untyped_defs=False
# Numba infers every type from the arrays that are passed.

import numpy as np
from numba import njit

from datalake.dedup.repeats.piece_kernels import GRAM, PRIME, SEED, decode, mix
from datalake.filters.measures.characters import ALONE, SPACE, WORD

DEAD = np.int32(-1)  # a run that stands only once, or would cross the end of a document
_EMPTY, _ONCE = np.int32(-2), np.int32(-1)  # of a slot: no run, or one without a name yet


@njit(cache=True, inline="always")
def _kind(point, classes):
    return classes[point] if point < classes.size else np.uint8(0)


@njit(cache=True)
def next_token(data, i, end, classes):
    """First byte of the next token from byte ``i`` on, and one past its last; ``end`` for none.

    A token is a run of ``\\w``, or one character of a script without spaces, or one sign.
    """
    first = i
    while first < end:
        point, width = decode(data, first, end)
        kind = _kind(point, classes)
        if not kind & SPACE:
            break
        first += width
    if first >= end:
        return end, end
    stop = first + width
    if kind & WORD and not kind & ALONE:
        while stop < end:
            point, width = decode(data, stop, end)
            kind = _kind(point, classes)
            if not kind & WORD or kind & ALONE:
                break
            stop += width
    return first, stop


@njit(cache=True, nogil=True)
def intern(data, i, end, classes, slots, hashes, bounds, letters, num_known, ids, num_ids):
    """Number the tokens of bytes ``i`` to ``end``, as far as there is room.

    slots: int32 [power of two], a token's number or -1; hashes: uint64 and bounds: int64, one more,
    of the known tokens, whose bytes are ``letters``; ids: int32, filled from ``num_ids`` on.
    Returns the byte reached, the number of known tokens, and of ids.
    """
    mask = np.uint64(slots.size - 1)
    while i < end:
        first, stop = next_token(data, i, end, classes)
        if first >= end:
            return end, num_known, num_ids
        size = stop - first
        h = SEED
        for k in range(first, stop):
            h = (h ^ np.uint64(data[k])) * PRIME
        h = mix(h)
        slot = h & mask
        while slots[slot] >= 0:
            known = slots[slot]
            if hashes[known] == h and bounds[known + 1] - bounds[known] == size:
                same = True
                for k in range(size):
                    if letters[bounds[known] + k] != data[first + k]:
                        same = False
                        break
                if same:
                    break
            slot = (slot + np.uint64(1)) & mask
        full = num_ids == ids.size
        if slots[slot] < 0:
            if full or 2 * num_known >= slots.size or num_known == hashes.size:
                return first, num_known, num_ids
            if bounds[num_known] + size > letters.size:
                return first, num_known, num_ids
            slots[slot] = num_known
            hashes[num_known] = h
            for k in range(size):
                letters[bounds[num_known] + k] = data[first + k]
            bounds[num_known + 1] = bounds[num_known] + size
            num_known += 1
        elif full:
            return first, num_known, num_ids
        ids[num_ids] = slots[slot]
        num_ids += 1
        i = stop
    return end, num_known, num_ids


@njit(cache=True, nogil=True)
def rehash(hashes, num_known, slots):
    """Fill empty ``slots`` with the known tokens."""
    mask = np.uint64(slots.size - 1)
    for known in range(num_known):
        slot = hashes[known] & mask
        while slots[slot] >= 0:
            slot = (slot + np.uint64(1)) & mask
        slots[slot] = known


@njit(cache=True, nogil=True)
def kill_single(names, num_known):
    """Let tokens that occur once be DEAD."""
    counts = np.zeros(num_known, np.int32)
    for i in range(names.size):
        if names[i] >= 0:
            counts[names[i]] += 1
    for i in range(names.size):
        if names[i] >= 0 and counts[names[i]] == 1:
            names[i] = DEAD


@njit(cache=True, nogil=True)
def anchors(names, width, gram):
    """The ``gram`` tokens of least hash in every window of ``width`` live tokens (winnowing).

    Equal windows have them at the same distance, so a window whose anchor's hash occurs nowhere
    else stands once (Schleimer, Wilkerson and Aiken 2003). Returns, for every anchor, its hash and
    the first and one past the last of the windows that it speaks for: uint64, int64, int64.
    """
    # Memory that is never written to is never taken; arrays that grow would be slow in the loop.
    hashes = np.empty(names.size, np.uint64)
    windows, untils = np.empty(names.size, np.int64), np.empty(names.size, np.int64)
    room = 2  # of a ring that holds a queue of candidates, least hash first
    while room < width - gram + 2:
        room *= 2
    values, places, ring = np.empty(room, np.uint64), np.empty(room, np.int64), room - 1
    head = tail = length = n = 0
    power = np.uint64(1)
    for _ in range(gram):
        power *= GRAM
    rolling, shown = np.uint64(0), np.int64(-1)
    for i in range(names.size):
        if names[i] < 0:
            rolling, length, head, tail, shown = np.uint64(0), 0, 0, 0, np.int64(-1)
            continue
        rolling = rolling * GRAM + np.uint64(names[i] + 1)
        if length >= gram:
            rolling -= np.uint64(names[i - gram] + 1) * power
        length += 1
        if length < gram:
            continue
        value = mix(rolling)
        while tail > head and values[(tail - 1) & ring] >= value:
            tail -= 1
        values[tail & ring], places[tail & ring] = value, i - gram + 1
        tail += 1
        if length < width:
            continue
        window = i - width + 1
        while places[head & ring] < window:
            head += 1
        if places[head & ring] != shown:
            shown = places[head & ring]
            hashes[n], windows[n] = values[head & ring], window
            n += 1
        untils[n - 1] = window + 1
    return hashes[:n], windows[:n], untils[:n]


@njit(cache=True, nogil=True)
def kill_outside(names, windows, untils, width):
    """Let all tokens be DEAD that lie in none of the windows of ``width`` tokens given."""
    at = np.int64(0)
    for k in range(windows.size):
        while at < windows[k]:
            names[at] = DEAD
            at += 1
        at = max(at, untils[k] - 1 + width)
    names[at:] = DEAD


@njit(cache=True, nogil=True)
def count_pairs(names, step):
    """How many runs have a live name at their begin and ``step`` tokens on."""
    live = 0
    for i in range(names.size - step):
        live += names[i] >= 0 and names[i + step] >= 0
    return live


@njit(cache=True, nogil=True)
def name_pairs(names, step, new, keys, firsts, given, part, num_parts, next_name, places):
    """Name the runs that begin with ``names[i]`` and go on with ``names[i + step]``.

    Runs are equal where both names are; those that occur once stay DEAD in ``new``. Only keys that
    fall into ``part`` of ``num_parts``, a power of two, are looked at, so that the table (keys:
    uint64, firsts, given: int32, of one power of two) may be small. Where ``places`` is set, a run
    is named by the place of its first occurrence. Returns the next free name.
    """
    mask = np.uint64(keys.size - 1)
    parts = np.uint64(num_parts - 1)
    mine = np.uint64(part)
    given[:] = _EMPTY
    for i in range(names.size - step):
        a, b = names[i], names[i + step]
        if a < 0 or b < 0:
            continue
        key = np.uint64(a) << np.uint64(32) | np.uint64(b)
        h = mix(key)
        if (h >> np.uint64(44)) & parts != mine:
            continue
        slot = h & mask
        while given[slot] != _EMPTY and keys[slot] != key:
            slot = (slot + np.uint64(1)) & mask
        if given[slot] == _EMPTY:
            keys[slot], firsts[slot], given[slot] = key, i, _ONCE
            continue
        if given[slot] == _ONCE:
            given[slot] = firsts[slot] if places else next_name
            next_name += 1
            new[firsts[slot]] = given[slot]
        new[i] = given[slot]
    return next_name


@njit(cache=True, nogil=True)
def ranges(places, width, keep_first):
    """Tokens to cut: begins and ends of ranges, ascending, none touching another.

    places: int32, the first place of the run of ``width`` tokens that begins at each token, DEAD
    where it stands once. With ``keep_first`` a first run stays, and one that overlaps its own first
    is cut from the end of that on.
    """
    size = np.int64(1024)
    begins, ends = np.empty(size, np.int64), np.empty(size, np.int64)
    n = 0
    for i in range(places.size):
        first = places[i]
        if first < 0 or (keep_first and first == i):
            continue
        begin, end = i, i + width
        if keep_first:
            begin = max(begin, first + width)
        if n and begin <= ends[n - 1]:
            ends[n - 1] = max(ends[n - 1], end)
            # A run cut from later on may be followed by one that is cut from its begin on.
            while begin < begins[n - 1]:
                if n > 1 and begin <= ends[n - 2]:
                    ends[n - 2] = ends[n - 1]
                    n -= 1
                else:
                    begins[n - 1] = begin
            continue
        if n == begins.size:
            more, further = np.empty(2 * n, np.int64), np.empty(2 * n, np.int64)
            more[:n], further[:n] = begins, ends
            begins, ends = more, further
        begins[n], ends[n] = begin, end
        n += 1
    return begins[:n], ends[:n]


@njit(cache=True, nogil=True)
def locate(data, start, end, classes, begins, ends, first_bytes, last_bytes):
    """Bytes of ranges of tokens in one text, and the characters outside them but white space.

    begins, ends: int64 [ranges], tokens of the text from 0, ascending; the bytes, counted from the
    text's own first, go into first_bytes and last_bytes, int64 of the same length.
    """
    i, token, k, outside = start, 0, 0, 0
    while i < end:
        first, stop = next_token(data, i, end, classes)
        if first >= end:
            break
        while k < ends.size and ends[k] <= token:
            k += 1
        if k < ends.size and begins[k] <= token:
            if begins[k] == token:
                first_bytes[k] = first - start
            last_bytes[k] = stop - start
        else:
            j = first
            while j < stop:
                _, width = decode(data, j, stop)
                outside += 1
                j += width
        token += 1
        i = stop
    return outside
