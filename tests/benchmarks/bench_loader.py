"""Batches of the loader, from mapped rows in random order, on one core.

The peers are what no loader does: rows that lie one after the other in memory, copied by NumPy.
``raw`` copies them as they are, ``tokens[a:b].copy()``, as a batch holds them; ``widened`` makes
what a model looks up, ``tokens[a:b].astype(np.int64)``, beside a batch whose tokens and pieces were
made; ``kept`` are peers that keep as many outputs alive as the loader reads ahead. ``row by row``
is what nanoGPT's loader does: as many rows at random places, each a slice that NumPy widens,
stacked. The floor is the time that the bytes of a batch take, 2 read and 2 written a token, by
NumPy's copy of rows at random places.

Times are of the processor, all threads together, and the best of several turns: what else the
machine does meanwhile counts for neither side. ``cold`` alone is by the clock: the kernel was told
to forget the file before. ``warm`` reads what is mapped. The last case is how many times
the tokens of a training step of the tiny recipe's model the loader gives, both by the clock.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from tests.benchmarks.bench_train_step import ROWS, config
from tests.benchmarks.report import Result, show
from training.data import row_files
from training.data.loader import Loader, ReadAhead
from training.data.mixing import Mixture
from training.data.order import Epochs
from training.data.row_files import open_rows
from training.data.rows import Rows
from training.hardware import apply_threads, probe, worker_environment
from training.losses import next_token_loss
from training.models.language_model import build
from training.optim import Optimizer
from training.schedule import OptimizerConfig

TABLE_TOKENS = 120_000_000  # 240 MB
VOCAB = 32_768
DOCUMENT_TOKENS = 800  # mean of a piece, about that of web pages
ROUND_TOKENS = 8_000_000  # of a measurement
REPEATS = 7
KEPT = 3  # batches: one in use, two read ahead
PART_ROWS = 50_000


def save(folder: Path, length: int) -> list[str]:
    """A table of rows of ``length`` tokens, of pieces of documents, 2 % of them not filled."""
    random = np.random.default_rng(0)
    paths, num_rows = [], TABLE_TOKENS // length
    for first in range(0, num_rows, PART_ROWS):
        number = min(PART_ROWS, num_rows - first)
        tokens = random.integers(0, VOCAB, (number, length), dtype=np.uint16)
        begins = [
            np.unique(np.append(random.integers(0, length, n), 0)).tolist()
            for n in random.poisson(length / DOCUMENT_TOKENS, number)
        ]
        filled = np.full(number, length)
        filled[::50] = [start[-1] + 1 for start in begins[::50]]
        paths.append(str(folder / f"{first}.parquet"))
        pq.write_table(
            pa.table(
                {
                    "row_id": pa.array(range(first, first + number), pa.int64()),
                    "tokens": pa.array([row.tobytes() for row in tokens], pa.binary()),
                    "vocab_size": pa.array(np.full(number, VOCAB), pa.int32()),
                    "num_tokens": pa.array(filled, pa.int32()),
                    "doc_starts": pa.array(begins, pa.list_(pa.int32())),
                }
            ),
            paths[-1],
        )
    return paths


class Steps:
    """One step after the other of a run that never ends, so that no row is warm by being read."""

    def __init__(self, rows: Rows, batch_rows: int, mixture: Mixture | None = None) -> None:
        self.loader = Loader(rows, 0, batch_rows, mixture)
        self.step = 0
        self.num_steps = max(1, ROUND_TOKENS // (batch_rows * rows.tokens.shape[1]))

    def one_by_one(self) -> None:
        for _ in range(self.num_steps):
            self.loader.batch(self.step)
            self.step += 1

    def as_a_model_takes_them(self) -> None:
        for _ in range(self.num_steps):
            batch = self.loader.batch(self.step)
            _ = batch.tokens, batch.pieces
            self.step += 1

    def ahead(self) -> None:
        """As a training reads, with nothing between two steps, in the thread of the reader."""
        slots = [range(self.loader.slots_per_step)]
        with ReadAhead(self.loader, slots, 1 << 60, pinned=False) as ahead:
            for _ in range(self.num_steps):
                ahead.read(self.step)
                self.step += 1


def _seconds(jobs: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Least processor seconds of each job; one round warms up, then the jobs take turns."""
    taken: dict[str, list[float]] = {name: [] for name in jobs}
    for k in range(repeats + 1):
        for name, job in jobs.items():
            started = time.process_time()
            job()
            if k:
                taken[name].append(time.process_time() - started)
    return {name: min(times) for name, times in taken.items()}


def _slices(
    rows: Rows, batch_rows: int, copy: Callable[[np.ndarray], object], num_kept: int = 0
) -> Callable[[], None]:
    """As many tokens as ``Steps`` reads: rows in sequence, from a random place each time.

    ``num_kept`` outputs stay alive, as the batches do that were read ahead: they share the cache.
    """
    random = np.random.default_rng(1)
    num_steps = max(1, ROUND_TOKENS // (batch_rows * rows.tokens.shape[1]))

    def job() -> None:
        kept: deque[object] = deque(maxlen=num_kept)
        for first in random.integers(0, len(rows) - batch_rows, num_steps).tolist():
            kept.append(copy(rows.tokens[first : first + batch_rows]))

    return job


def _row_by_row(rows: Rows, batch_rows: int) -> Callable[[], None]:
    """As many tokens as ``Steps`` reads: rows at random places, copied and stacked."""
    random = np.random.default_rng(2)
    num_steps = max(1, ROUND_TOKENS // (batch_rows * rows.tokens.shape[1]))
    tokens, length = rows.tokens.reshape(-1), rows.tokens.shape[1]

    def job() -> None:
        for starts in (length * random.integers(0, len(rows), (num_steps, batch_rows))).tolist():
            np.stack([tokens[start : start + length].astype(np.int64) for start in starts])

    return job


def _floor(rows: Rows, batch_rows: int) -> float:
    """Tokens a second if nothing but their bytes took time: 2 read, 2 written."""
    tokens = rows.tokens[:batch_rows].size
    whole, read = rows.tokens.reshape(-1), np.empty(tokens, rows.tokens.dtype)
    starts = np.random.default_rng(3).integers(0, whole.size - tokens, 200).tolist()

    def fetch() -> None:
        for start in starts:
            np.copyto(read, whole[start : start + tokens])

    return len(starts) * tokens / _seconds({"fetch": fetch}, REPEATS)["fetch"]


def _reading(rows: Rows, batch_rows: int, in_memory: Rows) -> list[Result]:
    tokens = max(1, ROUND_TOKENS // (batch_rows * rows.tokens.shape[1]))
    tokens *= batch_rows * rows.tokens.shape[1]
    steps, single, alone = (Steps(rows, batch_rows) for _ in range(3))
    thirds = np.arange(len(rows)) % 3
    mixed = Steps(rows, batch_rows, Mixture.of({"a": 3, "b": 2, "c": 1}, "abc", thirds, seed=0))

    def raw(part: np.ndarray) -> object:
        return part.copy()

    def widened(part: np.ndarray) -> object:
        return part.astype(np.int64)

    taken = _seconds(
        {
            "ahead": steps.ahead,
            "mixed": mixed.ahead,
            "one by one": single.one_by_one,
            "made": alone.as_a_model_takes_them,
            "raw": _slices(in_memory, batch_rows, raw),
            "raw, kept": _slices(in_memory, batch_rows, raw, KEPT),
            "widened": _slices(in_memory, batch_rows, widened),
            "row by row": _row_by_row(rows, batch_rows),
        },
        REPEATS,
    )
    rates = {name: tokens / seconds / 1e6 for name, seconds in taken.items()}
    floor = _floor(in_memory, batch_rows) / 1e6
    return [
        Result(
            case=f"{case} {batch_rows} x {rows.context_length}",
            unit="Mtok/s",
            ours=rates[ours],
            peer_name=f"slice, {peer}",
            peer=rates[peer],
            floor=floor,
        )
        for case, ours, peer in (
            ("step by step, warm", "one by one", "raw"),
            ("step by step, warm", "one by one", "widened"),
            ("step by step, warm", "one by one", "row by row"),
            ("read ahead, warm", "ahead", "raw, kept"),
            ("read ahead, mixture", "mixed", "raw, kept"),
            ("tokens and pieces made, warm", "made", "widened"),
            ("tokens and pieces made, warm", "made", "row by row"),
        )
    ]


def _cold(paths: list[str], cache: Path, batch_rows: int, warm: float) -> Result:
    """The first steps after the kernel forgot the table: every row comes from the disk."""
    (file,) = {Path(p) for p in cache.glob("*/tokens.npy")}
    taken = []
    for _ in range(3):
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        steps = Steps(open_rows(paths, cache), batch_rows)
        started = time.perf_counter()
        steps.ahead()
        taken.append(time.perf_counter() - started)
        tokens = steps.num_steps * batch_rows * steps.loader.rows.tokens.shape[1]
    return Result(
        case=f"read ahead, cold {batch_rows} x {steps.loader.rows.context_length}",
        unit="Mtok/s",
        ours=tokens / min(taken) / 1e6,
        peer_name="warm",
        peer=warm,
    )


def _decoding(paths: list[str], cache: Path) -> Result:
    """Once a machine: from Parquet to mapped files, beside what every process did in memory."""
    row_files.IN_MEMORY_BYTES = 0
    started = time.perf_counter()
    rows = open_rows(paths, cache)
    ours = time.perf_counter() - started
    started = time.perf_counter()
    Rows.from_files(paths)
    peer = time.perf_counter() - started
    return Result(
        case="decode the table, flushed to the disk",
        unit="Mtok/s",
        ours=rows.tokens.size / ours / 1e6,
        peer_name="into memory",
        peer=rows.tokens.size / peer / 1e6,
    )


def _orders(num_rows: int) -> list[Result]:
    """Row numbers a second: of a block of samples, and of one step of four at a time."""
    order = Epochs(num_rows, 0)
    taken = _seconds(
        {
            "block": lambda: [order.ids(np.arange(k, k + 4096)) for k in range(0, 40_960, 4096)],
            "steps": lambda: [order.ids(np.arange(k, k + 4)) for k in range(0, 400, 4)],
        },
        REPEATS,
    )
    return [
        Result(
            case="row numbers, 4096 together",
            unit="M/s",
            ours=40_960 / taken["block"] / 1e6,
            peer_name="4 together",
            peer=400 / taken["steps"] / 1e6,
        )
    ]


def _training(loader_rate: float) -> Result:
    """Tokens a second of a step of the tiny recipe's planned model, on all cores."""
    apply_threads(os.cpu_count() or 1)
    hardware, shape = probe(), config(64)
    model = build(shape)
    optimizer = Optimizer(model, OptimizerConfig(), hardware.dtype)
    tokens = torch.randint(8192, (ROWS, 257), generator=torch.Generator().manual_seed(0))

    def step() -> None:
        with hardware.autocast():
            loss = next_token_loss(model, tokens)
        loss.backward()
        optimizer.step(1.0)
        optimizer.zero_grad()

    taken = []
    for _ in range(30):
        started = time.perf_counter()
        step()
        taken.append(time.perf_counter() - started)
    return Result(
        case=f"read ahead, {ROWS} x 256, and a step of it",
        unit="Mtok/s",
        ours=loader_rate,
        peer_name="4 layers of 64, trained",
        peer=ROWS * 256 / min(taken) / 1e6,
    )


def main() -> None:
    """Run every case in a process with a training worker's environment."""
    if "GOMP_SPINCOUNT" not in os.environ:
        environment = {**os.environ, **worker_environment(os.cpu_count() or 1)}
        subprocess.run([sys.executable, "-m", __spec__.name], env=environment, check=True)
        return
    apply_threads(1)
    results: list[Result] = []
    for length, batches in ((257, (ROWS, 256)), (2049, (32,))):
        with tempfile.TemporaryDirectory(prefix="bench-loader-") as scratch:
            cache = Path(scratch) / "cache"
            paths = save(Path(scratch), length)
            results.append(_decoding(paths, cache))
            rows, in_memory = open_rows(paths, cache), Rows.from_files(paths)
            assert rows.tokens.max() < VOCAB  # maps every page, as an epoch does
            for batch_rows in batches:
                results += _reading(rows, batch_rows, in_memory)
            warm = next(r.ours for r in results[::-1] if r.case.startswith("read ahead, warm"))
            results.append(_cold(paths, cache, batches[-1], warm))
            if length == 257:
                results += _orders(len(rows))
                small = next(r.ours for r in results if r.case.startswith("read ahead"))
    results.append(_training(small))
    show("loader", results, ("numpy", "pyarrow", "torch"))


if __name__ == "__main__":
    main()
