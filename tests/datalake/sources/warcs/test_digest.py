"""Digests as WARC headers state them."""

import base64
import hashlib

import pytest

from datalake.sources.warcs.digest import stated


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256", "sha512"])
def test_a_digest_fits_its_bytes_in_every_spelling(algorithm: str) -> None:
    value = hashlib.new(algorithm, b"hello").digest()
    base32 = base64.b32encode(value).decode()
    for digits in (value.hex(), value.hex().upper(), base32, base32.rstrip("="), base32.lower()):
        found = stated(f" {algorithm.upper()}:{digits} ")
        assert found is not None and found.fits(b"hello") and not found.fits(b"hello!")


def test_a_dash_in_the_name_of_an_algorithm_changes_nothing() -> None:
    assert stated("sha-256:" + hashlib.sha256(b"").hexdigest()) is not None


@pytest.mark.parametrize(
    "header",
    [None, "", "sha1", "sha1:", "sha1:short", "crc32:00000000", "sha1:" + "?" * 32, "a" * 32],
)
def test_what_cannot_be_checked_is_no_digest(header: str | None) -> None:
    assert stated(header) is None
