"""Training byte-pair encoding, beside Hugging Face's tokenizers and rustbpe.

Each job runs in a process of its own, on as many cores as it is allowed to see, and measures itself
from text in memory to merges: ours from an Arrow column, the peers from a list of strings, each as
it takes them. Imports, reading the text and compiling are outside; compiling is reported apart. The
jobs take turns. On one core the seconds are those of the processor, and the best turn counts: what
other work on the machine adds is no part of it. On two they are those of the clock, and the turn in
the middle counts, of both sides: a core that was fast for a moment is no luck that two have.

Before that, on a smaller text, our merges are compared with those of a trainer that counts all
pairs anew for every merge, and Hugging Face's are followed step by step: each must be a pair of the
highest count there is, as ours is the one of them whose bytes are greatest.
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from datalake.config import Refusal
from tests.benchmarks.report import Result, show
from tests.benchmarks.source_pieces import source_texts
from training.tokenizer.patterns import PATTERNS

NUM_BYTES = 100_000_000
VOCAB_SIZE = 32_768
SMALL_BYTES, SMALL_MERGES = 300_000, 400
REPEATS = 7
PEER_REPEATS = {"tokenizers": 2, "rustbpe": 3}  # the first takes half a minute a turn
SLOW = ("tokenizers",)  # on one core only
PEERS = {"tokenizers": "tokenizers BpeTrainer", "rustbpe": "rustbpe"}


def main(words: Sequence[str] = ()) -> None:
    """Run every case and print the results."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--pattern", default="gpt2", choices=PATTERNS)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    try:
        asked, unknown = parser.parse_known_args(list(words))
    except argparse.ArgumentError as error:
        raise Refusal(f"words for benchmark bpe must be known, got {error}") from None
    if unknown:
        raise Refusal(
            "words for benchmark bpe must be --pattern NAME or --repeats N, "
            f"got {' '.join(unknown)}"
        )
    with tempfile.TemporaryDirectory() as folder:
        results = _results(Path(folder), asked.pattern, asked.repeats)
    installed = [name for name in PEERS if _is_installed(name)]
    show(f"bpe --pattern {asked.pattern}", results, ("numba", "numpy", "pyarrow", *installed))


def _results(folder: Path, pattern: str, repeats: int) -> list[Result]:
    column = pa.array(source_texts(NUM_BYTES), pa.large_string())
    file = folder / "text.arrow"
    with pa.OSFile(str(file), "wb") as out, pa.ipc.new_file(out, _SCHEMA) as writer:
        writer.write(pa.record_batch([column], schema=_SCHEMA))
    _compare_with_naive(pattern)
    compiling = _run("compile", 1, file, pattern, cache=folder / "cache")
    loading = _run("compile", 1, file, pattern, cache=folder / "cache")
    print(
        f"compiling takes {compiling['wall']:.1f} s once (processor {compiling['cpu']:.1f} s), "
        f"then {loading['wall']:.2f} s a process to load what was compiled"
    )
    jobs = {"ours": 1, "ours on 2": 2, "count": 1, "floor": 1}
    jobs |= {name: 1 for name in PEERS if _is_installed(name)}
    jobs |= {f"{name} on 2": 2 for name in PEERS if _is_installed(name) and name not in SLOW}
    if (os.cpu_count() or 1) < 2:
        jobs = {name: cores for name, cores in jobs.items() if cores == 1}
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in jobs}
    for turn in range(repeats):
        for name, cores in jobs.items():
            job = name.removesuffix(" on 2")
            if turn < PEER_REPEATS.get(job, repeats):
                taken[name].append(_run(job, cores, file, pattern))

    def rate(name: str, clock: str) -> float | None:
        if name not in taken:
            return None
        seconds = [one[clock] for one in taken[name]]
        return NUM_BYTES / 1e6 / (min(seconds) if clock == "cpu" else statistics.median(seconds))

    for name in taken:
        best = {clock: min(one[clock] for one in taken[name]) for clock in ("wall", "cpu")}
        print(f"{name:<20} best: {best['wall']:.2f} s by the clock, {best['cpu']:.2f} s processor")
    size = f"{VOCAB_SIZE:,} tokens"
    results = [
        Result(
            case=f"train {size}, one core",
            unit="MB/s",
            ours=rate("ours", "cpu") or 0.0,
            peer_name=called,
            peer=rate(name, "cpu"),
            floor=rate("floor", "cpu"),
            why=None if name in taken else f"{name} is not installed",
        )
        for name, called in PEERS.items()
    ]
    results.append(
        Result(
            case="count pre-tokens, one core",
            unit="MB/s",
            ours=rate("count", "cpu") or 0.0,
            peer_name="all of the training",
            peer=rate("ours", "cpu"),
            floor=rate("floor", "cpu"),
        )
    )
    if "ours on 2" in taken:
        results.append(
            Result(
                case=f"train {size}, two cores",
                unit="MB/s",
                ours=rate("ours on 2", "wall") or 0.0,
                peer_name="ours on one",
                peer=rate("ours", "wall"),
                floor=rate("floor", "wall"),
            )
        )
        results += [
            Result(
                case=f"train {size}, two cores",
                unit="MB/s",
                ours=rate("ours on 2", "wall") or 0.0,
                peer_name=f"{called}, two cores",
                peer=rate(f"{name} on 2", "wall"),
                why=None if name in taken else f"{name} is not installed",
            )
            for name, called in PEERS.items()
            if name not in SLOW
        ]
    return results


_SCHEMA = pa.schema([("text", pa.large_string())])


def _is_installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _compare_with_naive(pattern: str) -> None:
    from tests.training.tokenizer import naive
    from training.tokenizer.learning.bpe_trainer import learn_merges
    from training.tokenizer.learning.counting import counter
    from training.tokenizer.patterns import character_classes
    from training.tokenizer.texts import Texts

    texts = source_texts(SMALL_BYTES)
    counts = counter(pattern, character_classes()[0])
    counts.add(Texts.of(texts))
    pairs = learn_merges(counts.counts(), 256 + SMALL_MERGES).pairs
    ours = naive.spelled(pairs)
    words = naive.count(texts, pattern)
    assert ours == naive.train_words(words, SMALL_MERGES)[0], "our merges must be the naive ones"
    said = "the naive trainer's"
    if _is_installed("tokenizers"):
        from tests.training.tokenizer import hugging_face

        theirs = hugging_face.train(texts, PATTERNS[pattern], SMALL_MERGES)
        assert naive.is_greedy(words, theirs), "their merges must be of the highest counts"
        said += f", and tokenizers' but for ties ({sum(map(tuple.__ne__, ours, theirs))} differ)"
    print(f"{SMALL_MERGES} merges of {SMALL_BYTES / 1e6:g} MB are {said}")


def _run(
    job: str, cores: int, file: Path, pattern: str, cache: Path | None = None
) -> dict[str, float]:
    """Seconds of a job by the clock and of the processor, in a process on ``cores`` cores."""
    environment = {
        **os.environ,
        "RAYON_NUM_THREADS": str(cores),
        "TOKENIZERS_PARALLELISM": "true" if cores > 1 else "false",
        **({"NUMBA_CACHE_DIR": str(cache)} if cache else {}),
    }
    command = [sys.executable, "-m", "tests.benchmarks.bench_bpe", job, str(cores), str(file)]
    done = subprocess.run(
        [*command, pattern], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"job {job} failed:\n{done.stderr}")
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def _job(job: str, cores: int, file: str, pattern: str) -> None:
    """One job, in its own process; prints what it took."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[:cores]))
    with pa.memory_map(file) as source:
        column = pa.ipc.open_file(source).read_all()["text"]
    texts: list[str] = []
    if job in PEERS:
        texts = column.to_pylist()
    else:
        column = pa.concat_arrays([pa.array(column.to_pylist(), pa.large_string())])  # in memory
        _ours(column.slice(0, 1), pattern, cores, 300)  # compiles, or loads what was compiled
    wall, cpu = time.perf_counter(), time.process_time()
    if job == "compile":
        wall, cpu = _BEGAN
    elif job == "ours":
        _ours(column, pattern, cores, VOCAB_SIZE)
    elif job == "count":
        _count(column, pattern, cores)
    elif job == "floor":
        int(np.frombuffer(column.buffers()[2], np.uint8).sum(dtype=np.int64))
    elif job == "rustbpe":
        import rustbpe  # type: ignore[import-not-found]

        rustbpe.Tokenizer().train_from_iterator(iter(texts), VOCAB_SIZE, pattern=PATTERNS[pattern])
    else:
        from tests.training.tokenizer import hugging_face

        hugging_face.trained(texts, PATTERNS[pattern], VOCAB_SIZE - 256)
    print(json.dumps({"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}))


def _count(column: pa.Array, pattern: str, cores: int):  # type: ignore[no-untyped-def]
    from training.tokenizer.learning.counting import counter
    from training.tokenizer.texts import Texts

    counts = counter(pattern, _classes(), cores)
    counts.add(Texts.of(column))
    return counts.counts()


def _ours(column: pa.Array, pattern: str, cores: int, vocab_size: int) -> None:
    from training.tokenizer.learning.bpe_trainer import learn_merges

    learn_merges(_count(column, pattern, cores), vocab_size, num_threads=cores)


def _classes() -> np.ndarray:
    from training.tokenizer.patterns import character_classes

    if not _CLASSES:
        _CLASSES.append(character_classes()[0])
    return _CLASSES[0]


_CLASSES: list[np.ndarray] = []
_BEGAN = (time.perf_counter(), time.process_time())

if __name__ == "__main__":
    if len(sys.argv) == 5 and not sys.argv[1].startswith("--"):
        _job(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4])
    else:
        main(sys.argv[1:])
