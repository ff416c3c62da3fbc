"""Texts to measure on: pieces of the source files of the environment's packages."""

import random
import sysconfig
from collections.abc import Iterator
from pathlib import Path

PIECE = 3400  # characters; what published rates of MinHash are usually quoted at
_SUFFIXES = (".py", ".pyi", ".rst", ".md", ".txt", ".h", ".hpp", ".pyx", ".js", ".cuh")


def pieces(size: int = PIECE, seed: int = 0) -> Iterator[str]:
    """Pieces of ``size`` characters, every one once, in an order that ``seed`` draws.

    Raises RuntimeError where more are asked for than the environment has.
    """
    root = Path(sysconfig.get_paths()["purelib"])
    paths = sorted(p for s in _SUFFIXES for p in root.rglob(f"*{s}") if _is_text(p))
    random.Random(seed).shuffle(paths)
    for path in paths:
        text = path.read_text(encoding="utf-8", errors="replace")
        yield from (text[k : k + size] for k in range(0, len(text) - size // 2, size))
    raise RuntimeError(f"the packages of {root} must have more source, got the end of it")


def source_texts(num_bytes: int = 50_000_000) -> list[str]:
    """Whole Python files of the environment, shuffled, ``num_bytes`` or little more in all."""
    root = Path(sysconfig.get_paths()["purelib"])
    paths = sorted(p for p in root.rglob("*.py") if 300 < p.stat().st_size < 1_000_000)
    random.Random(0).shuffle(paths)
    texts: list[str] = []
    size = 0
    for path in paths:
        texts.append(path.read_text(encoding="utf-8", errors="replace"))
        size += len(texts[-1].encode())
        if size > num_bytes:
            break
    return texts


def _is_text(path: Path) -> bool:
    return path.is_file() and 1000 < path.stat().st_size < 400_000
