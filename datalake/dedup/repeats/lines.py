"""Lines, sentences and paragraphs that stand in several documents: one stays, the others are cut.

What stays is the occurrence in the document with the smallest ``doc_id``, and there the first: an
order of the content, never of arrival, so the result is the same however the rows are spread over
parts and machines. Published recipes:

- ``ccnet``: a line seen before is cut (Wenzek et al. 2019, CCNet, arXiv:1911.00359, 3.1).
- ``c4``: all but one of any three-sentence span (Raffel et al. 2020, JMLR 21/140, 2.2). A sentence
  of one span may be cut as part of another, in C4 as here. A sentence ends at a full stop, question
  or exclamation mark of its script, and with its line.
- ``paragraphs``: pieces between blank lines, without regard to case and white space.

Equality of 64-bit hashes stands for equality. In Spark a *part* of ``documents`` is one task, which
gives one row for every different piece in it: a licence header that stands in ten million files is
as many rows as there are parts, and no group of the one shuffle over hashes has more. What this
shuffle finds goes back to the part, which then reads its text a second time: no text crosses to the
JVM, nothing is written on the way.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from datalake.config import Config
from datalake.cuts import SCHEMA, cuts_of
from datalake.tables import Lake, Part
from datalake.text_bytes import text_bytes
from datalake.workspace import Inputs, Workspace

if TYPE_CHECKING:
    from datalake.spark import DataFrame


class _Repeats(Config):
    # In how many different documents a piece must stand. As published, one is enough: what repeats
    # inside a document is cut there as well. More spares what two documents share by chance.
    min_documents: int = Field(default=1, ge=1)


class CCNetLinesConfig(_Repeats):
    """Lines, compared in lower case, digits as 0, without accents and punctuation."""

    kind: Literal["ccnet"]
    # Characters that count. CCNet compares every line in which something is left.
    min_characters: int = Field(default=1, ge=1)

    @property
    def reason(self) -> str:
        return "repeated_line"


class C4SentencesConfig(_Repeats):
    """Runs of sentences, compared in lower case."""

    kind: Literal["c4"]
    num_sentences: int = Field(default=3, ge=1)  # C4

    @property
    def min_characters(self) -> int:
        return 1

    @property
    def reason(self) -> str:
        return "repeated_sentences"


class ParagraphsConfig(_Repeats):
    """Paragraphs, compared as ``dedup.exact`` compares documents."""

    kind: Literal["paragraphs"]
    min_characters: int = Field(ge=1)  # characters that are no white space

    @property
    def reason(self) -> str:
        return "repeated_paragraph"


RepeatedLinesConfig = Annotated[
    CCNetLinesConfig | C4SentencesConfig | ParagraphsConfig, Field(discriminator="kind")
]


@dataclass(frozen=True, slots=True)
class Pieces:
    """Pieces of some documents, in the order of documents and of places in them."""

    hashes: np.ndarray  # uint64 [pieces]
    rows: np.ndarray  # int64 [pieces], which document
    starts: np.ndarray  # int64 [pieces], first byte in its text
    ends: np.ndarray  # int64 [pieces], one past the last; separators behind a piece are its own

    @classmethod
    def of(cls, text: pa.Array, config: RepeatedLinesConfig) -> "Pieces":
        """Pieces of an Arrow column of texts; nulls have none."""
        from datalake.dedup.repeats import folding, piece_kernels
        from datalake.filters.measures.characters import character_classes

        units = {
            "ccnet": (piece_kernels.LINES, folding.fold_ccnet, True),
            "c4": (piece_kernels.SENTENCES, folding.fold_case, True),
            "paragraphs": (piece_kernels.PARAGRAPHS, folding.fold_case, False),
        }
        unit, fold, count_spaces = units[config.kind]
        table = folding.folding(fold)
        data, offsets = text_bytes(text)
        found = piece_kernels.pieces(
            data,
            offsets,
            character_classes(),
            folding.sentence_marks(),
            table.single,
            table.starts,
            table.points,
            unit,
            count_spaces,
            config.min_characters,
        )
        if isinstance(config, C4SentencesConfig):
            hashes, rows, starts, ends = found
            found = piece_kernels.spans(hashes, rows, starts, ends, config.num_sentences)
        return cls(*found)


def repeated_lines(
    workspace: Workspace,
    inputs: Inputs,
    config: RepeatedLinesConfig,
    sources: Sequence[str] | None = None,
) -> "DataFrame":
    """Rows of ``cuts`` for what repeats in the documents that ``duplicates`` lets survive.

    ``inputs`` names versions of ``documents`` and ``duplicates``; ``sources`` are those to look at,
    all where None. Ranges of one document that touch are one cut. The result is computed where it
    is used, every time: write it once.
    """
    from datalake import spark

    version = int(inputs["documents"])
    parts = workspace.lake.parts("documents", version)
    search = _Search(workspace.lake, tuple(parts), config)
    session = spark.session(workspace)
    if not parts:
        return session.createDataFrame([], spark.schema_in_spark(SCHEMA))
    in_parts = session.range(0, len(parts), 1, len(parts)).mapInArrow(
        search.ids, spark.schema_in_spark(_IDS)
    )
    duplicates = spark.read(
        workspace, "duplicates", int(inputs["duplicates"]), ("doc_id", "source", "survivor")
    )
    alive = _sql(
        f"""
        SELECT ids.part, ids.doc_id FROM {{ids}} AS ids
        LEFT SEMI JOIN (
            SELECT doc_id FROM {{duplicates}} WHERE doc_id = survivor {_among(sources)}
        ) AS survivors ON ids.doc_id = survivors.doc_id
        """,
        ids=in_parts,
        duplicates=duplicates,
    )
    # Ids are few bytes, which Spark would gather into one task, but each task reads a part of text.
    # Lambdas, since Spark counts the ``self`` of a method as an argument.
    found = (
        alive.repartition(len(parts), "part")
        .groupBy("part")
        .applyInArrow(lambda rows: search.firsts(rows), spark.schema_in_spark(_FIRSTS))
    )
    verdicts = _sql(
        """
        WITH everywhere AS (
            SELECT *,
                min(doc_id) OVER (PARTITION BY hash) AS first,
                sum(num_documents) OVER (PARTITION BY hash) AS documents
            FROM {found}
        )
        SELECT part, NULL AS doc_id, hash, doc_id = first AS stays FROM everywhere
        WHERE documents >= CAST({least} AS LONG) AND (doc_id != first OR num_pieces > 1)
        UNION ALL
        SELECT part, doc_id, NULL AS hash, NULL AS stays FROM {alive}
        """,
        found=found,
        alive=alive,
        least=config.min_documents,
    )
    return (
        verdicts.repartition(len(parts), "part")
        .groupBy("part")
        .applyInArrow(lambda rows: search.cuts(rows), spark.schema_in_spark(SCHEMA))
    )


_IDS = pa.schema([("part", pa.int64()), ("doc_id", pa.string())])
_FIRSTS = pa.schema(
    [
        ("part", pa.int64()),
        ("hash", pa.int64()),
        ("doc_id", pa.string()),  # first document of the part that has it
        ("num_documents", pa.int64()),  # in the part
        ("num_pieces", pa.int64()),
    ]
)


@dataclass(frozen=True)
class _Search:
    """The tasks of one search; every group of rows that they get belongs to one part."""

    lake: Lake
    parts: tuple[Part, ...]
    config: CCNetLinesConfig | C4SentencesConfig | ParagraphsConfig

    def ids(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for part in batch[0].to_pylist():
                for rows in self.lake.open_part("documents", self.parts[part], ("doc_id",)):
                    columns = [pa.repeat(pa.scalar(part, pa.int64()), len(rows)), rows["doc_id"]]
                    yield pa.RecordBatch.from_arrays(columns, schema=_IDS)

    def firsts(self, alive: pa.Table) -> pa.Table:
        """One row for every different piece in the part."""
        part = alive["part"][0].as_py()
        documents, pieces = self._read(part, alive["doc_id"])
        first, num_documents, num_pieces = groups(pieces)
        columns = [
            pa.repeat(pa.scalar(part, pa.int64()), len(first)),
            pa.array(pieces.hashes[first].view(np.int64)),
            documents["doc_id"].take(pa.array(pieces.rows[first])).cast(pa.string()),
            pa.array(num_documents),
            pa.array(num_pieces),
        ]
        return pa.Table.from_arrays(columns, schema=_FIRSTS)

    def cuts(self, verdicts: pa.Table) -> pa.Table:
        """Cuts of the part, from the ids of its documents and from what was found of its pieces."""
        part = verdicts["part"][0].as_py()
        about = pc.is_valid(verdicts["hash"])
        judged = verdicts.filter(about)
        if not len(judged):
            return SCHEMA.empty_table()
        documents, pieces = self._read(part, verdicts.filter(pc.invert(about))["doc_id"])
        hashes = judged["hash"].to_numpy().view(np.uint64)
        stays = judged["stays"].to_numpy().astype(bool)
        return pa.Table.from_batches([cut(documents, pieces, hashes, stays, self.config.reason)])

    def _read(self, part: int, doc_ids: pa.ChunkedArray) -> tuple[pa.RecordBatch, Pieces]:
        """``doc_id`` and ``source`` of the documents asked for, by ``doc_id``, and their pieces."""
        wanted = doc_ids.cast(pa.string())
        named, found = [], []
        num_rows = 0
        columns = ("doc_id", "source", "text")
        for batch in self.lake.open_part("documents", self.parts[part], columns, batch_rows=256):
            batch = batch.filter(pc.is_in(batch["doc_id"], wanted.combine_chunks()))
            pieces = Pieces.of(batch["text"], self.config)
            named.append(batch.select(["doc_id", "source"]))
            found.append((pieces.hashes, pieces.rows + num_rows, pieces.starts, pieces.ends))
            num_rows += len(batch)
        documents = pa.Table.from_batches(named).combine_chunks()
        hashes, rows, starts, ends = (np.concatenate(c) for c in zip(*found, strict=True))
        return in_order(documents.to_batches()[0], Pieces(hashes, rows, starts, ends))


def in_order(documents: pa.RecordBatch, pieces: Pieces) -> tuple[pa.RecordBatch, Pieces]:
    """Documents by ``doc_id``, and their pieces in the same order."""
    order = pc.sort_indices(documents["doc_id"])
    places = np.empty(len(documents), np.int64)
    places[order.to_numpy()] = np.arange(len(documents))
    rows = places[pieces.rows]
    new = np.argsort(rows, kind="stable")
    moved = Pieces(pieces.hashes[new], rows[new], pieces.starts[new], pieces.ends[new])
    return documents.take(order), moved


def groups(pieces: Pieces) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For every different hash: index of the first piece, number of documents, and of pieces."""
    if not len(pieces.hashes):
        return (np.zeros(0, np.int64),) * 3
    order = np.argsort(pieces.hashes, kind="stable")
    hashes, rows = pieces.hashes[order], pieces.rows[order]
    new_hash = np.r_[True, hashes[1:] != hashes[:-1]]
    new_document = new_hash | np.r_[True, rows[1:] != rows[:-1]]
    (begins,) = np.nonzero(new_hash)
    num_documents = np.add.reduceat(new_document.astype(np.int64), begins)
    return order[begins], num_documents, np.diff(np.r_[begins, len(order)])


def cut(
    documents: pa.RecordBatch, pieces: Pieces, hashes: np.ndarray, stays: np.ndarray, reason: str
) -> pa.RecordBatch:
    """Cuts of the pieces with one of ``hashes``; where it ``stays``, all but the first of them.

    Pieces that overlap the one that stays are cut from its end on.
    """
    from datalake.dedup.repeats.piece_kernels import merged

    order = np.argsort(hashes)
    hashes, stays = hashes[order], stays[order]
    slots = np.minimum(np.searchsorted(hashes, pieces.hashes), len(hashes) - 1)
    (repeated,) = np.nonzero(hashes[slots] == pieces.hashes)
    slots = slots[repeated]
    rows, starts, ends = pieces.rows[repeated], pieces.starts[repeated], pieces.ends[repeated]
    # Written backwards, the first occurrence of each is what is left.
    first = np.full(len(hashes), -1, np.int64)
    first[slots[::-1]] = np.arange(len(slots))[::-1]
    shown = first[slots]
    kept_here = stays[slots] & (rows == rows[shown])
    starts = np.where(kept_here, np.maximum(starts, ends[shown]), starts)
    order = np.lexsort((starts, rows))
    rows, starts, ends = merged(rows[order], starts[order], ends[order])
    return cuts_of(documents, rows, starts, ends, reason)


def _among(sources: Sequence[str] | None) -> str:
    if sources is None:
        return ""
    quoted = ", ".join("'" + s.replace("\\", "\\\\").replace("'", "\\'") + "'" for s in sources)
    return f"AND source IN ({quoted})" if sources else "AND false"


def _sql(query: str, **values: Any) -> "DataFrame":
    session = next(v for v in values.values() if hasattr(v, "sparkSession")).sparkSession
    return session.sql(query, **values)
