"""Digests as WARC headers state them: an algorithm, a colon, and base 32 or hexadecimal digits."""

import base64
import binascii
import hashlib
from dataclasses import dataclass

_SIZES = {"md5": 16, "sha1": 20, "sha224": 28, "sha256": 32, "sha384": 48, "sha512": 64}  # bytes


@dataclass(frozen=True, slots=True)
class Stated:
    """A digest that can be checked."""

    algorithm: str  # by the name that hashlib knows
    value: bytes

    def __str__(self) -> str:
        return f"{self.algorithm}:{base64.b32encode(self.value).decode()}"

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
    size = _SIZES.get(algorithm := label.lower().replace("-", "").strip())
    digits = digits.strip().rstrip("=")
    if size is None:
        return None
    try:
        if len(digits) == 2 * size:
            return Stated(algorithm, bytes.fromhex(digits))
        if len(digits) == -(-8 * size // 5):
            padding = "=" * (-len(digits) % 8)
            return Stated(algorithm, base64.b32decode(digits.upper() + padding))
    except (ValueError, binascii.Error):
        pass
    return None
