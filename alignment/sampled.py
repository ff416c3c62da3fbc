"""Answers that one model gives to many prompts, drawn on Ray and kept as rollouts.

Prompts go in chunks; a chunk's answers depend on its number and the seed alone and are kept in a
file of its own, so a sampling that was killed goes on with the chunks that are missing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from alignment import rollouts
from alignment.preferences import Sample
from alignment.rewards import RewardRule
from alignment.rollouts import Sampling
from alignment.stage import Stage
from evaluation.grading import GraderPool
from evaluation.verdict import Verdict
from training import checkpoint, launch, progress
from training.inference.checkpointed import load_model
from training.tokenizer.bpe import Tokenizer

_NO_STYLE = RewardRule(style_weight=0)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Draw:
    """What the workers are told."""

    model: Path  # checkpoint
    tokenizer: Path  # artifact
    folder: Path
    items: Sequence[Mapping[str, Any]]  # rows of ``instructions``
    prompts: Sequence[np.ndarray]
    sampling: Sampling
    seed: int

    @property
    def chunks(self) -> list[range]:
        """Numbers of the prompts that are answered together."""
        size = max(1, rollouts.NUM_SEQUENCES // self.sampling.num_samples)
        starts = range(0, len(self.prompts), size)
        return [range(start, min(start + size, len(self.prompts))) for start in starts]

    def file(self, chunk: int) -> Path:
        return rollouts.file(self.folder, chunk, 0)

    @property
    def num_done(self) -> int:
        return sum(self.file(chunk).exists() for chunk in range(len(self.chunks)))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Answers:
    """All answers, and what they cost."""

    samples: list[Sample]
    flops: float


def sample(stage: Stage, items: pa.Table, sampling: Sampling, seed: int, folder: Path) -> Answers:
    """``sampling.num_samples`` answers of the stage's parent to every one of ``items``.

    They are kept in ``folder``, which is named by all that decides them.
    """
    rows, prompts = stage.rendered(items, sampling.max_new_tokens)
    draw = Draw(
        model=stage.parent.path,
        tokenizer=Path(str(stage.inputs["tokenizer"])),
        folder=folder,
        items=rows,
        prompts=prompts,
        sampling=sampling,
        seed=seed,
    )
    places, num_chunks = stage.config.launch, len(draw.chunks)

    def line() -> str | None:
        if not draw.num_done:
            return None
        bar, _ = progress.bar(draw.num_done / num_chunks, 0)
        return f"answers {bar}  {draw.num_done} of {num_chunks} batches"

    if draw.num_done < num_chunks:
        with progress.told(stage.workspace.say, line):
            launch.run(
                work,
                draw,
                stage.name,
                stage.workspace,
                workers=places.workers,
                threads=places.threads,
                retries=places.retries,
            )
    drawn = pa.Table.from_batches(rollouts.kept(draw.folder), rollouts.SCHEMA)
    return Answers(samples=samples_of(drawn), flops=rollouts.flops_of(drawn, stage.model))


def work(draw: Draw, rank: int, world: int) -> None:
    """One rank's part: every ``world``-th of the chunks that are not there yet."""
    found = checkpoint.load(draw.model)
    tokenizer = Tokenizer.load(str(draw.tokenizer))
    model = load_model(found, tokenizer.vocab_size)
    with GraderPool() as pool:
        for chunk, numbers in list(enumerate(draw.chunks))[rank::world]:
            if draw.file(chunk).exists():
                continue
            items = [draw.items[i] for i in numbers]
            prompts = [draw.prompts[i] for i in numbers]
            seed = draw.seed * len(draw.chunks) + chunk
            drawn = rollouts.draw_answers(
                model, tokenizer, items, prompts, draw.sampling, seed, pool
            )
            rows = rollouts.rows_of(
                drawn,
                items,
                prompts,
                _NO_STYLE,
                step=chunk,
                temperature=draw.sampling.temperature,
                policy=str(found.manifest["weights"]),
            )
            rollouts.keep(rows, draw.folder, chunk, 0)


def samples_of(drawn: pa.Table) -> list[Sample]:
    """The rows as answers with their verdicts, to be made pairs of."""
    return [
        Sample(
            item_id=row["item_id"],
            text=row["text"],
            verdict=Verdict(
                score=row["score"],
                lenient=row["score"],
                parsed=None,
                reason=row["reason"],
                outcome=row["outcome"],
            ),
        )
        for row in drawn.select(["item_id", "text", "score", "reason", "outcome"]).to_pylist()
    ]
