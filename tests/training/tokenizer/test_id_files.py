from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from datalake.config import Refusal
from orchestration.cli import app
from tests.training.tokenizer.texts_to_try import PROSE, SOURCE
from tests.training.tokenizer.tokenizers_to_try import TOKENIZERS
from training.tokenizer.id_files import decode_file, encode_file

TOKENIZER = TOKENIZERS["cl100k"]


def test_a_file_becomes_ids_and_the_same_bytes_again(tmp_path: Path):
    text, ids, back = (tmp_path / name for name in ("text", "ids.bin", "back"))
    text.write_bytes((SOURCE + PROSE).encode() + b"\xff\r\n")
    count = encode_file(TOKENIZER, text, ids)
    assert np.array_equal(np.fromfile(ids, "<u2"), TOKENIZER.encode(text.read_bytes()))
    assert count == len(np.fromfile(ids, "<u2"))
    assert decode_file(TOKENIZER, ids, back) == text.stat().st_size
    assert back.read_bytes() == text.read_bytes()


def test_the_command_line_encodes_and_decodes(tmp_path: Path):
    TOKENIZER.save(tmp_path)
    text, ids, back = (tmp_path / name for name in ("text", "ids.bin", "back"))
    text.write_text(PROSE, encoding="utf-8")
    run = CliRunner()
    words = ["--tokenizer", str(tmp_path), "--out"]
    done = run.invoke(app, ["tokenizer", "encode", str(text), *words, str(ids), "--threads", "2"])
    assert done.exit_code == 0 and "ids (uint16)" in done.output
    done = run.invoke(app, ["tokenizer", "decode", str(ids), *words, str(back)])
    assert done.exit_code == 0
    assert back.read_text(encoding="utf-8") == PROSE
    done = run.invoke(app, ["tokenizer", "encode", str(tmp_path / "no"), *words, str(ids)])
    assert done.exit_code == 2 and "must be a file, got nothing there" in done.output


def test_nothing_half_written_is_taken_for_the_whole(tmp_path: Path):
    ids, out = tmp_path / "ids.bin", tmp_path / "out"
    ids.write_bytes(np.array([5, 699, 700], "<u2").tobytes())
    with pytest.raises(Refusal, match=r"token ids must be in 0 \.\. 699, got 700"):
        decode_file(TOKENIZER, ids, out)
    ids.write_bytes(b"abc")
    with pytest.raises(Refusal, match="must hold ids of 2 bytes each, got 3 bytes"):
        decode_file(TOKENIZER, ids, out)
    with pytest.raises(Refusal, match="must be another file than what is read"):
        encode_file(TOKENIZER, ids, ids)
    with pytest.raises(Refusal, match="must be a file in a folder that exists"):
        encode_file(TOKENIZER, ids, tmp_path / "none" / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["ids.bin"]
