"""Files on disk that a recipe names, and their lines, whatever they are compressed with."""

import glob
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from datalake.config import Refusal
from datalake.sources.archives.unpacking import (
    CHUNK,
    DamageError,
    Stream,
    chunks,
    codec_of,
    decoded,
)


def named_paths(entries: Sequence[str], place: str) -> list[Path]:
    """What ``entries`` name, each a path or a pattern with wildcards, absolute and in order.

    Raises Refusal where an entry names nothing: what an unmounted disk holds is not gone.
    """
    found: dict[Path, None] = {}
    for number, entry in enumerate(entries):
        path = Path(entry).expanduser().absolute()
        below = str(path.relative_to(path.anchor))
        paths = sorted(Path(path.anchor).glob(below)) if glob.has_magic(entry) else [path]
        if not paths or not all(path.exists() for path in paths):
            raise Refusal(f"{place}[{number}] must name what exists, got {entry}")
        found.update(dict.fromkeys(paths))
    return list(found)


def state_of(paths: Iterable[Path]) -> str:
    """Digest of the names, sizes and times of the files at and below ``paths``."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(paths):
        for file in [path, *sorted(path.rglob("*"))] if path.is_dir() else [path]:
            status = file.lstat()
            digest.update(f"{file} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def short_names(paths: Sequence[Path]) -> list[str]:
    """A name for each path that no other has: what differs at its end."""
    if len({path.name for path in paths}) == len(paths):
        return [path.name for path in paths]
    common = os.path.commonpath([path.parent for path in paths])
    return [str(path.relative_to(common)) for path in paths]


def is_packed(path: Path) -> bool:
    """Whether the file is under gzip, bzip2, xz or zstd, whatever its name says."""
    with path.open("rb") as file:
        return codec_of(file.read(16)) is not None


def lines_of(path: Path, max_bytes: int) -> Iterator[tuple[int, bytes | None]]:
    """Lines of a file, plain or under gzip, bzip2, xz or zstd, with where each begins.

    Where is counted in the unpacked bytes. A line longer than ``max_bytes`` is None, and costs no
    more memory than they. Raises OSError where the compression is damaged, after the lines before.
    """
    with path.open("rb") as file:
        stream = Stream(chunks(file))
        codec = codec_of(stream.peek(CHUNK))
        source = stream.take_all() if codec is None else decoded(stream, codec)
        at = 0
        held: list[bytes] = []
        num_held = 0
        try:
            for chunk in source:
                begin = 0
                while (end := chunk.find(b"\n", begin) + 1) > 0:
                    length = num_held + end - begin
                    line = b"".join([*held, chunk[begin:end]]) if length <= max_bytes else None
                    yield at, line
                    at, begin, num_held = at + length, end, 0
                    held.clear()
                num_held += len(chunk) - begin
                if num_held <= max_bytes:
                    held.append(chunk[begin:])
                else:
                    held.clear()
        except DamageError as error:
            raise OSError(f"{path} {error}") from error
        if num_held:
            yield at, b"".join(held) if num_held <= max_bytes else None
