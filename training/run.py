"""From the corpus to a base model: the stages of this room, in order.

Each stage reads its inputs at the versions given, makes one table or artifact, and says what it
made; the work itself is in the modules that it names.
"""

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator

from datalake import charts
from datalake.config import Config
from datalake.workspace import Inputs, Made, Workspace, folder_bytes
from training.scaling.mixtures import MixtureRunsConfig
from training.scaling.plan import TrainingPlanConfig
from training.scaling.sweep import ScalingRunsConfig
from training.tokenizer.patterns import check_pattern

if TYPE_CHECKING:
    from training.data.mixing import Mixture
    from training.tokenizer.bpe import Tokenizer


class TokenizerConfig(Config):
    """The vocabulary, and how text is cut before byte-pair encoding."""

    vocab_size: int = Field(gt=256)  # bytes, merges, special tokens
    pattern: str  # a name of patterns.PATTERNS, or a regular expression of one's own

    @field_validator("pattern")
    @classmethod
    def _cuts_every_text(cls, pattern: str) -> str:
        check_pattern(pattern)
        return pattern


class TokensConfig(Config):
    """The rows of training, and what is held out of it."""

    context_length: PositiveInt
    validation_fraction: float = Field(gt=0, lt=1)  # of the clusters of near-duplicates
    seed: int  # of what is held out, and of the order of documents


class ScalingLawConfig(Config):
    """Nothing is left to decide: the rules compete on the runs."""


class BaseModelConfig(Config):
    """How the plan is carried out; the plan says what."""

    validation_rows: PositiveInt  # as many as the small runs', so that the losses compare
    num_checkpoints: PositiveInt  # spread over the run; a crash costs the way from the last one
    micro_batch_rows: PositiveInt | None = None  # None: a rank's share of a step at once
    precision: Literal["auto", "float32", "bfloat16"]
    compile: bool = False  # costs 38 s before the first step, so for runs of many minutes
    # Weights of sources of the corpus, those not named are not read; None: every row once an epoch.
    mixture: Mapping[str, PositiveFloat] | None = Field(default=None, min_length=1)
    seed: int  # of weights and data order
    workers: PositiveInt
    threads: PositiveInt
    retries: int = Field(ge=0)


class Settings(Config):
    """The training section of a recipe: one part a stage."""

    tokenizer: TokenizerConfig
    tokens: TokensConfig
    mixture_runs: MixtureRunsConfig | None = None  # None: shares are not fitted
    scaling_runs: ScalingRunsConfig
    scaling_law: ScalingLawConfig = ScalingLawConfig()
    training_plan: TrainingPlanConfig
    base_model: BaseModelConfig


def tokenizer(workspace: Workspace, inputs: Inputs, config: TokenizerConfig) -> Made:
    """Learn a vocabulary from the corpus; a document counts as often as an epoch shows it.

    A corpus that supports fewer merges gives a smaller vocabulary, which the report says. Raises
    Refusal where ``vocab_size`` has no place for bytes and special tokens, or there is no text.
    """
    from training.tokenizer import chat
    from training.tokenizer.bpe import Tokenizer
    from training.tokenizer.learning.bpe_trainer import check_vocab_size, learn_merges
    from training.tokenizer.learning.corpus_counts import count_corpus
    from training.tokenizer.patterns import character_classes

    began = time.monotonic()
    check_vocab_size(config.vocab_size, len(chat.SPECIAL_TOKENS))
    classes, version_of_classes = character_classes()
    counts = count_corpus(workspace, int(inputs["corpus"]), config.pattern, classes)
    workspace.say(f"{len(counts.counts):,} distinct pre-tokens in {counts.num_bytes:,} bytes")
    merges = learn_merges(counts, config.vocab_size, len(chat.SPECIAL_TOKENS), workspace.say)
    made = Tokenizer(
        merges.pairs,
        config.pattern,
        classes,
        chat.SPECIAL_TOKENS,
        chat_template=chat.TEMPLATE,
    )
    folder, content = workspace.save_artifact("tokenizer", made.save)
    report: dict[str, int | float | str] = {
        "vocab_size": made.vocab_size,
        "merges": len(merges.pairs),
        "bytes per token": round(merges.bytes_per_token, 4),
        "bytes of text": counts.num_bytes,
        "distinct pre-tokens": len(counts.counts),
        "pattern": config.pattern,
        "character classes": version_of_classes,
        "seconds": round(time.monotonic() - began, 2),
    }
    if merges.shortfall:
        report["stopped early after"] = merges.shortfall
    return Made(
        version=folder,
        content=content,
        rows=made.vocab_size,
        num_bytes=sum(path.stat().st_size for path in Path(folder).iterdir()),
        report=report,
        plots={(title := "Tokens by length in bytes"): _lengths_chart(made, title)},
    )


def tokens(workspace: Workspace, inputs: Inputs, config: TokensConfig) -> Made:
    """Encode what is new in the corpus, hold out whole clusters of near-duplicates, and pack rows.

    Training sees a document as often as its weight says, validation once.
    """
    from training.token_tables.encoded_corpus import encode_corpus
    from training.token_tables.token_rows import RowsConfig, pack_corpus
    from training.tokenizer.bpe import END_OF_TEXT, Tokenizer

    began = time.monotonic()
    encoded = encode_corpus(workspace, inputs)
    made = Tokenizer.load(str(inputs["tokenizer"]))
    packed = pack_corpus(
        workspace,
        encoded.commit.version,
        RowsConfig(
            context_length=config.context_length,
            validation_fraction=config.validation_fraction,
            seed=config.seed,
            end_of_text=made.special_tokens[END_OF_TEXT],
            vocab_size=made.vocab_size,
        ),
        inputs,
    )
    return Made(
        version=packed.commit.version,
        content=packed.commit.content,
        rows=packed.commit.rows,
        num_bytes=packed.commit.num_bytes,
        report={"encoded now": encoded.computed, "taken over": encoded.taken_over}
        | packed.report()
        | {"seconds": round(time.monotonic() - began, 2)},
        plots={(title := "Tokens by source"): packed.chart(title)},
    )


def _lengths_chart(tokenizer: "Tokenizer", title: str) -> str:
    """How many tokens stand for 1, 2, ... 15 bytes, and for more."""
    lengths = [min(int(length), 16) for length in tokenizer.bytes_per_token if length]
    rows = [(f"{n}+" if n == 16 else str(n), {"tokens": lengths.count(n)}) for n in range(1, 17)]
    return charts.columns(rows, title=title)


def mixture_runs(workspace: Workspace, inputs: Inputs, config: MixtureRunsConfig) -> Made:
    """Train one small model on each of several mixtures, all in one fit, and tabulate the losses.

    A sweep that was interrupted goes on with the runs that are missing.
    """
    from training import launch, tracking
    from training.job import Text, run_folder
    from training.scaling import mixtures, sweep

    began = time.monotonic()
    text = Text.of(workspace, inputs, config.model)
    by_source = mixtures.RowsBySource.of(workspace.lake, inputs, text.bytes_per_token)
    folder = run_folder(workspace, "mixture_runs", inputs, config, {"workers", "retries"})
    runs = mixtures.runs_of(config, text, by_source, folder)
    with tracking.open_run(
        workspace, "mixture_runs", params=config.model_dump(), inputs=inputs, folder=folder
    ) as run:
        if len(sweep.results(runs.jobs)) < len(runs.jobs):
            with sweep.followed(runs.jobs, workspace.say):
                launch.run(
                    mixtures.train_all,
                    runs,
                    "mixture_runs",
                    workspace,
                    workers=config.workers,
                    threads=config.threads,
                    retries=config.retries,
                )
        rows = mixtures.table(runs, by_source, sweep.results(runs.jobs))
        run.log_metrics({f"bits_per_byte/{row['run']}": row["loss"] for row in rows.to_pylist()})
    commit = workspace.lake.overwrite("mixture_runs", rows, inputs=inputs)
    first, *_ = found = rows.to_pylist()
    best = min(found, key=lambda row: row["loss"])
    return Made(
        version=commit.version,
        content=commit.content,
        rows=commit.rows,
        num_bytes=commit.num_bytes,
        report={
            "runs": commit.rows,
            "rows of a run": config.num_rows,
            "FLOPs": sum(row["flops"] for row in found),
            **{
                f"share of {name}": f"{min(some):.3f} to {max(some):.3f}"
                for name, *some in zip(
                    first["sources"], *(row["shares"] for row in found), strict=True
                )
            },
            "bits per byte of the natural mixture": round(first["loss"], 4),
            "least bits per byte": round(best["loss"], 4),
            "found by": best["run"],
            "MLflow run": run.run_id,
            "seconds": round(time.monotonic() - began, 2),
        },
    )


def scaling_runs(workspace: Workspace, inputs: Inputs, config: ScalingRunsConfig) -> Made:
    """Train the small runs of the sweep, all in one fit, and tabulate their losses.

    A sweep that was interrupted goes on with the runs that are missing.
    """
    from training import launch, tracking
    from training.job import Text, run_folder
    from training.scaling import sweep

    folder = run_folder(workspace, "scaling_runs", inputs, config, {"workers", "retries"})
    text = Text.of(workspace, inputs, config.model)
    jobs = sweep.jobs_of(config, text, folder)
    began = time.monotonic()
    with tracking.open_run(
        workspace, "scaling_runs", params=config.model_dump(), inputs=inputs, folder=folder
    ) as run:
        if len(sweep.results(jobs)) < len(jobs):
            with sweep.followed(jobs, workspace.say):
                launch.run(
                    sweep.train_all,
                    jobs,
                    "scaling_runs",
                    workspace,
                    workers=config.workers,
                    threads=config.threads,
                    retries=config.retries,
                )
        rows = sweep.table(jobs, sweep.results(jobs))
        run.log_metrics({f"bits_per_byte/{row['run']}": row["loss"] for row in rows.to_pylist()})
    commit = workspace.lake.overwrite("scaling_runs", rows, inputs=inputs)
    flops = sum(rows["flops"].to_pylist())
    return Made(
        version=commit.version,
        content=commit.content,
        rows=commit.rows,
        num_bytes=commit.num_bytes,
        report={
            "runs": commit.rows,
            "FLOPs": flops,
            "budgets": ", ".join(f"{budget:.2e}" for budget in config.budgets),
            "best bits per byte": round(min(rows["loss"].to_pylist()), 4),
            "GFLOP/s of one rank": round(flops / sum(rows["seconds"].to_pylist()) / 1e9, 1),
            "MLflow run": run.run_id,
            "seconds": round(time.monotonic() - began, 2),
        },
    )


def scaling_law(workspace: Workspace, inputs: Inputs, config: ScalingLawConfig) -> Made:
    """Fit every rule to the small runs, and choose the one that predicts the top budget best."""
    from training.charts import law_chart
    from training.scaling.fit import SmallRun, fit

    columns = list(SmallRun.model_fields)
    table = workspace.lake.read("scaling_runs", int(inputs["scaling_runs"]), columns)
    law = fit([SmallRun(**row) for row in table.to_pylist()])
    folder, content = _save_json(workspace, "scaling_law", law)
    curves = law.iso_flops
    return Made(
        version=folder,
        content=content,
        rows=len(law.runs),
        num_bytes=folder_bytes(folder),
        report={
            "rule": law.rule.kind,
            **{f"hold-out error, {k}": round(e, 4) for k, e in law.hold_out_errors.items()},
            "exponent of N*": round(curves.exponent, 3),
            "noise": round(curves.noise, 5),
            "slope of log loss": round(
                math.log(curves.minima[-1] / curves.minima[-2])
                / math.log(curves.budgets[-1] / curves.budgets[-2]),
                4,
            ),
        },
        plots={"Scaling law": law_chart(law)},
    )


def training_plan(workspace: Workspace, inputs: Inputs, config: TrainingPlanConfig) -> Made:
    """Choose size, tokens, batch and rates for the budget, and predict the loss."""
    from training.charts import law_chart
    from training.scaling.fit import Law
    from training.scaling.plan import make_plan

    law = Law.model_validate_json(
        (Path(str(inputs["scaling_law"])) / "scaling_law.json").read_bytes()
    )
    parts = workspace.lake.parts("tokens", int(inputs["tokens"]), {"split": "train"})
    num_tokens = sum(part.rows for part in parts) * config.model.context_length
    plan = make_plan(law, config, num_tokens)
    folder, content = _save_json(workspace, "training_plan", plan)
    return Made(
        version=folder,
        content=content,
        rows=1,
        num_bytes=folder_bytes(folder),
        report={
            "FLOPs": plan.flops,
            "d_model": plan.model.d_model,
            "num_layers": plan.model.num_layers,
            "parameters": plan.num_params,
            "parameters that multiply": plan.num_matmul_params,
            "optimum of the law": round(plan.best_params),
            "tokens": plan.num_tokens,
            "epochs": round(plan.epochs, 3),
            "steps": plan.num_steps,
            "tokens per step": plan.batch_rows * plan.model.context_length,
            "muon_lr": round(plan.optimizer.muon_lr, 5),
            "adam_lr": round(plan.optimizer.adam_lr, 5),
            "table_lr": round(plan.optimizer.table_lr, 5),
            "predicted": round(plan.predicted.loss, 4),
            "predicted low": round(plan.predicted.low, 4),
            "predicted high": round(plan.predicted.high, 4),
        },
        plots={"Plan": law_chart(law, plan)},
    )


def base_model(workspace: Workspace, inputs: Inputs, config: BaseModelConfig) -> Made:
    """Carry out the plan: the checkpoint, and what was predicted against what came out.

    A training that was interrupted goes on from its last checkpoint, in its own MLflow run.
    """
    from training import launch, progress, tracking
    from training.charts import loss_chart
    from training.data.mixing import Mixture
    from training.job import Job, Text, run_folder, work
    from training.loop import finished
    from training.pretraining import TrainConfig
    from training.scaling.plan import Plan
    from training.token_tables.row_sources import row_sources

    plan_file = Path(str(inputs["training_plan"])) / "training_plan.json"
    plan = Plan.model_validate_json(plan_file.read_bytes())
    careless = {"num_checkpoints", "workers", "threads", "retries"}
    folder = run_folder(workspace, "base_model", inputs, config, careless)
    train_config = TrainConfig(
        model=plan.model,
        optimizer=plan.optimizer,
        flops=plan.flops,
        batch_rows=plan.batch_rows,
        micro_batch_rows=config.micro_batch_rows,
        validation_rows=config.validation_rows,
        checkpoint_steps=math.ceil(plan.num_steps / config.num_checkpoints),
        seed=config.seed,
        precision=config.precision,
        compile=config.compile,
        mixture=config.mixture,
    )
    text = Text.of(workspace, inputs, plan.model)
    order: Mixture | None = None
    names: tuple[str, ...] = ()
    if config.mixture is not None:
        names, sources = row_sources(workspace.lake, int(inputs["tokens"]))
        order = Mixture.of(config.mixture, names, sources, config.seed)
    params = {"model": plan.model.model_dump(), "optimizer": plan.optimizer.model_dump()}
    params |= plan.model_dump(exclude={"model", "optimizer"}) | config.model_dump()
    began = time.monotonic()
    with tracking.open_run(
        workspace, "base_model", params=params, inputs=inputs, folder=folder
    ) as run:
        about = {"asset": "base_model", "inputs": dict(inputs), "mlflow_run_id": run.run_id}
        metrics = folder / "metrics.jsonl"
        result = finished(folder)
        if result is None:
            with run.follow(metrics, "base_model"):
                result = launch.run(
                    work,
                    Job(config=train_config, text=text, folder=folder, about=about, order=order),
                    "base_model",
                    workspace,
                    workers=config.workers,
                    threads=config.threads,
                    retries=config.retries,
                )
        plot = loss_chart(progress.read(metrics), plan, result.loss)
        predicted = plan.predicted
        run.log_metrics(
            {"bits_per_byte": result.loss, "predicted_bits_per_byte": predicted.loss}, result.steps
        )
        run.log_text("plots/loss.svg", plot)
        run.log_text("training_plan.json", plan_file.read_text())
        run.log_model("base_model", result.checkpoint, step=result.steps, params=params["model"])
    return Made(
        version=str(result.checkpoint),
        content=result.digest,
        rows=result.steps * plan.batch_rows,
        num_bytes=folder_bytes(result.checkpoint),
        report={
            "bits_per_byte": round(result.loss, 5),
            "predicted": round(predicted.loss, 5),
            "predicted low": round(predicted.low, 5),
            "predicted high": round(predicted.high, 5),
            "inside the interval": str(predicted.low <= result.loss <= predicted.high),
            "prediction error": f"{predicted.loss / result.loss - 1:+.1%}",
            "parameters": plan.num_params,
            "steps": result.steps,
            "tokens": result.tokens,
            "FLOPs": result.flops,
            "GFLOP/s": round(result.flops / result.seconds / 1e9, 1),
            "share of GEMM": round(
                result.flops
                / result.seconds
                / (float(result.hardware["gemm_gflops"]) * 1e9 * config.workers),
                3,
            ),
            **_epochs(order, names, result.steps * plan.batch_rows),
            "dtype": result.hardware["dtype"],
            "processor": result.hardware["device_name"],
            "training seconds": round(result.seconds, 2),
            "MLflow run": run.run_id,
            "seconds": round(time.monotonic() - began, 2),
        },
        plots={"Loss": plot},
    )


def _epochs(order: "Mixture | None", names: Sequence[str], num_rows: int) -> dict[str, float]:
    """How often so many rows show each source that a mixture names."""
    if order is None:
        return {}
    epochs = zip(names, order.epochs(num_rows).tolist(), strict=True)
    return {f"epochs of {name}": round(number, 3) for name, number in epochs if number}


def _save_json(workspace: Workspace, name: str, value: Config) -> tuple[str, str]:
    """Artifact ``name`` of one file, ``<name>.json``."""

    def write(draft: Path) -> None:
        (draft / f"{name}.json").write_text(value.model_dump_json(indent=1), encoding="utf-8")

    return workspace.save_artifact(name, write)
