"""Names, bounds and members of archives: what all that read them have in common."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath

from pydantic import Field

from datalake.config import Config

JOINT = "!/"  # between an archive and its member, as in the addresses of jar files

_NAME = re.compile(r"\.(?:zip|tar|tgz|tbz2?|txz|tzst|gz|bz2|xz|zst|7z|rar)\Z", re.IGNORECASE)
_TARRED = re.compile(r"\.(tgz|tbz2?|txz|tzst)\Z", re.IGNORECASE)
_UNSAFE = re.compile(r"\A/|\A[A-Za-z]:|\\|[\x00-\x1f\x7f]")
_MAX_PATH = 4096  # PATH_MAX of Linux


class Bounds(Config):
    """What an archive, with all archives inside it, may cost."""

    # Large source trees, such as Linux, hold under 100,000 files.
    max_members: int = Field(default=200_000, gt=0)
    max_member_bytes: int = Field(
        default=64 << 20, gt=0
    )  # held in memory; a text of a person is smaller
    # Bounds the time, about three minutes; arXiv's bundles and source releases are below 1 GiB.
    max_total_bytes: int = Field(default=16 << 30, gt=0)
    # Deflate ends at 1032 (zlib's notes); text that a person wrote seldom passes 20.
    max_ratio: float = Field(default=200.0, gt=1)
    max_depth: int = Field(default=3, gt=0)  # archives in archives; 1 opens none of those inside


@dataclass(frozen=True, slots=True)
class Member:
    """One file of an archive."""

    path: str  # POSIX, relative, safe; of an archive inside, ``inner.zip!/path``
    payload: bytes
    modified_at: datetime | None = None
    offset: int = 0  # first byte in the file, where it lies there in one piece, else 0
    length: int = 0  # extent in the file, compressed as it is there, else 0


def is_archive(name: str) -> bool:
    """Whether ``name`` is one of an archive. Of 7z and rar, members are not read but counted."""
    return _NAME.search(name) is not None


def safe_path(name: str) -> str | None:
    """``name`` without ``.`` and empty parts, or None where it is no path below a folder."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if _UNSAFE.search(name) or ".." in parts or not parts or len(name) > _MAX_PATH:
        return None
    return "/".join(parts)


def single_name(archive: str) -> str:
    """What the one file in ``archive`` is called: ``notes.txt`` of ``/some/notes.txt.gz``."""
    name = PurePosixPath(archive.replace("\\", "/")).name
    name = _TARRED.sub(".tar", name) if _TARRED.search(name) else _NAME.sub("", name) or name
    return safe_path(readable(name)) or "content"


def readable(name: str) -> str:
    """``name`` with bytes that are not UTF-8 read as Latin-1, so that it can be stored."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return name.encode("utf-8", "surrogateescape").decode("latin-1")
    return name


def moment(seconds: float) -> datetime | None:
    """The time of a file's stamp, None where no calendar has it."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None
