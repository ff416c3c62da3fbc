"""Hashes in compiled code, against the libraries that define them."""

import hashlib

import numpy as np
import pytest
import xxhash

from datalake.dedup.signatures.hash_kernels import sha1_32, xxh3_64

LENGTHS = (*range(300), 511, 512, 1023, 1024, 1025, 1088, 2048, 2049, 5000, 100_000)


@pytest.fixture(scope="module")
def inputs() -> list[tuple[np.ndarray, int, bytes]]:
    """Random bytes of every length, at two places of their array."""
    draw = np.random.default_rng(0)
    cases = []
    for length in LENGTHS:
        for start in (0, 3):
            data = draw.integers(0, 256, start + length + 16, dtype=np.uint8)
            cases.append((data, start, data[start : start + length].tobytes()))
    return cases


def test_sha1_is_hashlibs(inputs: list[tuple[np.ndarray, int, bytes]]) -> None:
    block, state = np.full(80, 0xABCD, np.uint32), np.full(5, 0xABCD, np.uint32)
    for data, start, content in inputs:
        expected = int.from_bytes(hashlib.sha1(content).digest()[:4], "little")
        assert sha1_32(data, start, start + len(content), block, state) == expected


def test_xxh3_is_xxhashs(inputs: list[tuple[np.ndarray, int, bytes]]) -> None:
    lanes = np.full(8, 0xABCD, np.uint64)
    for data, start, content in inputs:
        got = xxh3_64(data, start, start + len(content), lanes)
        assert int(got) == xxhash.xxh3_64_intdigest(content)
