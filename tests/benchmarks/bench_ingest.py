"""Memory of a task of the ingestion, on an archive and on one four times as large.

A task reads an archive record by record and writes the rows of its piece, so its memory must not
grow with the file. Each case is a process of its own; its peak is the memory that the kernel
counted (maximum resident set), less what the process had before it began to read.
"""

import json
import random
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from datalake.sources.warcs.writer import WarcWriter
from datalake.sources.web.fetch import Response
from tests.benchmarks.report import Result, show

NUM_BYTES = 60_000_000  # of payloads; more than all buffers on the way together
PAGE_BYTES = 40_000  # about the mean of a crawl

_TASK = """
import json, resource, sys
from pathlib import Path
from datalake.pieces import Reader
from datalake.snapshots import State
from datalake.sources.warcs.common_crawl import CommonCrawlConfig
from datalake.sources.source import Piece
from datalake.tables import Lake

def peak():
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale

def read(name, path):
    reader = Reader(
        lake=lake,
        home=home,
        config=CommonCrawlConfig(paths="listing", payload=payload),
        origin=name,
        snapshot=name,
        state=State.before(lake, "raw/web", name, lambda snapshot: True),
    )
    return reader(Piece(name=name, uri=path))

home, small, path, payload = Path(sys.argv[1]), *sys.argv[2:]
lake = Lake(str(home / "lake"))
read("small", small)  # what is imported and set up once
before = peak()
done = read("large", path)
assert done.error is None and not done.report.damages
print(json.dumps({"before": before, "peak": peak(), "rows": done.report.rows}))
"""


def write(folder: Path, name: str, num_bytes: int) -> Path:
    """An archive of pages of words, of about ``num_bytes`` of payload."""
    rng = random.Random(name)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=7)) for _ in range(5000)]
    with WarcWriter(folder, name) as archive:
        for number in range(max(1, num_bytes // PAGE_BYTES)):
            text = " ".join(rng.choices(words, k=PAGE_BYTES // 8))
            archive.write(
                Response(
                    url=f"http://example.com/{number}",
                    status=200,
                    phrase="OK",
                    headers=(("Content-Type", "text/html"),),
                    body=f"<html><body><p>{text}</p></body></html>".encode(),
                    truncated=None,
                    request_headers=(),
                    fetched_at=datetime.now(UTC),
                )
            )
    return archive.path


def memory(home: Path, small: Path, path: Path, payload: str) -> tuple[float, int, float]:
    """Peak in MB beyond what a small file takes, rows, and seconds of one task on ``path``."""
    home.mkdir()
    started = time.perf_counter()
    command = [sys.executable, "-c", _TASK, str(home), str(small), str(path), payload]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    return found["peak"] / 1e6, found["rows"], time.perf_counter() - started


def main() -> None:
    """Run every case and print the results."""
    results = []
    with tempfile.TemporaryDirectory(prefix="tarn-bench-") as name:
        folder = Path(name)
        small = write(folder, "small", 1_000_000)
        one = write(folder, "one", NUM_BYTES)
        four = write(folder, "four", 4 * NUM_BYTES)
        for payload in ("keep", "refer"):
            peaks = [
                memory(folder / f"{payload}-{path.stem}", small, path, payload)
                for path in (one, four)
            ]
            (first, _, _), (second, rows, seconds) = peaks
            results.append(
                Result(
                    case=f"task on {rows} pages, payload: {payload}",
                    unit="tasks/GB",  # a rate, so that more is better
                    ours=1000 / second,
                    peer_name="the same on a quarter of the pages",
                    peer=1000 / first,
                )
            )
            print(
                f"payload: {payload}: peak {first:.0f} MB on a file, {second:.0f} MB on one four "
                f"times as large; {rows} rows in {seconds:.1f} s"
            )
    show("ingest", results, ("fastwarc", "pyarrow", "deltalake"))


if __name__ == "__main__":
    main()
