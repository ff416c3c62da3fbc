"""Pages of a MediaWiki dump: where each begins and ends, what it says, and of which wiki."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from datalake.licences import Finding
from datalake.sources.files.dump_streams import Damage, decompressed

_HEAD = 4 << 20  # decompressed, in which <siteinfo> must end; that of any wiki has some kB
_REDIRECT = re.compile(r"\s*#redirect\b", re.IGNORECASE)  # where the dump has no element for it
# "Terms of Use", Wikimedia Foundation, 7 June 2023, 7a: text is under CC BY-SA 4.0. What was
# written before under 3.0 may be used under a later version by 3.0's own section 4b.
_WIKIMEDIA = re.compile(
    r"(^|\.)(wikipedia|wiktionary|wikibooks|wikiquote|wikisource|wikiversity|wikivoyage)\.org$"
)
_WIKIMEDIA_LICENCE = Finding("CC-BY-SA-4.0", "Wikimedia's terms of use of 7 June 2023", 1.0)


@dataclass(frozen=True, slots=True)
class Page:
    """A page with its newest revision, as a dump says it."""

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


def parse_page(xml: bytes) -> Page | None:
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
        return Page(
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
class Site:
    """Which wiki a dump is of."""

    name: str  # of the database: enwiki
    host: str

    @property
    def licence(self) -> Finding | None:
        return _WIKIMEDIA_LICENCE if _WIKIMEDIA.search(self.host) else None


def read_site(path: Path) -> Site:
    """Which wiki a dump is of. Raises OSError where its head does not say."""
    head = b""
    with path.open("rb") as file:
        for chunk in decompressed(file, 0, path.stat().st_size, 0):
            if isinstance(chunk, Damage):
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
    return Site(name, host)


@dataclass(frozen=True, slots=True)
class Cut:
    """The XML of one page."""

    xml: bytes  # from <page> to </page>, or only the beginning of it
    whole: bool


class Cutter:
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

    def feed(self, chunk: bytes) -> Iterator[Cut]:
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
                yield Cut(bytes(held[begin : begin + 4096]), whole=False)
                self._passing = True
            if found < 0:
                del held[: len(held) - len(b"</page") if self._passing else begin]
                self._searched = max(0, len(held) - len(b"</page"))
                return
            if not self._passing:
                yield Cut(bytes(held[begin:end]), whole=True)
            self.inside = self._passing = False
            begin = end
