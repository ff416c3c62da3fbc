"""Tables that hold a text in each row: Parquet, Arrow, lines of JSON, CSV, Delta, data sets.

The recipe says which column is the text, and which others say what it is. A row whose address or
id is in a column keeps its identity wherever it moves. Otherwise it is known by its number in its
file: a row put in before it makes every later row another document.
"""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Literal

import pyarrow as pa
from pydantic import Field

from datalake import licences
from datalake.config import Config, Refusal
from datalake.licences import Finding, by_recipe
from datalake.sources.files import table_hub
from datalake.sources.files.local_files import named_paths, short_names, state_of
from datalake.sources.files.table_rows import (
    Share,
    TableRow,
    columns_of,
    format_of,
    line_at,
    row_at,
    rows,
    shares,
)
from datalake.sources.report import Report
from datalake.sources.source import Event, Piece, Place, Record, Refresh, SourceConfig
from datalake.sources.web.urls import canonical

_TEXT_TYPES = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
_MEMBER = re.compile(r"row (\d+) column (.*)", re.DOTALL)
# Of a line that holds a text: JSON may write a character in six bytes, and there are other columns.
_LINE_FACTOR = 6
_MAX_LINE_BYTES = 1 << 30  # of a line that was read before, whatever the recipe said then


class Columns(Config):
    """Which column says what. A column that is named must be there."""

    text: str
    title: str | None = None
    uri: str | None = None  # the document's own address, unique
    id: str | None = None  # unique in all files; used where there is no address
    language: str | None = None
    licence: str | None = None  # SPDX, the usual names, or an address; a list means all hold
    metadata: tuple[str, ...] = ()  # kept as JSON

    @property
    def named(self) -> dict[str, str]:
        """Columns by what they are used for."""
        single = ("text", "title", "uri", "id", "language", "licence")
        found = {use: name for use in single if (name := getattr(self, use)) is not None}
        return found | {f"metadata[{n}]": name for n, name in enumerate(self.metadata)}


class TablesConfig(SourceConfig):
    """Rows of tables on disk, or of a data set on the Hugging Face hub."""

    table: ClassVar[str] = "raw/tables"
    complete: ClassVar[bool] = True

    kind: Literal["tables"] = "tables"
    # Files, Delta tables, folders that ``datasets`` saved, folders of files, or wildcards.
    files: tuple[str, ...] = ()
    version: int | None = Field(None, ge=0)  # of a Delta table; None is the newest
    hub: str | None = None  # name of a data set there, instead of ``files``
    split: str | None = None  # of a data set, on the hub or saved; None is all of what is saved
    revision: str | None = None  # of the data set on the hub: a commit makes a refresh repeatable
    columns: Columns
    base: str | None = None  # address of the table; without it the file:// URI of each file
    # Longer than the Bible by four; a row above it is a dump rather than a document.
    max_text_bytes: int = Field(16 << 20, gt=0)
    # Of row groups, decoded: half a minute of work, and several tasks for each file of a shard.
    max_piece_bytes: int = Field(128 << 20, gt=0)

    def watched(self) -> str:
        """Names, sizes and times of the files; of the hub, what was asked for."""
        if self.hub is not None:
            return f"{self.hub}@{self.revision or 'main'}/{self.split}"
        return state_of(named_paths(self.files, "files"))

    def pieces(self, refresh: Refresh) -> list[Piece]:
        """One piece a file, or a group of row groups of Parquet.

        Raises Refusal where files or columns are missing, or the text is none.
        """
        if (self.hub is None) == (not self.files):
            raise Refusal(f"files or hub must be given, and not both, got {self.files}, {self.hub}")
        if self.hub is not None:
            return table_hub.pieces(self.hub, self.split, self.revision, self.columns.named)
        found = self._shares(refresh.report)
        if not found:
            raise Refusal(f"files must hold a table, got {', '.join(self.files)}")
        for path in dict.fromkeys(share.path for share in found):
            self._check(next(share for share in found if share.path == path))
        names = short_names([Path(share.path) for share in found])
        return [
            Piece(
                name=name if share.groups is None else f"{name} row groups from {share.groups[0]}",
                uri=Path(share.path).as_uri(),
                num_bytes=share.num_bytes,
                detail={"share": share},
            )
            for share, name in zip(found, names, strict=True)
        ]

    def read(self, piece: Piece, refresh: Refresh) -> Iterator[Event]:
        """One record a row that has a text."""
        wanted = tuple(dict.fromkeys(self.columns.named.values()))
        if "share" in piece.detail:
            path = piece.detail["share"].path
            found = rows(piece.detail["share"], wanted, self._max_line_bytes, refresh.report)
        else:
            path = piece.uri
            found = table_hub.rows(piece, wanted)
        for row in found:
            payload = self._payload(row, path, refresh.report)
            if payload is None:
                continue
            refresh.report.keep(len(payload))
            uri, position = self._identity(row, path, piece, refresh.report)
            yield Record(
                uri=uri,
                position=position,
                payload=payload,
                place=Place(
                    archive=path,
                    member=f"row {row.number} column {self.columns.text}",
                    offset=row.offset,
                    length=row.length,
                ),
                fetched_at=datetime.now(UTC),
                content_type="text/plain",
                licence=self._licence(row.values, refresh.report),
                own={
                    "title": _text(row.values, self.columns.title),
                    "language": _text(row.values, self.columns.language),
                    "row_number": row.number,
                    "metadata": self._metadata(row.values),
                },
            )

    @classmethod
    def read_again(cls, place: Place) -> bytes:
        """The text at ``place``. Raises OSError where the file or the row is not there."""
        member = _MEMBER.fullmatch(place.member)
        if member is None:
            raise FileNotFoundError(f"{place.archive} has no member {place.member}")
        number, column = int(member[1]), member[2]
        if place.archive.startswith(table_hub.SCHEME):
            values = table_hub.row_at(place.archive, number, column)
        elif place.length:
            values = line_at(Path(place.archive), place.offset, place.length)
        else:
            values = row_at(Path(place.archive), number, (column,), _MAX_LINE_BYTES).values
        text = values.get(column)
        if not isinstance(text, str):
            raise FileNotFoundError(f"{place.archive} row {number} has no text in {column}")
        return text.encode()

    @property
    def _max_line_bytes(self) -> int:
        return _LINE_FACTOR * self.max_text_bytes

    # What there is to read -----------------------------------------------------------------------

    def _shares(self, report: Report) -> list[Share]:
        found: list[Share] = []
        for path in named_paths(self.files, "files"):
            if (path / "_delta_log").is_dir():
                from datalake.tables import delta_files

                for part, constants in delta_files(str(path), self.version).files:
                    found += shares(Path(part), "parquet", self.max_piece_bytes, constants)
                continue
            if self.version is not None:
                raise Refusal(f"version must be left out where {path} is no Delta table")
            for file in self._files(path, report):
                kind = format_of(file)
                if kind is None:
                    report.skip(f"no table: {file.suffix or 'no suffix'}")
                else:
                    found += shares(file, kind, self.max_piece_bytes)
        return found

    def _files(self, path: Path, report: Report) -> list[Path]:
        """Files of one entry: itself, those of a saved data set, or those below a folder."""
        if (path / "dataset_dict.json").is_file():
            splits = _load(path / "dataset_dict.json").get("splits", [])
            if self.split is not None and self.split not in splits:
                raise Refusal(f"split must be one of {', '.join(splits)}, got {self.split}")
            chosen = splits if self.split is None else [self.split]
            return [file for split in chosen for file in self._files(path / str(split), report)]
        if (path / "state.json").is_file() and (path / "dataset_info.json").is_file():
            state = _load(path / "state.json")
            said = state.get("_split")
            if said is not None and self.split not in (None, said):
                raise Refusal(f"split must be {said} in {path}, got {self.split}")
            return [path / Path(str(e["filename"])).name for e in state.get("_data_files", [])]
        if self.split is not None:
            raise Refusal(f"split must be left out where {path} is no saved data set")
        files = sorted(f for f in path.rglob("*") if f.is_file()) if path.is_dir() else [path]
        report.skip("symbolic link", sum(file.is_symlink() for file in files))
        return [file for file in files if not file.is_symlink()]

    def _check(self, share: Share) -> None:
        """Refuse columns that the file has not, and a text that is none."""
        columns = columns_of(share, self._max_line_bytes)
        if columns is None:
            return  # the task says what is wrong with it
        for use, name in self.columns.named.items():
            if name not in columns:
                there = ", ".join(columns)
                raise Refusal(
                    f"columns.{use} must be a column of {share.path}, got {name}; there are {there}"
                )
        kind = columns[self.columns.text]
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if not pa.types.is_null(kind) and not any(is_text(kind) for is_text in _TEXT_TYPES):
            name = self.columns.text
            raise Refusal(
                f"columns.text must be a column of strings, got {name} of {kind} in {share.path}"
            )

    # What a row says -----------------------------------------------------------------------------

    def _payload(self, row: TableRow, path: str, report: Report) -> bytes | None:
        text = row.values[self.columns.text]
        if text is None:
            report.skip("null text")
        elif not isinstance(text, str):
            report.fail("text that is no string", f"{path} row {row.number}")
        elif not text.strip():
            report.skip("empty text")
        else:
            try:
                payload = text.encode()
            except UnicodeEncodeError:
                report.damage(f"{path} row {row.number} is not UTF-8")
                return None
            if len(payload) <= self.max_text_bytes:
                return payload
            report.skip("larger than max_text_bytes")
        return None

    def _identity(self, row: TableRow, path: str, piece: Piece, report: Report) -> tuple[str, str]:
        said = _text(row.values, self.columns.uri)
        if said:
            try:
                return canonical(said) or said, ""
            except ValueError:
                return said, ""
        base = self.base and self.base.rstrip("/")
        if identifier := _text(row.values, self.columns.id):
            # Files of one table share their ids, so the file has no part in it if there is a base.
            return base or _uri(path, whole=True), f"id {identifier}"
        if self.columns.uri or self.columns.id:
            report.skip("neither address nor id: kept under the number of its row")
        return f"{base}/{Path(path).name}" if base else _uri(path), f"row {row.number}"

    def _licence(self, values: Mapping[str, Any], report: Report) -> Finding | None:
        column = self.columns.licence
        said = values.get(column) if column else None
        if not said:
            return by_recipe(self.licence)
        each = [_known(str(part)) for part in (said if isinstance(said, list) else [said])]
        known = [licence for licence in dict.fromkeys(each) if licence is not None]
        together = licences.spdx(" AND ".join(f"({licence})" for licence in known))
        if len(known) < len(set(each)) or together is None:
            report.skip("licence in the column that is not known: kept without")
            return None
        return Finding(together, f"column {column}", 1.0)

    def _metadata(self, values: Mapping[str, Any]) -> str | None:
        if not self.columns.metadata:
            return None
        kept = {name: values[name] for name in self.columns.metadata}
        return json.dumps(kept, ensure_ascii=False, sort_keys=True, default=str)


def _known(said: str) -> str | None:
    return licences.spdx(said) or licences.from_url(said)


def _text(values: Mapping[str, Any], column: str | None) -> str | None:
    value = values[column] if column else None
    return None if value is None else str(value)


def _uri(path: str, whole: bool = False) -> str:
    """Address of the file or shard; of a data set on the hub as a ``whole`` where that is asked."""
    if path.startswith(table_hub.SCHEME):
        return table_hub.address(path, whole)
    return Path(path).as_uri()


def _load(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Refusal(f"{path} must be an object of JSON, as datasets writes it")
    return found
