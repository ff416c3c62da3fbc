"""Small runs at equal FLOPs: which ones to make, and how the ranks of one fit share them.

Three budgets, each a constant factor above the one below, and at each the sizes around the best
one that is expected (Hoffmann et al. 2022, arXiv:2203.15556, approach 2). The top budget must not
lie far below the target, since laws of small runs do not reach far: from a fifteenth of the target
1.894 bits per byte were predicted and 1.683 found.

Starting workers takes longer than a small run, so all runs share one fit: every rank takes the
longest run that nobody has taken, trains it alone on its own threads, and comes back for more.
"""

import fcntl
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import pyarrow as pa
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from datalake.config import Config, Refusal
from datalake.schemas import TABLES
from training import progress
from training.models.accounting import num_matmul_params, train_flops_per_token
from training.models.variants import ModelConfig
from training.scaling import hyperparameters
from training.schedule import OptimizerConfig

if TYPE_CHECKING:
    from training.job import Job, Text
    from training.loop import TrainResult

REACH = 9.0  # the target may be this many times the top budget
MIN_STEPS = 20  # of a small run: below, the warm-up and the decay are all there is
BEST_EXPONENT = 0.5  # N* ~ C^0.5 (Hoffmann et al. 2022), only to place the runs


class Size(Config):
    """A rung of the ladder."""

    d_model: PositiveInt
    num_layers: PositiveInt


class ScalingRunsConfig(Config):
    """Which small runs are made, and how."""

    model: ModelConfig  # the architecture; the ladder decides its size
    ladder: tuple[Size, ...] = Field(min_length=3)
    optimizer: OptimizerConfig  # rates at 512 tokens a step, see ``hyperparameters``
    target_flops: PositiveFloat  # of the model that the law is for
    share: float = Field(gt=0, lt=1)  # of the sweep in the compute of sweep and target together
    ratio: float = Field(gt=1)  # from one budget to the next
    runs_per_budget: tuple[PositiveInt, ...] = Field(min_length=3)  # cheapest budget first
    tokens_per_param: PositiveFloat  # expected at the optimum of the top budget
    validation_rows: PositiveInt  # as many as the base model's, so that the losses compare
    seed: int
    precision: Literal["auto", "float32", "bfloat16"]
    workers: PositiveInt
    threads: PositiveInt
    retries: int = Field(ge=0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if max(self.runs_per_budget) > len(self.ladder):
            raise Refusal(
                f"runs_per_budget must be at most the {len(self.ladder)} sizes of the ladder, "
                f"got {self.runs_per_budget}"
            )
        if min(self.runs_per_budget) < 2:
            raise Refusal(f"runs_per_budget must be at least 2, got {self.runs_per_budget}")
        if self.target_flops > REACH * self.budgets[-1]:
            raise Refusal(
                f"share must leave the top budget at least 1/{REACH:.0f} of target_flops, got "
                f"{self.budgets[-1]:.3g} of {self.target_flops:.3g}; raise share or ratio, or make "
                "fewer runs at the top"
            )
        return self

    @property
    def budgets(self) -> tuple[float, ...]:
        """FLOPs of one run at each budget, ascending: together they spend the share."""
        total = self.share / (1 - self.share) * self.target_flops
        below = range(len(self.runs_per_budget) - 1, -1, -1)
        weights = [self.ratio**-k for k in below]
        top = total / sum(w * n for w, n in zip(weights, self.runs_per_budget, strict=True))
        return tuple(top * w for w in weights)


@dataclass(frozen=True, kw_only=True, slots=True)
class SmallRunDesign:
    """One run to make."""

    name: str
    flops: float
    model: ModelConfig
    batch_rows: int
    num_steps: int
    optimizer: OptimizerConfig


def design(config: ScalingRunsConfig) -> list[SmallRunDesign]:
    """The runs, longest first. Refuses a budget below ``MIN_STEPS`` steps of one."""
    models = sorted(
        (config.model.resized(size.d_model, size.num_layers) for size in config.ladder),
        key=num_matmul_params,
    )
    designs = []
    for flops, count in zip(config.budgets, config.runs_per_budget, strict=True):
        best = _expected_params(config, models, flops)
        closest = sorted(models, key=lambda m: abs(math.log(num_matmul_params(m) / best)))[:count]
        designs += [_small_run(config, model, flops) for model in closest]
    # Smaller models take longer for the same FLOPs: their matrix products are thinner.
    return sorted(designs, key=lambda run: (-run.flops, num_matmul_params(run.model)))


def _expected_params(
    config: ScalingRunsConfig, models: Sequence[ModelConfig], flops: float
) -> float:
    """N* at ``flops``, from the ratio of tokens to parameters that is expected at the top."""
    top = config.budgets[-1]

    def distance(model: ModelConfig) -> float:
        tokens = top / train_flops_per_token(model)
        return abs(math.log(tokens / num_matmul_params(model) / config.tokens_per_param))

    at_top = min(models, key=distance)
    return num_matmul_params(at_top) * (flops / top) ** BEST_EXPONENT


def _small_run(config: ScalingRunsConfig, model: ModelConfig, flops: float) -> SmallRunDesign:
    tokens = flops / train_flops_per_token(model)
    rows = hyperparameters.batch_rows(tokens, model.context_length)
    num_steps = int(tokens // (rows * model.context_length))
    if num_steps < MIN_STEPS:
        least = MIN_STEPS * rows * model.context_length * train_flops_per_token(model)
        raise Refusal(
            f"target_flops must be large enough for {MIN_STEPS} steps of every small run, got "
            f"{config.target_flops:.3g}: d_model {model.d_model} has {flops:.3g} FLOPs and needs "
            f"{least:.3g}"
        )
    return SmallRunDesign(
        name=f"d{model.d_model}-l{model.num_layers}-{flops:.2e}".replace("+", ""),
        flops=flops,
        model=model,
        batch_rows=rows,
        num_steps=num_steps,
        optimizer=hyperparameters.rates(config.optimizer, rows * model.context_length),
    )


def jobs_of(config: ScalingRunsConfig, text: "Text", folder: Path) -> list["Job"]:
    """The runs as jobs, each in a folder of its own below ``folder``."""
    from training.job import Job
    from training.pretraining import TrainConfig

    return [
        Job(
            config=TrainConfig(
                model=run.model,
                optimizer=run.optimizer,
                flops=run.flops,
                batch_rows=run.batch_rows,
                validation_rows=config.validation_rows,
                checkpoint_steps=run.num_steps,  # a small run that is lost is made again
                seed=config.seed,
                precision=config.precision,
            ),
            text=text,
            folder=folder / run.name,
        )
        for run in design(config)
    ]


def train_all(jobs: Sequence["Job"], rank: int, world: int) -> None:
    """One rank's part: train, alone, each of ``jobs`` that no other rank has taken.

    Results stay in the jobs' folders. A run that is finished is not made again, and one whose rank
    died is free to be taken, so a second attempt makes what is missing.
    """
    from training.job import read
    from training.pretraining import train

    rows, validation_rows = read(jobs[0].text)
    for job in jobs:
        with taken(job.folder) as mine:
            if mine:
                bytes_per_token = job.text.bytes_per_token
                train(job.config, rows, validation_rows, bytes_per_token, job.folder)


@contextmanager
def taken(folder: Path) -> Iterator[bool]:
    """Whether this process got the run in ``folder``; nobody else does before the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "taken").open("w") as claim:
        try:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def results(jobs: Sequence["Job"]) -> list["TrainResult"]:
    """What the jobs that are finished came to."""
    from training.loop import finished

    return [result for job in jobs if (result := finished(job.folder))]


def table(jobs: Sequence["Job"], results: Sequence["TrainResult"]) -> pa.Table:
    """The rows of ``scaling_runs``."""
    rows = []
    for job, result in zip(jobs, results, strict=True):
        model = job.config.model
        rows.append(
            {
                "run": job.folder.name,
                "flops": result.flops,
                "num_params": num_matmul_params(model),
                "num_tokens": result.tokens,
                "d_model": model.d_model,
                "num_layers": model.num_layers,
                "batch_tokens": job.config.tokens_per_step,
                "loss": result.loss,
                "seconds": result.seconds,
            }
        )
    return pa.Table.from_pylist(rows, schema=TABLES["scaling_runs"].arrow)


@contextmanager
def followed(jobs: Sequence["Job"], say: Callable[[str], None]) -> Iterator[None]:
    """Say every few seconds, while the block runs, how much of the sweep's compute is spent."""
    began, at_start = time.monotonic(), _spent(jobs)[0]

    def line() -> str | None:
        share, done = _spent(jobs)
        if share <= at_start:
            return None
        pace = (share - at_start) / (time.monotonic() - began)
        bar, left = progress.bar(share, (1 - share) / pace)
        return f"small runs {bar}  {done} of {len(jobs)} trained  {left}"

    with progress.told(say, line):
        yield


def _spent(jobs: Sequence["Job"]) -> tuple[float, int]:
    """The share of all FLOPs that were spent, and how many runs have taken all steps."""
    total, spent, done = 0.0, 0.0, 0
    for job in jobs:
        lines = progress.read(job.folder / "metrics.jsonl")
        share = lines[-1]["step"] / lines[-1]["num_steps"] if lines else 0.0
        total, spent = total + job.config.flops, spent + share * job.config.flops
        done += share == 1
    return spent / total, done
