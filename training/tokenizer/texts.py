"""Texts as compiled loops want them: all bytes end to end, and where each text begins.

An Arrow string column is that already, so nothing is copied and no Python string is made.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from datalake.config import Refusal


@dataclass(frozen=True, slots=True, eq=False)
class Texts:
    """UTF-8 bytes of several texts: text ``i`` is ``data[offsets[i]:offsets[i + 1]]``."""

    data: np.ndarray  # uint8, read-only
    offsets: np.ndarray  # int64 [texts + 1], read-only

    @classmethod
    def of(cls, texts: "pa.Array | pa.ChunkedArray | Sequence[str | bytes]") -> "Texts":
        """The texts of an Arrow column of strings or bytes (not copied), or of a sequence.

        Raises Refusal where a text is null. Strings become bytes as ``utf8`` says.
        """
        if isinstance(texts, pa.ChunkedArray):
            texts = texts.combine_chunks()
        if not isinstance(texts, pa.Array):
            texts = pa.array([utf8(text) for text in texts], pa.large_binary())
        if texts.null_count:
            raise Refusal(f"texts must be present, got null at {pc.index(texts.is_null(), True)}")
        if not pa.types.is_large_binary(texts.type):
            texts = texts.cast(pa.large_string() if _is_string(texts.type) else pa.large_binary())
        _, offsets, data = texts.buffers()
        window = slice(texts.offset, texts.offset + len(texts) + 1)
        return cls(
            data=frozen(np.frombuffer(data, np.uint8) if data else np.empty(0, np.uint8)),
            offsets=frozen(
                np.frombuffer(offsets, np.int64)[window] if len(texts) else np.zeros(1, np.int64)
            ),
        )

    @classmethod
    def one(cls, text: str | bytes) -> "Texts":
        """A single text, without Arrow, whose arrays cost more than encoding a short text."""
        data = utf8(text)
        return cls(np.frombuffer(data, np.uint8), frozen(np.array([0, len(data)], np.int64)))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def num_bytes(self) -> int:
        return int(self.offsets[-1] - self.offsets[0])

    def shares(self, count: int) -> list[slice]:
        """At most ``count`` runs of whole texts with about as many bytes each."""
        cuts = self.offsets[0] + np.arange(1, count) * self.num_bytes // count
        bounds = [0, *np.searchsorted(self.offsets[:-1], cuts).tolist(), len(self)]
        return [slice(a, b) for a, b in pairwise(bounds) if b > a]


def frozen(array: np.ndarray) -> np.ndarray:
    """A read-only view: compiled loops are then compiled for one kind of array, not for two."""
    view = array.view()
    view.flags.writeable = False
    return view


def utf8(text: str | bytes) -> bytes:
    """The bytes of ``text``.

    A Python string may hold halves of a surrogate pair, and no bytes are those. Two that are side
    by side are taken for the character that they mean, any other for U+FFFD, as tiktoken does.
    """
    if isinstance(text, bytes):
        return text
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()


def _is_string(kind: pa.DataType) -> bool:
    return (
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )
