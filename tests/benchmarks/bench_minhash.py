"""MinHash on one core: from an Arrow column to band keys, and what the keys find.

The corpus is source code of the environment's packages in pieces, and copies of some of them with
0.3 % to 30 % of their words edited: 30,000 documents, 150 MB. Speed is that of 5-word shingles in
14 bands of 8. A peer is given what its users give it (strings, or strings of shingles made here)
and a part of the corpus where it is slow. datatrove runs in the interpreter that TARN_BENCH_PYTHON
names, with its spaCy words where spaCy is installed there, for speed; all of the corpus is signed
with words of ``str.split``, for quality.

The floor is the time of two loops: one that only folds the bytes, and one that only takes the
minima of as many hashes, both compiled to vector instructions.

Quality: recall is of planted pairs, by their true Jaccard similarity: how many share a band key,
beside the mean of P(s) = 1 - (1 - s^r)^b over the same pairs. Precision is how many of the
documents that a cluster loses are similar, 0.5 and more, to the one that stays, its first.
"""

import json
import os
import pickle
import re
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
from numba import njit

from datalake.dedup.signatures.minhash import (
    Banding,
    BandsConfig,
    FinewebConfig,
    TextDedupConfig,
    sign,
)
from datalake.dedup.signatures.minhash_kernels import (
    BLOCK,
    PADDING,
    SLACK,
    TOKENS,
    fold_ascii,
    lower_minima_32,
)
from tests.benchmarks.bench_extract import one_core
from tests.benchmarks.report import Result, seconds_in_turn, show
from tests.datalake.dedup.source_texts import Pair, jaccard, pieces, plant, shingles

NUM_TEXTS, NUM_PLANTED = 18_000, 12_000
LENGTH = 6_050  # characters of a piece: 150 MB in all
SLOW = 60  # of so many documents one is given to a slow peer
BINS = (0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.0)

BANDS = Banding.of(BandsConfig())
FINEWEB = Banding.of(FinewebConfig(kind="fineweb"))
AS_TEXT_DEDUP = Banding.of(
    TextDedupConfig(kind="text_dedup", hash="xxh3", num_perm=112, num_bands=14, num_rows=8)
)

_WORDS = re.compile(r"\w+")

Keys = Sequence[Sequence[Hashable]]

_DATATROVE = """
import json, pickle, sys, time
import xxhash
from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature

class Split:
    def word_tokenize(self, text):
        return text.split()

folder, words, repeats = sys.argv[1], sys.argv[2], int(sys.argv[3])
with open(folder + "/texts", "rb") as file:
    texts = pickle.load(file)
step = MinhashDedupSignature(folder, MinhashConfig())
step._hash_func = lambda text: xxhash.xxh64_intdigest(text.encode())  # xxhash 4 takes no str
if words == "split":
    step.word_tokenizer = Split()

def signature(text):
    shingles = step.get_shingles(text)
    return [tuple(band) for band in step.get_signature(shingles)] if shingles.size else []

seconds = []
for _ in range(repeats):
    started = time.perf_counter()
    keys = [signature(text) for text in texts]
    seconds.append(time.perf_counter() - started)
with open(folder + "/keys", "wb") as file:
    pickle.dump(keys, file)
print(json.dumps(sorted(seconds)[len(seconds) // 2]))
"""


def ours(column: pa.Array, banding: Banding) -> Keys:
    return sign(column, banding)[0].to_pylist()


def text_dedup(texts: list[str], name: str) -> Keys:
    """Bands of text-dedup's ``embed_func``."""
    from text_dedup.minhash import embed_func
    from text_dedup.utils import sha1_hash, xxh3_32hash

    bounds = list(pairwise(range(0, 113, 8)))
    return [
        embed_func(
            text,
            0,
            num_perm=112,
            ngram_size=5,
            min_length=5,
            hashranges=bounds,
            permutations=AS_TEXT_DEDUP.permutations(),
            hash_func=sha1_hash if name == "sha1" else xxh3_32hash,
            dtype=np.uint64,
            max_hash=np.uint32((1 << 32) - 1),
            modulo_prime=np.uint64((1 << 61) - 1),
        )["__signatures__"]
        for text in texts
    ]


def shingle_strings(text: str) -> list[str]:
    """What a user of a library that takes shingles writes."""
    words = _WORDS.findall(text.lower())
    return [" ".join(words[k : k + 5]) for k in range(len(words) - 4)]


def rensa(texts: list[str]) -> Keys:
    from rensa import RMinHash

    keys = []
    for text in texts:
        signature = RMinHash(num_perm=112, seed=42)
        signature.update(shingle_strings(text))
        minima = signature.digest()
        keys.append([tuple(minima[k : k + 8]) for k in range(0, 112, 8)])
    return keys


def datasketch(texts: list[str]) -> Keys:
    from datasketch import MinHash

    keys = []
    for text in texts:
        signature = MinHash(num_perm=112)
        signature.update_batch([one.encode() for one in shingle_strings(text)])
        keys.append([signature.hashvalues[k : k + 8].tobytes() for k in range(0, 112, 8)])
    return keys


def datatrove(texts: list[str], words: str, repeats: int) -> tuple[Keys, float] | str:
    """Bands of datatrove's signature step, and the seconds it took; or why there are none."""
    python = os.environ.get("TARN_BENCH_PYTHON")
    if python is None:
        return "TARN_BENCH_PYTHON names no interpreter that has datatrove"
    with tempfile.TemporaryDirectory(prefix="tarn-bench-") as folder:
        (Path(folder) / "texts").write_bytes(pickle.dumps(texts))
        command = [python, "-c", _DATATROVE, folder, words, str(repeats)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            return f"datatrove failed: {done.stderr.strip().splitlines()[-1]}"
        keys = pickle.loads((Path(folder) / "keys").read_bytes())
    return keys, json.loads(done.stdout.strip().splitlines()[-1])


@njit
def _fold_alone(data, out):  # type: ignore[no-untyped-def]
    for start in range(0, data.size - BLOCK, BLOCK):
        fold_ascii(data, start, BLOCK, out, 0, np.uint8(0), np.uint8(95))


@njit
def _minima_alone(num_shingles, documents, hashes, narrow, a, b, minima):  # type: ignore[no-untyped-def]
    for _ in range(documents):
        lower_minima_32(hashes, num_shingles, narrow, a, b, minima)


def floor(column: pa.LargeStringArray, num_shingles: int) -> Callable[[], None]:
    """The loops that the bytes and the multiply-adds alone take."""
    data = np.frombuffer(column.buffers()[2], np.uint8)
    out = np.empty(BLOCK + SLACK, np.uint8)
    each = num_shingles // len(column)
    hashes = np.random.default_rng(0).integers(0, 1 << 63, TOKENS + each, dtype=np.uint64)
    narrow = np.empty(TOKENS + each + PADDING, np.uint32)
    a, b = BANDS.affine_permutations()

    def run() -> None:
        _fold_alone(data, out)
        minima = np.full(112, (1 << 32) - 1, np.uint64)
        _minima_alone(each, len(column), hashes, narrow, a, b, minima)

    return run


def speed(texts: list[str]) -> list[Result]:
    column, sample = pa.array(texts, pa.large_string()), texts[::SLOW]
    num_shingles = sum(len(shingle_strings(text)) for text in sample) * SLOW
    jobs: dict[str, Callable[[], object]] = {
        "bands": partial(sign, column, BANDS),
        "fineweb": partial(sign, column, FINEWEB),
        "as text-dedup": partial(sign, column, AS_TEXT_DEDUP),
        "text-dedup xxh3": partial(text_dedup, sample, "xxh3"),
        "text-dedup sha1": partial(text_dedup, sample, "sha1"),
        "rensa": partial(rensa, sample),
        "datasketch": partial(datasketch, sample),
        "floor": floor(column, num_shingles),
    }
    taken = seconds_in_turn(jobs, repeats=3)
    rate = {name: len(texts) / taken[name] for name in ("bands", "fineweb", "as text-dedup")}
    lowest = len(texts) / taken["floor"]
    size = column.nbytes / 1e6
    case = f"keys of {len(texts):,} documents, {size:.0f} MB"
    rows = [
        ("bands", peer) for peer in ("text-dedup xxh3", "text-dedup sha1", "rensa", "datasketch")
    ]
    rows.append(("as text-dedup", "text-dedup xxh3"))
    results = [
        Result(
            case=f"{case}, {mode}",
            unit="docs/s",
            ours=rate[mode],
            peer_name=peer,
            peer=len(sample) / taken[peer],
            floor=lowest,
        )
        for mode, peer in rows
    ]
    for mode, words in (("bands", "spaCy"), ("bands", "split"), ("fineweb", "spaCy")):
        found = datatrove(sample, words, repeats=3)
        results.append(
            Result(
                case=f"{case}, {mode}",
                unit="docs/s",
                ours=rate[mode],
                peer_name=f"datatrove, words of {words}",
                peer=None if isinstance(found, str) else len(sample) / found[1],
                floor=lowest,
                why=found if isinstance(found, str) else None,
            )
        )
    return results


def clusters(keys: Keys) -> list[list[int]]:
    """Documents that share band keys, directly or by others, in order."""
    parent = list(range(len(keys)))

    def find(node: int) -> int:
        while parent[node] != node:
            parent[node] = node = parent[parent[node]]
        return node

    first: dict[tuple[int, Hashable], int] = {}
    for document, its in enumerate(keys):
        for band, key in enumerate(its):
            a, b = find(document), find(first.setdefault((band, key), document))
            parent[max(a, b)] = min(a, b)
    members = defaultdict(list)
    for document in range(len(keys)):
        members[find(document)].append(document)
    return list(members.values())


def recall(keys: Keys, pairs: Sequence[Pair]) -> list[float]:
    """Of the pairs in each of ``BINS``, how many share a band key."""
    found = [any(a == b for a, b in zip(keys[p.first], keys[p.second])) for p in pairs]  # noqa: B905
    return [float(np.mean([found[k] for k in its])) for its in binned(pairs)]


def binned(pairs: Sequence[Pair]) -> list[list[int]]:
    """Numbers of the pairs in each of ``BINS``, by similarity."""
    bins: list[list[int]] = [[] for _ in BINS]
    for number, pair in enumerate(pairs):
        bins[next(k for k, low in enumerate(BINS) if pair.similarity >= low)].append(number)
    return bins


def precision(keys: Keys, texts: list[str]) -> float:
    """Of the removed documents, how many are like the first of their cluster."""
    alike = []
    for first, *removed in clusters(keys):
        if removed:
            survivor = shingles(texts[first])
            alike += [jaccard(survivor, shingles(texts[k])) >= 0.5 for k in removed]
    return float(np.mean(alike))


def quality(texts: list[str], pairs: Sequence[Pair]) -> list[Result]:
    column = pa.array(texts, pa.large_string())
    found = datatrove(texts, "split", repeats=1)
    peers: dict[str, Keys] = {
        "text-dedup": text_dedup(texts, "xxh3"),
        "datasketch": datasketch(texts),
        "our fineweb": ours(column, FINEWEB),
        "our text_dedup": ours(column, AS_TEXT_DEDUP),
    }
    if not isinstance(found, str):
        peers["datatrove"] = found[0]
    mine = ours(column, BANDS)
    its_recall = {name: recall(keys, pairs) for name, keys in peers.items()}
    expected = [
        float(np.mean([BANDS.detection_probability(pairs[k].similarity) for k in its]))
        for its in binned(pairs)
    ]
    its_recall = {"theory": expected} | its_recall
    results = []
    for k, (got, its) in enumerate(zip(recall(mine, pairs), binned(pairs), strict=True)):
        high = BINS[k - 1] if k else 1.0
        results += [
            Result(
                case=f"recall of {len(its)} pairs, {BINS[k]} to {high}",
                unit="share",
                ours=got,
                peer_name=name,
                peer=rates[k],
            )
            for name, rates in its_recall.items()
        ]
    own = precision(mine, texts)
    results += [
        Result(
            case="precision, Jaccard 0.5 and more",
            unit="share",
            ours=own,
            peer_name=name,
            peer=precision(keys, texts),
        )
        for name, keys in peers.items()
    ]
    return results


def main() -> None:
    """Run every case and print the results."""
    texts = pieces("purelib", LENGTH, NUM_TEXTS)
    planted, pairs = plant(texts, NUM_PLANTED)
    texts += planted
    with one_core():
        results = speed(texts)
    results += quality(texts, pairs)
    packages = ("numba", "numpy", "pyarrow", "text-dedup", "datasketch", "rensa", "xxhash")
    show("minhash", results, packages)


if __name__ == "__main__":
    main()
