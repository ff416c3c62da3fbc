"""Members of untrusted archives: zip, tar, and files under gzip, bzip2, xz or zstd.

Everything is read as a stream, nothing is written, and no declared size is believed. What is not
safe costs its member, or the rest of its archive where nothing after it can be trusted, and is
counted with its reason: links, devices, paths that lead out, encryption, bombs by ratio, number,
size or depth, entries that overlap (Fifield 2019, "A better zip bomb").
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from datalake.sources.archives.names import JOINT, Bounds, Member, is_archive, safe_path
from datalake.sources.archives.walk import Walk
from datalake.sources.report import Report

__all__ = ["JOINT", "Bounds", "Member", "is_archive", "members", "read_member", "safe_path"]


def members(
    file: BinaryIO,
    name: str,
    bounds: Bounds,
    report: Report,
    *,
    nested: bool = True,
    wanted: Callable[[str], bool] | None = None,
) -> Iterator[Member]:
    """Members of the archive in ``file`` (seekable), in the order of their data.

    What is not safe or not whole is counted in ``report``. Archives inside are opened, unless
    ``nested`` is off: then they are members like others. Paths that are not ``wanted`` are neither
    read nor counted; that is asked of an archive inside too.
    """
    opened = is_archive if nested else lambda path: False
    yield from Walk(name, bounds, report, opened, wanted).walk(file)


def read_member(path: str, member: str, bounds: Bounds | None = None) -> bytes:
    """The payload that ``members`` gave for ``member`` of the archive at ``path``, a ``file`` URI
    or not.

    Raises FileNotFoundError where there is no such member, or none within ``bounds``.
    """
    if path.startswith("file:"):
        path = unquote(urlsplit(path).path)
    report = Report(path, say=lambda line: None)

    def leads_there(inner: str) -> bool:
        return inner == member or member.startswith(inner + JOINT)

    walk = Walk(
        path,
        bounds or Bounds(),
        report,
        opened=lambda inner: is_archive(inner) and inner != member,
        wanted=leads_there,
    )
    with Path(path).open("rb") as file:
        for found in walk.walk(file):
            if found.path == member:
                return found.payload
    raise FileNotFoundError(f"{path} has no member {member}")
