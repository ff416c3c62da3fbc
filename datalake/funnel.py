"""The funnel: how many documents and bytes each stage let through, of which source, and why not.

Counted from the tables themselves, batch after batch: only the counts stay in memory, and the ids
of documents that have copies. ``card.py`` draws it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from datalake import samples, snapshots
from datalake.dedup.clustering.clusters import cluster_sizes
from datalake.findings import (
    Found,
    Histogram,
    Places,
    count_contamination,
    count_cuts,
    score_histograms,
)
from datalake.samples import CutSample, Sample
from datalake.workspace import Inputs, Workspace

STAGES = {  # in order: what a document has come through, in the words of a reader
    "raw": "found",
    "documents": "with text",
    "kept": "passed the rules",
    "unique": "without duplicates",
    "corpus": "in the corpus",
}
NUM_LARGEST = 5  # clusters shown


@dataclass(frozen=True, slots=True)
class Count:
    """Documents, bytes and tokens; counts of disjoint sets combine with ``+``."""

    documents: int = 0
    num_bytes: int = 0
    num_tokens: int = 0  # runs of letters and of signs: a lower bound for any tokenizer

    def __add__(self, other: "Count") -> "Count":
        return Count(
            self.documents + other.documents,
            self.num_bytes + other.num_bytes,
            self.num_tokens + other.num_tokens,
        )


ByKey = dict[str, dict[str, Count]]  # source -> name -> count


@dataclass(frozen=True, kw_only=True)
class Funnel:
    """Everything that the data card says, in numbers."""

    stages: Mapping[str, Mapping[str, Count]]  # stage -> source -> count
    reasons: ByKey  # source -> reason -> dropped
    copies: ByKey  # source -> exact, near -> dropped
    licences: ByKey  # source -> SPDX expression or "unknown" -> in the corpus
    languages: ByKey  # source -> language -> in the corpus
    lengths: Mapping[str, Mapping[int, int]]  # source -> k -> documents of 2^k bytes and more
    weights: Mapping[str, float]  # source -> times seen in one epoch
    largest_clusters: Sequence[tuple[int, str, str]]  # copies, title, uri
    cuts: Mapping[str, Mapping[str, Places]] = field(default_factory=dict)  # source -> reason
    contamination: Mapping[str, Found] = field(default_factory=dict)  # benchmark ->
    clusters: Mapping[int, int] = field(default_factory=dict)  # size -> clusters of so many
    scores: Mapping[str, Histogram] = field(default_factory=dict)  # name of the scorer ->
    samples: Sequence[Sample] = ()
    cut_samples: Sequence[CutSample] = ()

    @property
    def sources(self) -> list[str]:
        return sorted({source for stage in self.stages.values() for source in stage})

    def total(self, stage: str) -> Count:
        return sum(self.stages[stage].values(), Count())

    @property
    def epoch_bytes(self) -> dict[str, float]:
        """Bytes of each source that one epoch sees, repeats included."""
        corpus = self.stages["corpus"]
        return {s: count.num_bytes * self.weights[s] for s, count in sorted(corpus.items())}

    def as_json(self) -> dict[str, Any]:
        """All numbers, without the samples."""
        return asdict(replace(self, samples=(), cut_samples=()))


def measure(workspace: Workspace, inputs: Inputs, num_samples: int = 0, seed: int = 0) -> Funnel:
    """Count every stage at the versions of ``inputs``: raw/* and all tables of curation.

    ``num_samples`` are drawn of every source and reason.

    The corpus is shown with the bytes of its texts once; ``epoch_bytes`` has the repeats.
    """
    lake = workspace.lake

    def rows(name: str, *columns: str) -> Iterable[pa.RecordBatch]:
        return lake.batches(name, int(inputs[name]), columns)

    raw = sorted(name for name in inputs if name.startswith("raw/"))
    size = ("num_bytes", "num_tokens")
    kept = _tally(rows("kept", "source", "reason", *size), ("source", "reason"))
    duplicates = rows("duplicates", "doc_id", "source", *size, "kind", "survivor")
    unique = _tally(map(_why_no_survivor, duplicates), ("source", "why"))
    columns = ("source", "licence", "language", "weight")
    corpus = _tally(rows("corpus", *columns, *size), columns)
    found = inputs.get("contamination")
    return Funnel(
        stages={
            "raw": {
                name.removeprefix("raw/"): _found(workspace, name, int(inputs[name]))
                for name in raw
            },
            "documents": _sources(_tally(rows("signals", "source", *size), ("source",))),
            "kept": _sources({key: count for key, count in kept.items() if key[1] is None}),
            "unique": _sources({key: count for key, count in unique.items() if key[1] is None}),
            "corpus": _sources(corpus),
        },
        reasons=_named({key: count for key, count in kept.items() if key[1] is not None}),
        copies=_named({key: count for key, count in unique.items() if key[1] is not None}),
        licences=_named(corpus, 1),
        languages=_named(corpus, 2),
        lengths=_lengths(rows("corpus", "source", "num_bytes")),
        weights={source: weight for source, _, _, weight in sorted(corpus, key=str)},
        largest_clusters=_largest_clusters(workspace, inputs),
        cuts=count_cuts(lake, int(inputs["cuts"])),
        contamination={} if found is None else count_contamination(lake, int(found)),
        clusters=cluster_sizes(workspace, int(inputs["duplicates"])),
        scores=score_histograms(lake, int(inputs["signals"])),
        samples=samples.of_documents(workspace, inputs, num_samples, seed) if num_samples else (),
        cut_samples=samples.of_cuts(workspace, inputs, num_samples, seed) if num_samples else (),
    )


def count_decisions(workspace: Workspace, version: int) -> tuple[int, dict[str, int]]:
    """In this version of ``kept``: documents kept, and dropped by each rule, most first."""
    rows = workspace.lake.batches("kept", version, ("reason", "num_bytes"))
    counts = {reason: count.documents for (reason,), count in _tally(rows, ("reason",)).items()}
    num_kept = counts.pop(None, 0)
    return num_kept, dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def count_duplicates(workspace: Workspace, version: int) -> dict[str, Count]:
    """In this version of ``duplicates``: survivors, and copies by kind."""
    columns = ("doc_id", "num_bytes", "kind", "survivor")
    rows = map(_why_no_survivor, workspace.lake.batches("duplicates", version, columns))
    counts = _tally(rows, ("why",))
    return {why: counts.get((key,), Count()) for why, key in _COPIES.items()}


_COPIES = {"survivors": None, "url": "url", "exact": "exact", "near": "near"}


Tally = dict[tuple[Any, ...], Count]  # values of the columns -> how many, None where null


def _tally(batches: Iterable[pa.RecordBatch], columns: Sequence[str]) -> Tally:
    counts: Tally = {}
    for batch in batches:
        groups = pa.table(batch).group_by(list(columns))
        sums = [(name, "sum") for name in ("num_bytes", "num_tokens") if name in batch.schema.names]
        for row in groups.aggregate([*sums, ([], "count_all")]).to_pylist():
            key = tuple(row[column] for column in columns)
            more = Count(row["count_all"], row["num_bytes_sum"], row.get("num_tokens_sum", 0))
            counts[key] = counts.get(key, Count()) + more
    return counts


def _sources(tally: Tally) -> dict[str, Count]:
    counts: dict[str, Count] = {}
    for key in sorted(tally, key=str):
        counts[key[0]] = counts.get(key[0], Count()) + tally[key]
    return counts


def _named(tally: Tally, position: int = 1) -> ByKey:
    """Counts by source and by the value at ``position``, most bytes first."""
    sums: Tally = {}
    for key, count in tally.items():
        short = (key[0], "unknown" if key[position] is None else key[position])
        sums[short] = sums.get(short, Count()) + count
    named: ByKey = {}
    for source, name in sorted(sums, key=lambda k: (k[0], -sums[k].num_bytes, k[1])):
        named.setdefault(source, {})[name] = sums[source, name]
    return named


def _why_no_survivor(duplicates: pa.RecordBatch) -> pa.RecordBatch:
    """Append ``why``: the kind of duplicate that was dropped, null for a survivor."""
    survives = pc.equal(duplicates["doc_id"], duplicates["survivor"])
    why = pc.if_else(survives, pa.scalar(None, pa.string()), duplicates["kind"])
    return duplicates.append_column("why", why)


def _found(workspace: Workspace, table: str, version: int) -> Count:
    """Records of a raw table and the bytes of their newest payloads."""
    columns = ["doc_id", "deleted", "num_bytes", *snapshots.ORDER]
    rows = workspace.lake.read(table, version, columns)
    rows = rows.take(snapshots.newest(rows))
    there = rows.filter(pc.invert(rows["deleted"]))
    return Count(len(there), pc.sum(there["num_bytes"]).as_py() or 0)


def _with_power(corpus: pa.RecordBatch) -> pa.RecordBatch:
    """Append ``power``: the k for which a text has 2^k bytes or more, but not 2^(k+1)."""
    _, exponents = np.frexp(np.maximum(corpus["num_bytes"].to_numpy(), 1))
    return corpus.append_column("power", pa.array(exponents - 1, pa.int64()))


def _lengths(batches: Iterable[pa.RecordBatch]) -> dict[str, dict[int, int]]:
    lengths: dict[str, dict[int, int]] = {}
    for (source, power), count in sorted(
        _tally(map(_with_power, batches), ("source", "power")).items()
    ):
        lengths.setdefault(source, {})[power] = count.documents
    return lengths


def _largest_clusters(workspace: Workspace, inputs: Inputs) -> list[tuple[int, str, str]]:
    """Copies, title and address of the survivors with the most copies."""
    copies: Counter[str] = Counter()
    columns = ("kind", "survivor")
    for batch in workspace.lake.batches("duplicates", int(inputs["duplicates"]), columns):
        several = batch.filter(pc.not_equal(batch["kind"], "unique"))
        copies.update(several["survivor"].to_pylist())
    first = dict(sorted(copies.items(), key=lambda item: (-item[1], item[0]))[:NUM_LARGEST])
    found = []
    for batch in workspace.lake.batches(
        "corpus", int(inputs["corpus"]), ("doc_id", "title", "uri")
    ):
        for row in batch.filter(
            pc.is_in(batch["doc_id"], pa.array(list(first), pa.string()))
        ).to_pylist():
            found.append((first[row["doc_id"]], row["title"], row["uri"]))
    return sorted(found, key=lambda cluster: (-cluster[0], cluster[2]))
