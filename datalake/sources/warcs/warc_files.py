"""Archives that somebody else wrote, or that arrive one by one in a folder."""

import glob
import hashlib
from collections.abc import Iterable, Iterator
from itertools import takewhile
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from datalake.config import Refusal
from datalake.licences import by_recipe
from datalake.sources.source import Event, Piece, Place, Record, Refresh, SourceConfig
from datalake.sources.warcs.capture import Capture
from datalake.sources.warcs.reader import first_date, read_captures, read_record


class WarcFilesConfig(SourceConfig):
    """WARC files of a folder, whoever wrote them; each is a piece."""

    table: ClassVar[str] = "raw/web"
    complete: ClassVar[bool] = False  # an archive tells what was there, not what is gone

    kind: Literal["warc_files"] = "warc_files"
    files: str  # a path with wildcards, such as /data/crawl/*.warc.gz
    max_bytes: int = Field(default=5 << 20, gt=0)  # of a page; Common Crawl's own cut since 2025

    def watched(self) -> str:
        """Names, sizes and times of the files."""
        stats = [(str(path), path.stat()) for path in self._paths()]
        seen = "\n".join(f"{path} {stat.st_size} {stat.st_mtime_ns}" for path, stat in stats)
        return f"{len(stats)} files, {hashlib.blake2b(seen.encode(), digest_size=8).hexdigest()}"

    def pieces(self, refresh: Refresh) -> list[Piece]:
        """The files, newest first, so that the first capture of a URL wins.

        Raises Refusal where the folder is missing or no file matches.
        """
        if not self._folder().is_dir():
            raise Refusal(f"files must lie in a folder that exists, got {self.files}")
        paths = sorted(self._paths(), key=first_date, reverse=True)
        if not paths:
            raise Refusal(f"files must match at least one WARC file, got {self.files}")
        return [
            Piece(name=path.name, uri=str(path), num_bytes=path.stat().st_size) for path in paths
        ]

    def read(self, piece: Piece, refresh: Refresh) -> Iterator[Event]:
        """Pages of one archive, in its order."""
        captures = read_captures(piece.uri, self.max_bytes, refresh.report)
        yield from to_records(captures, self.licence)

    @classmethod
    def read_again(cls, place: Place) -> bytes:
        """Decoded payload of the record at ``place``."""
        return read_record(place.archive, place.offset, place.length, place.member)

    def _paths(self) -> list[Path]:
        below = "/".join(self._parts()[len(self._folder().parts) :])
        return sorted(path for path in self._folder().glob(below) if path.is_file())

    def _folder(self) -> Path:
        """The part of the pattern without wildcards."""
        return Path(*takewhile(lambda part: not glob.has_magic(part), self._parts()[:-1]))

    def _parts(self) -> tuple[str, ...]:
        return Path(self.files).expanduser().absolute().parts


def to_records(
    captures: Iterable[Capture], licence: str | None, refer: bool = False
) -> Iterator[Record]:
    """Captures as records, which hold the payload or, with ``refer``, its place alone."""
    finding = by_recipe(licence)
    for capture in captures:
        yield Record(
            uri=capture.url,
            payload=None if refer else capture.payload,
            place=Place(
                archive=capture.archive,
                member=capture.member,
                offset=capture.offset,
                length=capture.length,
            ),
            fetched_at=capture.fetched_at,
            content_type=capture.content_type,
            licence=finding,
            payload_digest=capture.payload_digest,
            num_bytes=len(capture.payload),
            own={
                "http_status": capture.status,
                "truncated": capture.truncated,
                "etag": capture.etag,
                "last_modified": capture.last_modified,
                "languages": capture.languages,
            },
        )
