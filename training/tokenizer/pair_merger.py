"""The merge loop of byte-pair encoding over counted pre-tokens.

Three structures make a merge cost what it changes, and no more. Each pair of adjacent tokens has a
total and a list of the words that hold it. A heap orders the pairs; its entries may be out of date,
which is safe because a pair's total only falls once the merge that made its younger token is over:
an entry that promises too much is corrected when it comes to the top. Words are rewritten in place
and shrink.

A merge closes one place between two symbols and renames the two beside it, so the places that the
words begin with, times three, bound pairs and lists: that memory is reserved at once (the system
gives it page by page as it is touched). Only the hash table of pairs and the text of the tokens
grow: the loop returns when it needs more of them.
"""

# mypy: disallow_untyped_defs=False

import numpy as np

from training.tokenizer.compiled import compiled
from training.tokenizer.pair_table import EMPTY, KEY, VALUE, new_table, pair_key, pair_row, roomier
from training.tokenizer.pretokens import PretokenCounts

_PAIRS, _NODES, _HEAP, _TOKENS, _TEXT_BYTES = range(5)  # how much of each is in use
_NONE = -1


def merge_pairs(counts: PretokenCounts, num_merges: int) -> tuple[np.ndarray, int]:
    """Merges, int32 ``[num_merges, 2]``, and the number of tokens that the counted text then is.

    Fewer merges come back when no pair is left.
    """
    lengths = np.diff(counts.starts)
    words = (counts.text.astype(np.int32), counts.starts, lengths, counts.counts)
    places = 3 * int(lengths.sum() - len(lengths)) + 1
    left, right, first, *nodes, heap = (np.empty(places, np.int32) for _ in range(6))
    total, promise = np.empty(places, np.int64), np.empty(places, np.int64)
    pairs, lists = (left, right, total, first, promise), tuple(nodes)
    rows = new_table()
    token_starts = np.arange(257 + num_merges)
    token_text = np.arange(256).astype(np.uint8)
    used = np.zeros(5, np.int64)
    used[_TOKENS] = used[_TEXT_BYTES] = 256

    word = 0
    while word < len(lengths):
        rows = roomier(rows, used[_PAIRS] + lengths[word])
        word = _index(word, words, pairs, lists, rows, used)
    _build_heap(heap, pairs, (token_starts, token_text), used)

    merges = np.empty((num_merges, 2), np.int32)
    done = 0
    while done < num_merges and used[_HEAP]:
        rows = roomier(rows, used[_PAIRS] + 2 * used[_TOKENS] + 3)
        longest = int(np.diff(token_starts[: used[_TOKENS] + 1]).max())
        if used[_TEXT_BYTES] + 2 * longest > len(token_text):
            token_text = np.resize(token_text, 2 * (len(token_text) + longest))
        tokens = (token_starts, token_text)
        done = _merge(merges, done, words, pairs, lists, rows, heap, tokens, used)
    return merges[:done], int(counts.counts @ lengths)


@compiled
def _gain(a, b, word, count, pairs, lists, rows, used):
    """The pair (a, b) occurs once more in a word that itself occurs ``count`` times."""
    left, right, total, first, _ = pairs
    node_word, node_next = lists
    key = pair_key(a, b)
    row = pair_row(key, rows)
    if rows[row, KEY] == EMPTY:
        pair = used[_PAIRS]
        used[_PAIRS] += 1
        rows[row, KEY], rows[row, VALUE] = key, pair
        left[pair], right[pair], total[pair], first[pair] = a, b, 0, _NONE
    pair = rows[row, VALUE]
    total[pair] += count
    if first[pair] == _NONE or node_word[first[pair]] != word:
        node = used[_NODES]
        used[_NODES] += 1
        node_word[node], node_next[node] = word, first[pair]
        first[pair] = node


@compiled
def _index(word, words, pairs, lists, rows, used):
    """Enter words from ``word`` on; returns the first that ``rows`` has no room for."""
    symbols, starts, lengths, counts = words
    while word < len(counts) and 2 * (used[_PAIRS] + lengths[word]) <= len(rows):
        at = starts[word]
        for i in range(at, at + lengths[word] - 1):
            _gain(symbols[i], symbols[i + 1], word, counts[word], pairs, lists, rows, used)
        word += 1
    return word


@compiled
def _compare(a, b, tokens):
    """Below, at or above zero as token ``a`` is before, equal to or after ``b`` in byte order."""
    token_starts, token_text = tokens
    at, end = token_starts[a], token_starts[a + 1]
    other, other_end = token_starts[b], token_starts[b + 1]
    while at < end and other < other_end:
        if token_text[at] != token_text[other]:
            return np.int64(token_text[at]) - np.int64(token_text[other])
        at += 1
        other += 1
    return (end - at) - (other_end - other)


@compiled
def _outranks(a, b, pairs, tokens):
    """Whether pair ``a`` is to be merged before pair ``b``."""
    left, right, _, _, promise = pairs
    if promise[a] != promise[b]:
        return promise[a] > promise[b]
    order = _compare(left[a], left[b], tokens)
    if order == 0:
        order = _compare(right[a], right[b], tokens)
    return order > 0


@compiled
def _sink(heap, at, pairs, tokens, used):
    """Move the entry at ``at`` down to where it belongs."""
    pair = heap[at]
    while 2 * at + 1 < used[_HEAP]:
        child = 2 * at + 1
        if child + 1 < used[_HEAP] and _outranks(heap[child + 1], heap[child], pairs, tokens):
            child += 1
        if not _outranks(heap[child], pair, pairs, tokens):
            break
        heap[at] = heap[child]
        at = child
    heap[at] = pair


@compiled
def _push(heap, pair, pairs, tokens, used):
    """Enter a pair at the bottom and move it up to where it belongs."""
    _, _, total, _, promise = pairs
    promise[pair] = total[pair]
    at = used[_HEAP]
    used[_HEAP] += 1
    while at > 0 and _outranks(pair, heap[(at - 1) // 2], pairs, tokens):
        heap[at] = heap[(at - 1) // 2]
        at = (at - 1) // 2
    heap[at] = pair


@compiled
def _build_heap(heap, pairs, tokens, used):
    _, _, total, _, promise = pairs
    used[_HEAP] = used[_PAIRS]
    for pair in range(used[_PAIRS]):
        heap[pair] = pair
        promise[pair] = total[pair]
    for at in range(used[_HEAP] // 2 - 1, -1, -1):
        _sink(heap, at, pairs, tokens, used)


@compiled
def _correct_top(heap, pairs, tokens, used):
    """Bring the pair of the highest total to the top, dropping pairs that are gone."""
    _, _, total, _, promise = pairs
    while used[_HEAP]:
        pair = heap[0]
        if promise[pair] == total[pair] and total[pair] > 0:
            break
        promise[pair] = total[pair]
        if total[pair] == 0:
            used[_HEAP] -= 1
            heap[0] = heap[used[_HEAP]]
        _sink(heap, 0, pairs, tokens, used)


@compiled
def _rewrite(word, a, b, token, words, pairs, lists, rows, used):
    """Merge (a, b) from left to right in one word, and tell the pairs beside it."""
    symbols, starts, lengths, counts = words
    _, _, total, _, _ = pairs
    count = counts[word]
    start = read = write = starts[word]
    end = start + lengths[word]
    while read < end:
        if read + 1 < end and symbols[read] == a and symbols[read + 1] == b:
            if write > start:
                before = symbols[write - 1]
                total[rows[pair_row(pair_key(before, a), rows), VALUE]] -= count
                _gain(before, token, word, count, pairs, lists, rows, used)
            if read + 2 < end:
                after = symbols[read + 2]
                total[rows[pair_row(pair_key(b, after), rows), VALUE]] -= count
                _gain(token, after, word, count, pairs, lists, rows, used)
            symbols[write] = token
            read += 2
        else:
            symbols[write] = symbols[read]
            read += 1
        write += 1
    lengths[word] = write - start


@compiled
def _merge(merges, done, words, pairs, lists, rows, heap, tokens, used):
    """Merge until all are done, no pair is left, or memory is short; returns how many are done."""
    left, right, total, first, _ = pairs
    node_word, node_next = lists
    token_starts, token_text = tokens
    while done < len(merges):
        _correct_top(heap, pairs, tokens, used)
        if used[_HEAP] == 0:
            break
        pair = heap[0]
        a, b, token, place = left[pair], right[pair], used[_TOKENS], used[_TEXT_BYTES]
        length = token_starts[a + 1] - token_starts[a] + token_starts[b + 1] - token_starts[b]
        num_pairs = used[_PAIRS]
        most = num_pairs + 2 * token + 3  # the new token before and after any token, itself too
        if 2 * most > len(rows) or place + length > len(token_text):
            break
        for part in (a, b):
            for i in range(token_starts[part], token_starts[part + 1]):
                token_text[place] = token_text[i]
                place += 1
        token_starts[token + 1] = used[_TEXT_BYTES] = place
        used[_TOKENS] += 1
        merges[done, 0], merges[done, 1] = a, b
        done += 1
        node = first[pair]
        while node != _NONE:
            _rewrite(node_word[node], a, b, token, words, pairs, lists, rows, used)
            node = node_next[node]
        total[pair] = 0
        for new in range(num_pairs, used[_PAIRS]):
            if total[new]:
                _push(heap, new, pairs, tokens, used)
    return done
