"""One response of a web server, as it lies in an archive."""

from dataclasses import dataclass
from datetime import datetime

HTML_TYPES = frozenset(("text/html", "application/xhtml+xml"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Capture:
    """One response that an archive holds: what was fetched, when, and where it lies."""

    url: str  # canonical
    status: int
    content_type: str | None
    payload: bytes  # decoded
    truncated: str | None
    fetched_at: datetime
    archive: str
    offset: int
    length: int  # bytes in the archive, compressed as they are
