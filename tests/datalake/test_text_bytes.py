"""Columns of text as bytes and offsets, whatever Arrow holds them in."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from datalake.text_bytes import text_bytes


def rows(column: pa.Array) -> list[bytes]:
    data, offsets = text_bytes(column)
    assert (data.dtype, offsets.dtype) == (np.uint8, np.int64)
    assert not data.flags.writeable and not offsets.flags.writeable
    return [data[a:b].tobytes() for a, b in pairwise(offsets)]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary(), pa.large_binary()])
def test_each_row_is_its_bytes_and_a_null_none(kind: pa.DataType) -> None:
    column = pa.array(["skip", "日本", None, "", "a\0b"], kind)
    assert rows(column) == [b"skip", "日本".encode(), b"", b"", b"a\0b"]
    assert rows(column.slice(1, 2)) == ["日本".encode(), b""]
    for nothing in ([], [""], [None, None]):
        assert rows(pa.array(nothing, kind)) == [b""] * len(nothing)


def test_bytes_that_are_not_utf_8_pass_as_they_are() -> None:
    broken = b"\xff\xed\xa0\x80"
    offsets = pa.py_buffer(np.array([0, 1, 4], np.int64))
    column = pa.Array.from_buffers(pa.large_string(), 2, [None, offsets, pa.py_buffer(broken)])
    assert rows(column) == [broken[:1], broken[1:]]


def test_the_bytes_are_those_of_the_column() -> None:
    column = pa.array(["abc"], pa.large_string())
    data, _ = text_bytes(column)
    assert data.ctypes.data == column.buffers()[2].address
