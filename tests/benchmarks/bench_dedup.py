"""Duplicates: connected components beside scipy's, and with ``--scale`` how the whole chain grows.

The chain is documents, signals, kept, duplicates on local Spark, at 1, 4 and 16 times as many
documents, of which the same share is copied. The session, its Python workers and the compiled
loops are there before the first measurement, which a small chain sees to: starting them costs the
same at every size. A job costs a constant, too, so documents of a small chain seem dearer; what the
documents cost that a larger chain has more is a line of its own.
"""

import gc
import os
import random
import re
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa

from datalake import run, spark
from datalake.config import Refusal
from datalake.dedup.clustering.components import driver_components, node_components
from datalake.filters.rules import KeptConfig
from datalake.sources.record import doc_id
from datalake.workspace import Workspace
from tests.benchmarks.report import Result, seconds_in_turn, show
from tests.benchmarks.source_pieces import pieces
from tests.datalake.document_rows import documents

NUM_NODES, NUM_EDGES = 5_000_000, 6_000_000
SLOW = 20  # of so many edges one is given to the slow peer
SCALES = (3_000, 12_000, 48_000)  # documents of about 3.4 kB
COPIED = 0.2  # of the documents: a quarter of them exact, three quarters with words edited
PACKAGES = ("numba", "numpy", "pyarrow", "pyspark", "scipy", "text-dedup")


def main(argv: list[str]) -> None:
    """Run the cases of components, or with ``--scale`` those of the chain, and print them."""
    if argv not in ([], ["--scale"]):
        raise Refusal(f"benchmark dedup must stand alone or with --scale, got {' '.join(argv)}")
    show("dedup --scale" if argv else "dedup", scale() if argv else connected(), PACKAGES)


# Components -------------------------------------------------------------------------------------


def connected() -> list[Result]:
    """Edges a second, of random graphs in which half of the nodes hang together."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from text_dedup.utils import UnionFind

    ends, others = np.random.default_rng(0).integers(0, NUM_NODES, (2, NUM_EDGES), np.int32)
    shape, ones = (NUM_NODES, NUM_NODES), np.ones(NUM_EDGES, np.int8)
    matrix = coo_array((ones, (ends, others)), shape=shape).tocsr()
    sample = list(zip(ends[::SLOW].tolist(), others[::SLOW].tolist(), strict=True))
    few = NUM_EDGES // 6
    names = [pa.array([f"{k:032x}" for k in nodes[:few].tolist()]) for nodes in (ends, others)]
    edges = pa.table(names, names=["doc_id", "star"])
    few_names = [column.to_pylist()[:: SLOW // 4] for column in names]

    def from_edges() -> None:
        connected_components(coo_array((ones, (ends, others)), shape=shape), directed=False)

    def union(pairs: Iterable[tuple]) -> None:
        forest = UnionFind()
        for a, b in pairs:
            forest.union(a, b)
        for node in list(forest.parent):
            forest.find(node)

    taken = seconds_in_turn(
        {
            "ours": lambda: node_components(ends, others, NUM_NODES),
            "scipy": lambda: connected_components(matrix, directed=False),
            "scipy from edges": from_edges,
            "text-dedup": lambda: union(sample),
            "names": lambda: driver_components(edges),
            "text-dedup, names": lambda: union(zip(*few_names, strict=True)),
            "floor": lambda: np.minimum(ends, others).sum(),
        },
        repeats=3,
    )
    rate = {name: NUM_EDGES / seconds for name, seconds in taken.items()}
    rate["text-dedup"] /= SLOW
    floor = rate["floor"]
    case = f"components, {NUM_NODES / 1e6:g} M nodes, {NUM_EDGES / 1e6:g} M edges"
    results = [
        Result(
            case=case, unit="edges/s", ours=rate["ours"], peer_name=peer, peer=figure, floor=floor
        )
        for peer, figure in (
            ("scipy, matrix made before", rate["scipy"]),
            ("scipy, from edges", rate["scipy from edges"]),
            (f"text-dedup UnionFind, 1 of {SLOW} edges", rate["text-dedup"]),
        )
    ]
    named = Result(
        case=f"the same by names, {few / 1e6:g} M edges",
        unit="edges/s",
        ours=few / taken["names"],
        peer_name=f"text-dedup UnionFind, 1 of {SLOW // 4} edges",
        peer=len(few_names[0]) / taken["text-dedup, names"],
    )
    return [*results, named]


# The chain --------------------------------------------------------------------------------------


def scale() -> list[Result]:
    """Documents a second of the chain at each scale, and what the driver needs for it."""
    with tempfile.TemporaryDirectory() as folder:
        session = Workspace(home=Path(folder) / "session", spark_master="local[2]")
        spark.session(session)
        measured = {}
        for size in (600, *SCALES):
            workspace = Workspace(home=Path(folder) / str(size), say=lambda line: None)
            measured[size] = _chain(workspace, size)
            if size in SCALES:
                print(_said(size, measured[size]), flush=True)
        spark.stop()
    first, middle, last = SCALES
    more, most = (
        (size - fewer) / (measured[size]["chain"] - measured[fewer]["chain"])
        for fewer, size in ((first, middle), (middle, last))
    )
    results = [
        Result(
            case=f"each document from {middle:,} to {last:,}",
            unit="docs/s",
            ours=most,
            peer_name=f"from {first:,} to {middle:,}",
            peer=more,
        )
    ]
    for size in SCALES:
        seconds = measured[size]
        results.append(
            Result(
                case=f"chain of {size:,} documents",
                unit="docs/s",
                ours=size / seconds["chain"],
                peer_name=f"itself at {first:,}",
                peer=first / measured[first]["chain"],
            )
        )
    results += [
        Result(
            case=f"the same, CPU time, {size:,} documents",
            unit="docs/CPU s",
            ours=size / measured[size]["cpu"],
            peer_name=f"itself at {first:,}",
            peer=first / measured[first]["cpu"],
        )
        for size in SCALES[1:]
    ]
    for name, unit in (("driver", "peak MB of the driver's Python"), ("heap", "MB of JVM heap")):
        results += [
            Result(
                case=f"{unit}, {size:,} documents",
                unit="1/MB",
                ours=1 / measured[size][name],
                peer_name=f"itself at {first:,}",
                peer=1 / measured[first][name],
            )
            for size in SCALES[1:]
        ]
    return results


def _chain(workspace: Workspace, size: int) -> dict[str, float]:
    """Seconds of each stage and of all; MB of the driver's peak and of the JVM's heap after."""
    lake = workspace.lake
    commit = lake.overwrite("documents", _batches(size))
    inputs = {"documents": commit.version}
    rules = KeptConfig(rules={"code": ("starcoder2",)}, unknown_licence={"code": "keep"})
    stages = {
        "signals": lambda: run.signals(workspace, inputs, run.SignalsConfig()),
        "kept": lambda: run.kept(workspace, inputs, rules),
        "duplicates": lambda: run.duplicates(workspace, inputs, run.DuplicatesConfig()),
    }
    gc.collect()
    measured: dict[str, float] = {}
    cpu = _cpu_seconds()
    with _PeakMemory() as memory:
        for name, stage in stages.items():
            started = time.perf_counter()
            made = stage()
            measured[name] = time.perf_counter() - started
            inputs[name] = int(made.version)
            if name == "duplicates":
                copies = sum(int(made.report[f"{k} copies"]) for k in ("exact", "near"))
                measured["copies"] = copies / made.rows
    measured["cpu"] = _cpu_seconds() - cpu
    measured["chain"] = sum(measured[name] for name in stages)
    measured["driver"] = memory.peak / 1e6
    jvm = spark.session(workspace)._jvm
    assert jvm is not None
    jvm.System.gc()
    machine = jvm.java.lang.Runtime.getRuntime()
    measured["heap"] = (machine.totalMemory() - machine.freeMemory()) / 1e6
    return measured


def _said(size: int, measured: dict[str, float]) -> str:
    stages = ", ".join(f"{n} {measured[n]:.1f} s" for n in ("signals", "kept", "duplicates"))
    return (
        f"{size:,} documents: {stages}; {measured['chain'] / size * 1e3:.2f} ms a document, "
        f"{measured['cpu'] / size * 1e3:.2f} of CPU; {measured['copies']:.0%} copies found; "
        f"driver {measured['driver']:.0f} MB, heap after collection {measured['heap']:.0f} MB"
    )


class _PeakMemory:
    """Largest resident memory of this process, looked at a hundred times a second."""

    def __enter__(self) -> "_PeakMemory":
        self.peak = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.01):
            self.peak = max(self.peak, _resident())


def _cpu_seconds() -> float:
    """CPU time of this process, of the JVM below it and of the Python workers, ended or not."""
    me = psutil.Process()
    return sum(sum(p.cpu_times()[:4]) for p in (me, *me.children(recursive=True)))


def _resident() -> int:
    """Bytes of this process in memory; where the system does not say, the most there ever were."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most * (1 if sys.platform == "darwin" else 1024)


def _batches(size: int) -> Iterator[pa.RecordBatch]:
    """``size`` rows of ``documents``, a share of them copies of others near before them."""
    texts = _with_copies(size)
    written = 0
    while part := list(islice(texts, 256)):
        batch = documents(*part, source="code", licence="MIT")
        uris = [f"https://example.org/{written + k}" for k in range(len(part))]
        written += len(part)
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        columns["uri"] = pa.array(uris)
        columns["doc_id"] = pa.array([doc_id("code", uri) for uri in uris])
        yield pa.RecordBatch.from_pydict(columns, schema=batch.schema)


def _with_copies(size: int) -> Iterator[str]:
    draw = random.Random(size)
    recent: list[str] = []
    source = pieces()
    for _ in range(size):
        if recent and draw.random() < COPIED:
            text = draw.choice(recent)
            if draw.random() < 0.75:
                share = draw.uniform(0.003, 0.03)
                words = re.split(r"(\s+)", text)
                words = [f"w{draw.randrange(10**6)}" if draw.random() < share else w for w in words]
                text = "".join(words)
        else:
            text = next(source)
            recent = [*recent[-2000:], text]
        yield text


if __name__ == "__main__":
    main(sys.argv[1:])
