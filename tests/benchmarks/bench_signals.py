"""Signals on one core: from an Arrow column to every number that Gopher, C4 and FineWeb decide on.

Two corpora are taken from the environment's packages. Code: 150 MB of source files in pieces of
4,000 characters, cut twice at different places where there is not as much. Prose: their
documentation (.rst, .md, .txt, metadata) and long docstrings. Ours measures every row, with
RefinedWeb's line rules, too; ``everything`` adds code, language, compression, licence, digests and
MinHash keys.

datatrove runs its four filters (Gopher's two, C4 as FineWeb has it, FineWeb's own) on every row of
a sample, each filter on the row as it came, one row after another, so that it splits a text into
words once for all four. It runs in the interpreter that TARN_BENCH_PYTHON names, with spaCy's
words, or in this one where both are installed; starting and a first row are not counted. The
floor is a loop over the bytes that counts spaces.
"""

import ast
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
from numba import njit

from datalake.dedup.signatures.minhash import Banding, BandsConfig
from datalake.filters.measures.signals import Measuring, measure, measure_text
from datalake.text_bytes import text_bytes
from tests.benchmarks.bench_extract import one_core
from tests.benchmarks.report import Result, show
from tests.datalake.document_rows import documents

NUM_BYTES = 150_000_000
PIECE, OTHER_PIECE = 4000, 4700  # characters
SAMPLE = 300  # rows for the slow peer, evenly spread
ROUNDS = 3
BATCH = 256

_DATATROVE = """
import json, sys, time
from datatrove.data import Document
from datatrove.pipeline.filters import (
    C4QualityFilter, FineWebQualityFilter, GopherQualityFilter, GopherRepetitionFilter,
)

texts = json.load(open(sys.argv[1]))
filters = [
    GopherRepetitionFilter(), GopherQualityFilter(),
    C4QualityFilter(filter_no_terminal_punct=False), FineWebQualityFilter(),
]

def run(texts):
    for text in texts:
        for one in filters:
            one.filter(Document(text=text, id=""))

run(texts[:1])
started = time.perf_counter()
run(texts)
print(json.dumps({"seconds": time.perf_counter() - started}))
"""


def code_texts() -> list[str]:
    """Pieces of source files, ``NUM_BYTES`` in all."""
    root = Path(sysconfig.get_paths()["purelib"])
    paths = sorted(p for p in root.rglob("*.py") if 1000 < p.stat().st_size < 1_000_000)
    found: list[str] = []
    size = 0
    for piece in (PIECE, OTHER_PIECE):
        for path in paths:
            text = path.read_text(encoding="utf-8", errors="replace")
            cut = [text[k : k + piece] for k in range(0, len(text), piece)]
            found += cut
            size += len(text)
            if size >= NUM_BYTES:
                return found
    return found


def prose_texts() -> list[str]:
    """Pages of documentation, and docstrings of 500 characters and more."""
    root = Path(sysconfig.get_paths()["purelib"])
    paths = [p for kind in ("*.rst", "*.md", "METADATA") for p in sorted(root.rglob(kind))]
    pages = [path.read_text(encoding="utf-8", errors="replace") for path in paths]
    library = Path(sysconfig.get_paths()["stdlib"])
    sources = [*sorted(root.glob("*/*.py")), *sorted(library.glob("*.py"))]
    pages += [text for path in sources[:6000] for text in docstrings(path)]
    return [page[:100_000] for page in pages if len(page) >= 500]


def docstrings(path: Path) -> Iterator[str]:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8", errors="replace"))
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            yield ast.get_docstring(node) or ""


@njit
def _touch(data):  # type: ignore[no-untyped-def]
    spaces = 0
    for byte in data:
        spaces += byte == 32
    return spaces


def _seconds(job: Callable[[], object]) -> float:
    started = time.perf_counter()
    job()
    return time.perf_counter() - started


def _measured(texts: list[str], kind: str, source: str) -> list[Result]:
    column = pa.array(texts, pa.large_string())
    data = text_bytes(column)[0]
    columns = [column.slice(k, BATCH) for k in range(0, len(column), BATCH)]
    batches = [documents(*texts[k : k + BATCH], source=source) for k in range(0, len(texts), BATCH)]
    measuring = Measuring(Banding.of(BandsConfig()))
    step = max(1, len(texts) // SAMPLE)
    sample = texts[step // 2 :: step][:SAMPLE]
    jobs = {
        "signals": lambda: [measure_text(rows) for rows in columns],
        "everything": lambda: [measure(batch, measuring) for batch in batches],
        "floor": lambda: _touch(data),
    }
    taken: dict[str, list[float]] = {name: [] for name in (*jobs, "peer")}
    why = None
    with tempfile.TemporaryDirectory(prefix="tarn-bench-") as name:
        given = Path(name) / "texts.json"
        given.write_text(json.dumps(sample))
        for one in jobs.values():
            one()
        for _ in range(ROUNDS):
            for job, call in jobs.items():
                taken[job].append(_seconds(call))
            if why is None:
                seconds, why = _datatrove(given)
                taken["peer"] += [] if seconds is None else [seconds]
    rates = {
        name: (len(sample) if name == "peer" else len(texts)) / statistics.median(seconds)
        for name, seconds in taken.items()
        if seconds
    }
    print(f"{kind}: {len(texts):,} documents, {len(data) / 1e6:.1f} MB, {len(sample)} to the peer")
    return [
        Result(
            case=f"{kind}, {what}",
            unit="docs/s",
            ours=rates[job],
            peer_name="datatrove, four filters",
            peer=rates.get("peer"),
            floor=rates["floor"],
            why=why,
        )
        for job, what in (("signals", "Gopher + C4 + FineWeb"), ("everything", "everything"))
    ]


def _datatrove(given: Path) -> tuple[float | None, str | None]:
    """Seconds that it takes for the sample, or why it cannot."""
    python = os.environ.get("TARN_BENCH_PYTHON")
    if python is None and all(map(importlib.util.find_spec, ("datatrove", "spacy"))):
        python = sys.executable
    if python is None:
        return None, "TARN_BENCH_PYTHON names no interpreter with datatrove and spaCy"
    program = given.with_name("peer.py")
    program.write_text(_DATATROVE)
    done = subprocess.run([python, str(program), str(given)], capture_output=True, text=True)
    if done.returncode:
        return None, f"datatrove failed: {done.stderr.strip().splitlines()[-1]}"
    return json.loads(done.stdout.strip().splitlines()[-1])["seconds"], None


def main() -> None:
    """Run every case and print the results."""
    with one_core():
        results = _measured(code_texts(), "code", "code") + _measured(prose_texts(), "prose", "web")
    show("signals", results, ("numba", "numpy", "pyarrow", "resiliparse", "xxhash"))


if __name__ == "__main__":
    main()
