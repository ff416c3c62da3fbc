"""The entries of a zip file, from its central directory, or from the local headers without one.

Read by hand because the standard library reads the whole directory first, however long it is, and
gives nothing at all of a file whose end is missing. Layouts: PKWARE's APPNOTE 6.3.10.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import BinaryIO

from datalake.sources.archives.unpacking import DamageError

LOCAL_MAGIC = b"PK\x03\x04"
_CENTRAL_MAGIC = b"PK\x01\x02"
END_MAGIC = b"PK\x05\x06"
_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_END64_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_MAX_COMMENT = 0xFFFF
_UNIX = 3

ENCRYPTED = 0x1 | 0x40  # ordinary and strong
_STREAMED = 0x8  # sizes and checksum follow the data
_UTF8 = 0x800


@dataclass(frozen=True, slots=True)
class Entry:
    """One file in a zip, as declared."""

    name: str
    flags: int
    method: int
    crc: int | None  # None where it follows the data
    header: int  # offset of the local header
    length: int | None  # compressed; None where it follows the data
    mode: int  # of Unix, 0 where it is not known
    modified_at: datetime | None

    @property
    def encrypted(self) -> bool:
        return bool(self.flags & ENCRYPTED)


def entries(file: BinaryIO, max_entries: int) -> tuple[list[Entry], bool] | None:
    """Entries in the order of their data, at most ``max_entries``, and whether these are all.

    None where there is no central directory. Raises DamageError where that cannot be read.
    """
    found = _directory(file)
    if found is None:
        return None
    start, length, shift = found
    listed: list[Entry] = []
    file.seek(start)
    while length >= _CENTRAL.size:
        if len(listed) == max_entries:
            return sorted(listed, key=lambda entry: entry.header), False
        head = file.read(_CENTRAL.size)
        if len(head) < _CENTRAL.size or head[:4] != _CENTRAL_MAGIC:
            raise DamageError("central directory is damaged")
        fields = _CENTRAL.unpack(head)
        tail = sum(fields[10:13])
        listed.append(_central_entry(fields, file.read(tail), shift))
        length -= _CENTRAL.size + tail
    return sorted(listed, key=lambda entry: entry.header), True


def data_start(file: BinaryIO, entry: Entry) -> int:
    """Offset of the data of ``entry``. Raises DamageError where its local header is not there."""
    file.seek(max(entry.header, 0))
    head = file.read(_LOCAL.size)
    if entry.header < 0 or len(head) < _LOCAL.size or head[:4] != LOCAL_MAGIC:
        raise DamageError("local header is missing")
    return entry.header + _LOCAL.size + sum(_LOCAL.unpack(head)[9:11])


def local_entry(file: BinaryIO, at: int) -> tuple[Entry, int] | None:
    """The entry whose local header is at ``at``, and where its data begin; None if none is."""
    file.seek(at)
    head = file.read(_LOCAL.size)
    if len(head) < _LOCAL.size or head[:4] != LOCAL_MAGIC:
        return None
    _, _, flags, method, time, date, crc, length, size, name_length, extra_length = _LOCAL.unpack(
        head
    )
    name, extra = file.read(name_length), file.read(extra_length)
    fields = dict(_extras(extra))
    if length == 0xFFFFFFFF:
        _, length = _wide(fields.get(1, b""), (size, length))
    streamed = bool(flags & _STREAMED)
    entry = Entry(
        name=_decode_name(name, flags),
        flags=flags,
        method=method,
        crc=None if streamed else crc,
        header=at,
        length=None if streamed and not length else length,
        mode=0,
        modified_at=_modified_at(date, time, fields),
    )
    return entry, at + _LOCAL.size + name_length + extra_length


def next_header(file: BinaryIO, at: int) -> int | None:
    """Offset of the next local header, at most a data descriptor (24 bytes) after ``at``."""
    file.seek(at)
    found = file.read(24 + 4).find(LOCAL_MAGIC)
    return None if found < 0 else at + found


def _directory(file: BinaryIO) -> tuple[int, int, int] | None:
    """Where the central directory is, its length, and what to add to every offset in it."""
    size = file.seek(0, 2)
    tail_at = max(0, size - _END.size - _MAX_COMMENT)
    file.seek(tail_at)
    tail = file.read(_END.size + _MAX_COMMENT)
    at = tail.rfind(END_MAGIC)
    if at < 0 or len(tail) - at < _END.size:
        return None
    end = tail_at + at
    *_, length, offset, _comment = _END.unpack_from(tail, at)
    wide = _wide_directory(file, end)
    if wide is not None:
        end, length, offset = wide
    start = end - length
    if start < 0:
        raise DamageError("central directory is damaged")
    return start, length, start - offset  # something may stand before the zip


def _wide_directory(file: BinaryIO, end: int) -> tuple[int, int, int] | None:
    at = end - _END64_LOCATOR.size - _END64.size  # without the rare extensible data
    if at < 0:
        return None
    file.seek(at)
    fields = _END64.unpack(file.read(_END64.size))
    return (at, fields[8], fields[9]) if fields[0] == b"PK\x06\x06" else None


def _central_entry(fields: tuple, tail: bytes, shift: int) -> Entry:
    name_length, extra_length = fields[10], fields[11]
    extras = dict(_extras(tail[name_length : name_length + extra_length]))
    length, size, header = fields[8], fields[9], fields[16]
    size, length, header = _wide(extras.get(1, b""), (size, length, header))
    return Entry(
        name=_decode_name(tail[:name_length], fields[3]),
        flags=fields[3],
        method=fields[4],
        crc=fields[7],
        header=header + shift,
        length=length,
        mode=fields[15] >> 16 if fields[1] >> 8 == _UNIX else 0,
        modified_at=_modified_at(fields[6], fields[5], extras),
    )


def _extras(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 4 <= len(data):
        kind, length = struct.unpack_from("<2H", data, at)
        yield kind, data[at + 4 : at + 4 + length]
        at += 4 + length


def _wide(extra: bytes, values: tuple[int, ...]) -> tuple[int, ...]:
    """``values`` with those that are all ones taken from the zip64 field, in their order."""
    found = []
    at = 0
    for value in values:
        if value == 0xFFFFFFFF and at + 8 <= len(extra):
            value = int.from_bytes(extra[at : at + 8], "little")
            at += 8
        found.append(value)
    return tuple(found)


def _decode_name(name: bytes, flags: int) -> str:
    """UTF-8 where the flag says so or where it fits, since many forget the flag; else cp437."""
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError:
        return name.decode("utf-8", "replace") if flags & _UTF8 else name.decode("cp437")


def _modified_at(date: int, time: int, extras: dict[int, bytes]) -> datetime | None:
    """Universal time where the entry has it, else the local time of an unknown place, as UTC."""
    stamp = extras.get(0x5455, b"")
    try:
        if len(stamp) >= 5 and stamp[0] & 1:
            return datetime.fromtimestamp(int.from_bytes(stamp[1:5], "little"), UTC)
        day = (1980 + (date >> 9), date >> 5 & 15, date & 31)
        return datetime(*day, time >> 11, time >> 5 & 63, (time & 31) * 2, tzinfo=UTC)
    except ValueError:
        return None
