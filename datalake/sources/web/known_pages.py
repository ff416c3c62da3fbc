"""The pages that an earlier crawl left, and how to ask whether they are still the same."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from datalake.sources.source import Previous
from datalake.sources.warcs.writer import read_back

_COLUMNS = [
    "uri",
    "etag",
    "last_modified",
    "fetched_at",
    "payload_digest",
    "archive",
    "offset",
    "length",
]
_MAX_VALIDATOR = 1000  # characters of a header that is sent back


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownPage:
    """A page as it was captured: when, what it was, and where it lies."""

    uri: str
    etag: str | None
    last_modified: str | None
    fetched_at: datetime
    payload_digest: str
    archive: str
    offset: int
    length: int

    @property
    def is_there(self) -> bool:
        """Whether the old bytes can still be read."""
        return Path(self.archive).is_file()

    @property
    def conditions(self) -> Mapping[str, str]:
        """Headers of a conditional request (RFC 9110, 13.1); none where nothing was said.

        None either where the old bytes are not there any more: they could not be read again.
        """
        said = {"If-None-Match": self.etag, "If-Modified-Since": self.last_modified}
        usable = {name: value for name, value in said.items() if value and _is_usable(value)}
        return usable if usable and self.is_there else {}

    def read(self) -> tuple[bytes, str | None, str]:
        """Body, content type and X-Robots-Tag as they were. Raises OSError."""
        headers, body = read_back(self.archive, self.offset, self.length)
        types = [value for name, value in headers if name.lower() == "content-type"]
        wishes = [value for name, value in headers if name.lower() == "x-robots-tag"]
        return body, next(iter(types), None), ", ".join(wishes)


class KnownPages:
    """Pages by address. Costs a row of a table and an entry of a dict for each."""

    def __init__(self, previous: Previous | None) -> None:
        self._previous = previous

    def get(self, uri: str) -> KnownPage | None:
        at = self._places.get(uri)
        if at is None:
            return None
        return KnownPage(**{name: self._rows[name][at].as_py() for name in _COLUMNS})

    def __contains__(self, uri: str) -> bool:
        return uri in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    @cached_property
    def _rows(self) -> pa.Table:
        assert self._previous is not None
        return self._previous.rows(_COLUMNS).sort_by("uri").combine_chunks()

    @cached_property
    def _places(self) -> dict[str, int]:
        if self._previous is None:
            return {}
        return {uri: at for at, uri in enumerate(self._rows["uri"].to_pylist())}


def _is_usable(validator: str) -> bool:
    return validator.isascii() and validator.isprintable() and len(validator) <= _MAX_VALIDATOR
