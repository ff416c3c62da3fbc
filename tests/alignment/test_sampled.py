"""Answers to many prompts: every one of them, whoever draws it, and none twice."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from alignment import rollouts
from alignment.examples import ItemsConfig, make_items
from alignment.rollouts import Sampling
from alignment.sampled import Draw, samples_of, work
from datalake.config import Refusal
from datalake.schemas import TABLES
from datalake.tables import Lake
from tests.alignment.small import MODEL, asked, save_model, save_tokenizer

ITEMS = make_items(
    ItemsConfig(counts={"preference": 5}, families={"count": {}}, house_style="friendly"), seed=0
).to_pylist()


@pytest.fixture
def draw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Draw:
    torch.set_num_threads(1)
    monkeypatch.setattr(rollouts, "NUM_SEQUENCES", 6)  # two prompts a batch
    return Draw(
        model=save_model(tmp_path / "model"),
        tokenizer=save_tokenizer(tmp_path / "tokenizer"),
        folder=tmp_path / "rollouts",
        items=ITEMS,
        prompts=[asked(item["prompt"]) for item in ITEMS],
        sampling=Sampling(num_samples=3, temperature=1.0, max_new_tokens=6),
        seed=4,
    )


def _all(draw: Draw) -> pa.Table:
    return pa.Table.from_batches(rollouts.kept(draw.folder), rollouts.SCHEMA)


def test_every_prompt_gets_its_answers_on_any_number_of_ranks(draw: Draw, tmp_path: Path) -> None:
    assert [len(chunk) for chunk in draw.chunks] == [2, 2, 1]
    work(draw, 0, 2)
    assert draw.num_done == 2  # the first and the third
    work(draw, 1, 2)
    together = _all(draw)
    assert len(together) == 5 * 3 and len(samples_of(together)) == 15
    for path in draw.folder.iterdir():
        path.unlink()
    work(draw, 0, 1)
    assert _all(draw).equals(together)


def test_batches_that_are_there_are_not_drawn_again(draw: Draw) -> None:
    work(draw, 0, 1)
    times = {path.name: path.stat().st_mtime_ns for path in draw.folder.iterdir()}
    before = _all(draw)
    draw.file(1).unlink()
    work(draw, 0, 1)
    again = {path.name: path.stat().st_mtime_ns for path in draw.folder.iterdir()}
    assert [name for name in times if times[name] != again[name]] == [draw.file(1).name]
    assert _all(draw).equals(before)


def test_rollouts_are_rows_of_their_table_and_lead_back_to_what_was_drawn(
    draw: Draw, tmp_path: Path
) -> None:
    work(draw, 0, 1)
    rows = _all(draw)
    assert rows.schema == TABLES["rollouts"].arrow
    commit = Lake(str(tmp_path / "lake")).overwrite("rollouts", rollouts.kept(draw.folder))
    assert commit.rows == 15
    read = Lake(str(tmp_path / "lake")).read("rollouts", commit.version)
    assert read.sort_by("rollout_id").equals(rows.sort_by("rollout_id"))
    conversations, log_probs = rollouts.conversations_of(rows)
    for row, conversation, sampled in zip(rows.to_pylist(), conversations, log_probs, strict=True):
        assert conversation.ids.tolist() == row["prompt_ids"] + row["completion_ids"]
        assert conversation.ids[conversation.learned].tolist() == row["completion_ids"]
        assert sampled.tolist() == row["log_probs"]


def test_the_cost_counts_a_prompt_once_and_every_drawn_token(draw: Draw) -> None:
    work(draw, 0, 1)
    rows = _all(draw)
    read = sum(len(prompt) for prompt in draw.prompts)
    said = sum(len(ids) for ids in rows["completion_ids"].to_pylist())
    one = rows.slice(0, 3)
    assert 0 < rollouts.flops_of(one, MODEL) < rollouts.flops_of(rows, MODEL)
    body = 2 * 2 * 12 * 32 * 32
    head = 2 * MODEL.vocab_size * 32
    assert rollouts.flops_of(rows, MODEL) > read * body + said * (body + head)


def test_an_unfinished_answer_is_wrong_and_never_cut_to_fit(draw: Draw) -> None:
    work(draw, 0, 1)
    rows: list[dict[str, Any]] = _all(draw).to_pylist()
    cut = [row for row in rows if row["finish"] == "length"]
    assert cut and all(row["outcome"] == "unfinished" and row["score"] == 0 for row in cut)


def test_a_folder_without_rollouts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"rollouts must lie in /.*, got nothing there"):
        next(rollouts.kept(tmp_path))
