"""Token rows that need no memory: one table version as raw files, decoded once a machine.

Parquet must be decoded as a whole before a row can be read at random, and a training reads rows in
random order, in every process of a machine. So the parts of a version are decoded once, in order of
``row_id``, into arrays on the disk that all processes map: a row costs its bytes, and what is read
lies once in the memory of the machine, in the page cache, for all ranks. Small tables are not worth
a file and are decoded by every process by itself.

    <cache>/lock                         held while a version is decoded, opened or removed
    <cache>/<name>/rows.json             vocab_size, and the bytes of every array; written last
    <cache>/<name>/tokens.npy ...        the fields of ``Rows``

A version is named by the addresses, sizes and times of its parts, which never change; its folder
appears under its name when it is complete and on the disk.
"""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq

from datalake.config import Refusal
from training.data.rows import COLUMNS, Rows, as_array, dtype_of, opened, vocab_size_of

IN_MEMORY_BYTES = 64 << 20  # of Parquet; more is mapped
KEPT = 4  # versions and splits, the last used ones

_ARRAYS = ("tokens", "num_tokens", "piece_offsets", "piece_starts")
_ROWS_PER_BATCH = 4096


def open_rows(paths: Sequence[str], cache: Path | None = None) -> Rows:
    """Rows of the Parquet parts at ``paths``, paths or URIs, sorted by ``row_id``.

    They are mapped from files below ``cache``, which are made if missing, where the parts are
    large or must be fetched; else, and without a ``cache``, they are in memory. Refuses what
    ``Rows.from_files`` does, and a disk that is too full.
    """
    if cache is None:
        return Rows.from_files(paths)
    infos = [_info(path) for path in paths]
    is_near = not any("://" in path for path in paths)
    if is_near and sum(info.size for info in infos) <= IN_MEMORY_BYTES:
        return Rows.from_files(paths)
    says = [
        [path, info.size, info.mtime_ns] for path, info in sorted(zip(paths, infos, strict=True))
    ]
    folder = cache / hashlib.sha256(json.dumps(says).encode()).hexdigest()[:32]
    with _locked(cache):
        if not _is_whole(folder):
            _make(paths, folder)
            _forget(cache)
        os.utime(folder)
        return _open(folder)


def _info(path: str) -> pyarrow.fs.FileInfo:
    filesystem, inside = opened(path)
    info = filesystem.get_file_info(inside)
    if info.type != pyarrow.fs.FileType.File:
        raise Refusal(f"part of token rows must be a file, got {path}")
    return info


@contextmanager
def _locked(cache: Path) -> Iterator[None]:
    """One process at a time; the kernel lets go when it ends, however it ends."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _is_whole(folder: Path) -> bool:
    try:
        sizes = json.loads((folder / "rows.json").read_bytes())["num_bytes"]
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (FileNotFoundError, ValueError, KeyError):
        return False


def _open(folder: Path) -> Rows:
    # As plain arrays: indexing a ``np.memmap`` takes twice as long.
    arrays = {name: np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r")) for name in _ARRAYS}
    vocab_size = json.loads((folder / "rows.json").read_bytes())["vocab_size"]
    return Rows(**arrays, vocab_size=vocab_size)


def _make(paths: Sequence[str], folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for stale in folder.parent.glob(".draft-*"):  # of a process that died; it held our lock
        shutil.rmtree(stale)
    draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=folder.parent))
    try:
        _decode(paths, draft)
        for path in draft.iterdir():
            _flush(path)
        sizes = {path.name: path.stat().st_size for path in sorted(draft.glob("*.npy"))}
        says = json.loads((draft / "rows.json").read_bytes()) | {"num_bytes": sizes}
        (draft / "rows.json").write_text(json.dumps(says, indent=1))
        _flush(draft / "rows.json")
        _flush(draft)
        draft.rename(folder)
        _flush(folder.parent)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def _decode(paths: Sequence[str], draft: Path) -> None:
    """Write the arrays: first what is small of every part, then each token to its place."""
    others = pa.concat_tables([_small_columns(path) for path in paths])
    if not len(others):
        raise Refusal(f"token rows must be at least one, got none in {len(paths)} files")
    vocab_size, place = vocab_size_of(others), np.empty(len(others), np.int64)
    place[np.argsort(others["row_id"].to_numpy(), kind="stable")] = np.arange(len(others))
    tokens: np.ndarray | None = None
    first = 0
    for path in paths:
        for column in _token_columns(path):
            chunk = as_array(column, vocab_size)
            if tokens is None:
                shape = (len(others), chunk.shape[1])
                tokens = _new_array(draft / "tokens.npy", dtype_of(vocab_size), shape)
            if chunk.shape[1] != tokens.shape[1]:
                lengths = sorted((tokens.shape[1], chunk.shape[1]))
                raise Refusal(f"token rows must be equally long, got {lengths[0]} and {lengths[1]}")
            tokens[place[first : first + len(chunk)]] = chunk
            first += len(chunk)
    assert tokens is not None
    rows = Rows.of(tokens, others)
    for name in _ARRAYS[1:]:
        np.save(draft / f"{name}.npy", getattr(rows, name))
    (draft / "rows.json").write_text(json.dumps({"vocab_size": vocab_size}))


def _small_columns(path: str) -> pa.Table:
    filesystem, inside = opened(path)
    with filesystem.open_input_file(inside) as file:
        names = [name for name in COLUMNS if name != "tokens"]
        return pq.ParquetFile(file).read(columns=names)


def _token_columns(path: str) -> Iterator[pa.Array]:
    filesystem, inside = opened(path)
    with filesystem.open_input_file(inside) as file:
        for batch in pq.ParquetFile(file).iter_batches(_ROWS_PER_BATCH, columns=["tokens"]):
            yield batch["tokens"]


def _new_array(path: Path, dtype: np.dtype, shape: tuple[int, int]) -> np.ndarray:
    """A mapped array whose bytes are the disk's: a full disk would kill who writes to a map."""
    array = np.lib.format.open_memmap(path, "w+", dtype, shape)
    with path.open("r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            free = shutil.disk_usage(path.parent).free
            raise Refusal(
                f"{path.parent.parent} must have {array.nbytes:,} bytes free for token rows, "
                f"got {free:,}"
            ) from None
    return array


def _forget(cache: Path) -> None:
    """Remove all but the last used; who has one mapped keeps it until it lets go."""
    folders = [path for path in cache.iterdir() if path.is_dir()]
    for old in sorted(folders, key=lambda path: path.stat().st_mtime, reverse=True)[KEPT:]:
        shutil.rmtree(old)


def _flush(path: Path) -> None:
    """Make what is written to a file, or the names in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
