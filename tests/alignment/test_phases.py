"""Phases through the one loop: each learns what it is for, and outlives being killed."""

import math
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from alignment import rollouts
from alignment.dpo import DpoConfig, Preferring
from alignment.phases import Configured, Phase, work
from alignment.policy_gradient import GrpoConfig, Reinforcing
from alignment.reward_model import RewardConfig, Rewarding
from alignment.rewards import RewardRule
from alignment.sft import FineTuneConfig, FineTuning
from datalake.config import Refusal
from tests.alignment.small import (
    CPU,
    MODEL,
    OPTIMIZER,
    asked,
    padded,
    said,
    save_model,
    save_text,
    save_tokenizer,
    tokenizer,
)
from training import checkpoint, progress
from training.inference.checkpointed import load_model
from training.inference.sampling import generate
from training.job import CONTROL
from training.loop import TrainResult, finished
from training.losses import answer_log_probs, next_token_loss
from training.parallel.data_parallel import DataParallel
from training.tokenizer.chat import END_OF_TURN

WORDS = ("map", "tree", "lamp", "coin", "door", "leaf")
DEMONSTRATIONS = [said(f"Say {word}", word) for word in WORDS]
PAIRS = [(said(f"Say {word}", f"{word}!"), said(f"Say {word}", f"{word}.")) for word in WORDS]
COMMON = {"model": MODEL, "optimizer": OPTIMIZER, "checkpoint_steps": 4, "seed": 1}


def tuning(parent: Path, **changes: Any) -> FineTuning:
    settings = {
        **COMMON,
        "precision": "float32",
        "parent": "digest",
        "num_steps": 60,
        "rows_per_step": 2,
        "row_length": 64,
        "replay_rows": 0,
        "replay_weight": 0.5,
        "validation_rows": 12,
    }
    config = FineTuneConfig(**(settings | changes))
    text = save_text(parent.parent / "text")
    return FineTuning.of(config, parent, DEMONSTRATIONS, DEMONSTRATIONS[:2], text)


def preferring(parent: Path, **changes: Any) -> Preferring:
    settings = {
        **COMMON,
        "precision": "float32",
        "parent": "digest",
        "num_steps": 12,
        "pairs_per_step": 4,
        "beta": 0.1,
        "sft_weight": 0.5,
        "max_fall": 100.0,
    }
    return Preferring(DpoConfig(**(settings | changes)), parent, PAIRS[:4], PAIRS[4:])


def rewarding(parent: Path, **changes: Any) -> Rewarding:
    settings = {
        **COMMON,
        "precision": "float32",
        "parent": "digest",
        "num_steps": 12,
        "pairs_per_step": 4,
        "centring": 0.01,
    }
    families = ["say", "say"]
    return Rewarding(RewardConfig(**(settings | changes)), parent, PAIRS[:4], PAIRS[4:], families)


def item(word: str, **grader: str) -> dict[str, Any]:
    return {
        "item_id": f"id of {word}",
        "family": "say",
        "content_key": f"say: {word}",
        "style": None,
        "grader": "exact",
        "grader_arguments": f'{{"answer": "{word}"}}',
    } | grader


def reinforcing(parent: Path, folder: Path, **changes: Any) -> Reinforcing:
    items = changes.pop("items", [item(word) for word in WORDS])
    settings = {
        **COMMON,
        "precision": "float32",
        "parent": "digest",
        "num_steps": 12,
        "prompts_per_step": 4,
        "num_samples": 4,
        "temperature": 1.0,
        "max_new_tokens": 8,
        "advantage": "dr_grpo",
        "reward": RewardRule(style_weight=0.25),
    }
    prompts = [asked(f"Say {word}") for word in WORDS]
    return Reinforcing(
        config=GrpoConfig(**(settings | changes)),
        parent=parent,
        tokenizer=folder / "tokenizer",
        folder=folder / "rollouts",
        items=items,
        prompts=prompts,
        held_out=items,
        held_out_prompts=prompts,
    )


def train(objective: Configured, folder: Path, control: FineTuning | None = None) -> TrainResult:
    torch.set_num_threads(1)
    about = {"asset": "phase", "inputs": {}}
    return work(Phase(objective=objective, folder=folder, about=about, control=control), 0, 1)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def tuned(base: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    """A model that was taught to repeat a few words."""
    return train(tuning(base), tmp_path_factory.mktemp("tuned"))


@pytest.fixture(scope="module")
def unsure(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that was taught so little that it is right now and then."""
    return train(tuning(base, num_steps=24), tmp_path_factory.mktemp("unsure")).checkpoint


@pytest.fixture
def home(tmp_path: Path) -> Path:
    save_tokenizer(tmp_path / "tokenizer")
    return tmp_path


def test_fine_tuning_teaches_the_answers_and_where_they_end(tuned: TrainResult) -> None:
    model = load_model(checkpoint.load(tuned.checkpoint), MODEL.vocab_size)
    end = tokenizer().special_tokens[END_OF_TURN]
    for word in WORDS:
        prompt = asked(f"Say {word}").tolist()
        answer = generate(model, prompt, 12, temperature=0, stop_ids=(end,))
        assert answer.finish == "stop"
        assert tokenizer().decode(list(answer.ids[:-1])) == word
    assert tuned.loss < 0.1


def test_fine_tuning_starts_from_the_parent_and_learns_answers_alone(base: Path) -> None:
    objective = tuning(base)
    model = objective.begin(CPU, DataParallel())
    parent = load_model(checkpoint.load(base), MODEL.vocab_size)
    assert checkpoint.weights_digest(model.state_dict()) == checkpoint.weights_digest(
        parent.state_dict()
    )
    assert len(objective.rows.tokens) == 2  # so that a step reads all demonstrations
    (part,) = objective.parts(model, 0)
    log_probs, mask = answer_log_probs(parent, *padded(DEMONSTRATIONS))
    torch.testing.assert_close(part.loss.detach(), -log_probs.detach().sum() / mask.sum())


def test_the_loss_of_two_ranks_is_the_token_mean_of_their_rows(base: Path) -> None:
    alone = tuning(base)
    model = alone.begin(CPU, DataParallel())
    (part,) = alone.parts(model, 0)
    of_ranks = []
    for rank in (0, 1):
        ranked = tuning(base)
        ranked.begin(CPU, DataParallel(rank, 2))
        (own,) = ranked.parts(model, 0)
        of_ranks.append(own.loss.detach())
    torch.testing.assert_close(torch.stack(of_ranks).mean(), part.loss.detach())


def test_replayed_text_counts_with_its_weight_beside_the_answers(base: Path) -> None:
    objective = tuning(base, replay_rows=4)
    model = objective.begin(CPU, DataParallel())
    (both,) = objective.parts(model, 0)
    plain = tuning(base)
    plain.begin(CPU, DataParallel())
    (alone,) = plain.parts(model, 0)
    text = objective.replay.read(0)[0].first(64)
    nats = next_token_loss(model, text.tokens, text.pieces).detach()
    assert both.metrics["answer_nats"] == pytest.approx(alone.metrics["answer_nats"], rel=1e-5)
    assert both.metrics["text_nats"] == pytest.approx(float(nats), rel=1e-5)
    torch.testing.assert_close(both.loss.detach(), alone.loss.detach() + 0.5 * nats)
    assert both.tokens == alone.tokens + 4 * 64
    assert both.flops == pytest.approx(objective.flops_per_step, rel=0.01)


def test_replay_keeps_what_the_model_knew_of_text(base: Path, tmp_path: Path) -> None:
    bits = {
        rows: train(tuning(base, replay_rows=rows), tmp_path / str(rows)).numbers["bits_per_byte"]
        for rows in (0, 4)
    }
    assert bits[4] < 0.7 * bits[0]


def test_dpo_starts_at_log_two_and_tells_held_out_pairs_apart(
    tuned: TrainResult, tmp_path: Path
) -> None:
    objective = preferring(tuned.checkpoint, sft_weight=0.0)
    model = objective.begin(CPU, DataParallel())
    (part,) = objective.parts(model, 0)
    assert float(part.loss.detach()) == pytest.approx(math.log(2), abs=1e-5)
    result = train(preferring(tuned.checkpoint), tmp_path)
    assert result.numbers["accuracy"] == 1
    assert result.numbers["chosen_shift"] > result.numbers["rejected_shift"]
    assert result.loss < math.log(2)
    lines = progress.read(tmp_path / "metrics.jsonl")
    assert {"chosen_shift", "rejected_shift", "margin", "accuracy"} <= lines[-1].keys()


def test_chosen_answers_that_are_unlearned_stop_dpo(tuned: TrainResult, tmp_path: Path) -> None:
    wild = OPTIMIZER.model_copy(update={"muon_lr": 0.3, "table_lr": 3.0, "warmup_fraction": 0.0})
    objective = preferring(tuned.checkpoint, optimizer=wild, max_fall=0.5, sft_weight=0.0)
    with pytest.raises(
        Refusal,
        match=r"chosen answers must not lose more than max_fall 0.5 nats, got \d+\.\d at step \d+",
    ):
        train(objective, tmp_path)


def test_a_reward_model_tells_held_out_pairs_apart_by_family(
    tuned: TrainResult, tmp_path: Path
) -> None:
    numbers = train(rewarding(tuned.checkpoint), tmp_path).numbers
    assert numbers["accuracy"] == numbers["accuracy/say"] == 1
    assert numbers["pairs"] == numbers["pairs/say"] == 2
    assert numbers["longer wins"] == 0.5  # both answers are equally long
    assert 0 <= numbers["sft log-prob"] <= 1


def test_reinforcement_makes_right_answers_likelier(unsure: Path, home: Path) -> None:
    gentle = OPTIMIZER.model_copy(update={"muon_lr": 5e-3, "adam_lr": 2e-3, "table_lr": 2e-2})
    train(reinforcing(unsure, home, num_steps=40, num_samples=8, optimizer=gentle), home / "run")
    rows = pa.Table.from_batches(rollouts.kept(home / "rollouts"))
    score = np.array(rows["score"].to_pylist()).reshape(40, -1).mean(axis=1)
    assert score[-10:].mean() > score[:10].mean() + 0.1
    assert len(set(rows["policy"].to_pylist())) == 40  # every step has weights of its own


def test_sampling_and_training_agree_on_log_probabilities(unsure: Path, home: Path) -> None:
    objective = reinforcing(unsure, home, temperature=0.8)
    model = objective.begin(CPU, DataParallel())
    (part,) = objective.parts(model, 0)
    assert 0 < part.metrics["ratio_deviation"] < 1e-4
    objective.pool.close()


def test_an_answer_that_could_not_be_judged_teaches_nothing(unsure: Path, home: Path) -> None:
    broken = [item(word, grader_arguments='{"answer": "1"}') for word in WORDS]
    objective = reinforcing(unsure, home, items=broken)
    model = objective.begin(CPU, DataParallel())

    class Raises:
        def grade(self, answers: list[Any]) -> list[Any]:
            from evaluation.verdict import not_graded

            return [not_graded("timeout", "too slow") for _ in answers]

    objective.pool.close()
    objective.pool = Raises()
    (part,) = objective.parts(model, 0)
    assert part.metrics["grader_errors"] == 1
    part.loss.backward()
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("kind", ["all wrong, fine-tune longer", "all right, take harder items"])
def test_groups_without_a_difference_stop_training_with_their_kind(
    tuned: TrainResult, home: Path, kind: str
) -> None:
    items = [item(word) for word in WORDS]
    if "wrong" in kind:
        items = [item(word, grader_arguments='{"answer": "never"}') for word in WORDS]
    objective = reinforcing(tuned.checkpoint, home, items=items, temperature=0.05)
    with pytest.raises(
        Refusal, match=rf"groups with a difference must be at least 5% of all, got 0.0% .*{kind}"
    ):
        train(objective, home / "run")


def test_a_control_spends_what_the_phase_spent_on_more_fine_tuning(
    tuned: TrainResult, tmp_path: Path
) -> None:
    control = tuning(tuned.checkpoint)
    result = train(preferring(tuned.checkpoint), tmp_path, control)
    beside = finished(tmp_path / CONTROL)
    assert beside is not None
    assert beside.flops == pytest.approx(result.flops, abs=control.flops_per_step)
    manifest = checkpoint.load(beside.checkpoint).manifest
    assert manifest["about"]["asset"] == "phase control"
    assert beside.digest != result.digest


def test_rows_longer_than_the_context_are_refused(base: Path) -> None:
    with pytest.raises(Refusal, match="row_length must be at most the model's context of 96, got"):
        tuning(base, row_length=97)


def test_no_pairs_at_all_are_refused(base: Path) -> None:
    config = preferring(base).config
    with pytest.raises(Refusal, match="held-out pairs must be at least 1, got 0"):
        Preferring(config, base, PAIRS, [])
    with pytest.raises(Refusal, match="pairs to train on must be at least 1, got 0"):
        Rewarding(rewarding(base).config, base, [], PAIRS, ["say"])


KILLED = """
import pickle, sys, time
from pathlib import Path
from training import progress
from tests.alignment.test_phases import train
count = progress.Progress.count
def slowly(self, *given): count(self, *given); time.sleep(0.05)
progress.Progress.count = slowly
train(pickle.loads(Path(sys.argv[1]).read_bytes()), Path(sys.argv[2]))
"""


@pytest.mark.parametrize("kind", ["tuning", "preferring", "rewarding", "reinforcing"])
def test_a_killed_phase_ends_with_the_bits_of_an_undisturbed_one(
    unsure: Path, home: Path, kind: str
) -> None:
    def objective(of: str) -> Configured:
        if kind == "reinforcing":
            save_tokenizer(home / of / "tokenizer")
            return reinforcing(unsure, home / of)
        make = {"tuning": tuning, "preferring": preferring, "rewarding": rewarding}[kind]
        return make(unsure, num_steps=12)

    undisturbed = train(objective("undisturbed"), home / "undisturbed" / "run")
    (home / "objective").write_bytes(pickle.dumps(objective("killed")))
    run = home / "killed" / "run"
    process = subprocess.Popen([sys.executable, "-c", KILLED, home / "objective", run])
    deadline = time.monotonic() + 180
    while not list(run.glob("step-*4")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    found = checkpoint.latest(run)
    assert found is not None and 4 <= found.step < 12
    resumed = train(objective("killed"), run)
    assert (resumed.digest, resumed.numbers) == (undisturbed.digest, undisturbed.numbers)
    if kind == "reinforcing":
        names = sorted(path.name for path in (home / "killed" / "rollouts").glob("*.parquet"))
        assert names == [f"step-{step:06d}-rank-0.parquet" for step in range(12)]


def test_rewards_put_being_right_before_any_style() -> None:
    from evaluation.verdict import graded, not_graded

    rule = RewardRule(style_weight=0.25)
    right = graded(strict=True, lenient=True, parsed="x", reason="")
    wrong = graded(strict=False, lenient=False, parsed="x", reason="no")
    friendly = "Hi! See you soon!"
    assert rule.reward(right, friendly, "friendly") == 1.25
    assert rule.reward(right, "See you.", "friendly") == 1
    assert rule.reward(wrong, friendly, "friendly") == 0
    assert rule.reward(right, friendly, None) == 1
    assert rule.reward(not_graded("error", "failed"), friendly, "friendly") is None
    assert np.isfinite(rule.style_weight)
