"""Source files to text: which encoding, and what a file is not text at all."""

import re

from resiliparse.parse.encoding import detect_encoding

from datalake.transforms.normalise import normalise

_BOMS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
# PEP 263: a comment in one of the first two lines.
_COOKIE = re.compile(rb"\A(?:[^\n]*\n)?[ \t\f]*#[^\n]*?coding[:=][ \t]*([-\w.]+)")
_MAX_DETECTED = 128 << 10


class DecodingError(ValueError):
    """Bytes that are no text. The message is a reason that can be counted."""


def decode_source(payload: bytes) -> tuple[str, str]:
    """Text of a source file, normalised, and the encoding it was read with.

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
    for candidate in (named, "utf-8", detect_encoding(payload, _MAX_DETECTED)):
        if candidate is None:
            continue
        try:
            return _decode(payload, candidate), candidate.lower()
        except DecodingError:
            continue
    raise DecodingError("encoding")


def _decode(payload: bytes, encoding: str) -> str:
    try:
        text = payload.decode(encoding)
    except (LookupError, UnicodeError) as error:  # an unknown name, or bytes that do not fit
        raise DecodingError("encoding") from error
    if not isinstance(text, str):  # ``coding: hex`` and the like give bytes
        raise DecodingError("encoding")
    return normalise(text)
