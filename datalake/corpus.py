"""The corpus: the text of every surviving document, with how often an epoch sees it.

Two ways to the same rows. Up to ``MAX_BROADCAST`` survivors their ids go to every task, which then
copies the text of those documents from part to part: no text is shuffled and none crosses to the
JVM. Above, where the ids would crowd a worker's memory, Spark joins them, which moves every kept
text once through the network.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from datalake.config import Refusal
from datalake.mixture import SharesConfig, WeightsConfig, source_weights
from datalake.schemas import TABLES
from datalake.tables import Commit
from datalake.workspace import Inputs, Workspace

MAX_BROADCAST = 5_000_000  # survivors; 64 bytes each in every worker

_COPIED = tuple(c for c in TABLES["corpus"].arrow.names if c not in ("cluster", "weight"))


@dataclass(frozen=True)
class Survivors:
    """Which documents stay: ids in ascending order, the cluster of each, weights of sources."""

    doc_ids: np.ndarray  # bytes [documents]
    clusters: np.ndarray  # bytes [documents]
    weights: Mapping[str, float]

    @classmethod
    def of(cls, rows: pa.Table, weights: Mapping[str, float]) -> "Survivors":
        ids, clusters = (
            np.array(rows[name].to_pylist(), dtype="S32") for name in ("doc_id", "cluster")
        )
        order = np.argsort(ids)
        return cls(ids[order], clusters[order], weights)

    def take(self, documents: pa.RecordBatch) -> pa.RecordBatch:
        """Rows of ``corpus`` for those of a batch of ``documents`` that survive."""
        ids = np.array(documents["doc_id"].to_pylist(), dtype="S32")
        places = np.searchsorted(self.doc_ids, ids)
        stays = np.searchsorted(self.doc_ids, ids, side="right") > places
        rows = documents.filter(pa.array(stays))
        clusters = pa.array(self.clusters[places[stays]].astype("U32").tolist(), pa.string())
        weights = pa.array([self.weights[s] for s in rows["source"].to_pylist()], pa.float64())
        columns = {name: rows[name] for name in _COPIED} | {"cluster": clusters, "weight": weights}
        schema = TABLES["corpus"].arrow
        return pa.RecordBatch.from_arrays([columns[n] for n in schema.names], schema=schema)


def build(
    workspace: Workspace,
    inputs: Inputs,
    mixture: WeightsConfig | SharesConfig,
    max_broadcast: int = MAX_BROADCAST,
) -> tuple[Commit, dict[str, float]]:
    """Write ``corpus`` from documents and duplicates; also returns the weight of each source."""
    from datalake import spark

    version = int(inputs["duplicates"])
    num_survivors, num_bytes = _survivors_by_source(workspace, version)
    weights = source_weights(mixture, num_bytes)
    seen = [source for source, weight in weights.items() if weight > 0]
    if not seen:
        raise Refusal(
            "datalake.corpus.mixture must give a source with documents a weight above 0, "
            f"got 0 for {', '.join(sorted(weights))}"
        )
    if num_survivors <= max_broadcast:
        batches = workspace.lake.batches("duplicates", version, _DUPLICATES)
        rows = pa.Table.from_batches([_surviving(batch, seen) for batch in batches])
        take = partial(Survivors.take, Survivors.of(rows, weights))
        documents = int(inputs["documents"])
        return (
            spark.map_files(workspace, "documents", documents, _COPIED, take, "corpus", inputs),
            weights,
        )
    return _join(workspace, inputs, {source: weights[source] for source in seen}), weights


_DUPLICATES = ("doc_id", "source", "num_bytes", "cluster", "survivor")


def _survivors_by_source(workspace: Workspace, version: int) -> tuple[int, dict[str, int]]:
    """How many documents survive, and how many bytes of each source."""
    num_survivors, num_bytes = 0, dict[str, int]()
    for batch in workspace.lake.batches("duplicates", version, _DUPLICATES):
        rows = _surviving(batch)
        num_survivors += len(rows)
        sums = pa.table(rows).group_by("source").aggregate([("num_bytes", "sum")]).to_pylist()
        for row in sums:
            source = row["source"]
            num_bytes[source] = num_bytes.get(source, 0) + row["num_bytes_sum"]
    return num_survivors, num_bytes


def _surviving(duplicates: pa.RecordBatch, sources: list[str] | None = None) -> pa.RecordBatch:
    stays = pc.equal(duplicates["doc_id"], duplicates["survivor"])
    if sources is not None:
        stays = pc.and_(stays, pc.is_in(duplicates["source"], pa.array(sources)))
    return duplicates.filter(stays)


def _join(workspace: Workspace, inputs: Inputs, weights: Mapping[str, float]) -> Commit:
    from datalake import spark

    session = spark.session(workspace)
    frames: dict[str, Any] = {
        "documents": spark.read(workspace, "documents", int(inputs["documents"]), _COPIED),
        "duplicates": spark.read(workspace, "duplicates", int(inputs["duplicates"]), _DUPLICATES),
        "weights": session.createDataFrame(
            pa.table({"source": list(weights), "weight": list(weights.values())})
        ),
    }
    rows = session.sql(
        """
        SELECT documents.*, survivors.cluster, weights.weight
        FROM {documents} AS documents
        JOIN (SELECT doc_id, cluster FROM {duplicates} WHERE doc_id = survivor) AS survivors
            ON documents.doc_id = survivors.doc_id
        JOIN {weights} AS weights ON documents.source = weights.source
        """,
        **frames,
    )
    return spark.write(workspace, "corpus", rows, dict(inputs))
