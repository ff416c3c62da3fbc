"""One response of a web server, as it lies in an archive."""

from dataclasses import dataclass
from datetime import datetime

HTML_TYPES = frozenset(("text/html", "application/xhtml+xml"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Capture:
    """One page that an archive holds: what was fetched, when, and where it lies."""

    url: str  # canonical
    status: int | None  # None where the archive holds no exchange, but the text of a page
    content_type: str | None
    payload: bytes  # decoded
    payload_digest: str  # of ``payload``, as in the raw tables
    truncated: str | None
    fetched_at: datetime
    archive: str
    member: str = ""  # "[:N]" where the payload is the first N bytes of what lies there
    offset: int
    length: int  # bytes in the archive, compressed as they are
    etag: str | None = None
    last_modified: str | None = None
    languages: str | None = None  # as the archive identified them: ISO 639-3, with commas
