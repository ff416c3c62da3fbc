"""The stages of this room, in order: score a model, rank what was scored, describe the model."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, PositiveInt

from datalake.config import Config, Refusal
from datalake.workspace import Inputs, Made, Version, Workspace, folder_bytes, folder_digest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from evaluation.held_out import HeldOut
    from evaluation.scorecard import Sample
    from training.models.language_model import LanguageModel
    from training.tokenizer.bpe import Tokenizer

_SAY_SECONDS = 5.0  # between two lines of progress


class PromptConfig(Config):
    """How a base model is shown at work: openings of held-out documents, continued."""

    per_source: PositiveInt = 3  # as many as a reader looks at
    prompt_tokens: PositiveInt = 48  # a few lines of code or two sentences: enough to set a topic
    new_tokens: PositiveInt = 64
    # .8 is best where many samples are drawn (Chen et al. 2021, arXiv:2107.03374); nucleus of .95
    # (Holtzman et al. 2020, arXiv:1904.09751).
    temperature: float = Field(default=0.8, gt=0)
    top_p: float = Field(default=0.95, gt=0, le=1)


class EvaluationConfig(Config):
    """How one model is scored."""

    name: str  # what the pages call the model
    rows_per_batch: PositiveInt = 16  # changes memory and speed, not the score
    prompts: PromptConfig = PromptConfig()
    seed: int = 0  # of the sampled continuations


class LeaderboardConfig(Config):
    """What the leaderboard is headed with."""

    title: str = "Leaderboard"


class ModelCardConfig(Config):
    """What a person has to say about a model, since no measurement can."""

    purpose: str | None = None  # what it was made for; None says on the card that nobody stated it


class Settings(Config):
    """Section ``evaluation`` of a recipe."""

    base_evaluation: EvaluationConfig
    leaderboard: LeaderboardConfig = LeaderboardConfig()
    model_card: ModelCardConfig = ModelCardConfig()


def base_evaluation(workspace: Workspace, inputs: Inputs, config: EvaluationConfig) -> Made:
    """Bits per byte per source, of the model and of n-grams of its training rows; samples.

    Reads ``base_model``, ``tokens``, ``tokenizer`` and ``corpus``; also ``training_plan`` where it
    is given, to hold the loss against what was promised.
    """
    import numpy as np

    from evaluation import held_out, model_card, scorecard, subject
    from evaluation.likelihood import model_nats, sum_by_document
    from training import tracking
    from training.checkpoint import load
    from training.inference.checkpointed import load_model
    from training.tokenizer.bpe import Tokenizer

    began = time.monotonic()
    checkpoint = load(Path(str(inputs["base_model"])))
    tokenizer = Tokenizer.load(str(inputs["tokenizer"]))
    model = load_model(checkpoint, tokenizer.vocab_size)
    _check_prompts(config.prompts, model.config.context_length)
    text = held_out.read(workspace.lake, inputs)
    rows = text.rows.tokens
    tell = _teller(workspace.say, config.name, len(rows))
    nats = {
        scorecard.MODEL: model_nats(model, rows, config.rows_per_batch, tell),
        **_baseline_nats(workspace, inputs, rows, tokenizer.vocab_size),
    }
    sums = sum_by_document(text.rows, nats, tokenizer.bytes_per_token)
    sources = np.array([text.sources[doc_id] for doc_id in sums.doc_ids.tolist()])
    scored, unscored = scorecard.score_sources(sums, sources)
    plan = inputs.get("training_plan")
    weights = str(checkpoint.manifest["weights"])
    card = scorecard.Scorecard(
        name=config.name,
        weights=weights,
        tokenizer=folder_digest(Path(str(inputs["tokenizer"]))),
        num_params=sum(parameter.numel() for parameter in model.parameters()),
        inputs=_identities(inputs) | {"base_model": weights},
        validation=scorecard.validation_of(sums, len(rows)),
        sources=scored,
        unscored_sources=unscored,
        plan=None if plan is None else subject.plan_check(subject.read_plan(str(plan)), checkpoint),
        temperature=config.prompts.temperature,
        samples=_samples(model, tokenizer, text, config),
    )
    folder, content = workspace.save_artifact(
        "base_evaluation", lambda draft: scorecard.write(draft, card, sums, sources)
    )
    chart = model_card.score_chart(card)
    with tracking.open_run(
        workspace,
        "base_evaluation",
        params=config.model_dump(),
        inputs=inputs,
        context="evaluation",
        parent_model=checkpoint.path,
    ) as run:
        run.log_metrics(card.metrics)
        run.log_text("plots/bits_per_byte.svg", chart)
        run.log_text("evaluation.json", card.model_dump_json(indent=1))
    return Made(
        version=folder,
        content=content,
        rows=len(sums.doc_ids),
        num_bytes=folder_bytes(folder),
        report=card.report
        | {"MLflow run": run.run_id, "seconds": round(time.monotonic() - began, 2)},
        plots={"Bits per byte": chart},
    )


def leaderboard(workspace: Workspace, inputs: Inputs, config: LeaderboardConfig) -> Made:
    """Every evaluated model, scores with intervals drawn. Every input is an evaluation."""
    from evaluation import leaderboard as board_of
    from evaluation import scorecard

    board = board_of.rank([scorecard.read(str(folder)) for _, folder in sorted(inputs.items())])
    folder, content = workspace.save_artifact(
        "leaderboard", lambda draft: board_of.write(draft, board, config.title)
    )
    whole = board.standings[0]
    best = whole.places[0]
    return Made(
        version=folder,
        content=content,
        rows=len(whole.places),
        num_bytes=folder_bytes(folder),
        report={
            "best": best.name,
            "best bits per byte": round(best.bits_per_byte.value, 4),
            "tied with the best": sum(place.place == 1 for place in whole.places) - 1,
            "models": sum(not place.baseline for place in whole.places),
            "documents": whole.num_documents,
            "page": str(Path(folder) / "index.html"),
        },
        plots={"Bits per byte": board_of.standing_chart(whole)},
    )


def model_card(workspace: Workspace, inputs: Inputs, config: ModelCardConfig) -> Made:
    """What the model is, what it was made of, and how good it is, on one page."""
    from evaluation import model_card as card_of
    from evaluation import scorecard, subject
    from training.checkpoint import load

    card, _, _ = scorecard.read(str(inputs["base_evaluation"]))
    checkpoint = load(Path(str(inputs["base_model"])))
    if checkpoint.manifest["weights"] != card.weights:
        raise Refusal(
            f"base_model must be the model that was evaluated, {card.weights[:16]}, "
            f"got {checkpoint.manifest['weights'][:16]}"
        )
    plan = subject.read_plan(str(inputs["training_plan"]))
    card = card.model_copy(update={"plan": subject.plan_check(plan, checkpoint)})
    training = subject.training_record(checkpoint, plan)
    data = card_of.read_data_card(str(inputs["data_card"]))
    tables = {name: made for name, made in card.inputs.items() if isinstance(made, int)}
    versions = subject.data_versions(workspace.lake, tables)
    page = card_of.model_card_page(card, training, data, versions, config.purpose)
    limits = list(card_of.limits(card, training, data))

    def write(draft: Path) -> None:
        (draft / "index.html").write_text(page, encoding="utf-8")

    folder, content = workspace.save_artifact("model_card", write)
    return Made(
        version=folder,
        content=content,
        rows=1,
        num_bytes=folder_bytes(folder),
        report={
            "model": card.name,
            "parameters": card.num_params,
            "tokens": training.num_tokens,
            "limits": len(limits),
            "page": str(Path(folder) / "index.html"),
        },
        plots={"Training loss": card_of.loss_chart(training)},
    )


def _check_prompts(prompts: PromptConfig, context_length: int) -> None:
    length = 1 + prompts.prompt_tokens + prompts.new_tokens  # one that sets the document off
    if length > context_length:
        raise Refusal(
            "prompts.prompt_tokens + prompts.new_tokens must be below the context of "
            f"{context_length}, got {prompts.prompt_tokens} + {prompts.new_tokens}"
        )


def _teller(say: Callable[[str], None], name: str, num_rows: int) -> Callable[[int], None]:
    """Says how many rows are scored, but not more often than a person can read."""
    said = time.monotonic()

    def tell(done: int) -> None:
        nonlocal said
        if time.monotonic() > said + _SAY_SECONDS:
            said = time.monotonic()
            say(f"{name}: {done:,} of {num_rows:,} rows scored")

    return tell


def _baseline_nats(
    workspace: Workspace, inputs: Inputs, tokens: "NDArray[np.uint16]", vocab_size: int
) -> "dict[str, NDArray[np.floating]]":
    from evaluation import ngrams
    from training.data.loader import Rows

    parts = workspace.lake.files("tokens", int(inputs["tokens"]), {"split": "train"})
    trained = ngrams.train(Rows.from_files(parts).tokens, vocab_size)
    return {"bigram": trained.nats(tokens, 2), "trigram": trained.nats(tokens, 3)}


def _samples(
    model: "LanguageModel", tokenizer: "Tokenizer", text: "HeldOut", config: EvaluationConfig
) -> "tuple[Sample, ...]":
    from evaluation import samples, subject

    prompts = config.prompts
    openings = samples.openings(
        text.rows,
        text.sources,
        tokenizer.bytes_per_token,
        per_source=prompts.per_source,
        prompt_tokens=prompts.prompt_tokens,
        new_tokens=prompts.new_tokens,
    )
    go_on = subject.continuing(
        model,
        tokenizer.bytes_per_token,
        new_tokens=prompts.new_tokens,
        top_p=prompts.top_p,
        seed=config.seed,
    )
    continued = samples.continued(list(openings), go_on, prompts.temperature)
    return tuple(
        samples.sample(one, text.origins[one.opening.doc_id], tokenizer) for one in continued
    )


def _identities(inputs: Inputs) -> dict[str, Version]:
    """Delta versions, and the names of artifacts, which are digests; no path of this machine."""
    return {k: v if isinstance(v, int) else Path(v).name for k, v in sorted(inputs.items())}
