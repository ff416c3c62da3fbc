"""The longest token with which a text goes on: a trie of all tokens' bytes in one array.

A double array (Aoe 1989, IEEE TSE 15(9)), in which the children of a node lie at its base with
their byte by exclusive or: one load and one comparison a byte. A node knows the longest token that
ends on the way to it, so the walk has only to remember where that was.
"""

# mypy: disallow_untyped_defs=False

import numpy as np

from training.compiled import compiled, inlined

# A node is its children's base, whether a token ends here, the longest token on the way, and the
# byte that leads here.
_BASE_PLACE, _TOKEN_PLACE = np.uint64(32), np.uint64(9)
_TOKEN = np.uint64((1 << 21) - 1)
_WHOLE = np.uint64(1 << 30)
_BYTE = np.uint64((1 << 9) - 1)
_FREE = np.uint64(256)  # no byte leads here
_CHILDLESS = 1  # a base that no node with children has
_BLOCK = 256
_LONGEST_SEARCH = 256  # slots; then those below are left free


def token_trie(tokens: dict[bytes, int]) -> np.ndarray:
    """The nodes, uint64, of ``tokens`` and their ids; among them must be every byte."""
    order = sorted(tokens)
    text = np.frombuffer(b"".join(order), np.uint8)
    starts = np.append(0, np.cumsum([len(token) for token in order]))
    ids = np.array([tokens[token] for token in order], np.uint64)
    places = np.empty((len(text) + 1, 4), np.int64)
    num_blocks = 4 + 5 * len(tokens) // (2 * _BLOCK)
    while True:
        nodes = np.full(num_blocks * _BLOCK, _FREE, np.uint64)
        taken = np.zeros(len(nodes), np.bool_)
        if _build(text, starts, ids, nodes, taken, places):
            return nodes
        num_blocks += num_blocks // 2


@inlined
def longest_token(nodes, data, at, end):
    """Id and end of the longest token with which ``data[at:end]`` begins, which is not empty."""
    node = nodes[data[at]]
    at += 1
    stop = at
    while at < end:
        byte = np.uint64(data[at])
        child = nodes[node >> _BASE_PLACE ^ byte]
        if child & _BYTE != byte:
            break
        node = child
        at += 1
        stop = at if node & _WHOLE else stop
    return np.int64(node >> _TOKEN_PLACE & _TOKEN), stop


@compiled
def _build(text, starts, ids, nodes, taken, places):
    """Fill ``nodes`` breadth first; whether there was room. ``places``: a node's first and last
    token, depth and place, in the order in which they come."""
    free = 0
    places[0] = 0, len(starts) - 1, 0, -1
    taken[0] = taken[_CHILDLESS] = True  # the root's base is 0
    held = 1
    done = 0
    while done < held:
        first, last, depth, place = places[done]
        done += 1
        if first < last and starts[first + 1] - starts[first] == depth:
            first += 1  # the node itself
        if first == last:
            nodes[place] |= np.uint64(_CHILDLESS) << _BASE_PLACE
            continue
        children = held
        while first < last:
            byte = text[starts[first] + depth]
            beyond = first + 1
            while beyond < last and text[starts[beyond] + depth] == byte:
                beyond += 1
            places[held] = first, beyond, depth + 1, np.int64(byte)
            held += 1
            first = beyond
        base = 0
        if place >= 0:
            slot = free
            while slot < len(nodes):
                base = slot ^ places[children, 3]
                if nodes[slot] == _FREE and not taken[base]:
                    child = children + 1
                    while child < held and nodes[base ^ places[child, 3]] == _FREE:
                        child += 1
                    if child == held:
                        break
                slot += 1
            if slot == len(nodes):
                return False
            if slot - free > _LONGEST_SEARCH:
                free = slot - _LONGEST_SEARCH
            taken[base] = True
            nodes[place] |= np.uint64(base) << _BASE_PLACE
        for child in range(children, held):
            byte = places[child, 3]
            token = ids[places[child, 0]] << _TOKEN_PLACE | _WHOLE
            if starts[places[child, 0] + 1] - starts[places[child, 0]] > depth + 1:
                token = nodes[place] & (_TOKEN << _TOKEN_PLACE)
            places[child, 3] = base ^ byte
            nodes[base ^ byte] = token | np.uint64(byte)
    return True
