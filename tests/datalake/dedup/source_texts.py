"""Real texts for tests and benchmarks, and near duplicates of them whose similarity is known."""

import random
import re
import sysconfig
from dataclasses import dataclass
from pathlib import Path

_SEPARATORS = re.compile(r"(\W+)")

Shingles = set[tuple[str, ...]]


def pieces(folder: str, length: int, number: int, seed: int = 0) -> list[str]:
    """Pieces of ``length`` characters of the Python files below a ``sysconfig`` path."""
    root = Path(sysconfig.get_paths()[folder])
    paths = sorted(
        p for p in root.rglob("*.py") if "site-packages" not in p.relative_to(root).parts
    )
    random.Random(seed).shuffle(paths)
    texts: list[str] = []
    for path in paths:
        text = path.read_text(encoding="utf-8", errors="ignore")
        texts += [text[k : k + length] for k in range(0, len(text), length)]
        if len(texts) >= number:
            break
    return texts[:number]


def shingles(text: str, shingle_words: int = 5) -> Shingles:
    words = [word for word in _SEPARATORS.split(text.lower())[::2] if word]
    return {tuple(words[k : k + shingle_words]) for k in range(len(words) - shingle_words + 1)}


def jaccard(a: Shingles, b: Shingles) -> float:
    return len(a & b) / len(a | b) if a or b else 0.0


@dataclass(frozen=True, slots=True)
class Pair:
    """A text, by its number, and an edited copy of it; ``similarity`` is their true Jaccard."""

    first: int
    second: int
    similarity: float


def plant(texts: list[str], number: int, seed: int = 0) -> tuple[list[str], list[Pair]]:
    """Copies of ``number`` of the texts with 0.3 % to 30 % of their words edited, to follow them.

    An edit replaces, takes out or inserts a word. Half of the rates are spread evenly over their
    logarithm; half lie between 2 % and 8 %, where a banding finds some pairs and misses others.
    """
    draw = random.Random(seed)
    planted: list[str] = []
    pairs = []
    for first in draw.sample(range(len(texts)), number):
        low, high = draw.choice(((0.003, 0.3), (0.02, 0.08)))
        rate = low * (high / low) ** draw.random()
        parts = _SEPARATORS.split(texts[first])
        for k in range(0, len(parts), 2):
            if parts[k] and draw.random() < rate:
                new = f"edit{draw.randrange(10**9)}"
                parts[k] = draw.choice((new, "", f"{parts[k]} {new}"))
        copy = "".join(parts)
        similarity = jaccard(shingles(texts[first]), shingles(copy))
        pairs.append(Pair(first, len(texts) + len(planted), similarity))
        planted.append(copy)
    return planted, pairs
