"""The smallest source: a folder whose text files are pieces, and their lines records."""

import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar, Literal

from datalake.config import Refusal
from datalake.licences import Finding
from datalake.sources.source import Event, Piece, Place, Record, Refresh, SourceConfig


class Shelf(SourceConfig):
    """Lines of every file below ``folder``; a line is named by its first word.

    Files of two folders may have the same name, ``cut.txt`` says that it was cut,
    and ``refused.txt`` is refused.

    The process is killed, as by a power cut, in the piece that the file ``kill`` names.
    """

    table: ClassVar[str] = "raw/directories"
    complete: ClassVar[bool] = True

    kind: Literal["shelf"] = "shelf"
    folder: str
    num_bytes: int = 1  # that each piece claims: many start Spark

    def pieces(self, refresh: Refresh) -> list[Piece]:
        return [
            Piece(name=path.name, uri=str(path), num_bytes=self.num_bytes)
            for path in sorted(Path(self.folder).rglob("*.txt"))
        ]

    def read(self, piece: Piece, refresh: Refresh) -> Iterator[Event]:
        kill = Path(self.folder) / "kill"
        killed = kill.exists() and kill.read_text() == piece.name
        if piece.name == "cut.txt":
            refresh.report.cut = "somewhere"
        if piece.name == "refused.txt":
            raise Refusal("files must hold lines, got none")
        for number, line in enumerate(Path(piece.uri).read_text().splitlines()):
            if killed and number:
                os.kill(os.getpid(), signal.SIGKILL)
            payload = line.encode()
            refresh.report.keep(len(payload))
            yield Record(
                uri=f"shelf:{Path(piece.uri).relative_to(self.folder)}",
                position=line.split()[0],
                payload=payload,
                place=Place(archive=piece.uri, member=str(number)),
                fetched_at=datetime.now(UTC),
                licence=Finding(self.licence, "recipe", 1.0) if self.licence else None,
                own={"path": piece.name},
            )

    @classmethod
    def read_again(cls, place: Place) -> bytes:
        return Path(place.archive).read_text().splitlines()[int(place.member)].encode()
