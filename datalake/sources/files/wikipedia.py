"""Articles of a wiki, from the XML dumps that MediaWiki writes (export schema 0.6 and later).

A dump escapes every ``<`` of a text, so ``<page>`` and ``</page>`` stand nowhere but around a
page. The stream is cut there, and each page is parsed by itself: what is damaged costs its page,
memory holds one page or one stream of bzip2, and an entity that the head of a file declares is
never known.

A multistream dump is a row of bzip2 streams of a hundred pages each, whose offsets its index
tells. Groups of them are read in parallel. Every other dump is one piece.
"""

import bz2
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from datalake.config import Refusal
from datalake.licences import by_recipe
from datalake.sources.files.dump_pages import Cut, Cutter, parse_page, read_site
from datalake.sources.files.dump_streams import Damage, decompressed
from datalake.sources.report import Report
from datalake.sources.source import Piece, Place, Record, Refresh, SourceConfig

_HELD = 32 << 20  # of a stream, until its check sum is seen; a hundred pages are a tenth of it
_ANY_PAGE = 1 << 30  # where a page is read again, whatever the bound was
_ID = re.compile(rb"<id>\s*(\d+)")


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
        site = read_site(path)
        licence = by_recipe(self.licence) or site.licence
        for start, end in pairwise(piece.detail["bounds"]):
            losses = _Losses(path, start, refresh.report)
            cutter = Cutter(self.max_page_bytes)
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
        for cut in _cuts(path, place.offset, end, Cutter(_ANY_PAGE), losses):
            if (found := _ID.search(cut.xml)) and found[1] == wanted:
                page = parse_page(cut.xml)
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

    def _page(self, cut: "Cut", losses: "_Losses") -> "_Wanted | None":
        """The page of ``cut``, or None where it is not wanted or not readable, which is counted."""
        if not cut.whole:
            losses.fail(f"page above {self.max_page_bytes} bytes", cut.xml)
            return None
        page, report = parse_page(cut.xml), losses.report
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


def _cuts(path: Path, start: int, end: int, cutter: "Cutter", losses: _Losses) -> Iterator[Cut]:
    """Every page between two bytes of a dump."""
    with path.open("rb") as file:
        for chunk in decompressed(file, start, end, _HELD):
            if isinstance(chunk, Damage):
                losses.damage(chunk.offset, chunk.reason)
                cutter.reset()
            else:
                yield from cutter.feed(chunk)
    if cutter.inside:
        losses.damage(end, "ends inside a page")
