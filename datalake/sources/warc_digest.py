"""Digests as WARC headers state them: an algorithm, a colon, and base 32 or hexadecimal digits."""

import base64
import binascii
import hashlib
from dataclasses import dataclass

_ALGORITHMS = frozenset(("md5", "sha1", "sha224", "sha256", "sha384", "sha512"))


@dataclass(frozen=True, slots=True)
class Stated:
    """A digest that can be checked."""

    algorithm: str  # by the name that hashlib knows
    value: bytes

    def begin(self, data: bytes | memoryview = b"") -> "hashlib._Hash":
        """A running hash of the same algorithm, fed with ``data``."""
        return hashlib.new(self.algorithm, data)

    def fits(self, data: bytes) -> bool:
        """Whether ``data`` has this digest."""
        return self.begin(data).digest() == self.value


def stated(header: str | None) -> Stated | None:
    """The digest that a header states; None where it states none that can be checked.

    Writers differ in case, in padding and in the spelling of ``sha-256`` (ISO 28500:2017, 5.8).
    """
    label, _, digits = (header or "").strip().partition(":")
    algorithm = label.strip().lower().replace("-", "")
    digits = digits.strip().rstrip("=")
    if algorithm not in _ALGORITHMS:
        return None
    size = hashlib.new(algorithm).digest_size
    try:
        if len(digits) == 2 * size:
            return Stated(algorithm, bytes.fromhex(digits))
        if len(digits) == -(-8 * size // 5):
            padding = "=" * (-len(digits) % 8)
            return Stated(algorithm, base64.b32decode(digits.upper() + padding))
    except (ValueError, binascii.Error):
        pass
    return None
