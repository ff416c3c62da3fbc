"""Looking for 100,000 benchmark items in documents, on one core, beside datatrove's filter."""

import os

os.environ.setdefault("NUMBA_NUM_THREADS", "1")

import random
import sysconfig
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from numba import njit

from datalake.dedup.benchmarks.items import Items
from datalake.dedup.benchmarks.search import plan, tally
from datalake.dedup.benchmarks.styles import (
    GPT3,
    DeepSeek,
    Llama2,
    NGrams,
    PaLM,
    Style,
    Substring,
)
from datalake.text_bytes import text_bytes
from tests.benchmarks.report import Result, seconds_in_turn, show

NUM_ITEMS = 100_000
NUM_BYTES = 40_000_000
PIECE = 4000  # characters of a document
SLOW = 40  # of so many documents one is given to the slow peer


def _documents() -> list[str]:
    """Python files of the environment in pieces, about ``NUM_BYTES`` in all."""
    root = Path(sysconfig.get_paths()["purelib"])
    paths = sorted(p for p in root.rglob("*.py") if 300 < p.stat().st_size < 400_000)
    random.Random(0).shuffle(paths)
    texts: list[str] = []
    size = 0
    for path in paths:
        text = path.read_text(encoding="utf-8", errors="replace")
        texts += [text[k : k + PIECE] for k in range(0, len(text), PIECE)]
        size += len(text)
        if size > NUM_BYTES:
            break
    return texts


def _items(texts: list[str]) -> Items:
    """Items of 5 to 120 words, drawn one by one from the documents' words."""
    draw = np.random.default_rng(0)
    words = np.array(" ".join(texts[::50]).split())
    sizes = draw.integers(5, 120, NUM_ITEMS)
    made = [" ".join(words[draw.integers(0, len(words), size)]) for size in sizes]
    return Items(
        pa.array(made, pa.large_string()),
        tuple(str(k) for k in range(NUM_ITEMS)),
        ("drawn",),
        np.zeros(NUM_ITEMS, np.int64),
        np.zeros(NUM_ITEMS, np.int64),
    )


@njit
def _touch(data):  # type: ignore[no-untyped-def]
    spaces = 0
    for byte in data:
        spaces += byte == 32
    return spaces


def _case(style: Style, items: Items, batches: list[pa.RecordBatch]) -> Result:
    began = time.perf_counter()
    search = plan(items, style, {"drawn": 1}, 1 << 33)
    built = time.perf_counter() - began
    num_bytes = sum(tally(batch, search).num_bytes for batch in batches)
    taken = seconds_in_turn(
        {
            "ours": lambda: [tally(batch, search) for batch in batches],
            "floor": lambda: [_touch(text_bytes(batch["text"])[0]) for batch in batches],
        },
        repeats=3,
    )
    grams = search.index.num_grams
    size = search.index.num_bytes
    print(f"{style.kind}: {grams:,} n-grams, {size / grams:.1f} bytes each, built in {built:.1f} s")
    return Result(
        case=f"{style.kind}, {len(items):,} items",
        unit="MB/s",
        ours=num_bytes / 1e6 / taken["ours"],
        peer_name="none",
        why="the last case has one",
        floor=num_bytes / 1e6 / taken["floor"],
    )


def _beside_datatrove(items: Items, texts: list[str]) -> Result:
    """Its words and its n-grams with a set of hashes, as its filter does for every document."""
    import xxhash
    from datatrove.utils.text import ngrams, simplify_text

    style = NGrams(n=12, min_words=12)
    search = plan(items, style, {"drawn": 1}, 1 << 33)
    sample = texts[::SLOW]
    batch = pa.record_batch({"text": pa.array(texts, pa.large_string())})

    def grams(text: str) -> list[int]:
        # White space for its tokenizer, which is not installed and would only be slower.
        return [
            xxhash.xxh64_intdigest(" ".join(gram).encode())
            for gram in ngrams(simplify_text(text).split(), 12)
        ]

    known = {h for text in items.text.to_pylist()[:20_000] for h in grams(text)}
    taken = seconds_in_turn(
        {
            "ours": lambda: tally(batch, search),
            "peer": lambda: [any(h in known for h in grams(text)) for text in sample],
        },
        repeats=3,
    )
    return Result(
        case="12-grams",
        unit="MB/s",
        ours=sum(len(t.encode()) for t in texts) / 1e6 / taken["ours"],
        peer_name="datatrove's normalisation, n-grams and hashes",
        peer=sum(len(t.encode()) for t in sample) / 1e6 / taken["peer"],
    )


def main() -> None:
    """Run every case and print the results."""
    texts = _documents()
    items = _items(texts)
    batches = [
        pa.record_batch({"text": pa.array(texts[k : k + 256], pa.large_string())})
        for k in range(0, len(texts), 256)
    ]
    styles: list[Style] = [
        NGrams(),
        DeepSeek(kind="deepseek"),
        GPT3(kind="gpt3"),
        PaLM(kind="palm"),
        Llama2(kind="llama2"),
        Substring(kind="substring"),
    ]
    results = [_case(style, items, batches) for style in styles]
    results.append(_beside_datatrove(items, texts[:4000]))
    show("contamination", results, ("numba", "numpy", "pyarrow", "datatrove"))


if __name__ == "__main__":
    main()
