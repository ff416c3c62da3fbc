"""Cuts: the places in a text that training does not see, and what stands there instead.

A document is kept or dropped as a whole by ``filters.rules``; everything smaller is a *cut*: a
range of bytes of ``documents.text``, a reason, and a replacement, which is empty where the text is
removed and a placeholder such as ``<email>`` where it is masked. Lines that a rule refuses, lines
and passages that stand elsewhere, personal data and benchmark items all come as cuts, so one table
shows all that was changed, and ``corpus`` applies it once.

Cuts that overlap become one: removed where any of them removes, so that nothing half-masked stays
behind, and otherwise masked by the longest.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from datalake.schemas import TABLES

SCHEMA = TABLES["cuts"].arrow
APPLIED = ("doc_id", "start", "end", "replacement")  # what applying them reads


def cuts_of(
    documents: pa.RecordBatch,
    rows: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    reasons: list[str] | str,
    replacements: list[str] | str = "",
) -> pa.RecordBatch:
    """Rows of ``cuts``: of document ``rows[k]`` of the batch, bytes ``starts[k]`` to ``ends[k]``.

    ``documents`` has ``doc_id`` and ``source``; ``reasons`` and ``replacements`` are one for all,
    or one for each.
    """
    taken = pa.array(rows, pa.int64())
    size = len(taken)
    columns = {
        "doc_id": documents["doc_id"].take(taken),
        "source": documents["source"].take(taken),
        "start": pa.array(starts, pa.int64()),
        "end": pa.array(ends, pa.int64()),
        "reason": pa.array([reasons] * size if isinstance(reasons, str) else reasons, pa.string()),
        "replacement": pa.array(
            [replacements] * size if isinstance(replacements, str) else replacements, pa.string()
        ),
    }
    return pa.RecordBatch.from_arrays([columns[n] for n in SCHEMA.names], schema=SCHEMA)


@dataclass(frozen=True)
class Cuts:
    """Cuts that do not overlap, in order of documents and places."""

    doc_ids: np.ndarray  # bytes [documents], ascending: those that have cuts
    first: np.ndarray  # int64 [documents + 1]: where the cuts of each begin
    starts: np.ndarray  # int64 [cuts], bytes
    ends: np.ndarray  # int64 [cuts]
    replacements: np.ndarray  # int32 [cuts] into ``said``
    said: tuple[bytes, ...]

    @classmethod
    def of(cls, rows: pa.Table) -> "Cuts":
        """From rows with ``APPLIED``, in any order."""
        encoded = pc.dictionary_encode(rows["replacement"].combine_chunks())
        said = tuple(value.encode() for value in encoded.dictionary.to_pylist())
        ids = np.array(rows["doc_id"].to_pylist(), "S32")
        starts, ends = (rows[name].to_numpy() for name in ("start", "end"))
        codes = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int32)
        # Of masks that overlap the longest is said; of equal ones the first in the alphabet.
        rank = np.argsort(np.argsort(np.array(said, object), kind="stable"))
        order = np.lexsort((rank[codes], -ends, starts, ids)) if len(ids) else np.zeros(0, int)
        ids, starts, ends, codes = ids[order], starts[order], ends[order], codes[order]
        groups = _groups(ids, starts, ends)
        heads = np.flatnonzero(np.diff(groups, prepend=-1))
        if len(heads):
            removed = np.array([not value for value in said])[codes]
            longest = np.lexsort((np.arange(len(codes)), starts - ends, ~removed, groups))
            codes = codes[longest][heads]
            starts, ends, ids = starts[heads], np.maximum.reduceat(ends, heads), ids[heads]
        unique, first = np.unique(ids, return_index=True)
        return cls(unique, np.append(first, len(ids)).astype(np.int64), starts, ends, codes, said)

    def __len__(self) -> int:
        return len(self.starts)

    def bytes_gone(self, doc_ids: np.ndarray) -> np.ndarray:
        """By how much the text of each document gets shorter: ``int64 [documents]``, bytes."""
        sizes = np.array([len(value) for value in self.said] or [0], np.int64)
        gone = np.append(0, np.cumsum(self.ends - self.starts - sizes[self.replacements]))
        place, known = self._find(doc_ids)
        whole = np.zeros(len(doc_ids), np.int64)
        whole[known] = gone[self.first[place[known] + 1]] - gone[self.first[place[known]]]
        return whole

    def apply(self, documents: pa.RecordBatch) -> pa.LargeStringArray:
        """Texts of a batch with ``doc_id`` and ``text``, as they are after the cuts."""
        texts = documents["text"].cast(pa.large_string())
        place, known = self._find(np.array(documents["doc_id"].to_pylist(), "S32"))
        if not known.any():
            return texts
        made = texts.cast(pa.large_binary()).to_pylist()
        for row in np.flatnonzero(known).tolist():
            made[row] = self._cut(made[row], int(place[row]))
        return pa.array(made, pa.large_binary()).cast(pa.large_string())

    def _cut(self, text: bytes, place: int) -> bytes:
        pieces, at = list[bytes](), 0
        cuts = slice(int(self.first[place]), int(self.first[place + 1]))
        for start, end, said in zip(
            self.starts[cuts].tolist(),
            self.ends[cuts].tolist(),
            self.replacements[cuts].tolist(),
            strict=True,
        ):
            pieces += [text[at:start], self.said[said]]
            at = end
        return b"".join([*pieces, text[at:]])

    def _find(self, doc_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        place = np.searchsorted(self.doc_ids, doc_ids)
        known = np.zeros(len(doc_ids), bool)
        inside = place < len(self.doc_ids)
        known[inside] = self.doc_ids[place[inside]] == doc_ids[inside]
        return place, known


def _groups(ids: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Number of the group of overlapping cuts that each belongs to; sorted by id and start."""
    if not len(ids):
        return np.zeros(0, np.int64)
    other = np.append(True, ids[1:] != ids[:-1])
    document = np.cumsum(other) - 1
    # Ends grow from document to document, so that one running maximum serves all of them.
    span = int(ends.max()) + 1
    reach = np.maximum.accumulate(ends + document * span)
    apart = np.append(True, starts[1:] + document[1:] * span >= reach[:-1])
    return np.cumsum(other | apart) - 1
