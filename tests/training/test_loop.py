"""The training loop: a resumed run equals an undisturbed one, and so does one on more ranks."""

import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed
import torch.multiprocessing

from datalake.config import Refusal
from training import checkpoint, progress, validation
from training.data.loader import Batch, batch_of
from training.data.rows import Rows
from training.loop import TrainResult
from training.models.presets.own import tarn
from training.parallel.data_parallel import DataParallel
from training.pretraining import TrainConfig, train
from training.schedule import OptimizerConfig

MODEL = tarn(vocab_size=64, context_length=16, d_model=32, num_layers=2, num_heads=2)
BYTES_PER_TOKEN = np.arange(64) % 4  # every fourth token, such as <|endoftext|>, has none


def settings(**changes: Any) -> TrainConfig:
    given = {
        "model": MODEL,
        "optimizer": OptimizerConfig(muon_lr=0.02, table_lr=0.05),
        "flops": 40.5 * 8 * 16 * (6 * (2 * 12 * 32 * 32 + 64 * 32) + 6 * 2 * 32 * 17),
        "batch_rows": 8,
        "validation_rows": 20,
        "checkpoint_steps": 10,
        "seed": 3,
        "precision": "float32",
    }
    return TrainConfig(**(given | changes))


def some_rows(num_rows: int, seed: int = 0) -> Rows:
    """Rows in which a token mostly follows from the one before: something to learn."""
    random = np.random.default_rng(seed)
    tokens = random.integers(0, 64, (num_rows, 17), dtype=np.uint16)
    for position in range(1, 17):
        follows = random.random(num_rows) < 0.8
        tokens[follows, position] = tokens[follows, position - 1] * 5 % 64
    return Rows.whole(tokens)


TRAIN, VALIDATION = some_rows(300), some_rows(50, seed=1)


def run(folder: Path, **changes: Any) -> TrainResult:
    torch.set_num_threads(1)
    return train(settings(**changes), TRAIN, VALIDATION, BYTES_PER_TOKEN, folder)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    return run(tmp_path_factory.mktemp("undisturbed"))


def _crash_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    count = progress.Progress.count

    def crash(self: progress.Progress, *given: Any) -> None:
        count(self, *given)
        if self.steps == steps:
            raise RuntimeError("power cut")

    monkeypatch.setattr(progress.Progress, "count", crash)


def test_training_learns(undisturbed: TrainResult) -> None:
    uniform = math.log2(64) * 16 / (1.5 * 16)  # bits per byte of a model that knows nothing
    assert undisturbed.loss < 0.75 * uniform
    assert undisturbed.steps == 40
    assert undisturbed.tokens == 40 * 8 * 16
    assert undisturbed.flops == 40 * settings().flops_per_step
    assert undisturbed.hardware["dtype"] == "float32"


def test_the_same_run_twice_ends_with_the_same_bits(
    undisturbed: TrainResult, tmp_path: Path
) -> None:
    again = run(tmp_path)
    assert (again.digest, again.loss) == (undisturbed.digest, undisturbed.loss)
    assert run(tmp_path / "other", seed=4).digest != again.digest


@pytest.mark.parametrize("steps", [1, 10, 17, 39])
def test_a_crash_at_any_step_changes_no_bit(
    undisturbed: TrainResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="power cut"):
        _crash_after(patch, steps)
        run(tmp_path)
    resumed = run(tmp_path)
    assert (resumed.digest, resumed.loss) == (undisturbed.digest, undisturbed.loss)
    assert resumed.steps == 40


def test_a_damaged_checkpoint_is_made_up_for_by_the_one_before(
    undisturbed: TrainResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="power cut"):
        _crash_after(patch, 25)
        run(tmp_path)
    (tmp_path / "step-000000020" / "optimizer.pt").write_bytes(b"damaged")
    assert run(tmp_path).digest == undisturbed.digest


def test_a_finished_run_answers_without_training(undisturbed: TrainResult) -> None:
    before = (undisturbed.checkpoint / "manifest.json").stat().st_mtime_ns
    assert run(undisturbed.checkpoint.parent) == undisturbed
    assert (undisturbed.checkpoint / "manifest.json").stat().st_mtime_ns == before


def test_a_killed_process_changes_no_bit(undisturbed: TrainResult, tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from training import progress\n"
        "from tests.training.test_loop import run\n"
        "count = progress.Progress.count\n"
        "def slowly(self, *given): count(self, *given); time.sleep(0.02)\n"
        "progress.Progress.count = slowly; run(Path(sys.argv[1]))"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)])
    while not list(tmp_path.glob("step-*20")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    found = checkpoint.latest(tmp_path)
    assert found is not None and 20 <= found.step < 40
    assert run(tmp_path).digest == undisturbed.digest


def test_micro_batches_and_checkpoints_change_nothing_but_rounding(
    undisturbed: TrainResult, tmp_path: Path
) -> None:
    often = run(tmp_path / "often", checkpoint_steps=7)
    assert often.digest == undisturbed.digest
    parts = run(tmp_path / "parts", micro_batch_rows=3)
    assert parts.loss == pytest.approx(undisturbed.loss, rel=1e-4)


@pytest.mark.slow
def test_a_compiled_step_reaches_the_loss_of_the_plain_one(
    undisturbed: TrainResult, tmp_path: Path
) -> None:
    compiled = run(tmp_path, compile=True)
    assert compiled.loss == pytest.approx(undisturbed.loss, rel=1e-3)
    assert checkpoint.load_weights(compiled.checkpoint).keys() == (
        checkpoint.load_weights(undisturbed.checkpoint).keys()
    )


def _train_as_rank(rank: int, world: int, port: int, folder: Path) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world
    )
    torch.set_num_threads(1)
    train(settings(), TRAIN, VALIDATION, BYTES_PER_TOKEN, folder, DataParallel(rank, world))
    torch.distributed.destroy_process_group()


def _train_on_ranks(world: int, folder: Path) -> TrainResult:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_train_as_rank, (world, port, folder), nprocs=world)
    return run(folder)


def test_two_ranks_reach_the_loss_of_one(undisturbed: TrainResult, tmp_path: Path) -> None:
    two = _train_on_ranks(2, tmp_path)
    assert two.loss == pytest.approx(undisturbed.loss, rel=1e-4)


def test_a_run_of_one_rank_goes_on_with_two(
    undisturbed: TrainResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="power cut"):
        _crash_after(patch, 25)
        run(tmp_path)
    assert _train_on_ranks(2, tmp_path).loss == pytest.approx(undisturbed.loss, rel=1e-4)


def test_metrics_of_steps_that_a_crash_undid_are_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "METRICS_SECONDS", 0)
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="power cut"):
        _crash_after(patch, 17)
        run(tmp_path)
    path = tmp_path / "metrics.jsonl"
    assert [line["step"] for line in progress.read(path)] == list(range(1, 18))
    with path.open("a") as file:
        file.write('{"step": 18, "lo')  # died in the middle of a line
    run(tmp_path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 41))
    last = lines[-1]
    assert last["num_steps"] == 40 and last["eta_seconds"] == 0
    assert last["tokens"] == 40 * 8 * 16
    assert last["flops_per_second"] == pytest.approx(
        last["tokens_per_second"] * settings().flops_per_step / settings().tokens_per_step
    )
    assert all(0 < line["mfu"] < 1 and line["loss"] < 5 for line in lines)
    assert progress.read(path, after_step=38) == lines[-2:]


def test_validation_rows_are_spread_over_the_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[np.ndarray] = []

    def watched(rows: Rows, ids: np.ndarray) -> Batch:
        seen.append(ids)
        return batch_of(rows, ids)

    monkeypatch.setattr(validation, "batch_of", watched)
    train(settings(validation_rows=8), TRAIN, VALIDATION, BYTES_PER_TOKEN, tmp_path)
    assert np.concatenate(seen).tolist() == [0, 7, 14, 21, 28, 35, 42, 49]


def test_the_manifest_says_what_the_run_was_about(tmp_path: Path) -> None:
    about = {"tokens": 7, "tokenizer": "/artifacts/tokenizer/abc"}
    result = train(settings(), TRAIN, VALIDATION, BYTES_PER_TOKEN, tmp_path, about=about)
    manifest = checkpoint.load(result.checkpoint).manifest
    assert manifest["about"] == about
    assert TrainConfig.model_validate_json(json.dumps(manifest["config"])) == settings()
    assert manifest["world"] == 1


def test_a_budget_below_one_step_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal) as refusal:
        run(tmp_path, flops=1e6)
    assert str(refusal.value) == (
        "flops must be at least 2.13e+07, one step of 128 tokens, got 1e+06"
    )


def test_other_settings_in_the_same_folder_are_refused(undisturbed: TrainResult) -> None:
    folder = undisturbed.checkpoint.parent
    with pytest.raises(Refusal) as refusal:
        run(folder, seed=4)
    assert str(refusal.value) == (
        f"seed must be 3 as in the run that {folder} holds, got 4; train it into another folder"
    )


def test_a_loss_that_is_not_finite_is_refused_with_its_step(tmp_path: Path) -> None:
    wild = OptimizerConfig(adam_lr=1e30, warmup_fraction=0)
    with pytest.raises(Refusal, match=r"^loss must be finite, got (nan|inf) at step \d+ in /"):
        run(tmp_path, optimizer=wild)


def test_a_folder_that_another_trainer_holds_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "LOCK_PATIENCE_SECONDS", 0.1)
    message = re.escape(f"{tmp_path} must have one trainer, got a second one while process ")
    with checkpoint.hold(tmp_path), pytest.raises(Refusal, match=f"^{message}{os.getpid()}"):
        run(tmp_path)


def test_rows_of_another_length_are_refused(tmp_path: Path) -> None:
    short = Rows.whole(VALIDATION.tokens[:, :9])
    with pytest.raises(Refusal) as refusal:
        train(settings(), TRAIN, short, BYTES_PER_TOKEN, tmp_path)
    assert str(refusal.value) == (
        "validation rows must be some of context_length + 1 = 17 tokens, got shape (50, 9)"
    )


def test_rows_that_ranks_cannot_share_equally_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal) as refusal:
        train(settings(), TRAIN, VALIDATION, BYTES_PER_TOKEN, tmp_path, DataParallel(0, 3))
    assert str(refusal.value) == "batch_rows must be a multiple of the 3 workers, got 8"
