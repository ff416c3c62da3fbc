"""What a scorer is trained on: documents of the lake, chosen by what is known of them, or files.

A recipe says what belongs to a class as a list of choices; a document belongs to it when one of
them fits. Of what belongs, at most ``max_documents`` are taken, those whose ids have the smallest
hashes: a sample that does not depend on the order of rows or on how the table is cut into parts,
and that stays nearly the same when the table grows. Examples are parted by ``held_out``, a number
in 0..1 that comes from the text, case and spacing aside, so that copies are on the same side.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from pydantic import Field, model_validator

from datalake.config import Config, Refusal
from datalake.tables import Lake, Part
from datalake.workspace import Workspace

_FEW_VALUES = ("source", "kind", "language")
_CHOSEN_BY = (*_FEW_VALUES, "uri", "title")
_BATCH_ROWS = 256
_SPACES = bytes(point for point in range(128) if chr(point).isspace())
_LINE_BYTES = 64 << 20  # a line of JSON is at most so long
TABLE_ENDINGS = (".parquet", ".jsonl", ".jsonl.gz", ".jsonl.zst", ".ndjson")


class Selection(Config):
    """Documents for which everything that is said here is true.

    ``uri`` and ``title`` are patterns over the whole value: ``*`` stands for any characters, ``?``
    for one.
    """

    source: str | None = None  # web, code ...
    kind: str | None = None  # kind of source: crawl, pdf ...
    language: str | None = None
    uri: str | None = None
    title: str | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.model_dump(exclude_none=True):
            raise ValueError(f"a choice of documents must name one of {', '.join(_CHOSEN_BY)}")
        return self

    def fits(self, documents: pa.RecordBatch) -> np.ndarray:
        """Which rows it means: ``bool [rows]``."""
        fits = np.ones(len(documents), bool)
        for name in _FEW_VALUES:
            if (value := getattr(self, name)) is not None:
                fits &= _true(pc.equal(documents[name], value))
        for name in ("uri", "title"):
            if (pattern := getattr(self, name)) is not None:
                fits &= _true(pc.match_like(documents[name], _like(pattern)))
        return fits


class LabelledFiles(Config):
    """Parquet or JSON Lines files of texts with a label: 0 and 1, or a score with a threshold."""

    files: str  # a path or a pattern of paths
    text: str = "text"  # column
    label: str = "label"  # column of numbers or booleans
    at_least: float = 0.5  # labels from here on are positive: for 0 and 1; for grades, say yours

    def paths(self) -> tuple[str, ...]:
        """Files that are there, in order. Raises Refusal where there is none."""
        pattern = Path(self.files).expanduser().absolute()
        below = Path(pattern.anchor).glob(str(pattern.relative_to(pattern.anchor)))
        found = sorted(str(p) for p in below if p.is_file())
        if not found:
            raise Refusal(f"labelled.files must name files that exist, got {self.files}")
        for path in found:
            if not path.endswith(TABLE_ENDINGS):
                raise Refusal(
                    f"labelled.files must end in one of {', '.join(TABLE_ENDINGS)}, got {path}"
                )
        return tuple(found)


class SampleConfig(Config):
    """How much is taken to train on."""

    # Both are for a laptop: DCLM took 200,000 documents of each class (Li et al. 2024,
    # arXiv:2406.11794); FineWeb-Edu reads the first 512 tokens of a document.
    max_documents: int = Field(default=5_000, ge=1)  # of each class
    max_bytes: int = Field(default=10_000, ge=64)  # from the start of a document, bytes


@dataclass(frozen=True)
class Trained:
    """A scorer, and what its training says: report lines and charts, title -> SVG."""

    scorer: Any
    report: dict[str, int | float | str] = field(default_factory=dict)
    plots: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Piece:
    """What one task reads: a part of ``documents``, or one labelled file."""

    part: Part | None = None
    path: str = ""


@dataclass(frozen=True)
class Examples:
    """Where examples lie and to which class each belongs; ``choices[k]`` says what class k is.

    None stands for every document.

    A document that several classes mean belongs to the last of them, so that "everything" may
    stand for the negatives (class 0) of what the positives (class 1) name.
    """

    lake: Lake
    version: int
    choices: tuple[tuple[Selection, ...] | None, ...]
    labelled: LabelledFiles | None = None

    def pieces(self) -> list[Piece]:
        if self.labelled is not None:
            return [Piece(path=path) for path in self.labelled.paths()]
        return [Piece(part=part) for part in self.lake.parts("documents", self.version)]

    def read(self, piece: Piece, with_text: bool) -> Iterator[pa.RecordBatch]:
        """Batches of ``label`` int8, ``hash`` uint64, and with texts ``held_out`` and ``text``."""
        rows = self._of_part if piece.part is not None else self._of_file
        for label, identity, text in rows(piece, with_text):
            chosen = np.flatnonzero(label >= 0)
            if not len(chosen):
                continue
            identities = [str(identity[int(k)].as_py()).encode() for k in chosen]
            hashes = [xxhash.xxh3_64_intdigest(i) for i in identities]
            columns: dict[str, Any] = {
                "label": pa.array(label[chosen], pa.int8()),
                "hash": pa.array(np.array(hashes, np.uint64)),
            }
            if with_text:
                taken = text.take(pa.array(chosen))
                columns["held_out"] = pa.array(
                    [_unit(bytes(t.as_buffer())) for t in taken], pa.float64()
                )
                columns["text"] = taken
            yield pa.RecordBatch.from_pydict(columns)

    def _of_part(self, piece: Piece, with_text: bool) -> Iterator[tuple[np.ndarray, Any, Any]]:
        assert piece.part is not None
        columns = ["doc_id", *_CHOSEN_BY, "num_bytes", *(["text"] if with_text else [])]
        for batch in self.lake.open_part(
            "documents", piece.part, columns, batch_rows=_BATCH_ROWS if with_text else 8192
        ):
            label = np.full(len(batch), -1, np.int8)
            for k, choices in enumerate(self.choices):
                if choices is None:
                    label[:] = k
                for choice in choices or ():
                    label[choice.fits(batch)] = k
            label[batch["num_bytes"].to_numpy() == 0] = -1
            yield label, batch["doc_id"], batch["text"] if with_text else None

    def _of_file(self, piece: Piece, with_text: bool) -> Iterator[tuple[np.ndarray, Any, Any]]:
        assert self.labelled is not None
        for batch in table_batches(piece.path, (self.labelled.text, self.labelled.label)):
            try:
                text = batch[self.labelled.text].cast(pa.large_string()).fill_null("")
                grade = batch[self.labelled.label].cast(pa.float64())
            except pa.ArrowException as error:
                rule = "files with text and numbers in the columns named"
                raise Refusal(
                    f"labelled.files must be {rule}, got {piece.path}: {error}"
                ) from error
            score = grade.to_numpy(zero_copy_only=False)
            label = np.where(score >= self.labelled.at_least, 1, 0).astype(np.int8)
            label[np.isnan(score) | (pc.binary_length(text).to_numpy() == 0)] = -1
            names = pa.array([xxhash.xxh3_128_hexdigest(t.as_buffer()) for t in text])
            yield label, names, text


@dataclass(frozen=True)
class Sample:
    """The examples that are taken: of class k those whose hash is at most ``cuts[k]``."""

    examples: Examples
    cuts: tuple[int, ...]
    num_found: tuple[int, ...]  # documents of each class, before sampling
    num_taken: tuple[int, ...]

    def read(self, piece: Piece) -> Iterator[pa.RecordBatch]:
        """Batches as those of ``Examples.read``, texts whole."""
        cuts = np.array(self.cuts, np.uint64)
        for batch in self.examples.read(piece, with_text=True):
            taken = batch["hash"].to_numpy() <= cuts[batch["label"].to_numpy()]
            if taken.any():
                yield batch.filter(pa.array(taken))


@dataclass(frozen=True)
class _Found:
    """How many examples of each class there are, their smallest hashes, and what is refused."""

    numbers: tuple[int, ...]
    hashes: tuple[np.ndarray, ...]
    refusal: str = ""

    def joined(self, other: "_Found", most: int) -> "_Found":
        pairs = zip(self.hashes, other.hashes, strict=True)
        return _Found(
            tuple(a + b for a, b in zip(self.numbers, other.numbers, strict=True)),
            tuple(np.sort(np.concatenate(pair))[:most] for pair in pairs),
            self.refusal or other.refusal,
        )


@dataclass(frozen=True)
class _Survey:
    """Task: what one piece has."""

    examples: Examples
    max_documents: int

    def __call__(self, piece: Piece) -> _Found:
        classes = range(2 if self.examples.labelled else len(self.examples.choices))
        found = _Found((0,) * len(classes), (np.zeros(0, np.uint64),) * len(classes))
        try:
            for batch in self.examples.read(piece, with_text=False):
                label, hashes = batch["label"].to_numpy(), batch["hash"].to_numpy()
                numbers = tuple(int((label == k).sum()) for k in classes)
                here = _Found(numbers, tuple(hashes[label == k] for k in classes))
                found = self.merge(found, here)
        except Refusal as refusal:  # on its way through Spark it would become another error
            return replace(found, refusal=str(refusal))
        return found

    def merge(self, one: _Found, other: _Found) -> _Found:
        return one.joined(other, self.max_documents)


def survey(workspace: Workspace, examples: Examples, max_documents: int) -> Sample:
    """The sample of at most ``max_documents`` of each class, found by one pass without texts.

    Raises Refusal where a labelled file cannot be read.
    """
    from datalake import spark

    task = _Survey(examples, max_documents)
    pieces = examples.pieces()
    context = spark.session(workspace).sparkContext
    # Merged in Spark: the driver sees one list of hashes, however many parts there are.
    found = context.parallelize(pieces, len(pieces)).map(task).treeReduce(task.merge)
    if found.refusal:
        raise Refusal(found.refusal)
    cuts = tuple(int(hashes[-1]) if len(hashes) else 0 for hashes in found.hashes)
    return Sample(examples, cuts, found.numbers, tuple(len(hashes) for hashes in found.hashes))


def texts(workspace: Workspace, sample: Sample, max_bytes: int) -> pa.Table:
    """All of ``sample`` in the driver, in order of hashes, each text cut to ``max_bytes``.

    Columns ``label``, ``hash``, ``held_out`` and ``text`` (large_binary).
    """
    from datalake import spark

    pieces = sample.examples.pieces()
    context = spark.session(workspace).sparkContext
    rdd = context.parallelize(pieces, len(pieces)).map(_Texts(sample, max_bytes))
    return pa.concat_tables(rdd.collect()).sort_by([("hash", "ascending")]).combine_chunks()


@dataclass(frozen=True)
class _Texts:
    """Task: the sample's texts of one piece."""

    sample: Sample
    max_bytes: int

    def __call__(self, piece: Piece) -> pa.Table:
        batches = []
        for batch in self.sample.read(piece):
            short = pc.binary_slice(batch["text"].cast(pa.large_binary()), 0, self.max_bytes)
            batches.append(batch.set_column(3, "text", short))
        return pa.Table.from_batches(batches, _TEXTS)


_TEXTS = pa.schema(
    {
        "label": pa.int8(),
        "hash": pa.uint64(),
        "held_out": pa.float64(),
        "text": pa.large_binary(),
    }
)


def require_known(
    workspace: Workspace, version: int, place: str, choices: Sequence[Selection]
) -> None:
    """Raise Refusal for a choice that names a source, kind or language that no document has."""
    from datalake import spark

    named = [(n, getattr(c, n)) for c in choices for n in _FEW_VALUES if getattr(c, n) is not None]
    if not named:
        return
    found = spark.each_part(workspace, "documents", version, _Values(workspace.lake))
    known = [set().union(*(values[k] for values in found)) for k in range(len(_FEW_VALUES))]
    for name, value in named:
        there = known[_FEW_VALUES.index(name)]
        if value not in there:
            said = ", ".join(sorted(there)[:20])
            raise Refusal(f"{place}.{name} must be one of {said}, got {value}")


@dataclass(frozen=True)
class _Values:
    """Task: the different values of a part's columns that have few."""

    lake: Lake

    def __call__(self, part: Part) -> list[set[str]]:
        rows = pa.Table.from_batches(self.lake.open_part("documents", part, _FEW_VALUES))
        return [set(pc.unique(rows[name]).to_pylist()) for name in _FEW_VALUES]


def table_batches(path: str, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Batches of ``columns`` of a Parquet or JSON Lines file. Raises Refusal for one not there."""
    import pyarrow.json as pj
    import pyarrow.parquet as pq

    batches: Iterator[pa.RecordBatch]
    try:
        if path.endswith(".parquet"):
            file = pq.ParquetFile(path)
            _require_columns(path, file.schema_arrow.names, columns)
            batches = file.iter_batches(_BATCH_ROWS, columns=list(columns))
        else:
            with pa.input_stream(path, compression="detect") as stream:
                options = pj.ReadOptions(block_size=_LINE_BYTES)
                reader = pj.open_json(stream, read_options=options)
                _require_columns(path, reader.schema.names, columns)
                for block in reader:
                    yield from (
                        pa.Table.from_batches([block]).select(columns).to_batches(_BATCH_ROWS)
                    )
            return
        yield from batches
    except pa.ArrowException as error:
        raise Refusal(f"labelled.files must be readable, got {path}: {error}") from error


def _require_columns(path: str, there: Sequence[str], wanted: Sequence[str]) -> None:
    for name in wanted:
        if name not in there:
            said = ", ".join(there)
            raise Refusal(f"labelled.files must have a column {name}, got {path} with {said}")


def _unit(text: bytes) -> float:
    """A number in 0..1 that copies of a text share, whatever their case and spacing."""
    return xxhash.xxh3_64_intdigest(text.lower().translate(None, _SPACES)) / 2**64


def _true(mask: Any) -> np.ndarray:
    return mask.fill_null(False).to_numpy(zero_copy_only=False)


def _like(pattern: str) -> str:
    """The SQL LIKE pattern of one with ``*`` and ``?``."""
    for sign in ("\\", "%", "_"):
        pattern = pattern.replace(sign, "\\" + sign)
    return pattern.replace("*", "%").replace("?", "_")
