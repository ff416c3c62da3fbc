"""The licence that a PDF file states for itself, in its XMP packet or its information dictionary.

Creative Commons' own tools write ``cc:license`` or ``xmpRights:WebStatement``; publishers write an
address into ``dc:rights``. The packet is searched for addresses and not parsed: it is XML from
anybody, and entities that expand into more of themselves cost nothing when nobody expands them.
"""

import html
import re
import zlib
from collections.abc import Callable, Iterator

from datalake.licences import Finding, from_url, spdx

# Where it stands, and how sure it then is: the first two are made for the address of a licence,
# the third is a sentence that may speak of something else.
_PROPERTIES = (("cc:license", 1.0), ("xmpRights:WebStatement", 1.0), ("dc:rights", 0.9))
_ENTRIES = ("License", "Licence", "Rights", "Copyright")
_ENTRY_CONFIDENCE = 0.9
_OPEN, _CLOSE = b"<x:xmpmeta", b"</x:xmpmeta>"
_OF_A_PDF = (b"ns.adobe.com/pdf/", b"application/pdf")  # not that of a picture inside
_URL = re.compile(r"https?://[^\s\"'<>)]+")
_TAG = re.compile(r"<[^<>]*>")
_STREAM = re.compile(rb"/Subtype\s*/XML\b.{0,300}?stream\r?\n", re.DOTALL)
_MAX_PACKETS = 64
_MAX_PACKET_BYTES = 1 << 20  # padding included, a packet has some thousand bytes
_MAX_VALUE = 2000  # characters of one property


def find_licence(payload: bytes, entry: Callable[[str], str]) -> Finding | None:
    """The licence that the file says it is under; ``entry`` gives entries of its information."""
    packets = list(_packets(payload))
    own = [p for p in packets if any(mark in p for mark in _OF_A_PDF)]
    for packet in own or (packets if len(packets) == 1 else []):
        text = packet.decode("utf-8", "replace")
        for name, confidence in _PROPERTIES:
            for value in _values(text, name):
                if (licence := _licence(value)) is not None:
                    return Finding(licence, f"XMP {name}", confidence)
    for key in _ENTRIES:
        if (licence := _licence(entry(key))) is not None:
            return Finding(licence, f"PDF information {key}", _ENTRY_CONFIDENCE)
    return None


def _packets(payload: bytes) -> Iterator[bytes]:
    """XMP packets, as they lie in the file or deflated."""
    end = 0
    for _ in range(_MAX_PACKETS):
        start = payload.find(_OPEN, end)
        if start < 0:
            break
        end = payload.find(_CLOSE, start, start + _MAX_PACKET_BYTES)
        if end < 0:
            break
        yield payload[start:end]
    for number, match in enumerate(_STREAM.finditer(payload)):
        if number == _MAX_PACKETS:
            break
        if b"/FlateDecode" not in payload[max(match.start() - 300, 0) : match.end()]:
            continue
        try:
            deflated = payload[match.end() : match.end() + _MAX_PACKET_BYTES]
            packet = zlib.decompressobj().decompress(deflated, _MAX_PACKET_BYTES)
        except zlib.error:
            continue
        if _OPEN in packet:
            yield packet


def _values(packet: str, name: str) -> Iterator[str]:
    """Values of a property, written as an attribute, a resource or an element."""
    for match in re.finditer(rf"{name}\s*=\s*([\"'])", packet):
        yield packet[match.end() : match.end() + _MAX_VALUE].split(match[1])[0]
    for match in re.finditer(rf"<{name}\b", packet):
        element = packet[match.start() : match.start() + _MAX_VALUE]
        head = element.split(">")[0]
        yield head if head.endswith("/") else element.split(f"</{name}>")[0]


def _licence(value: str) -> str | None:
    for url in _URL.findall(html.unescape(value)):
        if (licence := from_url(url)) is not None:
            return licence
    return spdx(_TAG.sub(" ", value)[:100]) if value.strip() else None
