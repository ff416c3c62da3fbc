"""Regular files below a folder, in a fixed order, with a count of everything else.

No link is followed: what it leads to inside the tree is there under its own name, and what lies
outside was not asked for. Only regular files are ever opened.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from datalake.path_patterns import matches
from datalake.sources.report import Report

_VERSION_CONTROL = frozenset(("CVS", "_darcs", ".bzr", ".git", ".hg", ".jj", ".svn"))


@dataclass(frozen=True, slots=True)
class File:
    """A regular file of a tree."""

    path: str  # absolute
    name: str  # below the root, with slashes
    num_bytes: int
    modified_ns: int


@dataclass(frozen=True, slots=True)
class Selection:
    """Which files of a tree are meant, by patterns of gitignore(5)."""

    include: tuple[str, ...] = ()  # none: all
    exclude: tuple[str, ...] = ()
    hidden: bool = False


def files(root: str, selection: Selection, report: Report) -> Iterator[File]:
    """Files below ``root``, sorted within each folder. One under two names comes once.

    A folder that cannot be listed makes the report say ``cut``: its files are not known gone.
    """
    root = os.path.realpath(root)
    seen: set[tuple[int, int]] = set()
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            report.cut = f"folder that cannot be listed: {folder}: {error.strerror}"
            continue
        below = []
        for entry in entries:
            name = os.path.relpath(entry.path, root)
            if (reason := _left_out(entry, name, selection)) is not None:
                report.skip(reason)
            elif entry.is_symlink():
                report.skip(_link(entry.path, root))
            elif entry.is_dir(follow_symlinks=False):
                below.append(entry.path)
            elif (file := _file(entry, name, seen, report)) is not None:
                if selection.include and not _any(selection.include, name):
                    report.skip("not included")
                else:
                    yield file
        waiting += reversed(below)


def open_regular(path: str) -> BinaryIO:
    """The file at ``path``. Raises OSError, without waiting, for all but a regular file."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    file = os.fdopen(handle, "rb")
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        file.close()
        raise OSError(f"{path} is not a regular file")
    return file


def hidden(name: str) -> bool:
    """Whether a part of the path ``name`` is hidden, or one of a Mac's resource forks."""
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def _left_out(entry: os.DirEntry[str], name: str, selection: Selection) -> str | None:
    if entry.name in _VERSION_CONTROL:
        return "version control"
    if not selection.hidden and entry.name.startswith("."):
        return "hidden"
    if _any(selection.exclude, name):
        return "excluded"
    return None


def _any(patterns: tuple[str, ...], name: str) -> bool:
    return any(matches(pattern, name, below=True) for pattern in patterns)


def _link(path: str, root: str) -> str:
    target = os.path.realpath(path)
    if os.path.commonpath((target, root)) != root:
        return "link out of the tree"
    return "link inside the tree" if Path(target).exists() else "link to nothing"


def _file(
    entry: os.DirEntry[str], name: str, seen: set[tuple[int, int]], report: Report
) -> File | None:
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError as error:
        report.fail("unreadable", f"{entry.path}: {error.strerror}")
        return None
    if not stat.S_ISREG(status.st_mode):
        report.skip("neither a file nor a folder")
        return None
    if status.st_nlink > 1:
        identity = (status.st_dev, status.st_ino)
        if identity in seen:
            report.skip("the same file under another name")
            return None
        seen.add(identity)
    return File(entry.path, name, status.st_size, status.st_mtime_ns)
