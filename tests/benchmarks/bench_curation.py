"""Signals, MinHash keys and clusters on one core, on source code of the environment's packages."""

import random
import sysconfig
from pathlib import Path

import numpy as np
import pyarrow as pa
from numba import njit

from datalake.dedup.components import driver_components
from datalake.dedup.minhash import Banding, BandsConfig
from datalake.filters import signal_kernels
from datalake.filters.characters import character_classes, lower_cases
from datalake.filters.signals import measure
from tests.benchmarks.report import Result, seconds_in_turn, show
from tests.datalake.document_rows import documents
from tests.datalake.filters.plain_signals import plain_signals

NUM_BYTES = 20_000_000
PIECE = 3400  # characters; what published rates of MinHash are usually quoted at
SLOW = 100  # of so many documents one is given to the slow peer
NUM_EDGES = 1_000_000


def source_texts(piece: int | None) -> list[str]:
    """Python files of the environment, or pieces of them, about ``NUM_BYTES`` in all."""
    root = Path(sysconfig.get_paths()["purelib"])
    paths = sorted(p for p in root.rglob("*.py") if 300 < p.stat().st_size < 400_000)
    random.Random(0).shuffle(paths)
    texts: list[str] = []
    size = 0
    for path in paths:
        text = path.read_text(encoding="utf-8", errors="replace")
        step = piece or len(text)
        texts += [text[k : k + step] for k in range(0, len(text), step)]
        size += len(text)
        if size > NUM_BYTES:
            break
    return texts


@njit
def _keys_alone(data, offsets, classes, lower, shingle_words, a, b, num_rows, keys):  # type: ignore[no-untyped-def]
    """The pass without anything but MinHash."""
    most = 0
    for d in range(offsets.size - 1):
        most = max(most, offsets[d + 1] - offsets[d])
    words, tokens = np.empty(most, np.uint64), np.empty(most, np.uint64)
    spans, row = np.empty(most + 1, np.int64), np.zeros(signal_kernels.NUM_COLUMNS)
    minima, no_words = np.empty(a.size, np.uint64), np.empty(0, np.uint64)
    for d in range(offsets.size - 1):
        found = signal_kernels._scan(
            data, offsets[d], offsets[d + 1], classes, lower, no_words, words, spans, tokens, row
        )
        if found[1] >= shingle_words:
            signal_kernels._minima(tokens, found[1], shingle_words, a, b, minima)
            signal_kernels._band_keys(minima, num_rows, keys[d])


@njit
def _touch(data):  # type: ignore[no-untyped-def]
    spaces = 0
    for byte in data:
        spaces += byte == 32
    return spaces


def _signals(texts: list[str], case: str) -> Result:
    banding = Banding.of(BandsConfig())
    batches = [documents(*texts[k : k + 256]) for k in range(0, len(texts), 256)]
    sample = texts[::SLOW]
    data = np.frombuffer("".join(texts).encode(), np.uint8)
    taken = seconds_in_turn(
        {
            "ours": lambda: [measure(batch, banding) for batch in batches],
            "peer": lambda: [plain_signals(text) for text in sample],
            "floor": lambda: _touch(data),
        },
        repeats=3,
    )
    sample_bytes = sum(len(text.encode()) for text in sample)
    return Result(
        case=case,
        unit="MB/s",
        ours=len(data) / 1e6 / taken["ours"],
        peer_name="plain Python, without MinHash",
        peer=sample_bytes / 1e6 / taken["peer"],
        floor=len(data) / 1e6 / taken["floor"],
    )


def _keys(texts: list[str]) -> Result:
    from text_dedup.minhash import embed_func
    from text_dedup.utils import xxh3_32hash

    banding = Banding.of(BandsConfig())
    a, b = banding.permutations()
    text = pa.array(texts, pa.large_string())
    offsets = np.frombuffer(text.buffers()[1], np.int64)[: len(texts) + 1]
    data = np.frombuffer(text.buffers()[2], np.uint8)
    keys = np.zeros((len(texts), banding.num_bands), np.uint64)
    classes, lower = character_classes(), lower_cases()
    sample = texts[:: SLOW // 10]
    bounds = [(k, k + banding.num_rows) for k in range(0, banding.num_perm, banding.num_rows)]
    taken = seconds_in_turn(
        {
            "ours": lambda: _keys_alone(
                data, offsets, classes, lower, 5, a, b, banding.num_rows, keys
            ),
            "peer": lambda: [
                embed_func(
                    text,
                    0,
                    num_perm=banding.num_perm,
                    ngram_size=5,
                    min_length=5,
                    hashranges=bounds,
                    permutations=(a, b),
                    hash_func=xxh3_32hash,
                    dtype=np.uint64,
                    max_hash=np.uint64((1 << 32) - 1),
                    modulo_prime=np.uint64((1 << 61) - 1),
                )
                for text in sample
            ],
            "floor": lambda: _touch(data),
        },
        repeats=3,
    )
    return Result(
        case=f"MinHash keys, 14 x 8, texts of {PIECE}",
        unit="docs/s",
        ours=len(texts) / taken["ours"],
        peer_name="text-dedup embed_func, xxh3",
        peer=len(sample) / taken["peer"],
        floor=len(texts) / taken["floor"],
    )


def _clusters() -> Result:
    from text_dedup.utils import UnionFind

    draw = np.random.default_rng(0)
    pairs = np.sort(draw.integers(0, NUM_EDGES, (NUM_EDGES, 2)), axis=1)
    names = [[f"{k:032x}" for k in column] for column in (pairs[:, 1], pairs[:, 0])]
    edges = pa.table({"doc_id": names[0], "star": names[1]})

    def union() -> None:
        forest = UnionFind()
        for a, b in zip(*names, strict=True):
            forest.union(a, b)
        for node in list(forest.parent):
            forest.find(node)

    taken = seconds_in_turn({"ours": lambda: driver_components(edges), "peer": union}, repeats=1)
    return Result(
        case="connected components, ids as text",
        unit="edges/s",
        ours=NUM_EDGES / taken["ours"],
        peer_name="text-dedup UnionFind",
        peer=NUM_EDGES / taken["peer"],
    )


def main() -> None:
    """Run every case and print the results."""
    pieces = source_texts(PIECE)
    results = [
        _signals(source_texts(None), "all signals and keys, whole files"),
        _signals(pieces, f"all signals and keys, texts of {PIECE}"),
        _keys(pieces),
        _clusters(),
    ]
    show("curation", results, ("numba", "numpy", "pyarrow", "scipy", "text-dedup"))


if __name__ == "__main__":
    main()
