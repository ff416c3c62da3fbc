"""Pre-token counts of the table ``corpus``, by Spark.

A task counts a part, in a table of bounded memory that it hands on whenever it is full: partial
counts, so a task sends on a word a few times at most, and no reducer sees a word more often than
there are tasks, however frequent it is. Spark adds them up by word. The driver takes over Arrow
batches: a word is never a Python object. What comes out does not depend on the parts, on the order
of documents or on how often a table was full, since whole numbers are added.
"""

import queue
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from datalake.tables import Lake, Part
from datalake.workspace import Workspace
from training.data.packing import copies
from training.tokenizer.learning.count_table import PretokenCounts
from training.tokenizer.learning.counting import counter
from training.tokenizer.learning.pretokens import added_up
from training.tokenizer.patterns import class_runs, classes_from_runs
from training.tokenizer.texts import Texts

COLUMNS = ("doc_id", "weight", "text")
MAX_BYTES = 1 << 27  # of a task's table

_SCHEMA = pa.schema([("word", pa.binary()), ("count", pa.int64())])
_SMALL = 1 << 24  # bytes of parts: less than Spark takes a second to hand round
_SLICE = 1 << 16  # words in a batch for the JVM


def count_corpus(
    workspace: Workspace, version: int, pattern: str, classes: np.ndarray
) -> PretokenCounts:
    """Counts of ``corpus`` at ``version``; a document counts as often as an epoch shows it.

    Spark counts a large table, this process alone a small one.
    """
    parts = workspace.lake.parts("corpus", version)
    if sum(part.num_bytes for part in parts) >= _SMALL:
        return spark_counts(workspace, version, pattern, classes)
    counts = counter(pattern, classes)
    for part in parts:
        for texts, times in _texts(workspace.lake, part):
            counts.add(texts, times)
    return counts.counts()


def spark_counts(
    workspace: Workspace,
    version: int,
    pattern: str,
    classes: np.ndarray,
    max_bytes: int = MAX_BYTES,
) -> PretokenCounts:
    """The same by Spark, a task for each part; ``max_bytes`` bounds a task's table."""
    from datalake import spark

    # Largest first, so that no core waits for a big part begun last.
    parts = sorted(workspace.lake.parts("corpus", version), key=lambda part: -part.num_bytes)
    if not parts:
        return added_up([])
    count = _Count(workspace.lake, tuple(parts), pattern, class_runs(classes), max_bytes)
    rows = (
        spark.session(workspace)
        .range(0, len(parts), 1, len(parts))
        .mapInArrow(lambda ids: count(ids), spark.schema_in_spark(_SCHEMA))
        .groupBy("word")
        .sum("count")
        .withColumnRenamed("sum(count)", "count")
    )
    return added_up(rows.toArrow().to_batches())


def _texts(lake: Lake, part: Part) -> Iterator[tuple[Texts, np.ndarray]]:
    """Texts of a part, batch by batch, and how often each counts."""
    for batch in lake.open_part("corpus", part, COLUMNS):
        times = copies(batch["doc_id"].to_pylist(), batch["weight"].to_numpy())
        yield Texts.of(batch["text"]), times


@dataclass(frozen=True, slots=True)
class _Count:
    """What one Spark task does; ``runs`` are ``patterns.class_runs``."""

    lake: Lake
    parts: tuple[Part, ...]
    pattern: str
    runs: list[list[int]]
    max_bytes: int

    def __call__(self, ids: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        full: queue.SimpleQueue[PretokenCounts] = queue.SimpleQueue()
        counts = counter(
            self.pattern, classes_from_runs(self.runs), 1, full.put, max_bytes=self.max_bytes
        )
        for batch in ids:
            for number in batch["id"].to_pylist():
                for texts, times in _texts(self.lake, self.parts[number]):
                    counts.add(texts, times)
                    while not full.empty():
                        yield from _slices(full.get())
        yield from _slices(counts.counts())


def _slices(counts: PretokenCounts) -> Iterator[pa.RecordBatch]:
    batch = counts.batch()
    for at in range(0, len(batch), _SLICE):
        yield batch.slice(at, _SLICE).cast(_SCHEMA)
