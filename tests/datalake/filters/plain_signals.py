"""The signals again, in plain Python and word by word: slow, short, and the truth of the tests."""

import re
from collections import Counter

from datalake.filters.characters import ALONE, TABLE_SIZE, character_classes
from datalake.filters.signals import STOP_WORDS

_SHINGLE_FACTOR = 0x9E3779B97F4A7C15
_64 = (1 << 64) - 1


def plain_signals(text: str) -> dict[str, float]:
    words, lines = text.split(), text.splitlines()
    pieces = [piece for piece in text.split("\n") if piece]
    paragraphs = [piece for piece in re.split(r"\n{2,}", text.strip()) if piece]
    ends = [line.rstrip().endswith(("...", "…")) for line in lines]
    signals: dict[str, float] = {
        "num_words": len(words),
        "num_lines": len(lines),
        "mean_word_length": ratio(sum(map(len, words)), len(words)),
        "hash_ratio": ratio(text.count("#"), len(words)),
        "ellipsis_ratio": ratio(text.count("...") + text.count("…"), len(words)),
        "bullet_line_fraction": share([line.lstrip().startswith(("•", "-")) for line in lines]),
        "ellipsis_line_fraction": share(ends),
        "alphabetic_word_fraction": share([any(map(str.isalpha, word)) for word in words]),
        "num_stop_words": len(set(words) & set(STOP_WORDS)),
        "max_line_length": max(map(len, lines), default=0),
        "mean_line_length": ratio(sum(map(len, lines)), len(lines)),
        "alphabetic_fraction": share([c.isalpha() for c in text]),
        "alphanumeric_fraction": share([c.isalnum() for c in text]),
    }
    for name, parts in (("line", pieces), ("paragraph", paragraphs)):
        repeats = [part for k, part in enumerate(parts) if part in parts[:k]]
        signals[f"duplicate_{name}_fraction"] = ratio(len(repeats), len(parts))
        characters = ratio(sum(map(len, repeats)), len(text))
        signals[f"duplicate_{name}_character_fraction"] = characters
    for n in (2, 3, 4):
        counts = Counter(zip(*(words[k:] for k in range(n)), strict=False))
        top = sum(len(" ".join(gram)) * count for gram, count in counts.most_common(1))
        signals[f"top_{n}_gram_character_fraction"] = min(1.0, ratio(top, len(text)))
    for n in range(5, 11):
        repeated = ratio(repeated_characters(words, n), len(text))
        signals[f"duplicate_{n}_gram_character_fraction"] = repeated
    return signals


def repeated_characters(words: list[str], n: int) -> int:
    seen: set[tuple[str, ...]] = set()
    characters = position = 0
    while position + n <= len(words):
        gram = tuple(words[position : position + n])
        if gram in seen:
            characters += sum(map(len, gram))
            position += n
        else:
            seen.add(gram)
            position += 1
    return characters


def plain_tokens(text: str) -> list[str]:
    """Runs of \\w, each character in lower case; characters of spaceless scripts stand alone."""
    classes = character_classes()
    tokens, run = [], ""
    for c in [*text, " "]:
        alone = ord(c) < TABLE_SIZE and bool(classes[ord(c)] & ALONE)
        folded = c.lower() if len(c.lower()) == 1 else c
        if not alone and (c.isalnum() or c == "_"):
            run += folded
            continue
        tokens += [run] if run else []
        tokens += [folded] if alone else []
        run = ""
    return tokens


def shingle_hash(tokens: list[str]) -> int:
    """The kernel's 64-bit hash of a run of tokens."""
    h = 0
    for token in tokens:
        h = (h * _SHINGLE_FACTOR + word_hash(token)) & _64
    return mix(h)


def word_hash(word: str) -> int:
    """FNV-1a over code points, then the finalizer of splitmix64."""
    h = 0xCBF29CE484222325
    for c in word:
        h = ((h ^ ord(c)) * 0x100000001B3) & _64
    return mix(h)


def mix(h: int) -> int:
    h = ((h ^ (h >> 30)) * 0xBF58476D1CE4E5B9) & _64
    h = ((h ^ (h >> 27)) * 0x94D049BB133111EB) & _64
    return h ^ (h >> 31)


def ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def share(truths: list[bool]) -> float:
    return ratio(sum(truths), len(truths))
