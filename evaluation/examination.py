"""The examination that every model of every phase sits: the same text, and the same items.

A model is loaded once, scored on the held-out documents and asked the items: all of them for its
likeliest answer, those with new values for a drawn one too, and once more as the second turn of a
conversation. What it said is kept (``answers``), so asking again costs nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from datalake.workspace import Inputs, Version, Workspace, folder_digest
from evaluation import answers, held_out, scorecard, second_turn
from evaluation.findings import Evaluation, TaskResult
from evaluation.held_out import HeldOut
from evaluation.likelihood import model_nats, sum_by_document
from evaluation.task_scores import TEST_SPLITS, score_answers, score_draws, score_later
from training.checkpoint import Checkpoint, latest, load
from training.inference.checkpointed import load_model
from training.job import CONTROL
from training.models.language_model import LanguageModel
from training.tokenizer.bpe import Tokenizer
from training.tokenizer.chat import Message

_SAY_SECONDS = 5.0  # between two lines of progress


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A model to be examined: of which phase and asset, and what the pages call it."""

    phase: str
    asset: str
    name: str
    checkpoint: Checkpoint
    model: LanguageModel

    @property
    def weights(self) -> str:
        """Digest of the weights."""
        return str(self.checkpoint.manifest["weights"])


@dataclass(frozen=True, kw_only=True, slots=True)
class Examination:
    """What every candidate meets, and how."""

    workspace: Workspace
    inputs: Inputs
    tokenizer: Tokenizer
    tokenizer_digest: str
    text: HeldOut
    items: pa.Table | None  # None where the inputs have no instructions
    rows_per_batch: int  # of text
    answers_per_batch: int
    max_new_tokens: int
    temperature: float  # of the drawn answers
    seed: int  # likewise

    def candidate(self, phase: str, asset: str, name: str) -> Candidate:
        """The model that the input ``asset`` names."""
        return self._candidate(phase, asset, name, load(Path(str(self.inputs[asset]))))

    def control(self, phase: str, asset: str, name: str) -> Candidate | None:
        """The model that equal compute made of the same start, None where none was trained."""
        folder = Path(str(self.inputs[asset])).parent / CONTROL
        found = latest(folder)
        if found is None:
            return None
        return self._candidate(
            f"{phase}-control", f"{asset} control", f"{name} control: more SFT", found
        )

    def sit(
        self,
        candidate: Candidate,
        *,
        baselines: Mapping[str, NDArray[np.floating]] | None = None,
        plan: scorecard.PlanCheck | None = None,
        samples: tuple[scorecard.Sample, ...] = (),
        temperature: float | None = None,
    ) -> Evaluation:
        """Scores of ``candidate`` on the text, beside ``baselines``, and on the items."""
        rows = self.text.rows.rows
        tell = _teller(self.workspace.say, candidate.name, len(rows))
        nats = {
            scorecard.MODEL: model_nats(candidate.model, rows, self.rows_per_batch, tell),
            **(baselines or {}),
        }
        sums = sum_by_document(self.text.rows, nats, self.tokenizer.bytes_per_token)
        origins = self.text.sources
        sources = np.array([origins[doc_id] for doc_id in sums.doc_ids.tolist()])
        scored, unscored = scorecard.score_sources(sums, sources)
        card = scorecard.Scorecard(
            name=candidate.name,
            weights=candidate.weights,
            tokenizer=self.tokenizer_digest,
            num_params=sum(parameter.numel() for parameter in candidate.model.parameters()),
            inputs=_identities(self.inputs) | {candidate.asset: candidate.weights},
            validation=scorecard.validation_of(sums, len(rows)),
            sources=scored,
            unscored_sources=unscored,
            plan=plan,
            temperature=temperature,
            samples=samples,
        )
        tasks = None if self.items is None else self._ask(candidate, self.items)
        return Evaluation(phase=candidate.phase, card=card, sums=sums, sources=sources, tasks=tasks)

    def _candidate(self, phase: str, asset: str, name: str, checkpoint: Checkpoint) -> Candidate:
        model = load_model(checkpoint, self.tokenizer.vocab_size)
        return Candidate(phase=phase, asset=asset, name=name, checkpoint=checkpoint, model=model)

    def _ask(self, candidate: Candidate, items: pa.Table) -> TaskResult:
        subject = answers.Subject(
            name=candidate.name,
            model=candidate.model,
            weights=candidate.weights,
            tokenizer=self.tokenizer,
            tokenizer_digest=self.tokenizer_digest,
        )

        def answered(
            items: pa.Table,
            temperature: float = 0,
            before: Mapping[str, Sequence[Message]] | None = None,
        ) -> pa.Table:
            return answers.answer_items(
                self.workspace,
                subject,
                items,
                max_new_tokens=self.max_new_tokens,
                rows_per_batch=self.answers_per_batch,
                temperature=temperature,
                seed=self.seed,
                before=before,
            )

        said = answered(items)
        values = items.filter(pc.field("split") == TEST_SPLITS[0])
        drawn = answered(values, self.temperature)
        before = second_turn.exchanges(values)
        room = candidate.model.config.context_length - self.max_new_tokens
        fitting = second_turn.that_fit(values, before, self.tokenizer, room)
        later = answered(fitting, before=before) if fitting.num_rows else None
        num_left_out = values.num_rows - fitting.num_rows
        if num_left_out:
            self.workspace.say(
                f"{candidate.name}: {num_left_out:,} of {values.num_rows:,} items do not fit the "
                "context as a second turn"
            )
        scores = score_answers(
            said,
            items=answers.items_digest(items),
            max_new_tokens=self.max_new_tokens,
            first_prompt_ids=answers.prompt_ids(items.slice(0, 1).to_pylist()[0], self.tokenizer),
            drawn=score_draws(drawn, temperature=self.temperature, seed=self.seed),
            later=None if later is None else score_later(later, num_left_out=num_left_out),
        )
        return TaskResult(scores=scores, answers=said, drawn=drawn, later=later)


def begin(
    workspace: Workspace,
    inputs: Inputs,
    *,
    rows_per_batch: int,
    answers_per_batch: int,
    max_new_tokens: int,
    temperature: float,
    seed: int,
) -> Examination:
    """Read the tokenizer, the held-out text and the items that ``inputs`` name."""
    folder = str(inputs["tokenizer"])
    items = inputs.get("instructions")
    return Examination(
        workspace=workspace,
        inputs=inputs,
        tokenizer=Tokenizer.load(folder),
        tokenizer_digest=folder_digest(Path(folder)),
        text=held_out.read(workspace.lake, inputs),
        items=None if items is None else answers.read_items(workspace.lake, int(items)),
        rows_per_batch=rows_per_batch,
        answers_per_batch=answers_per_batch,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        seed=seed,
    )


def _teller(say: Callable[[str], None], name: str, num_rows: int) -> Callable[[int], None]:
    """Says how many rows are scored, but not more often than a person can read."""
    said = monotonic()

    def tell(done: int) -> None:
        nonlocal said
        if monotonic() > said + _SAY_SECONDS:
            said = monotonic()
            say(f"{name}: {done:,} of {num_rows:,} rows scored")

    return tell


def _identities(inputs: Inputs) -> dict[str, Version]:
    """Delta versions, and the names of artifacts, which are digests; no path of this machine.

    Models are left to their candidates, who know the digest of their weights.
    """
    return {
        key: made if isinstance(made, int) else Path(made).name
        for key, made in sorted(inputs.items())
        if not key.endswith("_model")
    }
