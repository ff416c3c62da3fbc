"""Decontamination again, in plain Python: the truth that the compiled search is compared with."""

import unicodedata
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from datalake.dedup.benchmarks.items import Items
from datalake.dedup.benchmarks.styles import Llama2, Style, Substring
from datalake.filters.measures.characters import ALONE, character_classes

Token = tuple[str, int, int]  # folded, first byte, byte behind


def items_of(*texts: str, name: str = "benchmark", labels: Sequence[str] = ()) -> Items:
    """One item a text; a label follows its text on a line of its own."""
    joined = [f"{t}\n{label}" for t, label in zip(texts, labels, strict=True)] if labels else texts
    return Items(
        pa.array(joined, pa.large_string()),
        tuple(f"item {k}" for k in range(len(texts))),
        (name,),
        np.zeros(len(texts), np.int64),
        np.array([len(t.encode()) + 1 if labels else 0 for t in texts], np.int64),
    )


def plain_tokens(text: str, kind: str) -> list[Token]:
    """The tokens of a text, character by character."""
    found: list[Token] = []
    word, start, stop, place = "", 0, 0, 0
    for character in text + " ":
        size = len(character.encode())
        code = ord(character)
        lower = character.lower() if len(character.lower()) == 1 else character
        alone = code < len(character_classes()) and bool(character_classes()[code] & ALONE)
        mark = unicodedata.category(character)[0] == "M" and not character.isalnum()
        if kind == "characters":
            if not character.isspace():
                found.append((character, place, place + size))
        elif (character.isalnum() and not alone) or (mark and word):
            if not word:
                start = place
            word += lower if not mark else character
            stop = place + size
        elif kind == "joined words" and not (alone or mark or character.isspace() or code == 0):
            pass
        else:
            if word:
                found.append((word, start, stop))
                word = ""
            if alone:
                found.append((lower, place, place + size))
        place += size
    return found


def plain_rows(
    style: Style, items: Items, documents: Sequence[str]
) -> dict[tuple[int, int], tuple[float, float, list[tuple[int, int]]]]:
    """Of document and item: fraction here, fraction in all documents, and merged ranges of bytes.

    Only items that the style finds.
    """
    tokens = [
        [t for t, _, _ in plain_tokens(text, style.tokens)] for text in items.text.to_pylist()
    ]
    lengths = style.lengths(items.names[0], np.array([len(t) for t in tokens]))
    covered: dict[tuple[int, int], set[int]] = {}
    spans: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for d, text in enumerate(documents):
        seen = plain_tokens(text, style.tokens)
        for k, item in enumerate(tokens):
            n = int(lengths[k])
            for t in range(len(item) - n + 1 if n else 0):
                if isinstance(style, Substring) and t:
                    break
                for p in range(len(seen) - n + 1):
                    if [w for w, _, _ in seen[p : p + n]] != item[t : t + n]:
                        continue
                    size = n
                    if isinstance(style, Substring):
                        size = len(item)
                        if [w for w, _, _ in seen[p : p + size]] != item:
                            continue
                    if isinstance(style, Llama2):
                        size = _with_skips(seen[p:], item[t:], n, style.budget)
                        if size < style.least:
                            continue
                    places = range(t, t + size) if style.counts_tokens else range(t, t + 1)
                    covered.setdefault((d, k), set()).update(places)
                    spans.setdefault((d, k), []).append((seen[p][1], seen[p + size - 1][2]))
    sizes = [
        len(item)
        if style.counts_tokens
        else 1
        if isinstance(style, Substring)
        else len(item) - int(lengths[k]) + 1
        for k, item in enumerate(tokens)
    ]
    rows = {}
    for (d, k), places in covered.items():
        here = len(places) / sizes[k]
        everywhere = set().union(*(c for (_, other), c in covered.items() if other == k))
        total = len(everywhere) / sizes[k]
        decides = here if style.in_one_document else total
        if style.found(np.array([decides]), [items.names[0]])[0]:
            rows[d, k] = here, total, merge(spans[d, k])
    return rows


def _with_skips(seen: list[Token], item: list[str], n: int, budget: int) -> int:
    reached = n
    for k in range(n, min(len(seen), len(item))):
        if seen[k][0] == item[k]:
            reached = k + 1
        elif budget:
            budget -= 1
        else:
            break
    return reached


def merge(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges that overlap or touch as one."""
    made: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if made and start <= made[-1][1]:
            made[-1] = made[-1][0], max(end, made[-1][1])
        else:
            made.append((start, end))
    return made


def plain_cuts(
    text: str, spans: Sequence[tuple[int, int]], margin: int, least: int, most: int
) -> list[tuple[int, int]]:
    """What is cut of a text for ranges of characters: margins, short pieces, or all of it."""
    gone = [False] * len(text)
    for start, end in spans:
        for k in range(max(0, start - margin), min(len(text), end + margin)):
            gone[k] = True
    pieces = _runs(gone, False)
    if len(pieces) > most:
        return [(0, len(text))]
    for start, end in pieces:
        if end - start < least:
            gone[start:end] = [True] * (end - start)
    return _runs(gone, True)


def _runs(values: Sequence[bool], wanted: bool) -> list[tuple[int, int]]:
    edges = [k for k in range(len(values)) if k == 0 or values[k] != values[k - 1]]
    bounds = zip(edges, [*edges[1:], len(values)], strict=True)
    return [(a, b) for a, b in bounds if values[a] is wanted]
