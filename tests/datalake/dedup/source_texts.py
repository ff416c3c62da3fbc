"""Real texts for tests and benchmarks, and near duplicates of them with known similarity."""

import random
import sysconfig
from dataclasses import dataclass
from pathlib import Path


def pieces(folder: str, length: int, num_bytes: int, seed: int = 0) -> list[str]:
    """Pieces of ``length`` characters of the source files below a ``sysconfig`` path, shuffled."""
    root = Path(sysconfig.get_paths()[folder])
    paths = [p for p in root.rglob("*.py") if "site-packages" not in p.relative_to(root).parts]
    draw = random.Random(seed)
    paths = sorted(paths)
    draw.shuffle(paths)
    texts: list[str] = []
    size = 0
    for path in paths:
        text = path.read_text(encoding="utf-8", errors="ignore")
        texts += [text[k : k + length] for k in range(0, len(text), length)]
        size += len(text)
        if size > num_bytes:
            break
    return texts


@dataclass(frozen=True, slots=True)
class Pair:
    """A text, by its number, and an edited copy of it; ``similarity`` is their true Jaccard."""

    first: int
    second: int
    similarity: float


def shingles(words: list[str], shingle_words: int = 5) -> set[tuple[str, ...]]:
    return {tuple(words[k : k + shingle_words]) for k in range(len(words) - shingle_words + 1)}


def jaccard(a: set[tuple[str, ...]], b: set[tuple[str, ...]]) -> float:
    return len(a & b) / len(a | b) if a or b else 0.0


def plant(texts: list[list[str]], number: int, seed: int = 0) -> tuple[list[list[str]], list[Pair]]:
    """Copies of ``number`` of the texts, lists of words, with 0.3 % to 30 % of the words edited.

    An edit replaces, inserts or takes out a word. Rates are spread evenly over their logarithm.
    """
    draw = random.Random(seed)
    planted, pairs = [], []
    for first in draw.sample(range(len(texts)), number):
        rate = 0.003 * 100 ** draw.random()
        words = []
        for word in texts[first]:
            edit = draw.random() < rate
            kind = draw.randrange(3)
            if not edit or kind == 1:
                words.append(word)
            if edit and kind < 2:
                words.append(f"edit{draw.randrange(10**9)}")
        similarity = jaccard(shingles(texts[first]), shingles(words))
        pairs.append(Pair(first, len(texts) + len(planted), similarity))
        planted.append(words)
    return planted, pairs
