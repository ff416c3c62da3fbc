"""Articles of a wiki, from the XML dumps that MediaWiki writes (export schema 0.6 and later).

A dump escapes every ``<`` of a text, so ``<page>`` and ``</page>`` stand nowhere but around a
page. The stream is cut there, and each page is parsed by itself: what is damaged costs its page,
memory holds one page or one stream of bzip2, and an entity that the head of a file declares is
never known.

A multistream dump is a row of bzip2 streams of a hundred pages each, whose offsets its index
tells. Groups of them are read in parallel. Every other dump is one piece.
"""

import bz2
import gzip
import re
import xml.etree.ElementTree as ET
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, ClassVar, Literal
from urllib.parse import urlsplit

import pyarrow as pa
from pydantic import Field

from datalake.config import Refusal
from datalake.licences import Finding
from datalake.sources.report import Report
from datalake.sources.source import Piece, Place, Record, Refresh, SourceConfig

_CHUNK = 256 << 10  # bytes read at once
_OUT = 1 << 20  # bytes decompressed at once: bounds memory, whatever the ratio
_HELD = 32 << 20  # of a stream, until its check sum is seen; a hundred pages are a tenth of it
_HEAD = 4 << 20  # decompressed, in which <siteinfo> must end; that of any wiki has some kB
_ANY_PAGE = 1 << 30  # where a page is read again, whatever the bound was
_STREAM = re.compile(rb"BZh[1-9]1AY&SY")  # the first bytes of a bzip2 stream that holds something
_ID = re.compile(rb"<id>\s*(\d+)")
_REDIRECT = re.compile(r"\s*#redirect\b", re.IGNORECASE)  # where the dump has no element for it
# "Terms of Use", Wikimedia Foundation, 7 June 2023, 7a: text is under CC BY-SA 4.0. What was
# written before under 3.0 may be used under a later version by 3.0's own section 4b.
_WIKIMEDIA = re.compile(
    r"(^|\.)(wikipedia|wiktionary|wikibooks|wikiquote|wikisource|wikiversity|wikivoyage)\.org$"
)
_WIKIMEDIA_LICENCE = Finding("CC-BY-SA-4.0", "Wikimedia's terms of use of 7 June 2023", 1.0)


class WikipediaConfig(SourceConfig):
    """Dumps ``pages-articles`` as XML, bz2, gz or zst; the index of a multistream lies beside it.

    The address of a page is ``https://<host>/?curid=<page id>``, which outlives a rename.
    """

    table: ClassVar[str] = "raw/wikipedia"
    complete: ClassVar[bool] = True

    kind: Literal["wikipedia"] = "wikipedia"
    files: tuple[str, ...] = Field(min_length=1)  # paths, with wildcards
    namespaces: tuple[int, ...] = Field((0,), min_length=1)  # 0 holds the articles
    # MediaWiki's $wgMaxArticleSize is 2 MiB; escaping makes a text six times as long at most.
    max_page_bytes: int = Field(16 << 20, gt=0)  # of XML
    # Compressed, of one Spark task: some ten seconds, as bzip2 gives 4 MB/s of it on one core.
    piece_bytes: int = Field(32 << 20, gt=0)

    def watched(self) -> str:
        """Names, sizes and times of the dumps."""
        states = [(path, path.stat()) for path in self._dumps()]
        return "\n".join(f"{path} {state.st_size} {state.st_mtime_ns}" for path, state in states)

    def pieces(self, refresh: Refresh) -> list[Piece]:
        """Groups of multistream blocks, and every other dump as a whole.

        Raises Refusal where a path matches no file.
        """
        pieces = []
        for path in self._dumps():
            size = path.stat().st_size
            bounds = _block_bounds(path, size, refresh.report)
            if bounds is None:
                detail = {"path": str(path), "bounds": (0, size), "whole": True}
                pieces.append(
                    Piece(name=path.name, uri=path.as_uri(), num_bytes=size, detail=detail)
                )
                continue
            for group in _groups(bounds, self.piece_bytes):
                extent = f"{group[0]}-{group[-1]}"
                pieces.append(
                    Piece(
                        name=f"{path.name} {extent}",
                        uri=f"{path.as_uri()}#bytes={extent}",
                        num_bytes=group[-1] - group[0],
                        detail={"path": str(path), "bounds": group, "whole": False},
                    )
                )
        return pieces

    def read(self, piece: Piece, refresh: Refresh) -> Iterator[Record]:
        """The pages of one piece. A damaged block or page is counted and the rest goes on.

        Raises OSError where the file cannot be read or is no dump.
        """
        path = Path(piece.detail["path"])
        site = _read_site(path)
        licence = Finding(self.licence, "recipe", 1.0) if self.licence else site.licence
        for start, end in pairwise(piece.detail["bounds"]):
            losses = _Losses(path, start, refresh.report)
            cutter = _Cutter(self.max_page_bytes)
            for cut in _cuts(path, start, end, cutter, losses):
                page = self._page(cut, losses)
                if page is None:
                    continue
                refresh.report.keep(len(page.text))
                yield Record(
                    uri=f"https://{site.host}/?curid={page.page_id}",
                    payload=page.text,
                    place=Place(
                        archive=str(path),
                        member=str(page.page_id),
                        offset=start,
                        length=end - start,
                    ),
                    fetched_at=datetime.now(UTC),
                    content_type="text/x-wiki",
                    licence=licence,
                    own={
                        "title": page.title,
                        "page_id": page.page_id,
                        "revision_id": page.revision_id,
                        "revised_at": page.revised_at,
                        "site": site.name,
                    },
                )
            if piece.detail["whole"] and not cutter.ended:
                losses.damage(end, "ends before </mediawiki>")

    @classmethod
    def read_again(cls, place: Place) -> bytes:
        """The wikitext of a page. Raises OSError where it is not there any more."""
        path, wanted = Path(place.archive), place.member.encode()
        losses = _Losses(path, place.offset, Report(path.name, lambda line: None))
        end = place.offset + place.length
        for cut in _cuts(path, place.offset, end, _Cutter(_ANY_PAGE), losses):
            if (found := _ID.search(cut.xml)) and found[1] == wanted:
                page = _parse(cut.xml)
                if page is not None and page.text is not None:
                    return page.text
        raise FileNotFoundError(f"{place.archive} has no page {place.member} at {place.offset}")

    def _dumps(self) -> list[Path]:
        found: set[Path] = set()
        for pattern in self.files:
            path = Path(pattern).expanduser().absolute()
            matches = Path(path.anchor).glob(str(path.relative_to(path.anchor)))
            paths = {p for p in matches if p.is_file() and "multistream-index" not in p.name}
            if not paths:
                raise Refusal(f"files must match at least one dump, got {pattern}")
            found |= paths
        return sorted(found)

    def _page(self, cut: "_Cut", losses: "_Losses") -> "_Wanted | None":
        """The page of ``cut``, or None where it is not wanted or not readable, which is counted."""
        if not cut.whole:
            losses.fail(f"page above {self.max_page_bytes} bytes", cut.xml)
            return None
        page, report = _parse(cut.xml), losses.report
        if page is None:
            losses.fail("malformed page", cut.xml)
        elif page.namespace not in self.namespaces:
            report.skip("another namespace")
        elif page.redirects:
            report.skip("redirect")
        elif page.deleted:
            report.skip("deleted text")
        elif page.model != "wikitext":
            report.skip(f"content model {page.model}")
        elif not page.text:
            report.skip("no text")
        else:
            report.skip("older revision", page.older_revisions)
            return _Wanted(page.page_id, page.title, page.revision_id, page.revised_at, page.text)
        return None


@dataclass(frozen=True, slots=True)
class _Wanted:
    page_id: int
    title: str
    revision_id: int
    revised_at: datetime
    text: bytes


@dataclass(frozen=True, slots=True)
class _Page:
    namespace: int
    page_id: int
    title: str
    redirects: bool
    revision_id: int
    revised_at: datetime
    model: str
    deleted: bool
    text: bytes | None
    older_revisions: int


def _parse(xml: bytes) -> _Page | None:
    """The newest revision of one ``<page>``, None where the XML is not well-formed or lacks parts.

    A document type cannot stand inside an element, so there are no entities but XML's own five.
    """
    try:
        tree = ET.fromstring(xml)
        *older, revision = tree.findall("revision")
        text = revision.find("text")
        written = text.text if text is not None else None
        model = revision.findtext("model") or "wikitext"  # older exports have nothing else
        format_ = revision.findtext("format") or "text/x-wiki"
        return _Page(
            namespace=int(tree.findtext("ns", "")),
            page_id=int(tree.findtext("id", "")),
            title=tree.findtext("title", ""),
            redirects=tree.find("redirect") is not None or bool(_REDIRECT.match(written or "")),
            revision_id=int(revision.findtext("id", "")),
            revised_at=datetime.fromisoformat(revision.findtext("timestamp", "")),
            model=model if format_ == "text/x-wiki" else f"{model} as {format_}",
            deleted=text is not None and "deleted" in text.attrib,
            text=written.encode() if written is not None else None,
            older_revisions=len(older),
        )
    except (ET.ParseError, ValueError):
        return None


@dataclass(frozen=True, slots=True)
class _Site:
    name: str  # of the database: enwiki
    host: str

    @property
    def licence(self) -> Finding | None:
        return _WIKIMEDIA_LICENCE if _WIKIMEDIA.search(self.host) else None


def _read_site(path: Path) -> _Site:
    """Which wiki a dump is of. Raises OSError where its head does not say."""
    head = b""
    with path.open("rb") as file:
        for chunk in _decompressed(file, 0, path.stat().st_size, 0):
            if isinstance(chunk, _Damage):
                break
            head += chunk
            if b"</siteinfo>" in head or len(head) > _HEAD:
                break
    begin, end = head.find(b"<siteinfo>"), head.find(b"</siteinfo>")
    try:
        info = ET.fromstring(head[begin : end + len(b"</siteinfo>")] if begin >= 0 <= end else b"")
    except ET.ParseError:
        raise OSError(f"{path} has no <siteinfo>, as a dump of MediaWiki has") from None
    host = urlsplit(info.findtext("base", "").strip()).hostname
    name = info.findtext("dbname", "").strip() or host
    if not host or not name:
        raise OSError(f"{path} does not name its wiki by <base>")
    return _Site(name, host)


def _block_bounds(path: Path, size: int, report: Report) -> list[int] | None:
    """First bytes of the blocks by the index beside ``path``, and the end; None for one block."""
    if "-multistream" not in path.name or path.suffix != ".bz2":
        return None
    name = re.sub(r"-multistream(\d*)\.xml", r"-multistream-index\1.txt", path.name)
    found = [path.with_name(n) for n in (name, name.removesuffix(".bz2"))]
    index = next((file for file in found if file.is_file()), None)
    if index is None:
        report.say(f"{path.name} has no index beside it, so it is read as one piece")
        return None
    starts: set[int] = set()
    try:
        with bz2.open(index) if index.suffix == ".bz2" else index.open("rb") as lines:
            for line in lines:
                starts.add(int(line.partition(b":")[0]))
    except (OSError, EOFError, ValueError) as error:
        report.damage(f"{index}: {error}, so {path.name} is read as one piece")
        return None
    inside = sorted(start for start in starts if start < size)
    if len(inside) < len(starts):
        lost = len(starts) - len(inside)
        report.damage(f"{path}: {lost} blocks of its index lie behind its end at {size}")
        report.cut = report.cut or "damaged dumps"
    return [*inside, size] if inside else None


def _groups(bounds: list[int], piece_bytes: int) -> Iterator[tuple[int, ...]]:
    """Bounds of neighbouring blocks, of ``piece_bytes`` together or one block."""
    group = [bounds[0]]
    for start, end in pairwise(bounds):
        if len(group) > 1 and end - group[0] > piece_bytes:
            yield tuple(group)
            group = [start]
        group.append(end)
    yield tuple(group)


@dataclass(frozen=True, slots=True)
class _Losses:
    """Counts what one block lost. What a refresh did not see it must not take for gone."""

    path: Path
    start: int
    report: Report

    def damage(self, offset: int, reason: str) -> None:
        self.report.damage(f"{self.path} at byte {offset}: {reason}")
        self.report.cut = self.report.cut or "damaged dumps"

    def fail(self, reason: str, xml: bytes) -> None:
        found = _ID.search(xml[:4096])
        page = found[1].decode() if found else "unknown"
        self.report.fail(reason, f"page {page} of {self.path} at byte {self.start}")
        self.report.cut = self.report.cut or "damaged dumps"


@dataclass(frozen=True, slots=True)
class _Cut:
    xml: bytes  # from <page> to </page>, or only the beginning of it
    whole: bool


def _cuts(path: Path, start: int, end: int, cutter: "_Cutter", losses: _Losses) -> Iterator[_Cut]:
    """Every page between two bytes of a dump."""
    with path.open("rb") as file:
        for chunk in _decompressed(file, start, end, _HELD):
            if isinstance(chunk, _Damage):
                losses.damage(chunk.offset, chunk.reason)
                cutter.reset()
            else:
                yield from cutter.feed(chunk)
    if cutter.inside:
        losses.damage(end, "ends inside a page")


class _Cutter:
    """Cuts a stream of XML into pages. ``ended`` says whether the dump was closed."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held = bytearray()
        self._searched = 0  # how much of it has no end of a page
        self.inside = False
        self._passing = False  # the rest of a page that is too large
        self._tail = b""

    def reset(self) -> None:
        """Go on with the next page, after a hole."""
        self._held.clear()
        self._searched, self.inside, self._passing = 0, False, False

    @property
    def ended(self) -> bool:
        return b"</mediawiki>" in self._tail

    def feed(self, chunk: bytes) -> Iterator[_Cut]:
        held, begin = self._held, 0
        held += chunk
        self._tail = (self._tail + chunk[-64:])[-64:]
        while True:
            if not self.inside:
                found = held.find(b"<page>", begin)
                if found < 0:
                    del held[: max(begin, len(held) - len(b"<page"))]
                    return
                begin = self._searched = found
                self.inside = True
            found = held.find(b"</page>", self._searched)
            end = found + len(b"</page>")
            size = (end if found >= 0 else len(held)) - begin
            if size > self._max_bytes and not self._passing:
                yield _Cut(bytes(held[begin : begin + 4096]), whole=False)
                self._passing = True
            if found < 0:
                del held[: len(held) - len(b"</page") if self._passing else begin]
                self._searched = max(0, len(held) - len(b"</page"))
                return
            if not self._passing:
                yield _Cut(bytes(held[begin:end]), whole=True)
            self.inside = self._passing = False
            begin = end


@dataclass(frozen=True, slots=True)
class _Damage:
    offset: int  # in the file, of the stream that is damaged
    reason: str


def _decompressed(
    file: BinaryIO, start: int, end: int, held_bytes: int
) -> Iterator[bytes | _Damage]:
    """What lies between two bytes of a file, by the compression that its first bytes tell."""
    file.seek(start)
    magic = file.read(4)
    file.seek(start)
    if magic.startswith(b"BZh"):
        yield from _bz2(file, start, end, held_bytes)
    elif start > 0:
        yield _Damage(start, "no stream of bzip2 begins here")
    elif magic.startswith(b"\x1f\x8b"):
        yield from _chunks(gzip.GzipFile(fileobj=file))
    elif magic == b"\x28\xb5\x2f\xfd":
        yield from _chunks(pa.CompressedInputStream(file, "zstd"))
    else:
        yield from _chunks(file)


def _chunks(stream: BinaryIO | gzip.GzipFile) -> Iterator[bytes | _Damage]:
    while True:
        try:
            chunk = stream.read(_OUT)
        except (EOFError, zlib.error, gzip.BadGzipFile, pa.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:  # the disk's, not the data's
                raise
            yield _Damage(0, str(error) or type(error).__name__)
            return
        if not chunk:
            return
        yield chunk


def _bz2(file: BinaryIO, start: int, end: int, held_bytes: int) -> Iterator[bytes | _Damage]:
    """Streams one after the other. Behind a damaged one it goes on where the next begins.

    Up to ``held_bytes`` of a stream wait for its check sum, so that no wrong byte gets out.
    """
    at: int | None = start
    while at is not None and at < end:
        decoder, read_to = bz2.BZ2Decompressor(), at
        held: list[bytes] = []
        room = held_bytes
        file.seek(at)
        reason = None
        while not decoder.eof:
            data = file.read(min(_CHUNK, end - read_to)) if decoder.needs_input else b""
            read_to += len(data)
            if decoder.needs_input and not data:
                reason = "ends inside a stream of bzip2"
                break
            try:
                chunk = decoder.decompress(data, _OUT)
            except (OSError, ValueError) as error:
                reason = str(error)
                break
            room -= len(chunk)
            held.append(chunk)
            if room < 0:
                yield from held
                held = []
        if reason is None:
            yield from held
            at = read_to - len(decoder.unused_data)
        else:
            yield _Damage(at, reason)
            at = _next_stream(file, at + 1, end)


def _next_stream(file: BinaryIO, start: int, end: int) -> int | None:
    """Where the first stream of bzip2 at or behind ``start`` begins."""
    file.seek(start)
    tail, at = b"", start  # of the first byte of tail
    while at + len(tail) < end:
        data = file.read(min(_CHUNK, end - at - len(tail)))
        if not data:
            break
        data = tail + data
        if found := _STREAM.search(data):
            return at + found.start()
        tail = data[-9:]
        at += len(data) - len(tail)
    return None
