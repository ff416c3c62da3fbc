"""Token rows in memory, as the table ``tokens`` holds them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs
import pyarrow.parquet as pq

from datalake.config import Refusal

COLUMNS = ("row_id", "tokens", "vocab_size", "num_tokens", "doc_starts")


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Token rows of one split, in order of ``row_id``, and the pieces of documents in them.

    Pieces of row ``r`` begin at ``piece_starts[piece_offsets[r]:piece_offsets[r + 1]]``, the first
    one at 0. The first token of a piece is read and never predicted; what follows the first
    ``num_tokens`` of a row fills it up, and is neither.
    """

    tokens: np.ndarray  # uint16 or uint32 [rows, context_length + 1]
    num_tokens: np.ndarray  # int64 [rows]
    piece_offsets: np.ndarray  # int64 [rows + 1]
    piece_starts: np.ndarray  # int64 [pieces]
    vocab_size: int  # of the tokenizer

    @classmethod
    def whole(cls, tokens: np.ndarray, vocab_size: int | None = None) -> "Rows":
        """Rows that are one piece each."""
        num_rows, length = tokens.shape
        return cls(
            tokens=tokens,
            num_tokens=np.full(num_rows, length),
            piece_offsets=np.arange(num_rows + 1),
            piece_starts=np.zeros(num_rows, np.int64),
            vocab_size=int(tokens.max(initial=0)) + 1 if vocab_size is None else vocab_size,
        )

    @classmethod
    def from_files(cls, paths: Sequence[str]) -> "Rows":
        """Rows of the Parquet parts at ``paths``, paths or URIs, sorted by ``row_id``.

        Raises Refusal where there is no row, or rows differ in length or vocabulary.
        """
        parts = [_read(path) for path in paths]
        if not sum(map(len, parts)):
            raise Refusal(f"token rows must be at least one, got none in {len(paths)} files")
        return cls.from_table(pa.concat_tables(parts))

    @classmethod
    def from_table(cls, table: pa.Table) -> "Rows":
        """Rows of the columns ``COLUMNS`` of the table ``tokens``, as ``from_files``."""
        sizes = pc.unique(table["vocab_size"]).to_pylist()
        if len(sizes) != 1 or not sizes[0]:
            raise Refusal(f"token rows must be of one vocabulary, got vocab_size {sizes[:3]}")
        dtype = dtype_of(sizes[0])
        chunks = [_as_array(chunk, dtype) for chunk in table["tokens"].chunks if len(chunk)]
        lengths = sorted({chunk.shape[1] for chunk in chunks})
        if len(lengths) > 1:
            raise Refusal(f"token rows must be equally long, got {lengths[0]} and {lengths[-1]}")
        starts = table["doc_starts"].combine_chunks()
        offsets = starts.offsets.to_numpy()
        offsets = (offsets - offsets[0]).astype(np.int64)
        unordered = cls(
            tokens=np.concatenate(chunks),
            num_tokens=table["num_tokens"].to_numpy().astype(np.int64),
            piece_offsets=offsets,
            piece_starts=starts.flatten().to_numpy().astype(np.int64),
            vocab_size=sizes[0],
        )
        unordered._check()
        return unordered.take(np.argsort(table["row_id"].to_numpy(), kind="stable"))

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def context_length(self) -> int:
        return self.tokens.shape[1] - 1

    @property
    def num_targets(self) -> np.ndarray:
        """How many tokens of each row are predicted, int64 ``[rows]``."""
        return self.num_tokens - np.diff(self.piece_offsets)

    def take(self, rows: np.ndarray) -> "Rows":
        """The rows of these numbers, in that order; copied."""
        counts = np.diff(self.piece_offsets)[rows]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        return Rows(
            tokens=self.tokens[rows],
            num_tokens=self.num_tokens[rows],
            piece_offsets=offsets,
            piece_starts=self.piece_starts[self._pieces(rows, offsets)],
            vocab_size=self.vocab_size,
        )

    def pieces(self, rows: np.ndarray | None = None) -> np.ndarray:
        """Number of the piece that each token is of, int32 ``[rows, context_length + 1]``.

        Pieces of a row count from 0; -1 is where the row is not filled.
        """
        chosen = np.arange(len(self)) if rows is None else rows
        counts = np.diff(self.piece_offsets)[chosen]
        starts = self.piece_starts[self._pieces(chosen, np.concatenate([[0], np.cumsum(counts)]))]
        numbers = np.zeros((len(chosen), self.tokens.shape[1]), np.int32)
        numbers[np.repeat(np.arange(len(chosen)), counts), starts] = 1
        np.cumsum(numbers, axis=1, out=numbers)
        filled = np.arange(numbers.shape[1]) < self.num_tokens[chosen][:, None]
        return np.where(filled, numbers - 1, -1).astype(np.int32, copy=False)

    def _pieces(self, rows: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """Places in ``piece_starts`` of the pieces of ``rows``, of row i from ``offsets[i]`` on."""
        first = self.piece_offsets[:-1][rows]
        return np.repeat(first - offsets[:-1], np.diff(offsets)) + np.arange(offsets[-1])

    def _check(self) -> None:
        firsts = self.piece_offsets[:-1]
        counts = np.diff(self.piece_offsets)
        if not counts.all() or self.piece_starts[firsts].any():
            raise Refusal("doc_starts of every token row must begin with 0")
        apart = np.diff(self.piece_starts)
        apart[firsts[1:] - 1] = 1  # from the last of one row to the first of the next
        lasts = self.piece_starts[self.piece_offsets[1:] - 1]
        if (apart <= 0).any() or (lasts >= self.num_tokens).any():
            raise Refusal("doc_starts of every token row must ascend below its num_tokens")
        if (self.num_tokens > self.tokens.shape[1]).any():
            raise Refusal(
                f"num_tokens must be at most {self.tokens.shape[1]}, the length of a row, "
                f"got {self.num_tokens.max()}"
            )


def dtype_of(vocab_size: int) -> np.dtype:
    """The smaller of uint16 and uint32 that holds every id, little-endian as in the table."""
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")


def _read(path: str) -> pa.Table:
    filesystem, path = (
        pyarrow.fs.FileSystem.from_uri(path)
        if "://" in path
        else (pyarrow.fs.LocalFileSystem(), path)
    )
    with filesystem.open_input_file(path) as file:
        return pq.ParquetFile(file).read(columns=list(COLUMNS))


def _as_array(column: pa.Array, dtype: np.dtype) -> np.ndarray:
    """Equally long binary values, ids of ``dtype`` each, as one array, without a copy."""
    if column.null_count:
        raise Refusal("token rows must not be null, got a null")
    column = column.cast(pa.large_binary())
    _, offsets, data = column.buffers()
    ends = np.frombuffer(offsets, np.int64)[column.offset : column.offset + len(column) + 1]
    lengths = np.unique(np.diff(ends))
    if len(lengths) > 1 or lengths[0] % dtype.itemsize:
        raise Refusal(
            f"token rows must be equally many {dtype.name}, got {lengths.tolist()[:2]} bytes"
        )
    tokens = np.frombuffer(data, np.uint8)[ends[0] : ends[-1]].view(dtype)
    return tokens.reshape(len(column), -1)
