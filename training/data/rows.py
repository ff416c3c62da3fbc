"""Token rows in memory, as the table ``tokens`` holds them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs
import pyarrow.parquet as pq

from datalake.config import Refusal
from training.data.order import row_kernels

COLUMNS = ("row_id", "tokens", "vocab_size", "num_tokens", "doc_starts")


@dataclass(frozen=True, eq=False)
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
        vocab_size = vocab_size_of(table)
        chunks = [as_array(chunk, vocab_size) for chunk in table["tokens"].chunks if len(chunk)]
        lengths = sorted({chunk.shape[1] for chunk in chunks})
        if len(lengths) > 1:
            raise Refusal(f"token rows must be equally long, got {lengths[0]} and {lengths[-1]}")
        order = np.argsort(table["row_id"].to_numpy(), kind="stable")
        return cls.of(np.concatenate(chunks)[order], table)

    @classmethod
    def of(cls, tokens: np.ndarray, table: pa.Table) -> "Rows":
        """Rows of ``tokens``, which are in order of ``row_id``, and the other columns of ``table``.

        ``table`` may be in any order. Refuses pieces that do not begin and ascend in their row.
        """
        starts = table["doc_starts"].combine_chunks()
        offsets = starts.offsets.to_numpy().astype(np.int64)
        order = np.argsort(table["row_id"].to_numpy(), kind="stable")
        counts = np.diff(offsets)[order]
        ends = np.concatenate([[0], np.cumsum(counts)])
        which = np.repeat(offsets[:-1][order] - ends[:-1], counts) + np.arange(ends[-1])
        rows = cls(
            tokens=tokens,
            num_tokens=table["num_tokens"].to_numpy().astype(np.int64)[order],
            piece_offsets=ends,
            piece_starts=starts.values.to_numpy().astype(np.int64)[which],
            vocab_size=vocab_size_of(table),
        )
        rows._check()
        return rows

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def context_length(self) -> int:
        return self.tokens.shape[1] - 1

    @property
    def num_targets(self) -> np.ndarray:
        """How many tokens of each row are predicted, int64 ``[rows]``."""
        return self.num_targets_of(np.arange(len(self)))

    def num_targets_of(self, rows: np.ndarray) -> np.ndarray:
        """The same of the rows of these numbers."""
        return self.num_tokens[rows] - self._num_pieces(rows)

    def take(self, rows: np.ndarray) -> "Rows":
        """The rows of these numbers, in that order; copied."""
        offsets = np.concatenate([[0], np.cumsum(self._num_pieces(rows))])
        return Rows(
            tokens=self.tokens[rows],
            num_tokens=self.num_tokens[rows],
            piece_offsets=offsets,
            piece_starts=self.piece_starts[self._pieces(rows, offsets)],
            vocab_size=self.vocab_size,
        )

    def read(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Tokens ``[len(rows), context_length + 1]`` as they are, ``num_tokens``, further pieces.

        These are ``further_pieces``. ``rows`` is int64.
        """
        out = np.empty((len(rows), self.tokens.shape[1]), self.tokens.dtype)
        filled, further = np.empty(len(rows), np.int64), np.empty(2 * len(rows), np.int64)
        if (kernels := row_kernels()) and self.tokens.flags.c_contiguous:
            count = kernels.read(*self._views, _read_only(rows), out, filled, further)
        else:
            count = self._copy(rows, out)
        if count < 0:
            raise Refusal(f"row must be 0 .. {len(self) - 1}, got {rows.min()} and {rows.max()}")
        if count > len(further):
            return out, self.num_tokens[rows], self.further_pieces(rows)
        return out, filled, further[:count]

    def _copy(self, rows: np.ndarray, out: np.ndarray) -> int:
        """Tokens alone, by NumPy; answers as the compiled loop that had no room for the rest."""
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self):
            return -1
        self.tokens.take(rows, axis=0, out=out, mode="clip")  # which asks for no second buffer
        return 2 * len(rows) + 1

    @cached_property
    def _views(self) -> tuple[np.ndarray, ...]:
        fields = (self.tokens, self.num_tokens, self.piece_offsets, self.piece_starts)
        return tuple(map(_read_only, fields))

    def further_pieces(self, rows: np.ndarray) -> np.ndarray:
        """Where pieces but the first of a row begin, in these rows laid end to end; ascending."""
        counts = self._num_pieces(rows) - 1
        row = np.repeat(np.arange(len(rows)), counts)
        within = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts) + 1
        starts = self.piece_starts[self.piece_offsets[rows][row] + within]
        return starts + row * self.tokens.shape[1]

    def pieces(self, rows: np.ndarray | None = None) -> np.ndarray:
        """Number of the piece that each token is of, int32 ``[rows, context_length + 1]``.

        Pieces of a row count from 0; -1 is where the row is not filled.
        """
        chosen = np.arange(len(self)) if rows is None else rows
        length, counts = self.tokens.shape[1], self._num_pieces(chosen)
        num_pieces = int(counts.sum())
        if num_pieces == len(chosen):
            numbers = np.zeros((len(chosen), length), np.int32)
        else:
            row = np.repeat(np.arange(len(chosen)), counts)
            before = np.cumsum(counts) - counts
            within = np.arange(num_pieces) - before[row]
            begins = np.empty(num_pieces + 1, np.int64)  # in the rows one after the other
            begins[:-1] = self.piece_starts[self.piece_offsets[chosen][row] + within] + row * length
            begins[-1] = len(chosen) * length
            numbers = np.repeat(within.astype(np.int32), np.diff(begins)).reshape(-1, length)
        num_tokens = self.num_tokens[chosen]
        for unfilled in np.flatnonzero(num_tokens < length):
            numbers[unfilled, num_tokens[unfilled] :] = -1
        return numbers

    def _num_pieces(self, rows: np.ndarray) -> np.ndarray:
        return self.piece_offsets[rows + 1] - self.piece_offsets[rows]

    def _pieces(self, rows: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """Places in ``piece_starts`` of the pieces of ``rows``, of row i from ``offsets[i]`` on."""
        first = self.piece_offsets[rows]
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


def _read_only(array: np.ndarray) -> np.ndarray:
    """Rows come from maps that are read-only, and from memory: as one kind, compiled once."""
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view


def vocab_size_of(table: pa.Table) -> int:
    """The one of all rows. Refuses rows of several vocabularies."""
    sizes = pc.unique(table["vocab_size"]).to_pylist()
    if len(sizes) != 1 or not sizes[0]:
        raise Refusal(f"token rows must be of one vocabulary, got vocab_size {sizes[:3]}")
    return int(sizes[0])


def shape_of(paths: Sequence[str]) -> tuple[int, int]:
    """The vocabulary, and the tokens of a row, of the first row that the parts at ``paths`` hold.

    What a training needs to know before it starts; whether all rows agree is seen when they are
    read. Refuses parts without a row.
    """
    for path in paths:
        filesystem, inside = opened(path)
        with filesystem.open_input_file(inside) as file:
            columns = ["tokens", "vocab_size"]
            for batch in pq.ParquetFile(file).iter_batches(1, columns=columns):
                for row in batch.to_pylist():
                    size = dtype_of(row["vocab_size"]).itemsize
                    return row["vocab_size"], len(row["tokens"]) // size
    raise Refusal(f"token rows must be at least one, got none in {len(paths)} files")


def opened(path: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """The file system of a path or URI, and the path inside it."""
    if "://" in path:
        return pyarrow.fs.FileSystem.from_uri(path)
    return pyarrow.fs.LocalFileSystem(), path


def as_array(column: pa.Array, vocab_size: int) -> np.ndarray:
    """Equally long binary values, ids below ``vocab_size``, as one array, without a copy."""
    if column.null_count:
        raise Refusal("token rows must not be null, got a null")
    dtype = dtype_of(vocab_size)
    column = column.cast(pa.large_binary())
    _, offsets, data = column.buffers()
    ends = np.frombuffer(offsets, np.int64)[column.offset : column.offset + len(column) + 1]
    lengths = np.unique(np.diff(ends))
    if len(lengths) > 1 or lengths[0] % dtype.itemsize:
        raise Refusal(
            f"token rows must be equally many {dtype.name}, got {lengths.tolist()[:2]} bytes"
        )
    tokens = np.frombuffer(data, np.uint8)[ends[0] : ends[-1]].view(dtype)
    if tokens.max(initial=0) >= vocab_size:
        raise Refusal(f"token ids must be below vocab_size {vocab_size}, got {tokens.max()}")
    return tokens.reshape(len(column), -1)


def _read(path: str) -> pa.Table:
    filesystem, inside = opened(path)
    with filesystem.open_input_file(inside) as file:
        return pq.ParquetFile(file).read(columns=list(COLUMNS))
