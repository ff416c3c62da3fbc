"""The signals again, in plain Python and word by word: slow, short, and the truth of the tests."""

import math
import re
import unicodedata
from collections import Counter
from functools import cache
from statistics import mean, median

from datalake.filters.measures.characters import (
    ALONE,
    TABLE_SIZE,
    character_classes,
    sentence_terminals,
)
from datalake.filters.measures.signals import STOP_WORDS
from tests.datalake.filters.plain_lines import c4_lines, refinedweb_lines

_SHINGLE_FACTOR = 0x9E3779B97F4A7C15
_64 = (1 << 64) - 1


def plain_signals(text: str, mode: str = "unicode") -> dict[str, float]:
    words, lines = words_of(text, mode), text.splitlines()
    paragraphs = [piece for piece in re.split(r"\n{2,}", text.strip()) if piece]
    ends = [line.rstrip().endswith(("...", "…")) for line in lines]
    solid = [word for word in words if not all(map(is_sign, word))]
    stops = [word in STOP_WORDS for word in words]
    counts = Counter(words).values()
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
        "num_characters": len(text),
        "num_tokens": len(pieces_of(text)),
        "num_nonsymbol_words": len(solid),
        "mean_nonsymbol_word_length": mean(map(len, solid)) if solid else 0,
        "median_word_length": median(map(len, words)) if words else 0,
        "num_stop_word_occurrences": sum(stops),
        "stop_word_fraction": share(stops),
        "unique_word_fraction": ratio(len(set(words)), len(words)),
        "unigram_entropy": -sum(n / len(words) * math.log(n / len(words)) for n in counts),
        "uppercase_fraction": share([c.isupper() for c in text]),
        "all_caps_word_fraction": share([word.isupper() for word in words]),
        "digit_fraction": share([c.isdigit() for c in text]),
        "punctuation_fraction": share([unicodedata.category(c)[0] == "P" for c in text]),
        "space_fraction": share([c.isspace() for c in text]),
        "num_long_lines": sum(len(line) >= 200 for line in text.split("\n")),
    }
    split = re.split("\n+", text) if text else []
    for name, parts in (("line", split), ("paragraph", paragraphs)):
        repeats = repeated(parts)
        signals[f"duplicate_{name}_fraction"] = ratio(len(repeats), len(parts))
        characters = ratio(sum(map(len, repeats)), len(text))
        signals[f"duplicate_{name}_character_fraction"] = characters
    for n in (2, 3, 4):
        grams = Counter(zip(*(words[k:] for k in range(n)), strict=False))
        top = sum(len(" ".join(gram)) * count for gram, count in grams.most_common(1))
        signals[f"top_{n}_gram_character_fraction"] = min(1.0, ratio(top, len(text)))
    for n in range(5, 11):
        again = ratio(repeated_characters(words, n), len(text))
        signals[f"duplicate_{n}_gram_character_fraction"] = again
    return signals | fineweb(text, len(words)) | line_rules(text, len(words), mode)


def fineweb(text: str, num_words: int, prefix: str = "") -> dict[str, float]:
    full = [line for line in text.split("\n") if line.strip()]
    terminals = tuple(sentence_terminals())
    again = sum(map(len, repeated(full)))
    return {
        f"{prefix}punctuated_line_fraction": share([line.endswith(terminals) for line in full]),
        f"{prefix}short_line_fraction": share([len(line) <= 30 for line in full]),
        f"{prefix}repeated_line_ratio": ratio(again, len(text.replace("\n", ""))),
        f"{prefix}newline_ratio": ratio(text.count("\n"), num_words),
    }


def line_rules(text: str, num_words: int, mode: str) -> dict[str, float]:
    said = [ascii_lower(line) for line in text.splitlines()]
    policies = "terms of use|(privacy|cookie) policy|use(s| of|) cookies"
    signals: dict[str, float] = {
        "num_javascript_lines": sum("javascript" in line for line in said),
        "num_policy_lines": sum(re.search(policies, line) is not None for line in said),
    }
    for prefix, variant in (("c4", "c4"), ("fineweb", "fineweb_c4")):
        judged = list(c4_lines(text, variant, mode))
        kept = [line.left for line in judged if line.verdict is None]
        signals |= {
            f"{prefix}_num_sentences": sum(map(num_sentences, kept)),
            f"{prefix}_lorem_ipsum": +any(line.is_lorem_ipsum for line in judged),
            f"{prefix}_curly_bracket": +any(line.is_curly for line in judged),
            f"{prefix}_line_characters": ratio(sum(map(len, kept)), len(text)),
        }
    left = "\n".join(kept).strip()
    signals |= fineweb(left, len(words_of(left, mode)), "fineweb_")
    after = [line.left for line in refinedweb_lines(text, mode) if line.verdict is None]
    num_left = sum(len(words_of(line, mode)) for line in after)
    return signals | {"refinedweb_cut_fraction": ratio(num_words - num_left, num_words)}


def num_sentences(line: str) -> int:
    """Ends of sentences, and what is left behind the last."""
    number, behind = 0, 0
    for match in ends_of_sentences().finditer(line):
        wide = any(unicodedata.east_asian_width(c) in "WFH" for c in match[1])
        if wide or match.end() == len(line) or line[match.end()].isspace():
            number, behind = number + 1, match.end()
    return number + bool(line[behind:].strip())


@cache
def ends_of_sentences() -> re.Pattern[str]:
    closers = "".join(c for c in map(chr, range(0x10000)) if is_closer(c))
    return re.compile(f"([{re.escape(sentence_terminals())}]+)([{re.escape(closers)}]*)")


def is_closer(c: str) -> bool:
    return c in "\"'" or unicodedata.category(c) in ("Pe", "Pf")


def words_of(text: str, mode: str) -> list[str]:
    if mode == "whitespace":
        return text.split()
    words: list[str] = []
    for word in text.split():
        start = len(words)
        for c in word:
            on_its_own = len(words) > start and is_alone(words[-1][0])
            is_mark = unicodedata.category(c)[0] == "M"
            if is_alone(c) or len(words) == start or (on_its_own and not is_mark):
                words.append(c)
            else:
                words[-1] += c
    return words


def pieces_of(text: str) -> list[str]:
    alone = "".join(c for c in set(text) if is_alone(c))
    single = f"[{re.escape(alone)}]|" if alone else ""
    run = f"(?:(?![{re.escape(alone)}])\\w)+" if alone else r"\w+"
    return [m[0] for m in re.finditer(f"{single}{run}|[^\\w\\s]+", text)]


def is_alone(c: str) -> bool:
    return ord(c) < TABLE_SIZE and bool(character_classes()[ord(c)] & ALONE)


def is_sign(c: str) -> bool:
    category = unicodedata.category(c)
    return category[0] in "PS" or category == "Cc"


def ascii_lower(text: str) -> str:
    return re.sub("[A-Z]", lambda match: match[0].lower(), text)


def repeated(parts: list[str]) -> list[str]:
    seen: set[str] = set()
    again = []
    for part in parts:
        if part in seen:
            again.append(part)
        seen.add(part)
    return again


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
    tokens, run = [], ""
    for c in [*text, " "]:
        alone = is_alone(c)
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
