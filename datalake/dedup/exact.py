"""Exact duplicates: a digest of the text without case and white space.

Two copies of a text that differ in line ends, indentation, wrapping or case share it. The digest
is cryptographic (BLAKE2b), since a text on the web may be written to collide with another.
"""

import hashlib

_SPACES = bytes(point for point in range(128) if chr(point).isspace())


def text_digest(text: bytes) -> str:
    """BLAKE2b, 128 bits, 32 hexadecimal digits, of UTF-8 ``text`` in lower case without spaces."""
    if text.isascii():
        folded = text.lower().translate(None, _SPACES)
    else:
        folded = "".join(text.decode("utf-8", "backslashreplace").lower().split()).encode("utf-8")
    return hashlib.blake2b(folded, digest_size=16).hexdigest()
