"""Patterns of paths as gitignore(5) writes them: ``*.min.js``, ``/docs/**``, ``src/*/vendor``.

Patterns come from untrusted repositories, so matching takes time in proportion to pattern times
path, whatever stars there are; a regular expression of them would not.
"""

from fnmatch import fnmatchcase
from functools import lru_cache

_MAX_PARTS = 64  # folders deep: of a pattern longer than that nothing is believed


def matches(pattern: str, path: str, *, below: bool = False) -> bool:
    """Whether ``pattern`` means the file ``path``; with ``below`` also whether a folder above it.

    A pattern without a slash, but for one at its end, means that name in any folder.
    """
    parts, anchored = _parts(pattern)
    if not parts or len(parts) > _MAX_PARTS:
        return False
    names = path.split("/")
    if not anchored:
        return any(fnmatchcase(name, parts[0]) for name in names[0 if below else -1 :])
    # How many parts of the pattern may be used up after each name.
    states = _through_stars({0}, parts)
    for name in names:
        following = set()
        for state in states:
            if state == len(parts):
                if below:
                    return True
            elif parts[state] == "**":
                following |= {state, state + 1}
            elif fnmatchcase(name, parts[state]):
                following.add(state + 1)
        states = _through_stars(following, parts)
        if not states:
            return False
    return len(parts) in states


@lru_cache(4096)
def _parts(pattern: str) -> tuple[tuple[str, ...], bool]:
    """Names that ``pattern`` asks for one below the other, and whether from the top."""
    stem = pattern.rstrip("/")
    anchored = "/" in stem
    return tuple(part.replace("[^", "[!") for part in stem.strip("/").split("/") if part), anchored


def _through_stars(states: set[int], parts: tuple[str, ...]) -> set[int]:
    """``states`` and those that a ``**`` of no folders leads to. At the end it needs one."""
    found = set(states)
    for state in sorted(states):
        while state < len(parts) - 1 and parts[state] == "**":
            state += 1
            found.add(state)
    return found
