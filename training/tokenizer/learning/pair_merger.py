"""The merge loop of byte-pair encoding over counted pre-tokens.

A merge costs what it changes, and no more. All words lie end to end in one array of places, a byte
each, with a border between words. A token is known where it begins and where it ends, so the tokens
beside it are found in one step, and nothing moves when two become one. Where a token begins, the
place also says which pair it begins, so totals change without a search: there is no hash table.
Each pair has a list of the places where it came to be, in order; a place that says another pair by
now is passed over.

All pairs that a merge makes hold the new token, so the token beside it tells them apart: an array
for each side. Each of them takes the place of one pair that was there before, whose total falls by
what the new one's is, all at once when the merge is done. Then the lists of the new pairs are
written too, each in one piece.

A heap orders the pairs. Its entries may be out of date, which is safe because a pair's total only
falls once the merge that made its younger token is over: an entry that promises too much is
corrected when it comes to the top. Most pairs are too rare ever to be merged, so the heap holds
those of at least a floor, and the floor falls when the heap is empty.

A merge closes a gap between two tokens and makes at most two new pairs there, so the gaps that the
words begin with, times three, bound pairs and lists: that memory is reserved at once, and the
system gives it page by page as it is touched.

No byte string becomes a token twice: a piece of a word whose ends no merge has crossed is cut as it
would be alone, so at any time in one way only, and when that is two parts and they become a token,
they do so everywhere.
"""

# mypy: disallow_untyped_defs=False

import os
from collections.abc import Callable
from itertools import pairwise

import numpy as np

from datalake.config import Refusal
from training.compiled import compiled, inlined
from training.prefetch import prefetch
from training.tokenizer.learning.count_table import PretokenCounts, in_threads

MAX_PLACES = (1 << 31) - 1  # int32 numbers them

_NUM_BYTES = 256
_NONE = -1  # a border, where a token is asked for; no pair
_TOKEN, _PAIR = range(2)  # columns of a place
_PLACE, _WORD, _NEW = range(3)  # columns of an occurrence; _NEW is its pair, until that has a list
_LEFT, _RIGHT = range(2)  # columns of a pair
_AT, _LENGTH = range(2)  # columns of a token: where in the text its bytes are
_PAIRS, _HEAP, _TOKENS, _FLOOR, _CLOSED = range(5)  # in use; _CLOSED: gaps, in the whole text
_FLOOR_STEP = 4
_AHEAD = 16  # occurrences whose memory is asked for before they are visited
_VISITS = 1 << 24  # of occurrences between two returns to Python: about a second


def merge_pairs(
    counts: PretokenCounts,
    num_merges: int,
    say: Callable[[int], None] | None = None,
    num_threads: int | None = None,
) -> tuple[np.ndarray, int]:
    """Merges, int32 ``[num_merges, 2]``, and the number of tokens that the counted text then is.

    Fewer merges come back when no pair is left. ``say`` hears how many are done, about every
    second. ``num_threads``, by default one a core, changes nothing but the time. Raises Refusal
    where distinct pre-tokens, with a border each, pass ``MAX_PLACES`` bytes.
    """
    num_words = len(counts.counts)
    num_places = len(counts.text) + num_words + 1
    if num_places > MAX_PLACES:
        raise Refusal(
            f"distinct pre-tokens must have at most {MAX_PLACES:,} bytes with a border each, "
            f"got {num_places:,}"
        )
    num_gaps = len(counts.text) - num_words
    most, num_tokens = _NUM_BYTES**2 + 3 * num_gaps, _NUM_BYTES + num_merges
    places = np.empty((num_places, 2), np.int32)
    lists = np.empty((most, 2), np.int32), np.empty(most + 1, np.int64)  # occurrences, beginnings
    fresh = np.empty((2 * num_gaps + 1, 3), np.int32)
    pairs = np.empty((most, 2), np.int32), np.empty(most, np.int64)  # tokens, totals
    heap = np.empty(most, np.int32), np.empty(most, np.int64)  # pairs, promises
    text = np.concatenate([np.arange(_NUM_BYTES, dtype=np.uint8), counts.text])
    tokens = np.zeros((num_tokens, 2), np.int64), np.zeros(num_tokens, np.uint64)  # and prefixes
    beside = np.full((2, num_tokens), _NONE, np.int32)
    replaced = np.empty(2 * num_tokens, np.int32)  # pairs, by those that take their place
    used = np.zeros(5, np.int64)
    words = (counts.starts, counts.counts)

    _begin(text, words, places, lists, pairs, tokens, used, num_threads or os.cpu_count() or 1)
    merges = np.empty((num_merges, 2), np.int32)
    done, more = 0, True
    while more and done < num_merges:
        _merge(
            merges,
            words,
            places,
            lists,
            fresh,
            pairs,
            heap,
            text,
            tokens,
            beside,
            replaced,
            used,
            _VISITS,
        )
        more = done < (done := int(used[_TOKENS]) - _NUM_BYTES)
        if say is not None:
            say(done)
    return merges[:done], counts.num_bytes - int(used[_CLOSED])


def _begin(text, words, places, lists, pairs, tokens, used, num_threads):
    """Lay out the words byte by byte, and list the occurrences of every pair of bytes.

    Each thread takes a run of the words, and its part of every list, so that the lists are in the
    order of places however many threads there are.
    """
    starts, _ = words
    cuts = np.searchsorted(starts, starts[-1] * np.arange(num_threads + 1) // num_threads)
    runs = list(pairwise(cuts.tolist()))
    totals = np.zeros((num_threads, _NUM_BYTES**2), np.int64)
    cursors = np.zeros((num_threads, _NUM_BYTES**2), np.int64)
    in_threads(
        lambda i, run: _lay_out(text, words, *run, places, totals[i], cursors[i]), enumerate(runs)
    )
    _number_pairs(text, totals, cursors, places, lists, pairs, tokens, used)
    in_threads(lambda i, run: _list_pairs(words, *run, places, cursors[i], lists), enumerate(runs))


@compiled
def _lay_out(text, words, first, end, places, totals, lengths):
    """Write the places of a run of words; add up their pairs of bytes, two as one number."""
    starts, counts = words
    for word in range(first, end):
        border = starts[word] + word
        places[border, _TOKEN] = places[border, _PAIR] = _NONE
        size = starts[word + 1] - starts[word]
        at = starts[word] + _NUM_BYTES
        for i in range(size):
            places[border + 1 + i, _TOKEN] = text[at + i]
            places[border + 1 + i, _PAIR] = _NONE
            if i + 1 < size:
                pair = np.int64(text[at + i]) << 8 | np.int64(text[at + i + 1])
                places[border + 1 + i, _PAIR] = pair
                totals[pair] += counts[word]
                lengths[pair] += 1


@compiled
def _number_pairs(text, all_totals, cursors, places, lists, pairs, tokens, used):
    """Enter the pairs of bytes; ``cursors`` become where each thread's part of a list begins."""
    _, begins = lists
    sides, totals = pairs
    for token in range(_NUM_BYTES):
        _name(token, token, 1, text, tokens)
    used[_TOKENS], used[_PAIRS] = _NUM_BYTES, _NUM_BYTES**2
    at = 0
    for pair in range(_NUM_BYTES**2):
        sides[pair, _LEFT], sides[pair, _RIGHT] = pair >> 8, pair & 255
        totals[pair], begins[pair] = 0, at
        for thread in range(len(cursors)):
            totals[pair] += all_totals[thread, pair]
            length = cursors[thread, pair]
            cursors[thread, pair] = at
            at += length
        used[_FLOOR] = max(used[_FLOOR], totals[pair] + 1)
    begins[_NUM_BYTES**2] = at
    places[len(places) - 1, _TOKEN] = places[len(places) - 1, _PAIR] = _NONE


@compiled
def _list_pairs(words, first, end, places, cursors, lists):
    """List a run of words' occurrences of pairs of bytes."""
    occurrences, _ = lists
    starts, _ = words
    for word in range(first, end):
        for place in range(starts[word] + word + 1, starts[word + 1] + word):
            pair = places[place, _PAIR]
            at = cursors[pair]
            occurrences[at, _PLACE], occurrences[at, _WORD] = place, word
            cursors[pair] += 1


@inlined
def _name(token, at, length, text, tokens):
    """Note where a token's bytes are, and the first eight as a number that sorts as they do."""
    spans, prefixes = tokens
    spans[token, _AT], spans[token, _LENGTH] = at, length
    prefix = np.uint64(0)
    for i in range(8):
        prefix = prefix << np.uint64(8)
        if i < length:
            prefix = prefix | np.uint64(text[at + i])
    prefixes[token] = prefix


@inlined
def _new_pair(left, right, pairs, begins, used):
    """Number of a pair that nothing is known of yet; ``begins`` counts its occurrences at first."""
    sides, totals = pairs
    pair = used[_PAIRS]
    used[_PAIRS] += 1
    sides[pair, _LEFT], sides[pair, _RIGHT] = left, right
    totals[pair] = begins[pair] = 0
    return pair


@inlined
def _lengths_to_begins(begins, first, end, at):
    for pair in range(first, end):
        length = begins[pair]
        begins[pair] = at
        at += length


@inlined
def _list(place, word, pair, lists):
    """Enter an occurrence where the list of its pair begins, which is thereby one further."""
    occurrences, begins = lists
    occurrences[begins[pair], _PLACE], occurrences[begins[pair], _WORD] = place, word
    begins[pair] += 1


@inlined
def _ends_to_begins(begins, first, end, at):
    for pair in range(end, first, -1):
        begins[pair] = begins[pair - 1]
    begins[first] = at


@compiled
def _follows(a, b, text, tokens):
    """Above, at or below zero as token ``a`` is after, equal to or before ``b`` in byte order."""
    spans, prefixes = tokens
    if a == b:
        return np.int64(0)
    if prefixes[a] != prefixes[b]:
        return np.int64(1) if prefixes[a] > prefixes[b] else np.int64(-1)
    at, other = spans[a, _AT], spans[b, _AT]
    for i in range(min(spans[a, _LENGTH], spans[b, _LENGTH])):
        if text[at + i] != text[other + i]:
            return np.int64(text[at + i]) - np.int64(text[other + i])
    return spans[a, _LENGTH] - spans[b, _LENGTH]


@inlined
def _outranks(a, promise_a, b, promise_b, sides, text, tokens):
    """Whether pair ``a`` is to be merged before pair ``b``."""
    first = promise_a > promise_b
    if promise_a == promise_b:
        order = _follows(sides[a, _LEFT], sides[b, _LEFT], text, tokens)
        if order == 0:
            order = _follows(sides[a, _RIGHT], sides[b, _RIGHT], text, tokens)
        first = order > 0
    return first


@compiled
def _sink(heap, at, pair, promise, sides, text, tokens, used):
    """Put an entry at ``at`` or as far below as it belongs."""
    entries, promises = heap
    while 2 * at + 1 < used[_HEAP]:
        child = 2 * at + 1
        if child + 1 < used[_HEAP] and _outranks(
            entries[child + 1],
            promises[child + 1],
            entries[child],
            promises[child],
            sides,
            text,
            tokens,
        ):
            child += 1
        if not _outranks(entries[child], promises[child], pair, promise, sides, text, tokens):
            break
        entries[at], promises[at] = entries[child], promises[child]
        at = child
    entries[at], promises[at] = pair, promise


@compiled
def _push(heap, pair, promise, sides, text, tokens, used):
    """Enter a pair at the bottom and move it up to where it belongs."""
    entries, promises = heap
    at = used[_HEAP]
    used[_HEAP] += 1
    while at > 0:
        parent = (at - 1) // 2
        if not _outranks(pair, promise, entries[parent], promises[parent], sides, text, tokens):
            break
        entries[at], promises[at] = entries[parent], promises[parent]
        at = parent
    entries[at], promises[at] = pair, promise


@compiled
def _lower_floor(heap, pairs, text, tokens, used):
    """Fill the empty heap with the pairs that a lower floor lets in, if any pair is left."""
    sides, totals = pairs
    while used[_HEAP] == 0 and used[_FLOOR] > 1:
        used[_FLOOR] = max(used[_FLOOR] // _FLOOR_STEP, 1)
        for pair in range(used[_PAIRS]):
            if totals[pair] >= used[_FLOOR]:
                _push(heap, pair, totals[pair], sides, text, tokens, used)


@compiled
def _correct_top(heap, pairs, text, tokens, used):
    """Bring the pair of the highest total to the top of the heap; empty when no pair is left."""
    sides, totals = pairs
    entries, promises = heap
    while True:
        if used[_HEAP] == 0:
            _lower_floor(heap, pairs, text, tokens, used)
            if used[_HEAP] == 0:
                break
        pair = entries[0]
        if promises[0] == totals[pair]:
            break
        promise = totals[pair]
        if promise < used[_FLOOR]:
            used[_HEAP] -= 1
            pair, promise = entries[used[_HEAP]], promises[used[_HEAP]]
        _sink(heap, 0, pair, promise, sides, text, tokens, used)


@compiled
def _merge(
    merges,
    words,
    places,
    lists,
    fresh,
    pairs,
    heap,
    text,
    tokens,
    beside,
    replaced,
    used,
    most_visits,
):
    """Merge until all are done, no pair is left, or Python is to hear of it."""
    _, counts = words
    occurrences, begins = lists
    sides, totals = pairs
    spans, _ = tokens
    visits = 0
    while used[_TOKENS] - _NUM_BYTES < len(merges) and visits < most_visits:
        _correct_top(heap, pairs, text, tokens, used)
        if used[_HEAP] == 0:
            break
        pair = heap[0][0]
        a, b, token = sides[pair, _LEFT], sides[pair, _RIGHT], used[_TOKENS]
        merges[token - _NUM_BYTES, 0], merges[token - _NUM_BYTES, 1] = a, b
        length = spans[a, _LENGTH]
        whole = length + spans[b, _LENGTH]
        spans[token, _LENGTH] = whole
        first, end = begins[pair], begins[pair + 1]
        first_new, num_fresh = used[_PAIRS], 0
        list_end = begins[first_new]
        found = np.int64(_NONE)
        visits += end - first + 1
        for i in range(first, end):
            ahead = min(i + _AHEAD, end - 1)
            place = np.int64(occurrences[ahead, _PLACE])
            prefetch(places, place - 1)
            prefetch(places, place + whole)
            prefetch(counts, np.int64(occurrences[ahead, _WORD]))
            place = np.int64(occurrences[i, _PLACE])
            if places[place, _PAIR] != pair:
                continue
            word = occurrences[i, _WORD]
            count = counts[word]
            used[_CLOSED] += count
            found = place - word - 1
            middle, after = place + length, place + whole
            other = places[place - 1, _TOKEN]
            if other != _NONE:
                before = place - spans[other, _LENGTH]
                new = np.int64(beside[_LEFT, other])
                if new == _NONE:
                    new = _new_pair(other, token, pairs, begins, used)
                    beside[_LEFT, other] = new
                    replaced[new - first_new] = places[before, _PAIR]
                totals[new] += count
                begins[new] += 1
                places[before, _PAIR] = new
                fresh[num_fresh, _PLACE], fresh[num_fresh, _WORD] = before, word
                fresh[num_fresh, _NEW] = new
                num_fresh += 1
            other = places[after, _TOKEN]
            new = np.int64(_NONE)
            if other != _NONE:
                new = np.int64(beside[_RIGHT, other])
                if new == _NONE:
                    new = _new_pair(token, other, pairs, begins, used)
                    beside[_RIGHT, other] = new
                    replaced[new - first_new] = places[middle, _PAIR]
                totals[new] += count
                begins[new] += 1
                fresh[num_fresh, _PLACE], fresh[num_fresh, _WORD] = place, word
                fresh[num_fresh, _NEW] = new
                num_fresh += 1
            places[middle, _PAIR] = _NONE
            places[place, _PAIR] = new
            places[place, _TOKEN] = places[after - 1, _TOKEN] = token
        for made in range(first_new, used[_PAIRS]):  # oldest first: one may replace another
            totals[replaced[made - first_new]] -= totals[made]
        totals[pair] = 0
        _name(token, found + _NUM_BYTES, whole, text, tokens)
        used[_TOKENS] += 1
        _lengths_to_begins(begins, first_new, used[_PAIRS], list_end)
        for i in range(num_fresh):
            _list(fresh[i, _PLACE], fresh[i, _WORD], fresh[i, _NEW], lists)
        _ends_to_begins(begins, first_new, used[_PAIRS], list_end)
        for made in range(first_new, used[_PAIRS]):
            beside[_LEFT, sides[made, _LEFT]] = beside[_RIGHT, sides[made, _RIGHT]] = _NONE
            if totals[made] >= used[_FLOOR]:
                _push(heap, made, totals[made], sides, text, tokens, used)
