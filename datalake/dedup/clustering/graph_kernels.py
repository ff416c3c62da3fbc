"""Loops over edges and groups that NumPy cannot say: union-find, and stars of alike documents."""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def components(ends, others, num_nodes):  # type: ignore[no-untyped-def]
    """Smallest node number in the component of each node, in the integer type of ``ends``.

    Edge k lies between ``ends[k]`` and ``others[k]``. A disjoint-set forest (Tarjan 1975) in which
    a root always hangs below a smaller one, so the root is the answer; path halving (Tarjan and
    van Leeuwen 1984) keeps paths short.
    """
    parent = np.empty(num_nodes, ends.dtype)
    for node in range(num_nodes):
        parent[node] = node
    for k in range(ends.size):
        a, b = ends[k], others[k]
        while parent[a] != a:
            parent[a] = parent[parent[a]]
            a = parent[a]
        while parent[b] != b:
            parent[b] = parent[parent[b]]
            b = parent[b]
        if a < b:
            parent[b] = a
        elif b < a:
            parent[a] = b
    for node in range(num_nodes):  # a parent is smaller, so it has its root already
        parent[node] = parent[parent[node]]
    return parent


@njit(cache=True, nogil=True)
def smallest_names(roots, offsets, data):  # type: ignore[no-untyped-def]
    """The node of each node's component whose name is the smallest, by bytes.

    Node k is called ``data[offsets[k]:offsets[k + 1]]``.
    """
    best = np.arange(roots.size).astype(roots.dtype)
    for node in range(roots.size):
        root = roots[node]
        held = best[root]
        a, b = offsets[node], offsets[held]
        end_a, end_b = offsets[node + 1], offsets[held + 1]
        while a < end_a and b < end_b and data[a] == data[b]:
            a += 1
            b += 1
        if b < end_b and (a == end_a or data[a] < data[b]):
            best[root] = node
    for node in range(roots.size - 1, -1, -1):  # a root comes before its members
        best[node] = best[roots[node]]
    return best


@njit(cache=True, nogil=True)
def alike_stars(starts, minima, min_equal, max_stars):  # type: ignore[no-untyped-def]
    """Which row each row is joined to, itself where to none, and whether it is a star.

    Group g is rows ``starts[g]`` to ``starts[g + 1]``, in the order in which they may become stars.
    A row joins the first star of its group that has ``min_equal`` or more of its minima; where none
    has, it is a star itself, unless there are ``max_stars``. ``minima``: [rows, permutations].
    """
    joined = np.arange(minima.shape[0])
    is_star = np.zeros(minima.shape[0], np.bool_)
    stars = np.empty(max_stars, np.int64)
    for group in range(starts.size - 1):
        num_stars = 0
        for row in range(starts[group], starts[group + 1]):
            found = False
            for star in stars[:num_stars]:
                equal = 0
                for k in range(minima.shape[1]):
                    equal += minima[row, k] == minima[star, k]
                if equal >= min_equal:
                    joined[row] = star
                    found = True
                    break
            if not found and num_stars < max_stars:
                stars[num_stars] = row
                is_star[row] = True
                num_stars += 1
    return joined, is_star
