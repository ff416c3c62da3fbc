"""Messages of a mailbox in the ``mbox`` format, as a stream (RFC 4155)."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from datalake.sources.record import payload_digest

# The line between messages ends with a year. Bodies have lines that begin with "From " too.
_BETWEEN = re.compile(rb"From \S+ .*\b\d{4}\b")
_MESSAGE_ID = re.compile(rb"^Message-ID:\s*(<[\x21-\x3d\x3f-\x7e]{1,990}>)", re.I | re.M)
_MAX_LINE = 64 << 10  # longer ones are read in parts
_MAX_HEADERS = 64 << 10


@dataclass(frozen=True, slots=True)
class Message:
    """One message as it lies in the mailbox, without the line before it."""

    payload: bytes | None  # None where it is larger than allowed
    offset: int
    length: int

    @property
    def position(self) -> str:
        """Its Message-ID, else a digest: a number would change with every message before it."""
        payload = self.payload or b""
        headers = re.split(rb"\r?\n\r?\n", payload[:_MAX_HEADERS], maxsplit=1)[0]
        found = _MESSAGE_ID.search(headers)
        return found[1].decode("ascii") if found else payload_digest(payload)


def messages(file: BinaryIO, max_bytes: int) -> Iterator[Message]:
    """Messages in their order; of one larger than ``max_bytes``, only where it lies."""
    offset = at = 0  # of the message, and of the line
    lines: list[bytes] = []
    held = 0
    begun = blank = starts = True
    while line := file.readline(_MAX_LINE):
        if starts and blank and line.startswith(b"From ") and _BETWEEN.match(line):
            if at > offset:
                yield _message(lines, offset, at, held > max_bytes)
            lines, held, offset = [], 0, at + len(line)
            begun = line.endswith(b"\n")
        elif not begun:  # the rest of a long line between messages
            offset, begun = at + len(line), line.endswith(b"\n")
        else:
            held += len(line)
            if held <= max_bytes:
                lines.append(line)
            else:
                lines.clear()
        blank = starts and line in (b"\n", b"\r\n")
        starts = line.endswith(b"\n")
        at += len(line)
    if at > offset:
        yield _message(lines, offset, at, held > max_bytes)


def _message(lines: list[bytes], offset: int, end: int, too_large: bool) -> Message:
    if too_large:
        return Message(None, offset, end - offset)
    if lines[-1] in (b"\n", b"\r\n"):  # it belongs to the line between
        lines.pop()
    payload = b"".join(lines)
    return Message(payload, offset, len(payload))
