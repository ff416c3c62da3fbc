"""What running a training on Ray's workers costs, and what a checkpoint costs.

The same training, a model of width 48 on random rows, runs in a Ray worker and in a bare process of
the same environment, in turn; its rate counts steps alone. A fit that does nothing shows what
starting and ending workers takes. A checkpoint is compared with ``torch.save`` of the same state
into one file, which is neither flushed nor verifiable.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datalake.workspace import Workspace
from tests.benchmarks.report import Result, seconds_in_turn, show
from training import checkpoint, launch
from training.data.rows import Rows
from training.hardware import worker_environment
from training.models.language_model import build
from training.models.presets.own import tarn
from training.optim import Optimizer
from training.pretraining import TrainConfig, train
from training.schedule import OptimizerConfig

MODEL = tarn(vocab_size=8192, context_length=256, d_model=48, num_layers=4, num_heads=3)
REPEATS = 3
FLOPS = 6e11


def rate(settings: dict[str, Any], rank: int, world: int) -> float:
    """GFLOP/s of the steps of a training in this process."""
    tokens = np.random.default_rng(0).integers(0, 8192, (2000, 257), dtype=np.uint16)
    rows = Rows.whole(tokens)
    config = TrainConfig(
        model=MODEL,
        optimizer=OptimizerConfig(),
        flops=settings["flops"],
        batch_rows=4,
        validation_rows=4,
        checkpoint_steps=10**6,
        seed=0,
        precision="auto",
    )
    with tempfile.TemporaryDirectory() as folder:
        result = train(config, rows, rows, np.ones(8192), Path(folder))
    return result.flops / result.seconds / 1e9


def nothing(settings: None, rank: int, world: int) -> None:
    """A task without work."""


def _bare_rate() -> float:
    program = (
        "from tests.benchmarks.bench_launch import rate\n"
        "from training.hardware import apply_threads\n"
        f"apply_threads(1); print(rate({{'flops': {FLOPS}}}, 0, 1))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **worker_environment(1)},
        check=True,
        capture_output=True,
        text=True,
    )
    return float(done.stdout)


def _training(workspace: Workspace) -> Result:
    given = {"flops": FLOPS}
    rates: dict[str, list[float]] = {"ray": [], "bare": []}
    for _ in range(REPEATS):
        found = launch.run(rate, given, "rate", workspace, workers=1, threads=1, retries=0)
        rates["ray"].append(found)
        rates["bare"].append(_bare_rate())
    return Result(
        case="training, 4 layers of 48, one thread",
        unit="GFLOP/s",
        ours=float(np.median(rates["ray"])),
        peer_name="a bare process",
        peer=float(np.median(rates["bare"])),
    )


def _fit(workspace: Workspace) -> Result:
    def fit() -> None:
        launch.run(nothing, None, "nothing", workspace, workers=2, threads=1, retries=0)

    return Result(
        case="a fit of two workers that do nothing",
        unit="fits/min",
        ours=60 / seconds_in_turn({"fit": fit}, REPEATS)["fit"],
        peer_name="nothing",
        why="nothing else starts workers here",
    )


def _checkpoint(folder: Path) -> Result:
    model = build(MODEL)
    optimizer = Optimizer(model, OptimizerConfig())
    loss = model(torch.zeros(1, 8, dtype=torch.long)).float().logsumexp(-1).mean()
    loss.backward()
    optimizer.step(1.0)
    state = {"weights": model.state_dict(), "optimizer": optimizer.state_dict()}

    def plain() -> None:
        torch.save(state, folder / "plain.pt")

    taken = seconds_in_turn(
        {"ours": lambda: checkpoint.save(folder, 1, state, {}), "peer": plain}, 10
    )
    megabytes = (folder / "plain.pt").stat().st_size / 1e6
    return Result(
        case=f"checkpoint of {megabytes:.0f} MB, flushed and digested",
        unit="MB/s",
        ours=megabytes / taken["ours"],
        peer_name="torch.save, neither",
        peer=megabytes / taken["peer"],
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as home:
        workspace = Workspace(home=Path(home))
        results = [_checkpoint(Path(home)), _fit(workspace), _training(workspace)]
    show("launch", results, ("torch", "ray"))


if __name__ == "__main__":
    main()
