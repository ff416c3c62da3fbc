"""Source files to text: which encoding, and what a file is not text at all."""

import codecs
import re

from resiliparse.parse.encoding import detect_encoding

from datalake.transforms.normalise import normalise
from datalake.transforms.text import Unreadable

_BOMS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
# PEP 263: a comment in one of the first two lines.
_COOKIE = re.compile(rb"\A(?:[^\n]*\n)?[ \t\f]*#[^\n]*?coding[:=][ \t]*([-\w.]+)")
_MAX_DETECTED = 128 << 10


class DecodingError(Unreadable):
    """Bytes that are no text. The message is a reason that can be counted."""


def decode_source(payload: bytes) -> tuple[str, str]:
    """Text of a source file, normalised, and the encoding it was read with, by Python's name.

    A byte order mark wins, then PEP 263's comment, then UTF-8, then detection; each is believed
    only if it fits every byte. Raises DecodingError for binary data and where nothing fits.
    """
    for mark, encoding in _BOMS:
        if payload.startswith(mark):
            return _decode(payload[len(mark) :], encoding), encoding
    if b"\x00" in payload:
        raise DecodingError("binary")
    cookie = _COOKIE.search(payload)
    named = cookie[1].decode("ascii", "ignore") if cookie else None
    if named and not _reads_ascii(named):  # else the comment could not have been read
        named = None
    for candidate in (named, "utf-8", detect_encoding(payload, _MAX_DETECTED)):
        if candidate is None:
            continue
        try:
            return _decode(payload, candidate), codecs.lookup(candidate).name
        except DecodingError:
            continue
    raise DecodingError("encoding")


def _reads_ascii(encoding: str) -> bool:
    try:
        return encoding.encode().decode(encoding) == encoding
    except (LookupError, UnicodeError):
        return False


def _decode(payload: bytes, encoding: str) -> str:
    try:
        return normalise(payload.decode(encoding))
    except (LookupError, UnicodeError) as error:  # no codec of text, or bytes that do not fit
        raise DecodingError("encoding") from error
