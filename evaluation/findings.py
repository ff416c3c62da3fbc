"""What one evaluation left behind: a folder for each model, and how models compare.

    <artifact>/comparisons.json        comparisons, and what was left out and why
    <artifact>/<phase>/evaluation.json     scores of text (``scorecard``)
    <artifact>/<phase>/documents.parquet   likelihoods of every document
    <artifact>/<phase>/tasks.json          scores of tasks (``task_scores``)
    <artifact>/<phase>/answers.parquet     every answer with its verdict
    <artifact>/<phase>/drawn.parquet       every drawn answer, likewise
    <artifact>/<phase>/later.parquet       every answer in a second turn, likewise

Likelihoods and answers are kept one by one, so that two models can later be compared on each
document and each item, and not only by their totals.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from datalake.config import Config, Refusal
from evaluation.intervals import Interval, paired_difference
from evaluation.likelihood import DocumentSums
from evaluation.scorecard import MODEL, Scorecard
from evaluation.task_scores import (
    Comparison,
    Paired,
    PairedDraws,
    TaskScores,
    compare,
    compare_draws,
    compare_later,
)

_INDEX = "comparisons.json"
_SCORECARD = "evaluation.json"
_DOCUMENTS = "documents.parquet"
_TASKS = "tasks.json"
_ANSWERS = "answers.parquet"
_DRAWN = "drawn.parquet"
_LATER = "later.parquet"


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskResult:
    """The answers of a model, and what they came to."""

    scores: TaskScores
    answers: pa.Table  # of ``answers.SCHEMA``, greedy
    drawn: pa.Table | None = None  # likewise; None where nothing was drawn
    later: pa.Table | None = None  # likewise, greedy; None where nothing was asked in a second turn


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """All that was found about one model."""

    phase: str  # base, sft, dpo, chat; of a control with "-control" behind it
    card: Scorecard
    sums: DocumentSums
    sources: NDArray[np.str_]  # of each document of ``sums``
    tasks: TaskResult | None = None  # None where no items were given

    @property
    def name(self) -> str:
        return self.card.name

    @property
    def is_control(self) -> bool:
        return self.phase.endswith("-control")


@dataclass(frozen=True, kw_only=True, slots=True)
class Findings:
    """All models of an evaluation, in the order of the phases."""

    models: tuple[Evaluation, ...]
    comparisons: tuple[Comparison, ...] = ()
    left_out: tuple[str, ...] = ()  # sentences: what was not compared, and why

    def of(self, phase: str) -> Evaluation:
        """The model of a phase. Raises Refusal with the list where there is none."""
        for model in self.models:
            if model.phase == phase:
                return model
        known = ", ".join(model.phase for model in self.models)
        raise Refusal(f"phase must be one of {known}, got {phase}")


class _Index(Config):
    models: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    left_out: tuple[str, ...]


def write(folder: Path, findings: Findings) -> None:
    """Put ``findings`` into ``folder``; equal ones are equal bytes."""
    index = _Index(
        models=tuple(model.phase for model in findings.models),
        comparisons=findings.comparisons,
        left_out=findings.left_out,
    )
    _write_json(folder / _INDEX, index)
    for model in findings.models:
        place = folder / model.phase
        place.mkdir()
        _write_json(place / _SCORECARD, model.card)
        columns = {
            "doc_id": model.sums.doc_ids.tolist(),
            "source": model.sources.tolist(),
            "num_tokens": model.sums.num_tokens,
            "num_bytes": model.sums.num_bytes,
            **{f"nats/{scorer}": nats for scorer, nats in model.sums.nats.items()},
        }
        pq.write_table(pa.table(columns), place / _DOCUMENTS, compression="zstd")
        if model.tasks is not None:
            _write_json(place / _TASKS, model.tasks.scores)
            pq.write_table(model.tasks.answers, place / _ANSWERS, compression="zstd")
            if model.tasks.drawn is not None:
                pq.write_table(model.tasks.drawn, place / _DRAWN, compression="zstd")
            if model.tasks.later is not None:
                pq.write_table(model.tasks.later, place / _LATER, compression="zstd")


def read(folder: str | Path) -> Findings:
    """The findings in ``folder``. Raises Refusal where ``write`` left none there."""
    folder = Path(folder)
    if not (folder / _INDEX).is_file():
        raise Refusal(f"evaluation must be a folder with {_INDEX}, got {folder}")
    index = _Index.model_validate_json((folder / _INDEX).read_bytes())
    return Findings(
        models=tuple(_read_model(folder / phase) for phase in index.models),
        comparisons=index.comparisons,
        left_out=index.left_out,
    )


def comparison(first: Evaluation, second: Evaluation) -> Comparison:
    """``first`` against ``second``, which must have met the same documents and items.

    Raises Refusal where one has no answers, or where they were asked otherwise.
    """
    names = (first.name, second.name)
    for model in (first, second):
        if model.tasks is None:
            raise Refusal(f"{model.name} must have answered items to be compared, got no answers")
    assert first.tasks is not None and second.tasks is not None
    asked, also = first.tasks.scores, second.tasks.scores
    found = compare(
        first.tasks.answers,
        second.tasks.answers,
        names=names,
        phases=(first.phase, second.phase),
        bits_per_byte=_text_difference(first, second),
    )
    _refuse_unlike("items", names, asked.items[:16], also.items[:16])
    _refuse_unlike("max_new_tokens", names, asked.max_new_tokens, also.max_new_tokens)
    return found.model_copy(
        update={
            "drawn": _drawn(first.tasks, second.tasks, names),
            "later": _later(first.tasks, second.tasks),
        }
    )


def all_models(findings: Iterable[Findings]) -> tuple[Evaluation, ...]:
    """Every model of several evaluations, in order, each once."""
    return tuple(model for found in findings for model in found.models)


def _drawn(first: TaskResult, second: TaskResult, names: tuple[str, str]) -> PairedDraws | None:
    """The first against the second by their drawn answers, where both have them."""
    one, other = first.scores.drawn, second.scores.drawn
    if one is None or other is None or first.drawn is None or second.drawn is None:
        return None
    for what in ("temperature", "seed"):
        _refuse_unlike(f"{what} of draws", names, getattr(one, what), getattr(other, what))
    return compare_draws(first.drawn, second.drawn, names=names, temperature=one.temperature)


def _later(first: TaskResult, second: TaskResult) -> Paired | None:
    """The first against the second by what they were asked second, where both were."""
    if first.later is None or second.later is None:
        return None
    return compare_later(first.later, second.later)


def _text_difference(first: Evaluation, second: Evaluation) -> Interval:
    """Bits per byte of the first minus those of the second, paired by document."""
    digests: Sequence[str] = [model.card.validation.digest[:16] for model in (first, second)]
    _refuse_unlike("held-out documents", (first.name, second.name), *digests)
    bits = [model.sums.nats[MODEL] / np.log(2) for model in (first, second)]
    return paired_difference(bits[0], bits[1], first.sums.num_bytes)


def _refuse_unlike(what: str, names: tuple[str, str], one: object, other: object) -> None:
    if one != other:
        raise Refusal(
            f"{what} of {names[0]} and {names[1]} must be the same, got {one} and {other}"
        )


def _read_model(folder: Path) -> Evaluation:
    table = pq.read_table(folder / _DOCUMENTS)
    columns = {name: table[name].to_numpy() for name in table.column_names}
    sums = DocumentSums(
        doc_ids=columns["doc_id"].astype(np.str_),
        num_tokens=columns["num_tokens"],
        num_bytes=columns["num_bytes"],
        nats={
            name.removeprefix("nats/"): values
            for name, values in columns.items()
            if name.startswith("nats/")
        },
    )
    return Evaluation(
        phase=folder.name,
        card=Scorecard.model_validate_json((folder / _SCORECARD).read_bytes()),
        sums=sums,
        sources=columns["source"].astype(np.str_),
        tasks=_read_tasks(folder),
    )


def _read_tasks(folder: Path) -> TaskResult | None:
    if not (folder / _TASKS).is_file():
        return None
    return TaskResult(
        scores=TaskScores.model_validate_json((folder / _TASKS).read_bytes()),
        answers=pq.read_table(folder / _ANSWERS),
        drawn=pq.read_table(folder / _DRAWN) if (folder / _DRAWN).is_file() else None,
        later=pq.read_table(folder / _LATER) if (folder / _LATER).is_file() else None,
    )


def _write_json(path: Path, value: Config) -> None:
    path.write_text(value.model_dump_json(indent=1) + "\n", encoding="utf-8")
