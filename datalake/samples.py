"""Samples for the data card: a few documents of every reason, and a few places that were cut.

A person who sees what a rule drops judges it faster than by any count. Samples are drawn by a hash
of the identity, so they are random, and the same in every run. Personal data is masked in them,
whatever the recipe does with it.
"""

import hashlib
import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from datalake.cuts import Cuts
from datalake.schemas import TABLES
from datalake.tables import Lake
from datalake.transforms.personal.personal_data import PersonalDataConfig, find
from datalake.workspace import Inputs, Workspace

EXCERPT = 600  # characters of a document
AROUND = 120  # bytes before and behind a cut
LONGEST = 300  # bytes of the cut itself


@dataclass(frozen=True, slots=True)
class Sample:
    """The beginning of one document that a rule dropped, or that is in the corpus."""

    source: str
    reason: str | None  # None of one that was kept
    title: str
    uri: str
    text: str


@dataclass(frozen=True, slots=True)
class CutSample:
    """One place that was cut, with what stands around it."""

    source: str
    reason: str
    title: str
    before: str
    cut: str
    after: str
    replacement: str


def of_documents(workspace: Workspace, inputs: Inputs, number: int, seed: int) -> list[Sample]:
    """``number`` documents of every source and reason, and of those that are in the corpus."""
    lake = workspace.lake
    dropped = lake.batches("kept", int(inputs["kept"]), ("doc_id", "source", "reason", "keep"))
    named = (batch.filter(pc.invert(batch["keep"])) for batch in dropped)
    chosen = _draw(named, ("source", "reason"), number, seed)
    corpus = lake.batches("corpus", int(inputs["corpus"]), ("doc_id", "source"))
    stays = _draw(corpus, ("source",), number, seed)
    reasons = {row["doc_id"]: row["reason"] for rows in chosen.values() for row in rows}
    reasons |= {row["doc_id"]: None for rows in stays.values() for row in rows}
    samples = [
        Sample(row["source"], reasons[row["doc_id"]], row["title"], row["uri"], row["text"])
        for row in _texts(lake, int(inputs["documents"]), reasons.keys())
    ]
    return sorted(samples, key=lambda s: (s.source, s.reason or "", s.uri, s.title))


def of_cuts(workspace: Workspace, inputs: Inputs, number: int, seed: int) -> list[CutSample]:
    """``number`` cuts of every source and reason."""
    columns = TABLES["cuts"].arrow.names
    rows = workspace.lake.batches("cuts", int(inputs["cuts"]), columns)
    chosen = [
        row for rows in _draw(rows, ("source", "reason"), number, seed).values() for row in rows
    ]
    whole = {row["doc_id"] for row in chosen}
    documents = {
        row["doc_id"]: row
        for row in _texts(workspace.lake, int(inputs["documents"]), whole, excerpt=False)
    }
    samples = [_cut_sample(cut, documents[cut["doc_id"]]) for cut in chosen]
    return sorted(samples, key=lambda s: (s.source, s.reason, s.title, s.before, s.cut))


def _cut_sample(cut: dict[str, Any], document: dict[str, Any]) -> CutSample:
    text, start, end = document["text"].encode(), cut["start"], cut["end"]
    pieces = (
        text[max(0, start - AROUND) : start],
        text[start : min(end, start + LONGEST)],
        text[end : end + AROUND],
    )
    shown = [piece.decode("utf-8", "ignore") for piece in pieces]
    before, inside, after = _masked(shown, [cut["source"]] * 3)
    if cut["replacement"]:  # never show what was masked
        inside = ""
    elif end - start > LONGEST:
        inside += " …"
    return CutSample(
        source=cut["source"],
        reason=cut["reason"],
        title=document["title"],
        before=before,
        cut=inside,
        after=after,
        replacement=cut["replacement"],
    )


Row = dict[str, Any]


def _draw(
    batches: Iterable[pa.RecordBatch], group_by: Sequence[str], number: int, seed: int
) -> dict[tuple[Any, ...], list[Row]]:
    """Of each group of rows those ``number`` whose hashes are smallest."""
    heaps: dict[tuple[Any, ...], list[tuple[int, int, Row]]] = {}
    count = 0
    for batch in batches:
        for row in batch.to_pylist():
            heap = heaps.setdefault(tuple(row[name] for name in group_by), [])
            place = f"{seed} {row['doc_id']} {row.get('start', '')}".encode()
            draw = -int.from_bytes(hashlib.blake2b(place, digest_size=8).digest())
            count += 1
            if len(heap) < number:
                heapq.heappush(heap, (draw, count, row))
            elif draw > heap[0][0]:
                heapq.heapreplace(heap, (draw, count, row))
    return {key: [row for _, _, row in heap] for key, heap in heaps.items()}


def _texts(lake: Lake, version: int, doc_ids: Iterable[str], excerpt: bool = True) -> Iterator[Row]:
    """Rows of ``documents`` with these ids; of a part without any only the ids are read.

    An ``excerpt`` is the beginning, masked.
    """
    wanted = pa.array(sorted(doc_ids), pa.string())
    columns = ("doc_id", "source", "title", "uri", "language", "text")
    for part in lake.parts("documents", version):
        ids = lake.open_part("documents", part, ("doc_id",))
        if not any(pc.any(pc.is_in(batch["doc_id"], wanted)).as_py() for batch in ids):
            continue
        for batch in lake.open_part("documents", part, columns):
            rows = batch.filter(pc.is_in(batch["doc_id"], wanted)).to_pylist()
            if excerpt:
                cut = [_beginning(row["text"]) for row in rows]
                for row, text in zip(
                    rows, _masked(cut, [row["source"] for row in rows]), strict=True
                ):
                    row["text"] = text
            yield from rows


def _beginning(text: str) -> str:
    return text if len(text) <= EXCERPT else text[:EXCERPT].rstrip() + " …"


def _masked(texts: list[str], sources: list[str]) -> list[str]:
    """``texts`` with every kind of personal data replaced by its placeholder."""
    if not texts:
        return []
    batch = pa.RecordBatch.from_pydict(
        {
            "doc_id": [f"{k:032x}" for k in range(len(texts))],
            "source": sources,
            "language": ["unknown"] * len(texts),
            "text": pa.array(texts, pa.large_string()),
        }
    )
    found = find(batch, PersonalDataConfig(sources={}))
    return Cuts.of(pa.table(found)).apply(batch).to_pylist()
