"""How the loops of this room are compiled.

Such a loop owns no array: it is handed all of its memory, and where it needs more it returns and
says so. It is therefore compiled without numba's reference counts, which are atomic and which the
inlined helpers would otherwise touch several times a byte: cutting 50 MB of Python source into
pre-tokens takes 0.14 s without them and 1.7 s with them.

Machine code is kept on disk. numba by itself takes it from there whenever the file that holds the
loop is unchanged, although the loop may call others elsewhere that have changed since; here it is
kept under a digest of the loop and of everything that it calls.
"""

import hashlib
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
from numba import njit
from numba.core.caching import FunctionCache
from numba.extending import intrinsic


def compiled(function: Callable) -> Any:
    """``function`` as machine code that runs without the interpreter lock, kept on disk."""
    dispatcher = njit(nogil=True, _nrt=False)(function)  # type: ignore[call-overload]
    dispatcher._cache = _Cache(function)
    return dispatcher


def inlined(function: Callable) -> Any:
    """``function`` as part of whatever compiled loop calls it."""
    return njit(inline="always", _nrt=False)(function)  # type: ignore[call-overload]


def instruction(function: Callable) -> Any:
    """A compiled function whose LLVM code ``function`` writes, as ``numba.extending.intrinsic``."""
    return intrinsic(function)


class _Cache(FunctionCache):
    def _index_key(self, signature: Any, codegen: Any) -> tuple:
        return (*super()._index_key(signature, codegen), digest(self._py_func))


def digest(function: Callable) -> str:
    """Of the code of ``function``, of the functions of this package that it calls, and of the
    numbers that it reads from its module."""
    seen: dict[str, None] = {}
    _say(_plain(function), seen)
    return hashlib.sha256("\n".join(seen).encode()).hexdigest()


def _say(function: FunctionType, seen: dict[str, None]) -> None:
    name = f"{function.__module__}.{function.__qualname__}"
    if name in seen:
        return
    seen[name] = None
    spoken = [function.__globals__]
    for code in _codes(function.__code__):
        plain = [constant for constant in code.co_consts if not isinstance(constant, CodeType)]
        seen[f"{name} {code.co_code.hex()} {code.co_names} {code.co_varnames} {plain}"] = None
        for word in code.co_names:
            for value in [scope[word] for scope in spoken if word in scope]:
                if isinstance(value, int | np.generic):
                    seen[f"{name} {word} {value!r}"] = None
                elif isinstance(value, ModuleType) and value.__name__.startswith("training."):
                    spoken.append(vars(value))
                elif called := _plain(value):
                    _say(called, seen)


def _codes(code: CodeType) -> Iterator[CodeType]:
    """``code``, and that of the functions within it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _plain(value: Any) -> Any:
    """The Python function behind something compiled in this package; None for anything else."""
    for name in ("py_func", "_defn"):
        value = getattr(value, name, value)
    ours = isinstance(value, FunctionType) and value.__module__.partition(".")[0] != "numba"
    return value if ours else None
