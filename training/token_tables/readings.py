"""Which rows and documents trained which steps of a base model: what it read, and when.

Nothing of it is recorded while a model trains. A checkpoint names the version of the token table,
the seed and the rows of a step, and the order of rows is a function of these; so a step is looked
up, and a document's steps are that function run backwards.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from datalake.config import Refusal
from datalake.tables import Lake
from training.checkpoint import Checkpoint
from training.data.mixing import Mixture
from training.data.order import Epochs, Order
from training.pretraining import TrainConfig
from training.token_tables.row_sources import corpus_version, row_sources

_TRAIN = {"split": "train"}
_FACTS = ("doc_id", "title", "uri", "licence")


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """Where a document stands in a row that was read."""

    row_id: int
    start: int  # its first token in the row
    document: Mapping[str, Any]  # doc_id, title, uri, licence


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """A step that read a row."""

    step: int
    row_id: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Readings:
    """What the steps up to a checkpoint read."""

    lake: Lake
    version: int  # of ``tokens``
    order: Order
    batch_rows: int
    num_steps: int
    row_ids: np.ndarray  # int64 [rows], ascending: the numbers that ``order`` gives are places here

    @classmethod
    def of(cls, lake: Lake, checkpoint: Checkpoint) -> "Readings":
        """Those of a base model that a stage made; others are refused."""
        about = checkpoint.manifest.get("about", {})
        if about.get("asset") != "base_model":
            made = about.get("asset", "one that no stage made")
            raise Refusal(f"checkpoint must be of base_model, got {made} in {checkpoint.path}")
        config = TrainConfig.model_validate_json(json.dumps(checkpoint.manifest["config"]))
        version = int(about["inputs"]["tokens"])
        columns = lake.read("tokens", version, ["row_id"], _TRAIN)
        row_ids = np.sort(columns["row_id"].to_numpy())
        order: Order = Epochs(len(row_ids), config.seed)
        if config.mixture is not None:
            names, sources = row_sources(lake, version)
            order = Mixture.of(config.mixture, names, sources, config.seed)
        return cls(
            lake=lake,
            version=version,
            order=order,
            batch_rows=config.batch_rows,
            num_steps=checkpoint.step,
            row_ids=row_ids,
        )

    def rows(self, step: int) -> np.ndarray:
        """``row_id`` of every row that trained ``step``, int64 ``[batch_rows]``, slot after slot.

        Refuses a step that the run did not take.
        """
        if not 0 <= step < self.num_steps:
            raise Refusal(f"step must be 0 .. {self.num_steps - 1} of the run, got {step}")
        first = step * self.batch_rows
        found: np.ndarray = self.row_ids[self.order.ids(np.arange(first, first + self.batch_rows))]
        return found

    def documents(self, step: int) -> list[Piece]:
        """The pieces of documents in these rows, slot after slot and in order within a row."""
        rows = self.rows(step)
        inside: dict[int, tuple[list[str], list[int]]] = {}
        wanted = pa.array(np.unique(rows))
        columns = ["row_id", "doc_ids", "doc_starts"]
        for batch in self.lake.batches("tokens", self.version, columns, _TRAIN):
            for row in batch.filter(pc.is_in(batch["row_id"], wanted)).to_pylist():
                inside[row["row_id"]] = row["doc_ids"], row["doc_starts"]
        names = {name for doc_ids, _ in inside.values() for name in doc_ids}
        facts = {row["doc_id"]: row for row in self._facts("doc_id", sorted(names))}
        return [
            Piece(row_id=row, start=start, document=facts.get(name, {"doc_id": name}))
            for row in rows.tolist()
            for name, start in zip(*inside[row], strict=True)
        ]

    def find(self, name: str) -> Mapping[str, Any]:
        """The document of the corpus whose id or address is ``name``; refused where there is none.

        Of several at one address, the first.
        """
        found = [*self._facts("doc_id", [name]), *self._facts("uri", [name])]
        if not found:
            rule = f"the id or the address of a document of the corpus of tokens {self.version}"
            raise Refusal(f"document must be {rule}, got {name}")
        return found[0]

    def steps(self, doc_id: str) -> list[Reading]:
        """The steps that read a row with some of this document, in order."""
        columns = ["row_id", "doc_ids"]
        places: list[int] = []
        for batch in self.lake.batches("tokens", self.version, columns, _TRAIN):
            has = pc.equal(batch["doc_ids"].flatten(), doc_id).to_numpy(zero_copy_only=False)
            row = np.repeat(np.arange(len(batch)), pc.list_value_length(batch["doc_ids"]))
            ids = batch["row_id"].to_numpy()[np.unique(row[has])]
            places += np.searchsorted(self.row_ids, ids).tolist()
        stop = self.num_steps * self.batch_rows
        return sorted(
            (
                Reading(step=int(sample) // self.batch_rows, row_id=int(self.row_ids[place]))
                for place in places
                for sample in self.order.samples(place, stop)
            ),
            key=lambda reading: (reading.step, reading.row_id),
        )

    def _facts(self, key: str, values: Sequence[str]) -> list[Mapping[str, Any]]:
        """Rows of the corpus that the table was made of, without their text."""
        wanted = pa.array(values, pa.string())
        found: list[Mapping[str, Any]] = []
        version = corpus_version(self.lake, self.version)
        for batch in self.lake.batches("corpus", version, _FACTS):
            found += batch.filter(pc.is_in(batch[key], wanted)).to_pylist()
        return found
