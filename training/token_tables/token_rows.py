"""Encoded documents to the table ``tokens``, in buckets that are packed each on its own.

A hash of its id puts a document into one of so many buckets that each has about ``BUCKET_TOKENS``:
as much as one task packs in seconds and holds in memory. Spark brings the documents of a bucket
together; one machine never sees all tokens. Which clusters are held out is decided from four light
columns and told to the tasks as a rule, and the rest they decide from the document alone. So the
rows are a pure function of the documents and of the settings, wherever they were made.
"""

import pickle
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import pyarrow as pa

from datalake import charts
from datalake.config import Refusal
from datalake.tables import Commit, Lake, Part
from datalake.workspace import Inputs, Workspace
from training.data.packing import Documents, HeldOut, arrange, copies, hold_out, pack, shuffled
from training.data.rows import dtype_of

BUCKET_TOKENS = 1 << 26  # 128 MB in two bytes each
SPLITS = ("train", "validation")
_COLUMNS = ("doc_id", "source", "cluster", "weight", "num_bytes", "num_tokens", "tokens")
_BUCKET_BITS = 32  # of a row id, for the number of the row in its split of the bucket


@dataclass(frozen=True, kw_only=True, slots=True)
class RowsConfig:
    """Everything that decides the rows, but the documents."""

    context_length: int
    validation_fraction: float
    seed: int
    end_of_text: int
    vocab_size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Tally:
    """What rows of one split hold, copies included. Buckets combine with ``+``."""

    documents: int = 0  # distinct
    rows: int = 0
    pieces: int = 0
    places: int = 0  # filled, of rows * (context_length + 1)
    targets: int = 0
    num_bytes: int = 0
    cut: int = 0  # documents longer than a row, in as few pieces as can be
    cut_in_line: int = 0  # that would be cut if documents were laid end to end
    by_source: Counter[str] = field(default_factory=Counter)  # targets

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in _FIELDS})


_FIELDS = fields(Tally)


@dataclass(frozen=True, slots=True)
class Packed:
    """A version of ``tokens``, and what is in it."""

    commit: Commit
    num_buckets: int
    tallies: Mapping[str, Tally]  # by split
    context_length: int

    def report(self) -> dict[str, int | float | str]:
        report: dict[str, int | float | str] = {}
        for split, tally in self.tallies.items():
            places = tally.rows * (self.context_length + 1)
            report |= {
                f"{split} documents": tally.documents,
                f"{split} rows": tally.rows,
                f"{split} tokens": tally.targets,
                f"{split} bytes per token": round(tally.num_bytes / tally.targets, 4),
                f"{split} rows filled": round(tally.places / places, 5),
                f"{split} pieces a row": round(tally.pieces / tally.rows, 3),
                f"{split} documents cut": tally.cut,
                f"{split} documents cut if laid end to end": tally.cut_in_line,
            }
        return report | {"buckets": self.num_buckets}

    def chart(self, title: str) -> str:
        """Tokens that each split shows of each source."""
        rows = []
        for source in sorted(set().union(*(tally.by_source for tally in self.tallies.values()))):
            parts = {split: tally.by_source[source] for split, tally in self.tallies.items()}
            rows.append((source, parts, ", ".join(f"{n:,} {split}" for split, n in parts.items())))
        return charts.bars(rows, title=title)


def pack_corpus(
    workspace: Workspace,
    encoded: int,
    config: RowsConfig,
    inputs: Inputs,
    bucket_tokens: int = BUCKET_TOKENS,
) -> Packed:
    """Write ``tokens`` from ``encoded`` at that version; ``inputs`` are named in the commit.

    Training sees a document as often as its weight says, validation once. Raises Refusal where a
    split would be without a document.
    """
    from datalake import spark

    lake = workspace.lake
    light = lake.read("encoded", encoded, ["source", "cluster", "num_tokens"])
    held_out = hold_out(light["cluster"], light["source"], config.validation_fraction, config.seed)
    num_buckets = buckets_of(int(light["num_tokens"].to_numpy().sum()) + len(light), bucket_tokens)
    workspace.say(f"packing {len(light):,} documents in {num_buckets:,} buckets")
    task = PackBucket(lake, config, held_out)
    made = (
        spark.read(workspace, "encoded", encoded, _COLUMNS)
        .selectExpr("*", f"xxhash64(doc_id) & {num_buckets - 1} AS bucket")
        .groupBy("bucket")
        .applyInArrow(lambda key, rows: task(key[0].as_py(), rows), "made binary")
        .collect()
    )
    parts: list[Part] = []
    tallies = dict.fromkeys(SPLITS, Tally())
    for row in made:
        written, found = pickle.loads(row["made"])
        parts += written
        tallies = {split: tally + found[split] for split, tally in tallies.items()}
    for split, tally in tallies.items():
        if not tally.rows:
            lake.remove_parts("tokens", parts)
            rule = f"leave a document in {split}, where none has a copy"
            raise Refusal(f"corpus.weight must {rule}, got weights that round to 0")
    commit = lake.commit("tokens", parts, "overwrite", {**inputs, "encoded": encoded})
    return Packed(commit, num_buckets, tallies, config.context_length)


def buckets_of(num_tokens: int, bucket_tokens: int = BUCKET_TOKENS) -> int:
    """The least power of two that gives every bucket at most ``bucket_tokens`` on average."""
    return 1 << max(0, -(-num_tokens // bucket_tokens) - 1).bit_length()


@dataclass(frozen=True, slots=True)
class PackBucket:
    """One Spark task: write the rows of a bucket's documents; also what is in them."""

    lake: Lake
    config: RowsConfig
    held_out: HeldOut

    def __call__(self, bucket: int, rows: pa.Table) -> pa.Table:
        config = self.config
        columns: dict[str, Any] = {
            name: rows[name].to_numpy().astype(str) for name in ("doc_id", "source", "cluster")
        }
        documents = Documents(
            doc_ids=columns["doc_id"],
            offsets=np.append(0, np.cumsum(rows["num_tokens"].to_numpy())),
            tokens=_joined(rows["tokens"], dtype_of(config.vocab_size)),
        )
        held = self.held_out(columns["cluster"])
        seen = copies(documents.doc_ids, rows["weight"].to_numpy())
        parts: list[Part] = []
        tallies = {}
        for split, times in zip(SPLITS, (seen * ~held, (seen > 0) * held), strict=True):
            order, draws = shuffled(documents.doc_ids, times, config.seed)
            num_tokens = np.diff(documents.offsets)
            packing = arrange(num_tokens, order, draws, config.context_length)
            batches = pack(
                documents,
                packing,
                split,
                config.end_of_text,
                config.vocab_size,
                first_row=bucket << _BUCKET_BITS,
            )
            parts += self.lake.write_parts("tokens", batches)
            targets = num_tokens[order] + 1
            tallies[split] = Tally(
                documents=int(np.count_nonzero(times)),
                rows=packing.num_rows,
                pieces=len(packing.starts),
                places=int(packing.num_targets.sum()) + len(packing.starts),
                targets=int(targets.sum()),
                num_bytes=int(times @ rows["num_bytes"].to_numpy()),
                cut=int(np.count_nonzero(targets > config.context_length)),
                cut_in_line=_cut_in_line(targets, config.context_length),
                by_source=_sums(columns["source"][order], targets),
            )
        return pa.table({"made": pa.array([pickle.dumps((parts, tallies))], pa.binary())})


def _joined(column: pa.ChunkedArray, dtype: np.dtype) -> np.ndarray:
    """The ids of all values, end to end."""
    parts = [np.empty(0, dtype)]
    for chunk in column.chunks:
        large = chunk.cast(pa.large_binary())
        _, bounds, content = large.buffers()
        ends = np.frombuffer(bounds, np.int64)[large.offset : large.offset + len(large) + 1]
        parts.append(np.frombuffer(content or b"", np.uint8)[ends[0] : ends[-1]].view(dtype))
    return np.concatenate(parts)


def _cut_in_line(num_targets: np.ndarray, context_length: int) -> int:
    """How many documents would be cut if they were laid end to end in rows."""
    ends = np.cumsum(num_targets)
    return int(
        np.count_nonzero((ends - num_targets) // context_length < (ends - 1) // context_length)
    )


def _sums(labels: np.ndarray, numbers: np.ndarray) -> Counter[str]:
    names, which = np.unique(labels, return_inverse=True)
    sums = np.bincount(which, numbers, minlength=len(names))
    return Counter({name: int(number) for name, number in zip(names.tolist(), sums, strict=True)})
