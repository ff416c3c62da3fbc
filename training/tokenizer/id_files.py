"""A text file as a file of token ids and back, in flat memory.

A file of ids is nothing but the ids, little-endian, in the tokenizer's ``dtype``: what
``numpy.memmap`` reads. It takes its name when it is whole.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from datalake.config import Refusal
from training.tokenizer.bpe import Tokenizer

_IDS_AT_ONCE = 1 << 20


def encode_file(tokenizer: Tokenizer, path: Path, out: Path, num_threads: int | None = None) -> int:
    """Write the ids of the text file ``path`` to ``out``; returns how many they are."""
    count = 0
    with _whole(path, out) as file:
        for ids in tokenizer.encode_file(path, num_threads):
            file.write(_little(ids).data)
            count += len(ids)
    return count


def decode_file(tokenizer: Tokenizer, path: Path, out: Path) -> int:
    """Write the bytes that the ids in ``path`` stand for to ``out``; returns how many they are.

    Raises Refusal where the file is no whole number of ids, or one is outside the vocabulary.
    """
    width = np.dtype(tokenizer.dtype).itemsize
    count = 0
    with _whole(path, out) as file, path.open("rb") as ids:
        size = path.stat().st_size
        if size % width:
            raise Refusal(f"{path} must hold ids of {width} bytes each, got {size} bytes")
        while data := ids.read(width * _IDS_AT_ONCE):
            count += file.write(tokenizer.decode_bytes(np.frombuffer(data, f"<u{width}")))
    return count


@contextmanager
def _whole(path: Path, out: Path) -> Iterator[BinaryIO]:
    """A new file that becomes ``out`` when all is written, and vanishes when something fails."""
    if not path.is_file():
        raise Refusal(f"{path} must be a file, got nothing there")
    if out.is_dir() or not out.parent.is_dir():
        raise Refusal(f"{out} must be a file in a folder that exists")
    if out.exists() and out.samefile(path):
        raise Refusal(f"{out} must be another file than what is read")
    part = out.with_name(out.name + ".part")
    try:
        with part.open("wb") as file:
            yield file
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)


def _little(ids: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(ids, ids.dtype.newbyteorder("<"))
