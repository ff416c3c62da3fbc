"""How the loops of this room are compiled.

Such a loop owns no array: it is handed all of its memory, and where it needs more it returns and
says so. It is therefore compiled without numba's reference counts, which are atomic and which the
inlined helpers would otherwise touch several times a byte: cutting 50 MB of Python source into
pre-tokens takes 0.14 s without them and 1.7 s with them.
"""

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(function: Callable) -> Any:
    """``function`` as machine code that runs without the interpreter lock, kept on disk."""
    return njit(cache=True, nogil=True, _nrt=False)(function)  # type: ignore[call-overload]


def inlined(function: Callable) -> Any:
    """``function`` as part of whatever compiled loop calls it."""
    return njit(inline="always", _nrt=False)(function)  # type: ignore[call-overload]
