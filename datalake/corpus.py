"""The corpus: the text of every surviving document after all cuts, and how often it is seen.

Two ways to the same rows. Up to ``MAX_BROADCAST`` survivors and cuts these go to every task, which
then copies the text of those documents from part to part: no text is shuffled and none crosses to
the JVM. Above, where they would crowd a worker's memory, Spark joins them, which moves every kept
text once through the network. A document of which the cuts leave nothing is not in the corpus.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from datalake.config import Refusal
from datalake.cuts import APPLIED, Cuts
from datalake.filters.measures.signals import count_tokens
from datalake.mixture import MixtureConfig, source_weights
from datalake.schemas import TABLES
from datalake.tables import Commit
from datalake.workspace import Inputs, Workspace

MAX_BROADCAST = 5_000_000  # survivors and cuts; 64 bytes each in every worker

_SCHEMA = TABLES["corpus"].arrow
_MADE = ("cluster", "weight", "num_bytes", "num_tokens")
_COPIED = tuple(name for name in _SCHEMA.names if name not in _MADE)


@dataclass(frozen=True)
class Survivors:
    """Which documents stay: ids in ascending order, the cluster of each, weights of sources."""

    doc_ids: np.ndarray  # bytes [documents]
    clusters: np.ndarray  # bytes [documents]
    weights: Mapping[str, float]
    cuts: Cuts

    @classmethod
    def of(cls, rows: pa.Table, weights: Mapping[str, float], cuts: Cuts) -> "Survivors":
        ids, clusters = (_ids(rows[name]) for name in ("doc_id", "cluster"))
        order = np.argsort(ids)
        return cls(ids[order], clusters[order], weights, cuts)

    def take(self, documents: pa.RecordBatch) -> pa.RecordBatch:
        """Rows of ``corpus`` for those of a batch of ``documents`` that survive."""
        ids = _ids(documents["doc_id"])
        places = np.searchsorted(self.doc_ids, ids)
        stays = np.searchsorted(self.doc_ids, ids, side="right") > places
        rows = documents.filter(pa.array(stays))
        clusters = pa.array(self.clusters[places[stays]].astype("U32").tolist(), pa.string())
        weights = pa.array([self.weights[s] for s in rows["source"].to_pylist()], pa.float64())
        return _corpus_rows(rows, self.cuts, clusters, weights)


def _corpus_rows(
    documents: pa.RecordBatch, cuts: Cuts, clusters: pa.Array, weights: pa.Array
) -> pa.RecordBatch:
    text = cuts.apply(documents)
    columns = {name: documents[name] for name in _COPIED} | {
        "text": text,
        "num_bytes": pc.binary_length(text),
        "num_tokens": pa.array(count_tokens(text), pa.int64()),
        "cluster": clusters,
        "weight": weights,
    }
    made = [columns[field.name].cast(field.type) for field in _SCHEMA]
    something = pc.greater(pc.binary_length(pc.utf8_trim_whitespace(text)), 0)
    return pa.RecordBatch.from_arrays(made, schema=_SCHEMA).filter(something)


def build(
    workspace: Workspace,
    inputs: Inputs,
    mixture: MixtureConfig,
    fitted: Mapping[str, float] | None = None,
    max_broadcast: int = MAX_BROADCAST,
) -> tuple[Commit, dict[str, float]]:
    """Write ``corpus`` from documents, duplicates and cuts; also returns each source's weight."""
    from datalake import spark

    lake, version, found = workspace.lake, int(inputs["duplicates"]), int(inputs["cuts"])
    num_rows = max(
        sum(len(_surviving(b)) for b in lake.batches("duplicates", version, _DUPLICATES)),
        sum(part.rows for part in lake.parts("cuts", found)),
    )
    small = num_rows <= max_broadcast
    cuts = Cuts.of(lake.read("cuts", found, APPLIED)) if small else None
    num_bytes = _bytes_by_source(workspace, version, cuts)
    if cuts is None:
        for source, gone in _bytes_gone(workspace, inputs).items():
            num_bytes[source] -= gone
    weights = source_weights(mixture, num_bytes, fitted)
    seen = [source for source, weight in weights.items() if weight > 0]
    if not seen:
        raise Refusal(
            "datalake.corpus.mixture must give a source with documents a weight above 0, "
            f"got 0 for {', '.join(sorted(weights))}"
        )
    if cuts is None:
        return _join(workspace, inputs, {source: weights[source] for source in seen}), weights
    batches = lake.batches("duplicates", version, _DUPLICATES)
    rows = pa.Table.from_batches([_surviving(batch, seen) for batch in batches])
    take = partial(Survivors.take, Survivors.of(rows, weights, cuts))
    documents = int(inputs["documents"])
    made = spark.map_files(workspace, "documents", documents, _COPIED, take, "corpus", inputs)
    return made, weights


_DUPLICATES = ("doc_id", "source", "num_bytes", "cluster", "survivor")


def _bytes_by_source(workspace: Workspace, version: int, cuts: Cuts | None) -> dict[str, int]:
    """Bytes of the survivors of each source, less what the cuts take."""
    num_bytes = dict[str, int]()
    for batch in workspace.lake.batches("duplicates", version, _DUPLICATES):
        rows = _surviving(batch)
        gone = 0 if cuts is None else cuts.bytes_gone(_ids(rows["doc_id"]))
        left = pa.table({"source": rows["source"], "left": rows["num_bytes"].to_numpy() - gone})
        for row in left.group_by("source").aggregate([("left", "sum")]).to_pylist():
            num_bytes[row["source"]] = num_bytes.get(row["source"], 0) + row["left_sum"]
    return num_bytes


def _surviving(duplicates: pa.RecordBatch, sources: list[str] | None = None) -> pa.RecordBatch:
    stays = pc.fill_null(pc.equal(duplicates["doc_id"], duplicates["survivor"]), False)
    if sources is not None:
        stays = pc.and_(stays, pc.is_in(duplicates["source"], pa.array(sources)))
    return duplicates.filter(stays)


def _ids(column: pa.Array) -> np.ndarray:
    return np.array(column.to_pylist(), dtype="S32")


# Above MAX_BROADCAST ----------------------------------------------------------------------------


def _join(workspace: Workspace, inputs: Inputs, weights: Mapping[str, float]) -> Commit:
    from datalake import spark

    session = spark.session(workspace)
    mixture = pa.table({"source": list(weights), "weight": list(weights.values())})
    rows = session.sql(
        """
        SELECT documents.*, survivors.cluster, weights.weight, cuts.cuts
        FROM {documents} AS documents
        JOIN {survivors} AS survivors ON documents.doc_id = survivors.doc_id
        JOIN {weights} AS weights ON documents.source = weights.source
        LEFT JOIN {cuts} AS cuts ON documents.doc_id = cuts.doc_id
        """,
        documents=spark.read(workspace, "documents", int(inputs["documents"]), _COPIED),
        weights=session.createDataFrame(mixture),
        **_survivors_and_cuts(workspace, inputs),
    )
    made = rows.mapInArrow(_with_their_cuts, spark.schema_in_spark(_SCHEMA))
    return spark.write(workspace, "corpus", made, dict(inputs))


def _survivors_and_cuts(workspace: Workspace, inputs: Inputs) -> dict[str, Any]:
    from datalake import spark

    duplicates = spark.read(workspace, "duplicates", int(inputs["duplicates"]), _DUPLICATES)
    cuts = spark.read(workspace, "cuts", int(inputs["cuts"]), APPLIED)
    sql = spark.session(workspace).sql
    return {
        "survivors": sql("SELECT * FROM {rows} WHERE doc_id = survivor", rows=duplicates),
        "cuts": sql(
            "SELECT doc_id, collect_list(struct(start, end, replacement)) AS cuts FROM {rows} "
            "GROUP BY doc_id",
            rows=cuts,
        ),
    }


def _with_their_cuts(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        yield _corpus_rows(batch, _their_cuts(batch), batch["cluster"], batch["weight"])


def _their_cuts(batch: pa.RecordBatch) -> Cuts:
    """The cuts that stand as lists in the rows of a batch with ``doc_id`` and ``cuts``."""
    flat = batch["cuts"].flatten()
    columns = {name: flat.field(name) for name in ("start", "end", "replacement")}
    owner = pc.list_parent_indices(batch["cuts"])
    return Cuts.of(pa.table({"doc_id": batch["doc_id"].take(owner)} | columns))


def _bytes_gone(workspace: Workspace, inputs: Inputs) -> dict[str, int]:
    """By how much the cuts shorten the survivors of each source, bytes."""
    from datalake import spark

    rows = spark.session(workspace).sql(
        "SELECT survivors.doc_id, source, cuts FROM {survivors} AS survivors "
        "JOIN {cuts} AS cuts ON survivors.doc_id = cuts.doc_id",
        **_survivors_and_cuts(workspace, inputs),
    )
    gone = rows.mapInArrow(_gone, "source string, gone long")
    return {row["source"]: row["sum(gone)"] for row in gone.groupBy("source").sum().collect()}


def _gone(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        gone = _their_cuts(batch).bytes_gone(_ids(batch["doc_id"]))
        yield pa.RecordBatch.from_pydict({"source": batch["source"], "gone": gone})
