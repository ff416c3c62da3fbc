"""Indexes of archives: where the captures of a URL lie, from CDX and CDXJ files.

An index is lines in order of their keys, ``SURT timestamp fields``, the fields in JSON (CDXJ) or in
columns (CDX, as its first line names them). Three layouts are read: plain lines, found by binary
search; one file compressed as a whole, scanned once; and the layout of Common Crawl, where
``cluster.idx`` names the first line of every compressed block of 3,000, so that a look-up fetches a
dozen small ranges of an index of hundreds of gigabytes.
"""

import gzip
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from datalake.sources.remote import (
    RemoteError,
    join,
    num_bytes,
    open_at,
    read_lines,
    read_range,
)
from datalake.sources.web.urls import canonical

_COLUMNS = "N b a m s k r M S V g"  # where the first line says nothing
_WINDOW_BYTES = 64 << 10  # read as a whole at the end of a binary search
_LINE_BYTES = 8 << 10  # usual lines have some hundred
_WWW = re.compile(r"^www\d*\.")
_NUMBER = re.compile(rb"\d{14}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One capture as an index knows it."""

    url: str
    timestamp: str  # 14 digits, UTC
    filename: str  # below the base of the crawl
    offset: int
    length: int
    digest: str | None
    status: int | None
    mime: str | None


def surt(url: str) -> str:
    """The key of a canonical ``url``: ``com,example)/path?a=1&b=2``, the same for http and https.

    As the Internet Archive's indexer spells it: labels reversed, without www, in lower case, the
    query in order. It takes out session ids too, which this does not: such URLs are not found.
    """
    parts = urlsplit(url)
    labels = _WWW.sub("", parts.hostname or "").split(".")
    key = ",".join(reversed(labels)) + (f":{parts.port}" if parts.port else "") + ")"
    key += parts.path.lower().rstrip("/") or "/"
    if parts.query:
        key += "?" + "&".join(sorted(parts.query.lower().split("&")))
    return key


def look_up(index: str, urls: Iterable[str]) -> dict[str, list[Line]]:
    """Captures of each of ``urls`` (canonical), oldest first; an empty list where there is none.

    ``index`` is the address of a CDX or CDXJ file or of a ``cluster.idx``. Raises OSError.
    """
    urls = list(urls)
    found: dict[str, list[Line]] = {surt(url): [] for url in urls}
    columns = _COLUMNS
    for text in _candidates(index, sorted(key.encode() + b" " for key in found)):
        if text.startswith(b" CDX "):
            columns = text.decode().removeprefix(" CDX ")
            continue
        line = _parse(text, columns, index)
        if line is not None:
            found[text.split(b" ", 1)[0].decode()].append(line)
    for lines in found.values():
        lines.sort(key=lambda line: line.timestamp)
    return {url: found[surt(url)] for url in urls}


def newest(lines: Iterable[Line], url: str) -> Line | None:
    """The newest successful capture of ``url``, of its own spelling before others of its key."""
    pages = [line for line in lines if line.status in (200, None)]
    return max(pages, key=lambda line: (_same(line.url, url), line.timestamp), default=None)


def _same(url: str, other: str) -> bool:
    try:
        return canonical(url) == other
    except ValueError:
        return False


def _candidates(index: str, prefixes: list[bytes]) -> Iterator[bytes]:
    """Lines of ``index`` that begin with one of ``prefixes``, and the line that names columns."""
    if index.rsplit("/", 1)[-1] == "cluster.idx":
        yield from _of_clusters(index, prefixes)
        return
    with open_at(index, 0, _LINE_BYTES) as file:
        head = file.read()
    if head.startswith(b"\x1f\x8b"):
        wanted = (*prefixes, b" CDX ")
        with open_at(index) as file:
            yield from (line for line in read_lines(file) if line.startswith(wanted))
        return
    if head.startswith(b" CDX "):
        yield head.split(b"\n", 1)[0].rstrip()
    size = num_bytes(index)
    for prefix in prefixes:
        yield from _run_of(index, _lower_bound(index, size, prefix), size, prefix)


def _of_clusters(index: str, prefixes: list[bytes]) -> Iterator[bytes]:
    """The same, of blocks: the one that begins before a prefix, and those that begin with it."""
    size = num_bytes(index)
    folder = index.rsplit("/", 1)[0]
    for prefix in prefixes:
        start = _lower_bound(index, size, prefix)
        before = max(0, start - _LINE_BYTES)
        entries = read_range(index, before, start - before).splitlines()[-1:]
        entries += _run_of(index, start, size, prefix)
        for entry in entries:
            block = _block(index, folder, entry).splitlines()
            yield from (line for line in block if line.startswith(prefix))


def _block(index: str, folder: str, entry: bytes) -> bytes:
    try:
        _, name, offset, length, *_ = entry.decode().split("\t")
        return gzip.decompress(read_range(join(folder, name), int(offset), int(length)))
    except (ValueError, zlib.error, gzip.BadGzipFile, EOFError) as error:
        rule = "must name blocks of lines"
        raise RemoteError(f"{index} {rule}, got {entry[:200]!r}: {error}") from None


def _run_of(uri: str, start: int, size: int, prefix: bytes) -> Iterator[bytes]:
    """Lines from ``start`` on, as long as they begin with ``prefix``."""
    data = b""
    while start < size or data:
        line, newline, rest = data.partition(b"\n")
        if newline or (start >= size and data):
            if not line.startswith(prefix):
                return
            yield line.rstrip(b"\r")
            data = rest
        else:
            more = read_range(uri, start, min(_LINE_BYTES, size - start))
            start, data = start + len(more), data + more


def _lower_bound(uri: str, size: int, prefix: bytes) -> int:
    """Where the first line that is not before ``prefix`` begins; ``size`` if none is."""
    low, high = 0, size  # lines that begin before low are before, those from high on are not
    while high - low > _WINDOW_BYTES:
        middle = (low + high) // 2
        start, line = _line_after(uri, middle, size)
        if start >= high or line >= prefix:
            high = middle
        else:
            low = start
    data = _to_line_end(uri, low, high, size)
    for line in data.split(b"\n"):
        if low >= high or line >= prefix:
            break
        low += len(line) + 1
    return min(low, size)


def _line_after(uri: str, position: int, size: int) -> tuple[int, bytes]:
    """The first line that begins at ``position`` or after it, and where; at ``size`` if none."""
    start = position - 1  # a line begins at ``position`` if the byte before it ends one
    data = b""
    while True:
        head, newline, rest = data.partition(b"\n")
        at_end = start + len(data) >= size
        if newline and (at_end or b"\n" in rest):
            return start + len(head) + 1, rest.partition(b"\n")[0]
        if at_end:
            return size, b""
        data += read_range(uri, start + len(data), min(_LINE_BYTES, size - start - len(data)))


def _to_line_end(uri: str, start: int, end: int, size: int) -> bytes:
    """Bytes from ``start`` to the first end of a line at or after ``end``, that end included."""
    data = read_range(uri, start, end - start)
    while (found := data.find(b"\n", max(0, end - start - 1))) < 0 and start + len(data) < size:
        more = min(_LINE_BYTES, size - start - len(data))
        data += read_range(uri, start + len(data), more)
    return data[: found + 1] if found >= 0 else data


def _parse(text: bytes, columns: str, index: str) -> Line | None:
    """A line of an index; None where it tells no place. Raises RemoteError where it is no line."""
    _, timestamp, rest = (*text.split(b" ", 2), b"", b"")[:3]
    try:
        if not _NUMBER.fullmatch(timestamp):
            raise ValueError("no timestamp")
        if rest.lstrip().startswith(b"{"):
            fields = json.loads(rest)
        else:
            fields = _named(text.decode(), columns)
        if "offset" not in fields or "filename" not in fields or "length" not in fields:
            return None
        status = str(fields.get("status", "-"))
        return Line(
            url=fields.get("url") or "",
            timestamp=timestamp.decode(),
            filename=fields["filename"],
            offset=int(fields["offset"]),
            length=int(fields["length"]),
            digest=fields.get("digest"),
            status=int(status) if status.isdigit() else None,
            mime=fields.get("mime"),
        )
    except (ValueError, TypeError, AttributeError) as error:
        shown = text[:200].decode("utf-8", "replace")
        raise RemoteError(f"{index} must hold CDX lines, got {shown!r}: {error}") from None


_NAMES = {
    "a": "url",
    "m": "mime",
    "s": "status",
    "k": "digest",
    "S": "length",
    "V": "offset",
    "g": "filename",
}


def _named(text: str, columns: str) -> dict[str, str]:
    values = zip(columns.split(), text.split(" "), strict=False)
    return {_NAMES[c]: value for c, value in values if c in _NAMES and value != "-"}
