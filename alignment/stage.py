"""What the stage of a phase has in hand, and how it trains: the driver's side of ``phases``."""

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from alignment.conversations import in_turns, render_items, render_pairs, render_prompts
from alignment.examples import assert_disjoint, of_split
from alignment.phases import Phase, work
from alignment.preferences import check_pairs
from alignment.sft import FineTuneConfig, FineTuning
from datalake.config import Config, Refusal
from datalake.workspace import Inputs, Made, Workspace, folder_bytes
from evaluation.tasks.family import SPLITS, Split
from training import checkpoint, launch, loop, progress, tracking
from training.charts import curves_chart
from training.checkpoint import Checkpoint
from training.inference.checkpointed import architecture
from training.job import CONTROL, Text, run_folder
from training.loop import TrainResult
from training.models.variants import ModelConfig
from training.tokenizer.bpe import Tokenizer
from training.tokenizer.chat import Rendered, check_template
from training.tracking import Run


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A phase that is being made: its inputs, its folder, its MLflow run."""

    name: str
    workspace: Workspace
    inputs: Inputs
    config: Any  # the stage's section of the recipe
    parent: Checkpoint
    folder: Path
    run: Run
    began: float = field(default_factory=time.monotonic)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer, with its chat template checked."""
        folder = str(self.inputs["tokenizer"])
        check_template(Path(folder))
        return Tokenizer.load(folder)

    @cached_property
    def model(self) -> ModelConfig:
        """Architecture of the parent, and so of what is trained from it."""
        return architecture(self.parent, self.tokenizer.vocab_size)

    @cached_property
    def items(self) -> pa.Table:
        """All items, whose splits were found to share no content."""
        items = self.workspace.lake.read("instructions", int(self.inputs["instructions"]))
        assert_disjoint({split: of_split(items, split) for split in SPLITS})
        return items

    def items_of(self, split: Split) -> pa.Table:
        """Items of one split, in a fixed order. Refuses a split without any."""
        items = of_split(self.items, split).sort_by("item_id")
        if not len(items):
            raise Refusal(f"instructions must have items in split {split}, got none")
        return items

    def prompts(self, split: Split, max_new_tokens: int) -> tuple[list[Any], list[np.ndarray]]:
        """Items of a split as rows, and the ids of their prompts."""
        return self.rendered(self.items_of(split), max_new_tokens)

    def rendered(self, items: pa.Table, max_new_tokens: int) -> tuple[list[Any], list[np.ndarray]]:
        """``items`` as rows, and the ids of their prompts."""
        context = self.model.context_length
        return items.to_pylist(), render_prompts(items, self.tokenizer, context, max_new_tokens)

    def pairs(self, split: str) -> "Pairs":
        """The pairs of one split, rendered, in a fixed order."""
        version = int(self.inputs["preferences"])
        rows = self.workspace.lake.read("preferences", version, where={"split": split})
        rows = rows.sort_by("item_id")
        check_pairs(rows)
        return Pairs(
            rendered=render_pairs(rows, self.tokenizer, self.model.context_length),
            families=rows["family"].to_pylist(),
            sampling_flops=sum(rows["sampling_flops"].to_pylist()),
        )

    @property
    def seconds(self) -> float:
        """Since the stage began."""
        return round(time.monotonic() - self.began, 2)

    @property
    def parent_digest(self) -> str:
        return str(self.parent.manifest["weights"])

    @property
    def about(self) -> dict[str, Any]:
        """What the manifests say of where the weights come from."""
        return {
            "asset": self.name,
            "inputs": dict(self.inputs),
            "parent": str(self.parent.path),
            "mlflow_run_id": self.run.run_id,
        }

    @property
    def common(self) -> dict[str, Any]:
        """What the settings of every phase's run say, as the stage's section has it."""
        return {
            "model": self.model,
            "optimizer": self.config.optimizer,
            "checkpoint_steps": self.checkpoint_steps(self.config.num_steps),
            "seed": self.config.seed,
            "parent": self.parent_digest,
            "num_steps": self.config.num_steps,
        }

    def checkpoint_steps(self, num_steps: int) -> int:
        """Steps from one checkpoint to the next."""
        return -(-num_steps // int(self.config.num_checkpoints))

    def tuning(self, num_steps: int, seed: int, settings: Any) -> FineTuning:
        """Fine-tuning of the parent on the demonstrations; ``settings`` are a ``TuningConfig``."""
        context = self.model.context_length
        conversations, held_out = (
            render_items(self.items_of(split), self.tokenizer, context)
            for split in ("sft", "validation")
        )
        config = FineTuneConfig(
            model=self.model,
            optimizer=settings.optimizer,
            checkpoint_steps=self.checkpoint_steps(num_steps),
            seed=seed,
            precision=settings.precision,
            parent=self.parent_digest,
            num_steps=num_steps,
            rows_per_step=settings.rows_per_step,
            row_length=settings.row_length,
            replay_rows=settings.replay_rows,
            replay_weight=settings.replay_weight,
            validation_rows=settings.validation_rows,
        )
        length = settings.row_length + 1
        conversations = in_turns(conversations, length, settings.later_turns, seed)
        text = Text.of(self.workspace, self.inputs, self.model)
        return FineTuning.of(config, self.parent.path, conversations, held_out, text)

    def control(self) -> FineTuning | None:
        """More of the same fine-tuning, in another order of rows; None where none is asked for."""
        settings = self.config.control
        return settings and self.tuning(self.config.num_steps, self.config.seed + 1, settings)

    def train(self, phase: Phase) -> TrainResult:
        """Carry out ``phase`` on Ray, unless it is finished; its curves go to MLflow."""
        places = self.config.launch
        if not phase.is_finished:
            with ExitStack() as following:
                following.enter_context(self.run.follow(phase.folder / "metrics.jsonl", self.name))
                if phase.control is not None:
                    control = following.enter_context(self._control_run())
                    metrics = phase.folder / CONTROL / "metrics.jsonl"
                    following.enter_context(control.follow(metrics, f"{self.name} control"))
                launch.run(
                    work,
                    phase,
                    self.name,
                    self.workspace,
                    workers=places.workers,
                    threads=places.threads,
                    retries=places.retries,
                )
        result = loop.finished(phase.folder)
        assert result is not None
        return result

    @contextmanager
    def _control_run(self) -> Iterator[Run]:
        with tracking.open_run(
            self.workspace,
            f"{self.name} control",
            params={"control": self.config.control.model_dump()},
            inputs=self.inputs,
            parent_model=self.parent.path,
            folder=self.folder / CONTROL,
        ) as run:
            yield run

    def made(
        self,
        phase: Phase,
        result: TrainResult,
        panels: Mapping[str, Sequence[str]],
        plots: Mapping[str, str] | None = None,
    ) -> Made:
        """The checkpoint, logged to MLflow with its numbers and curves."""
        title = "Training"
        curves = curves_chart(progress.read(phase.folder / "metrics.jsonl"), panels)
        all_plots = {title: curves, **(plots or {})}
        self.run.log_metrics(result.numbers, result.steps)
        for name, svg in all_plots.items():
            self.run.log_text(f"plots/{name.lower().replace(' ', '_')}.svg", svg)
        self.run.log_model(
            self.name, result.checkpoint, step=result.steps, params=self.model.model_dump()
        )
        report: dict[str, int | float | str] = {
            **{name: round(value, 5) for name, value in result.numbers.items() if "/" not in name},
            "steps": result.steps,
            "tokens": result.tokens,
            "FLOPs": result.flops,
            "GFLOP/s": round(result.flops / result.seconds / 1e9, 1),
            "dtype": result.hardware["dtype"],
            "training seconds": round(result.seconds, 2),
            "MLflow run": self.run.run_id,
        }
        digests = [result.digest]
        if control := phase.control and loop.finished(phase.folder / CONTROL):
            digests.append(control.digest)
            report |= {"control FLOPs": control.flops, "control steps": control.steps}
        report["seconds"] = self.seconds
        return Made(
            version=str(result.checkpoint),
            content=hashlib.sha256("\n".join(digests).encode()).hexdigest(),
            rows=result.steps,
            num_bytes=folder_bytes(result.checkpoint),
            report=report,
            plots=all_plots,
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Pairs:
    """Preference pairs to learn from."""

    rendered: list[tuple[Rendered, Rendered]]  # chosen, rejected
    families: list[str]
    sampling_flops: float


@contextmanager
def opened(
    workspace: Workspace,
    name: str,
    inputs: Inputs,
    config: Config,
    parent: str,
) -> Iterator[Stage]:
    """The stage ``name``, which starts from the checkpoint that the input ``parent`` names.

    Its folder is named by everything that decides the result, so an interrupted phase goes on in
    its own folder and its own MLflow run.
    """
    folder = run_folder(workspace, name, inputs, config, {"launch", "num_checkpoints"})
    found = checkpoint.load(Path(str(inputs[parent])))
    with tracking.open_run(
        workspace,
        name,
        params=config.model_dump(),
        inputs=inputs,
        parent_model=found.path,
        folder=folder,
    ) as run:
        yield Stage(
            name=name,
            workspace=workspace,
            inputs=inputs,
            config=config,
            parent=found,
            folder=folder,
            run=run,
        )
