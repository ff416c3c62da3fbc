"""A model that has learned a handful of items by heart answers them, and a few it has not."""

import dataclasses
import json

import numpy as np
import pyarrow as pa
import pytest
import torch

from datalake.config import Refusal
from datalake.workspace import Workspace
from evaluation import answers, second_turn
from evaluation.answers import SCHEMA, Subject, answer_items, items_digest, read_items
from evaluation.likelihood import one_thread_per_operator
from tests.evaluation.items import bytes_tokenizer, drawn
from training.inference.sampling import generate_batch
from training.models.language_model import build
from training.models.presets.own import tarn
from training.optim import Optimizer
from training.schedule import OptimizerConfig
from training.tokenizer import chat

CONTEXT, LONGEST = 160, 64
CONFIG = tarn(
    vocab_size=256 + len(chat.SPECIAL_TOKENS),
    context_length=CONTEXT,
    d_model=32,
    num_layers=2,
    num_heads=2,
)


@pytest.fixture(scope="module")
def items() -> pa.Table:
    return drawn(3).sort_by("item_id")


@pytest.fixture(scope="module")
def subject(items: pa.Table) -> Subject:
    """Has learned the items whose place is even; of the others it says something."""
    model = build(CONFIG, seed=0)
    told = [
        chat.render(
            [
                chat.Message(role="user", content=row["prompt"]),
                chat.Message(role="assistant", content=row["answer"]),
            ],
            bytes_tokenizer(),
        )
        for row in items.to_pylist()[::2]
    ]
    length = max(len(one.ids) for one in told)
    tokens = torch.zeros(len(told), length, dtype=torch.long)
    learned = torch.zeros(len(told), length, dtype=torch.bool)
    for place, one in enumerate(told):
        tokens[place, : len(one.ids)] = torch.from_numpy(one.ids.astype(np.int64))
        learned[place, : len(one.ids)] = torch.from_numpy(one.learned)
    optimizer = Optimizer(model, OptimizerConfig(muon_lr=0.02, adam_lr=0.01, table_lr=0.1))
    with one_thread_per_operator():  # a second one is slower where others are at work
        for _ in range(400):
            hidden = model.hidden(tokens[:, :-1])[learned[:, 1:]]
            loss = torch.nn.functional.cross_entropy(
                model.logits(hidden).float(), tokens[:, 1:][learned[:, 1:]]
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step(1.0)
            if loss < 0.01:
                break
    return Subject("learner", model.float().eval(), "a" * 64, bytes_tokenizer(), "b" * 64)


@pytest.fixture
def workspace(tmp_path):
    return Workspace(home=tmp_path, say=lambda line: None)


def ask(
    workspace: Workspace,
    subject: Subject,
    items: pa.Table,
    longest: int = LONGEST,
    batch: int = 5,
    **drawn: float,
) -> pa.Table:
    return answer_items(
        workspace, subject, items, max_new_tokens=longest, rows_per_batch=batch, **drawn
    )


def verdicts(table: pa.Table) -> list[tuple]:
    return [(r["item_id"], r["text"], r["score"], r["reason"]) for r in table.to_pylist()]


def test_what_was_learned_by_heart_is_right_in_every_family(workspace, subject, items):
    rows = ask(workspace, subject, items).to_pylist()
    assert [row["item_id"] for row in rows] == items["item_id"].to_pylist()
    for row in rows[::2]:
        assert (row["text"], row["score"], row["outcome"]) == (row["wanted"], 1, "graded")
        assert row["finished"] and row["num_tokens"] == len(row["wanted"].encode()) + 1
    assert {row["family"] for row in rows[::2]} == {"sort", "refuse", "comply", "message"}
    assert any(row["score"] == 0 for row in rows[1::2])


@pytest.mark.parametrize("temperature", [0, 1.0])
def test_the_size_of_batches_changes_no_verdict(tmp_path, subject, items, temperature):
    said = []
    for size in (1, 4, 100):
        workspace = Workspace(home=tmp_path / str(size), say=lambda line: None)
        found = ask(workspace, subject, items, batch=size, temperature=temperature)
        said.append(verdicts(found))
    assert said[0] == said[1] == said[2]


def test_a_draw_depends_on_its_item_and_on_the_seed_alone(tmp_path, subject, items):
    def drawn(name: str, some: pa.Table, seed: int) -> list[tuple]:
        workspace = Workspace(home=tmp_path / name, say=lambda line: None)
        return verdicts(ask(workspace, subject, some, temperature=4.0, seed=seed))

    first = drawn("first", items, seed=3)
    assert drawn("again", items, seed=3) == first
    assert drawn("fewer", items.slice(7, 9), seed=3) == first[7:16]
    assert drawn("other", items, seed=4) != first


def test_draws_are_kept_apart_from_greedy_answers_and_from_other_draws(workspace, subject, items):
    some = items.slice(0, 2)
    for number, how in enumerate(
        ({}, {"temperature": 1.0}, {"temperature": 1.0, "seed": 1}, {"temperature": 0.5}), start=1
    ):
        ask(workspace, subject, some, **how)
        assert len(list((workspace.home / "runs").iterdir())) == number
    ask(workspace, subject, some, seed=1)  # nothing is drawn, so no seed counts
    assert len(list((workspace.home / "runs").iterdir())) == number


def test_turns_before_an_item_are_read_and_their_answers_kept_apart(workspace, subject, items):
    some = items.slice(0, 6)
    first = ask(workspace, subject, some, longest=8)
    before = second_turn.exchanges(some)
    fitting = second_turn.that_fit(some, before, bytes_tokenizer(), CONTEXT - 8)
    assert fitting.num_rows > 1
    second = ask(workspace, subject, fitting, longest=8, before=before)
    assert second["item_id"].equals(fitting["item_id"])
    there = {row["item_id"]: row["text"] for row in first.to_pylist()}
    assert any(row["text"] != there[row["item_id"]] for row in second.to_pylist())
    assert len(list((workspace.home / "runs").iterdir())) == 2
    assert ask(workspace, subject, some, longest=8, before={}).equals(first)
    assert len(list((workspace.home / "runs").iterdir())) == 2
    others = {item_id: before[max(before)] for item_id in before}
    ask(workspace, subject, fitting.slice(0, 1), longest=8, before=before)
    ask(workspace, subject, fitting.slice(0, 1), longest=8, before=others)
    assert len(list((workspace.home / "runs").iterdir())) == 4


def test_an_answer_without_an_end_is_wrong_whatever_it_began_with(workspace, subject, items):
    whole = {row["item_id"]: row for row in ask(workspace, subject, items).to_pylist()}
    for row in ask(workspace, subject, items, longest=12).to_pylist():
        before = whole[row["item_id"]]
        if before["num_tokens"] > 12:
            assert not row["finished"] and row["num_tokens"] == 12
            assert (row["score"], row["lenient"], row["outcome"]) == (0, 0, "unfinished")
            assert row["style"] in (None, 0)
        else:
            assert row == before


def test_style_is_scored_where_an_item_has_one(workspace, subject, items):
    for row in ask(workspace, subject, items).to_pylist()[::2]:
        assert (row["style"] is None) == (row["family"] in ("sort", "refuse"))
        assert (row["style_is_open"] is None) == (row["style"] is None)
        if row["style"] is not None and not row["style_is_open"]:
            assert row["style"] == 1
    by_id = {row["item_id"]: row for row in ask(workspace, subject, items).to_pylist()}
    for item in items.to_pylist():
        if item["style"] is not None:
            asked = json.loads(item["grader_arguments"]).get("style")
            assert by_id[item["item_id"]]["style_is_open"] == (asked is None)


def test_an_interrupted_evaluation_answers_only_the_rest(workspace, subject, items, monkeypatch):
    expected = ask(dataclasses.replace(workspace, home=workspace.home / "other"), subject, items)
    asked: list[int] = []

    def counted(model, prompts, *args, **kwargs):
        asked.append(len(prompts))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return generate_batch(model, prompts, *args, **kwargs)

    monkeypatch.setattr(answers, "generate_batch", counted)
    with pytest.raises(KeyboardInterrupt):
        ask(workspace, subject, items)
    (folder,) = (workspace.home / "runs").glob("answers-*")
    assert sorted(p.name for p in folder.iterdir()) == ["part-00000.parquet", "part-00001.parquet"]
    asked.clear()
    monkeypatch.setattr(
        answers,
        "generate_batch",
        lambda model, prompts, *a, **k: (
            asked.append(len(prompts)) or generate_batch(model, prompts, *a, **k)
        ),
    )
    lines: list[str] = []
    again = ask(dataclasses.replace(workspace, say=lines.append), subject, items)
    assert asked == [5, 5, 4]
    assert again.equals(expected)
    assert lines[0] == "learner: 10 of 24 answers are there already"
    asked.clear()
    assert ask(workspace, subject, items).equals(expected)
    assert not asked


def test_no_model_is_given_what_another_one_said(workspace, subject, items):
    ask(workspace, subject, items)
    changes = (
        dataclasses.replace(subject, weights="c" * 64),
        dataclasses.replace(subject, tokenizer_digest="c" * 64),
    )
    for number, other in enumerate(changes, start=2):
        ask(workspace, other, items)
        assert len(list((workspace.home / "runs").iterdir())) == number
    ask(workspace, subject, items, longest=LONGEST - 1)
    ask(workspace, subject, items.slice(0, 5))
    assert len(list((workspace.home / "runs").iterdir())) == 5


def test_the_digest_of_items_knows_what_is_asked_and_not_in_which_order(items):
    digest = items_digest(items)
    assert items_digest(items.take(list(range(len(items)))[::-1])) == digest
    prompts = items["prompt"].to_pylist()
    worded = items.set_column(
        items.column_names.index("prompt"), "prompt", pa.array([prompts[0] + "?", *prompts[1:]])
    )
    assert items_digest(worded) != digest


def test_a_grader_that_fails_judges_nothing(workspace, subject, items, monkeypatch):
    from evaluation.verdict import not_graded

    class Broken:
        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def grade(self, given):
            return [not_graded("timeout", "grader took more than its time")] * len(given)

    monkeypatch.setattr(answers, "GraderPool", Broken)
    for row in ask(workspace, subject, items.slice(0, 3)).to_pylist():
        assert (row["score"], row["lenient"], row["outcome"]) == (None, None, "timeout")


def test_answers_have_the_columns_of_their_schema(workspace, subject, items):
    assert ask(workspace, subject, items).schema.equals(SCHEMA)


def test_a_prompt_that_leaves_no_room_is_refused_by_its_item(workspace, subject, items):
    lengths = [len(answers.prompt_ids(row, bytes_tokenizer())) for row in items.to_pylist()]
    longest = max(lengths)
    room = CONTEXT - longest + 1
    with pytest.raises(Refusal) as refusal:
        ask(workspace, subject, items, longest=room)
    item_id = items["item_id"].to_pylist()[lengths.index(longest)]
    assert str(refusal.value) == (
        f"prompt of item {item_id} must be at most {longest - 1} tokens, so that an answer of "
        f"{room} fits the context of {CONTEXT}, got {longest}"
    )


def test_a_tokenizer_without_the_tokens_of_a_chat_is_refused(workspace, subject, items):
    plain = dataclasses.replace(subject, tokenizer=bytes_tokenizer((chat.END_OF_TEXT,)))
    with pytest.raises(Refusal) as refusal:
        ask(workspace, plain, items)
    assert str(refusal.value) == (
        "tokenizer must have the special token <|system|> to chat, got <|endoftext|>"
    )


def test_items_are_those_of_both_test_splits_at_one_version(workspace):
    table = drawn(2)
    training = table.set_column(
        table.column_names.index("split"), "split", pa.array(["sft"] * len(table))
    )
    version = workspace.lake.overwrite("instructions", table).version
    workspace.lake.overwrite("instructions", training)
    found = read_items(workspace.lake, version)
    assert found["item_id"].to_pylist() == sorted(table["item_id"].to_pylist())
    with pytest.raises(Refusal) as refusal:
        read_items(workspace.lake, version + 1)
    assert str(refusal.value) == (
        "split test_values of table instructions must hold at least one item, got none"
    )
