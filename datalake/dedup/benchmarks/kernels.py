"""Compiled search for n-grams of benchmark items in the bytes of an Arrow batch.

A text is a row of *tokens*; what a token is, a table says by code point, so the same loop reads
words with punctuation between them, words with punctuation taken out, and single characters. The
hash of an n-gram is a polynomial in the hashes of its tokens, so that a prefix sum gives every
n-gram in one multiplication. A bitmap tells almost all of them apart from the indexed ones; of the
rest the bytes are compared, token by token, before a match is said.

Tokens of a document are held in blocks of ``BLOCK``, so memory does not grow with its length.
``datalake.dedup.benchmarks.index`` makes the arrays; importing this module costs a second.
"""

# mypy: disallow_untyped_defs=False, check_untyped_defs=False
# Numba infers every type from the arrays that are passed.

import numpy as np
from numba import njit

# What a character is to the scan: high bits of its entry in the table of codes, whose low
# ``_POINT`` bits are the code point that it is folded to.
SEPARATOR, IGNORED, INSIDE, ALONE, MARK = range(5)  # a mark goes on with a word, and begins none
KIND_SHIFT = 24
_SHIFT = np.uint32(KIND_SHIFT)
_POINT = np.uint32((1 << KIND_SHIFT) - 1)

WHERE_IT_STANDS, WHOLE_ITEM, SKIP_GRAM = range(3)  # how a matched n-gram is followed

DOCUMENT, GRAM, TOKEN, NUM_TOKENS, START, STOP, NUM_FIELDS = range(7)  # of a hit

BLOCK = 8192  # tokens; their arrays stay in the second-level cache

_SEED = np.uint64(0xCBF29CE484222325)  # FNV-1a, 64 bits
_PRIME = np.uint64(0x100000001B3)
GRAM_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that no power of it vanishes
_30, _27, _31 = np.uint64(30), np.uint64(27), np.uint64(31)


@njit(cache=True, nogil=True, inline="always")
def _mix(h):
    """The finalizer of splitmix64 (Steele et al. 2014)."""
    h = (h ^ (h >> _30)) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> _27)) * np.uint64(0x94D049BB133111EB)
    return h ^ (h >> _31)


@njit(cache=True, nogil=True)
def _wide_code(data, i, end, codes):
    """Code of the character at byte ``i``, and its bytes; a broken sequence reads as its bytes."""
    lead = data[i]
    point, size = np.uint32(lead), np.int64(1)
    if i + 1 >= end or data[i + 1] & 0xC0 != 0x80:
        return codes[point], size
    if lead >= 0xF0 and i + 3 < end:
        point = np.uint32(
            (lead & 0x07) << 18
            | (data[i + 1] & 0x3F) << 12
            | (data[i + 2] & 0x3F) << 6
            | (data[i + 3] & 0x3F)
        )
        size = 4
    elif lead >= 0xE0 and i + 2 < end:
        point = np.uint32((lead & 0x0F) << 12 | (data[i + 1] & 0x3F) << 6 | (data[i + 2] & 0x3F))
        size = 3
    elif lead >= 0xC0 and i + 1 < end:
        point = np.uint32((lead & 0x1F) << 6 | (data[i + 1] & 0x3F))
        size = 2
    return codes[point] if point < codes.size else np.uint32(0), size


@njit(cache=True, nogil=True)
def next_token(data, i, end, codes, seed):
    """Hash, first byte and byte behind the next token, and where to go on; the first is -1
    where there is no further token."""
    h, start, stop = _SEED ^ seed, np.int64(-1), np.int64(i)
    i = np.int64(i)
    while i < end:
        lead = data[i]
        if lead < 0x80:  # said here again: the loop over ASCII is where the time goes
            code, size = codes[lead], np.int64(1)
        else:
            code, size = _wide_code(data, i, end, codes)
        kind = code >> _SHIFT
        if kind == INSIDE or (kind == MARK and start >= 0):
            h = (h ^ np.uint64(code & _POINT)) * _PRIME
            if start < 0:
                start = i
            i += size
            stop = i
        elif kind == IGNORED:
            i += size
        elif kind == ALONE:
            if start >= 0:
                break
            h = (h ^ np.uint64(code & _POINT)) * _PRIME
            return _mix(h), np.int64(i), np.int64(i + size), np.int64(i + size)
        else:
            i += size
            if start >= 0:
                break
    return _mix(h), start, stop, np.int64(i)


@njit(cache=True, nogil=True)
def count_tokens(data, offsets, codes, counts):
    """Tokens of every text, into ``counts``: int64 [texts]."""
    for d in range(offsets.size - 1):
        i, end = offsets[d], offsets[d + 1]
        while i < end:
            _, start, _, i = next_token(data, i, end, codes, np.uint64(0))
            counts[d] += start >= 0


@njit(cache=True, nogil=True)
def tokenise(data, offsets, codes, seed, hashes, starts, stops):
    """Hash, first byte and byte behind each token of all texts, one text after the other."""
    n = 0
    for d in range(offsets.size - 1):
        i, end = offsets[d], offsets[d + 1]
        while i < end:
            h, start, stop, i = next_token(data, i, end, codes, seed)
            if start >= 0:
                hashes[n], starts[n], stops[n] = h, start, stop
                n += 1


@njit(cache=True, nogil=True, inline="always")
def _gram_hash(last, first, power, length):
    return _mix(last - first * power + np.uint64(length) * GRAM_BASE)


@njit(cache=True, nogil=True)
def _power(length):
    power = np.uint64(1)
    for _ in range(length):
        power *= GRAM_BASE
    return power


@njit(cache=True, nogil=True)
def gram_hashes(hashes, firsts, lasts, lengths, out, tokens, sizes):
    """n-grams of ``lengths[k]`` tokens that begin at token ``firsts[k]`` and before ``lasts[k]``.

    Writes hash, first token and length of each, in order.
    """
    prefix = np.empty(hashes.size + 1, np.uint64)
    prefix[0] = 0
    for k in range(hashes.size):
        prefix[k + 1] = prefix[k] * GRAM_BASE + hashes[k]
    n = 0
    for k in range(firsts.size):
        power = _power(lengths[k])
        for t in range(firsts[k], lasts[k]):
            out[n] = _gram_hash(prefix[t + lengths[k]], prefix[t], power, lengths[k])
            tokens[n], sizes[n] = t, lengths[k]
            n += 1


@njit(cache=True, nogil=True)
def same_token(a, i, a_end, b, j, b_end, codes):
    """Whether two ranges of bytes, a token each, fold to the same characters."""
    while True:
        left, right = np.uint32(0), np.uint32(0)
        while i < a_end and left == 0:
            code, size = _wide_code(a, i, a_end, codes)
            i += size
            if code >> KIND_SHIFT != IGNORED:
                left = code
        while j < b_end and right == 0:
            code, size = _wide_code(b, j, b_end, codes)
            j += size
            if code >> KIND_SHIFT != IGNORED:
                right = code
        if left != right:
            return False
        if left == 0:
            return True


@njit(cache=True, nogil=True)
def same_grams(data, starts, stops, codes, groups, tokens, sizes):
    """Whether n-grams of one group, which follow each other, are the same tokens."""
    for k in range(1, groups.size):
        if groups[k] != groups[k - 1]:
            continue
        if sizes[k] != sizes[k - 1]:
            return False
        for n in range(sizes[k]):
            s, t = tokens[k - 1] + n, tokens[k] + n
            if not same_token(data, starts[s], stops[s], data, starts[t], stops[t], codes):
                return False
    return True


@njit(cache=True, nogil=True)
def fill_bitmap(hashes, lengths, known, bits, firsts, masks):
    """Set the bit of every hash in the bitmap of its length."""
    for g in range(hashes.size):
        for k in range(known.size):
            if known[k] == lengths[g]:
                bit = hashes[g] & masks[k]
                bits[firsts[k] + (bit >> np.uint64(3))] |= np.uint8(1 << (bit & np.uint64(7)))


@njit(cache=True, nogil=True, inline="always")
def _find_gram(index, h, length):
    slot = h >> index.shift
    for g in range(index.directory[slot], index.directory[slot + np.uint64(1)]):
        if index.hashes[g] == h and index.gram_lengths[g] == length:
            return g
    return np.int64(-1)


@njit(cache=True, nogil=True)
def _follow_whole(data, i, end, index, codes, t, last):
    """Byte behind the item's tokens ``t`` to ``last`` where the text goes on with them, or -1."""
    stop = np.int64(i)
    while t < last:
        _, start, stop, i = next_token(data, i, end, codes, index.seed)
        if start < 0 or not same_token(
            data, start, stop, index.text, index.starts[t], index.stops[t], codes
        ):
            return np.int64(-1)
        t += 1
    return stop


@njit(cache=True, nogil=True)
def _follow_skips(data, i, end, index, codes, t, last, budget):
    """Go on with the item's tokens ``t`` to ``last``, of which ``budget`` may differ.

    Returns the token behind the last that agrees, and the byte behind it.
    """
    reached, stop = t, np.int64(i)
    while t < last:
        _, start, token_stop, i = next_token(data, i, end, codes, index.seed)
        if start < 0:
            break
        t += 1
        s = t - 1
        if same_token(data, start, token_stop, index.text, index.starts[s], index.stops[s], codes):
            reached, stop = t, token_stop
        elif budget == 0:
            break
        else:
            budget -= 1
    return reached, stop


@njit(cache=True, nogil=True)
def find(data, offsets, codes, index, hits):
    """Write a hit for every indexed n-gram of every text, and return how many there are.

    data: uint8 [bytes]; offsets: int64 [texts + 1] into it; codes: uint32, by code point; index:
    the arrays of ``index.Arrays``; hits: int64 [capacity, NUM_FIELDS]. Hits above the
    capacity are counted and not written. A hit that is followed names the item's token that it
    begins at; another stands for all places of its n-gram, and its token is -1.
    """
    bits = index.bits
    num_hits = 0
    capacity = hits.shape[0]
    longest = 1
    powers = np.empty(index.lengths.size, np.uint64)
    for k in range(index.lengths.size):
        longest = max(longest, index.lengths[k])
        powers[k] = _power(index.lengths[k])
    size = BLOCK + longest
    prefix = np.zeros(size + 1, np.uint64)
    starts, stops = np.empty(size, np.int64), np.empty(size, np.int64)
    for d in range(offsets.size - 1):
        i, end = offsets[d], offsets[d + 1]
        count = 0
        prefix[0] = 0
        while True:
            while count < size and i < end:
                h, start, stop, i = next_token(data, i, end, codes, index.seed)
                if start >= 0:
                    prefix[count + 1] = prefix[count] * GRAM_BASE + h
                    starts[count], stops[count] = start, stop
                    count += 1
            is_last = i >= end
            limit = count if is_last else count - longest + 1
            for k in range(index.lengths.size):
                length, power = index.lengths[k], powers[k]
                first, mask = index.bit_firsts[k], index.bit_masks[k]
                for p in range(min(limit, count - length + 1)):
                    h = _gram_hash(prefix[p + length], prefix[p], power, length)
                    bit = h & mask
                    if not bits[first + (bit >> np.uint64(3))] >> (bit & np.uint64(7)) & 1:
                        continue
                    g = _find_gram(index, h, length)
                    if g < 0:
                        continue
                    t = index.places[index.place_firsts[g]]
                    same = True
                    for n in range(length):
                        same = same and same_token(
                            data,
                            starts[p + n],
                            stops[p + n],
                            index.text,
                            index.starts[t + n],
                            index.stops[t + n],
                            codes,
                        )
                    if not same:
                        continue
                    behind = stops[p + length - 1]
                    if index.follow == WHERE_IT_STANDS:
                        if num_hits < capacity:
                            hit = hits[num_hits]
                            hit[DOCUMENT], hit[GRAM], hit[TOKEN] = d, g, -1
                            hit[NUM_TOKENS], hit[START], hit[STOP] = length, starts[p], behind
                        num_hits += 1
                        continue
                    for place in range(index.place_firsts[g], index.place_firsts[g + 1]):
                        t = index.places[place]
                        item = np.searchsorted(index.item_firsts, t, side="right") - 1
                        last = index.item_firsts[item + 1]
                        reached, stop = last, behind
                        if index.follow == WHOLE_ITEM:
                            stop = _follow_whole(data, behind, end, index, codes, t + length, last)
                            if stop < 0:
                                continue
                        else:
                            # The match that begins one token earlier holds this one.
                            if (
                                p > 0
                                and t > index.item_firsts[item]
                                and same_token(
                                    data,
                                    starts[p - 1],
                                    stops[p - 1],
                                    index.text,
                                    index.starts[t - 1],
                                    index.stops[t - 1],
                                    codes,
                                )
                            ):
                                continue
                            reached, stop = _follow_skips(
                                data, behind, end, index, codes, t + length, last, index.budget
                            )
                            if reached - t < index.least:
                                continue
                        if num_hits < capacity:
                            hit = hits[num_hits]
                            hit[DOCUMENT], hit[GRAM], hit[TOKEN] = d, g, t
                            hit[NUM_TOKENS], hit[START], hit[STOP] = reached - t, starts[p], stop
                        num_hits += 1
            if is_last:
                break
            for n in range(limit, count):
                starts[n - limit], stops[n - limit] = starts[n], stops[n]
                prefix[n - limit] = prefix[n]
            prefix[count - limit] = prefix[count]
            count -= limit
    return num_hits


@njit(cache=True, nogil=True)
def _step(data, i, bound, characters):
    """The byte so many characters behind ``i``, before it where negative, not past ``bound``."""
    while characters > 0 and i < bound:
        i += 1
        while i < bound and data[i] & 0xC0 == 0x80:
            i += 1
        characters -= 1
    while characters < 0 and i > bound:
        i -= 1
        while i > bound and data[i] & 0xC0 == 0x80:
            i -= 1
        characters += 1
    return i


@njit(cache=True, nogil=True)
def _characters(data, i, end):
    count = 0
    for k in range(i, end):
        count += data[k] & 0xC0 != 0x80
    return count


@njit(cache=True, nogil=True)
def widen(data, offsets, documents, starts, stops, margin, least, most, cut_starts, cut_stops):
    """Give every match the cut that holds it: ``margin`` characters on each side are cut, too.

    Rows are in order of documents and starts, with bytes counted from ``data[0]``. Cuts that touch
    are one, pieces of fewer than ``least`` characters between and around them are cut, too, and a
    text that falls into more than ``most`` pieces goes whole.
    """
    head, n = 0, documents.size
    while head < n:
        tail, d = head, documents[head]
        while tail < n and documents[tail] == d:
            tail += 1
        low, high = offsets[d], offsets[d + 1]
        for k in range(head, tail):
            cut_starts[k] = _step(data, starts[k], low, -margin)
            cut_stops[k] = _step(data, stops[k], high, margin)
        pieces, reach = 0, low
        for k in range(head, tail):
            pieces += cut_starts[k] > reach
            reach = max(reach, cut_stops[k])
        pieces += reach < high
        if pieces > most:
            cut_starts[head:tail], cut_stops[head:tail] = low, high
        else:
            if _characters(data, low, cut_starts[head]) < least:
                cut_starts[head] = low
            first, reach = head, cut_stops[head]
            for k in range(head + 1, tail + 1):
                if k < tail and (
                    cut_starts[k] <= reach or _characters(data, reach, cut_starts[k]) < least
                ):
                    reach = max(reach, cut_stops[k])
                    continue
                if k == tail and _characters(data, reach, high) < least:
                    reach = high
                cut_starts[first:k] = cut_starts[first]
                cut_stops[first:k] = reach
                if k < tail:
                    first, reach = k, cut_stops[k]
        head = tail
