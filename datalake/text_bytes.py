"""A column of text as the compiled loops read it: one row of bytes and where each text begins."""

import numpy as np
import pyarrow as pa


def text_bytes(text: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Bytes and offsets of a column of strings: ``uint8 [bytes]``, ``int64 [rows + 1]``.

    Row k is ``data[offsets[k] : offsets[k + 1]]``. The bytes are those of the column, uncopied, and
    need not be UTF-8; a null is as long as nothing. Both arrays are read-only whatever Arrow's
    buffers are, since a loop is compiled for read-only and for writable arrays apart.
    """
    # A cast to binary copies no bytes, and checks none.
    column = text.cast(pa.large_binary())
    if column.null_count:
        column = column.fill_null(b"")
    _, bounds, content = column.buffers()
    offsets = np.zeros(len(column) + 1, np.int64)
    if len(column):
        offsets = np.frombuffer(bounds, np.int64)[column.offset : column.offset + len(column) + 1]
    # An array of nothing but empty texts may come without a buffer.
    data = np.frombuffer(content or b"", np.uint8)
    for array in (data, offsets):
        array.flags.writeable = False
    return data, offsets
