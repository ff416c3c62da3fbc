"""The rows that a model is scored on, and where their documents are from."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from datalake.config import Refusal
from datalake.tables import Lake
from datalake.workspace import Inputs
from evaluation.likelihood import COLUMNS, PackedRows, packed_rows

SPLIT = "validation"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a document is from, as the corpus says."""

    source: str
    title: str
    licence: str | None


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The validation rows of one version, and the origin of every document in them."""

    rows: PackedRows
    origins: Mapping[str, Origin]

    @property
    def sources(self) -> dict[str, str]:
        """Source of each document."""
        return {doc_id: origin.source for doc_id, origin in self.origins.items()}


def read(lake: Lake, inputs: Inputs) -> HeldOut:
    """Held-out rows of ``tokens``, their documents looked up in ``corpus``, at the versions given.

    Raises Refusal where there is no row, or a document that this version of the corpus lacks.
    """
    where = {"split": SPLIT}
    rows = packed_rows(lake.batches("tokens", int(inputs["tokens"]), COLUMNS, where), SPLIT)
    return HeldOut(rows, _origins(lake, int(inputs["corpus"]), rows.doc_ids))


def _origins(lake: Lake, version: int, doc_ids: Iterable[str]) -> dict[str, Origin]:
    missing = set(doc_ids)
    wanted = pa.array(sorted(missing), pa.string())
    found: dict[str, Origin] = {}
    for batch in lake.batches("corpus", version, ("doc_id", "source", "title", "licence")):
        for row in batch.filter(pc.is_in(batch["doc_id"], wanted)).to_pylist():
            found[row["doc_id"]] = Origin(row["source"], row["title"], row["licence"])
    if missing := missing - found.keys():
        raise Refusal(
            f"table corpus at version {version} must hold every held-out document, "
            f"got none for {len(missing)} of {len(wanted)}, such as {min(missing)}"
        )
    return found
