"""Rows mapped from raw files are the rows of the table, whoever decoded them and whenever."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datalake.config import Refusal
from tests.training.data.token_rows import table
from training.data import row_files
from training.data.row_files import open_rows
from training.data.rows import Rows

LENGTH = 5
FIELDS = ("tokens", "num_tokens", "piece_offsets", "piece_starts")


@pytest.fixture(autouse=True)
def every_table_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_files, "IN_MEMORY_BYTES", -1)


def save(folder: Path, num_rows: int = 300, vocab_size: int = 70_000, seed: int = 0) -> list[str]:
    """Rows of one or two pieces, whose numbers are not dense, scattered over three parts."""
    random = np.random.default_rng(seed)
    tokens = random.integers(0, vocab_size, (num_rows, LENGTH)).astype("<u4")
    columns = table(random.permutation(3 * num_rows)[:num_rows], list(map(bytes, tokens)), 70_000)
    starts = [[0, 1 + k % 4] if k % 3 else [0] for k in range(num_rows)]
    columns = columns.set_column(4, "doc_starts", pa.array(starts, pa.list_(pa.int32())))
    folder.mkdir(exist_ok=True)
    paths = []
    for number, (first, stop) in enumerate(((0, 100), (100, 100), (100, num_rows))):
        paths.append(str(folder / f"{number}.parquet"))
        pq.write_table(columns.slice(first, stop - first), paths[-1], row_group_size=64)
    return paths


def assert_same(found: Rows, expected: Rows) -> None:
    for field in FIELDS:
        one, other = getattr(found, field), getattr(expected, field)
        assert one.dtype == other.dtype and np.array_equal(one, other), field
    assert found.vocab_size == expected.vocab_size


def is_mapped(rows: Rows) -> bool:
    return isinstance(rows.tokens.base, np.memmap)


def test_mapped_rows_are_the_rows_of_the_table(tmp_path: Path) -> None:
    paths = save(tmp_path / "table")
    expected = Rows.from_files(paths)
    for _ in range(2):
        rows = open_rows(paths, tmp_path / "cache")
        assert is_mapped(rows)
        assert_same(rows, expected)
    ids = np.array([7, 299, 0, 7])
    assert rows.pieces(ids).tolist() == expected.pieces(ids).tolist()
    assert rows.read(ids)[0].tolist() == expected.tokens[ids].tolist()


def test_small_tables_and_those_without_a_cache_stay_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = save(tmp_path / "table")
    assert not is_mapped(open_rows(paths))
    monkeypatch.setattr(row_files, "IN_MEMORY_BYTES", 1 << 20)
    assert_same(open_rows(paths, tmp_path / "cache"), Rows.from_files(paths))
    assert not (tmp_path / "cache").exists()


def test_what_must_be_fetched_is_fetched_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_files, "IN_MEMORY_BYTES", 1 << 20)
    paths = save(tmp_path / "table")
    uris = [f"file://{path}" for path in paths]
    expected = Rows.from_files(paths)
    assert_same(open_rows(uris, tmp_path / "cache"), expected)
    monkeypatch.setattr(row_files, "_decode", None)  # would be called
    assert_same(open_rows(uris, tmp_path / "cache"), expected)


def test_another_version_is_another_folder(tmp_path: Path) -> None:
    one = open_rows(save(tmp_path / "table"), tmp_path / "cache")
    paths = save(tmp_path / "table", seed=1)  # of the same names and sizes
    for path in paths:
        os.utime(path, ns=(10**18, 10**18))
    other = open_rows(paths, tmp_path / "cache")
    assert_same(other, Rows.from_files(paths))
    assert not np.array_equal(one.tokens, other.tokens)


PROGRAM = """
import sys
from pathlib import Path
from training.data import row_files
row_files.IN_MEMORY_BYTES = -1
{before}
rows = row_files.open_rows(sys.argv[2:], Path(sys.argv[1]))
print(rows.tokens.sum(dtype="int64"), len(rows.piece_starts))
"""


def start(cache: Path, paths: list[str], before: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(before=before), str(cache), *paths],
        stdout=subprocess.PIPE,
        text=True,
    )


def test_processes_that_open_a_table_at_once_decode_it_once(tmp_path: Path) -> None:
    paths, cache = save(tmp_path / "table"), tmp_path / "cache"
    log = tmp_path / "decoded"
    before = (
        f"decode = row_files._decode\n"
        f"def counted(paths, draft):\n"
        f"    open({str(log)!r}, 'a').write('x')\n"
        f"    import time; time.sleep(0.3)\n"
        f"    decode(paths, draft)\n"
        f"row_files._decode = counted"
    )
    said = [process.communicate()[0] for process in [start(cache, paths, before) for _ in "abc"]]
    rows = Rows.from_files(paths)
    assert said == [f"{rows.tokens.sum(dtype='int64')} {len(rows.piece_starts)}\n"] * 3
    assert log.read_text() == "x"


def test_a_process_that_dies_while_it_decodes_leaves_nothing_that_is_believed(
    tmp_path: Path,
) -> None:
    paths, cache = save(tmp_path / "table"), tmp_path / "cache"
    before = (
        "import os\n"
        "def die(path): os.kill(os.getpid(), 9)\n"
        "row_files._flush = die  # all is written by then, but has no name yet"
    )
    process = start(cache, paths, before)
    assert process.wait() == -signal.SIGKILL
    assert any(cache.glob(".draft-*"))
    assert_same(open_rows(paths, cache), Rows.from_files(paths))
    assert not any(cache.glob(".draft-*"))


def test_a_file_that_was_cut_off_is_made_again(tmp_path: Path) -> None:
    paths, cache = save(tmp_path / "table"), tmp_path / "cache"
    open_rows(paths, cache)
    (tokens,) = cache.glob("*/tokens.npy")
    os.truncate(tokens, tokens.stat().st_size - 1)
    assert_same(open_rows(paths, cache), Rows.from_files(paths))


def test_the_last_used_are_kept_and_what_is_mapped_stays_readable(tmp_path: Path) -> None:
    cache, opened = tmp_path / "cache", []
    for k in range(row_files.KEPT + 2):
        paths = save(tmp_path / f"table-{k}", seed=k)
        opened.append((open_rows(paths, cache), Rows.from_files(paths)))
    assert sum(path.is_dir() for path in cache.iterdir()) == row_files.KEPT
    for rows, expected in opened:
        assert_same(rows, expected)


def test_what_rows_in_memory_refuse_mapped_rows_refuse(tmp_path: Path) -> None:
    cache = tmp_path / "cache"

    def refused(paths: list[str]) -> str:
        said = []
        for given in (None, cache):
            with pytest.raises(Refusal) as refusal:
                open_rows(paths, given)
            said.append(str(refusal.value))
        assert said[0] == said[1]
        return said[0]

    (one, *_), (_, other, _) = save(tmp_path / "a"), save(tmp_path / "b")
    shutil.copy(other, tmp_path / "empty")
    assert refused([other]) == "token rows must be at least one, got none in 1 files"
    short = table([0], [bytes(4 * 3)], 70_000)
    pq.write_table(short, tmp_path / "short")
    assert refused([one, str(tmp_path / "short")]) == "token rows must be equally long, got 3 and 5"
    pq.write_table(table([0], [bytes(2 * 5)], 300), tmp_path / "small")
    assert "must be of one vocabulary" in refused([one, str(tmp_path / "small")])
    large = table([0], [np.full(5, 70_000, "<u4").tobytes()], 70_000)
    pq.write_table(large, tmp_path / "large")
    rule = "token ids must be below vocab_size 70000, got 70000"
    assert refused([str(tmp_path / "large")]) == rule
    assert not [path for path in cache.iterdir() if path.name != "lock"]


def test_a_missing_part_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"part of token rows must be a file, got .*gone"):
        open_rows([str(tmp_path / "gone")], tmp_path / "cache")


def test_a_full_disk_is_refused_before_anything_is_mapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    paths, cache = save(tmp_path / "table"), tmp_path / "cache"
    with pytest.raises(Refusal, match=r"cache must have 6,000 bytes free for token rows, got"):
        open_rows(paths, cache)
    assert not [path for path in cache.iterdir() if path.name != "lock"]
