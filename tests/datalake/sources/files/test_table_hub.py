"""Data sets by name: ``datasets`` takes a folder for one too, so the real package is tested."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from datalake.config import Refusal
from datalake.sources.files.table_files import Columns, TablesConfig
from datalake.sources.report import Report
from datalake.sources.source import Record
from tests.datalake.sources.refreshes import refresh_of

TEXTS = [f"text {n}" for n in range(6)]


@pytest.fixture
def data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "set"
    folder.mkdir()
    for shard in range(2):
        rows = [{"content": text, "n": n} for n, text in enumerate(TEXTS[shard::2])]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"train-{shard}.jsonl").write_text(lines)
    return str(folder)


def test_shards_are_pieces_and_rows_can_be_read_again(
    tmp_path: Path, report: Report, data_set: str
) -> None:
    config = TablesConfig(hub=data_set, split="train", columns=Columns(text="content"))
    now = refresh_of(tmp_path, report)
    pieces = pickle.loads(pickle.dumps(config.pieces(now)))
    assert [piece.name for piece in pieces] == [f"{data_set} train shard {n}" for n in range(2)]
    records = [event for piece in pieces for event in config.read(piece, now)]
    held = [record for record in records if isinstance(record, Record)]
    assert sorted((r.payload or b"").decode() for r in held) == TEXTS
    assert [r.position for r in held] == ["row 0", "row 1", "row 2"] * 2
    assert {r.uri for r in held} == {f"hf://datasets/{data_set}/train/{n}" for n in range(2)}
    assert TablesConfig.read_again(held[4].place) == held[4].payload


def test_wrong_columns_and_splits_are_refused(
    tmp_path: Path, report: Report, data_set: str
) -> None:
    now = refresh_of(tmp_path, report)
    config = TablesConfig(hub=data_set, split="dev", columns=Columns(text="content"))
    with pytest.raises(Refusal, match="hub must be a data set with split dev, got"):
        config.pieces(now)
    config = TablesConfig(hub=data_set, split="train", columns=Columns(text="body"))
    with pytest.raises(Refusal, match=r"columns.text must be a column of .*, got body; there are"):
        list(config.read(config.pieces(now)[0], now))


def test_without_the_network_there_is_one_clear_error() -> None:
    program = (
        "from datalake.sources.files.table_hub import pieces\n"
        "try:\n    pieces('nobody/nothing', 'train', None, {})\n"
        "except OSError as error:\n    print(error)\n"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("data set nobody/nothing cannot be had from the hub: ")
