"""The stages of this room, in order: examine models, rank them, describe the last one."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, PositiveInt

from datalake.config import Config, Refusal
from datalake.workspace import Inputs, Made, Version, Workspace, folder_bytes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from evaluation.examination import Candidate, Examination
    from evaluation.findings import Findings
    from evaluation.pages.phase_sections import Story
    from evaluation.scorecard import Sample
    from training.checkpoint import Checkpoint


class PromptConfig(Config):
    """How a base model is shown at work: openings of held-out documents, continued."""

    per_source: PositiveInt = 3  # as many as a reader looks at
    prompt_tokens: PositiveInt = 48  # a few lines of code or two sentences: enough to set a topic
    new_tokens: PositiveInt = 64
    # .8 is best where many samples are drawn (Chen et al. 2021, arXiv:2107.03374); nucleus of .95
    # (Holtzman et al. 2020, arXiv:1904.09751).
    temperature: float = Field(default=0.8, gt=0)
    top_p: float = Field(default=0.95, gt=0, le=1)


class TasksConfig(Config):
    """How a model answers items. The same for all models that are to be compared."""

    # The longest demonstration has 26 tokens in a vocabulary of 8,192.
    max_new_tokens: PositiveInt = 48
    rows_per_batch: PositiveInt = 256  # changes memory and speed, not a verdict
    # Of one drawn answer to each item with new values, beside the greedy one. It is the temperature
    # that GRPO samples at, where its gain shows: it makes right answers likelier, and the likeliest
    # one changes last.
    temperature: float = Field(default=1.0, gt=0)
    seed: int = 0  # of the drawn answers


class EvaluationConfig(Config):
    """How the base model is scored."""

    name: str  # what the pages call the model
    rows_per_batch: PositiveInt = 16  # of text; changes memory and speed, not the score
    tasks: TasksConfig = TasksConfig()
    prompts: PromptConfig = PromptConfig()
    seed: int = 0  # of the sampled continuations


class SftEvaluationConfig(Config):
    """How the fine-tuned model is scored, the base being scored already."""

    name: str
    rows_per_batch: PositiveInt = 16
    tasks: TasksConfig = TasksConfig()


class ChatEvaluationConfig(Config):
    """How the models of preference and reinforcement learning, and their controls, are scored."""

    dpo_name: str
    chat_name: str
    rows_per_batch: PositiveInt = 16
    tasks: TasksConfig = TasksConfig()


class LeaderboardConfig(Config):
    """What the leaderboard is headed with."""

    title: str = "Leaderboard"


class ModelCardConfig(Config):
    """What a person has to say about a model, since no measurement can."""

    purpose: str | None = None  # what it was made for; None says on the card that nobody stated it


class Settings(Config):
    """Section ``evaluation`` of a recipe."""

    base_evaluation: EvaluationConfig
    sft_evaluation: SftEvaluationConfig = SftEvaluationConfig(name="sft")
    chat_evaluation: ChatEvaluationConfig = ChatEvaluationConfig(dpo_name="dpo", chat_name="chat")
    leaderboard: LeaderboardConfig = LeaderboardConfig()
    model_card: ModelCardConfig = ModelCardConfig()


def base_evaluation(workspace: Workspace, inputs: Inputs, config: EvaluationConfig) -> Made:
    """Bits per byte per source, of the model and of n-grams of its training rows; samples.

    Reads ``base_model``, ``tokens``, ``tokenizer`` and ``corpus``; also ``instructions`` where
    they are given, to see how far a model comes that was never taught to answer, and
    ``training_plan``, to hold the loss against what was promised.
    """
    from evaluation import subject
    from evaluation.findings import Findings

    began = time.monotonic()
    room = _begin(workspace, inputs, config.rows_per_batch, config.tasks)
    base = room.candidate("base", "base_model", config.name)
    _check_prompts(config.prompts, base.model.config.context_length)
    plan = inputs.get("training_plan")
    found = room.sit(
        base,
        baselines=_baseline_nats(room),
        plan=None
        if plan is None
        else subject.plan_check(subject.read_plan(str(plan)), base.checkpoint),
        samples=_samples(room, base, config),
        temperature=config.prompts.temperature,
    )
    return _made(workspace, inputs, config, "base_evaluation", Findings(models=(found,)), began)


def sft_evaluation(workspace: Workspace, inputs: Inputs, config: SftEvaluationConfig) -> Made:
    """What fine-tuning brought: tasks, safety, style and text, against the base model.

    Reads ``sft_model``, ``base_evaluation``, ``instructions``, ``tokens``, ``tokenizer`` and
    ``corpus``.
    """
    from evaluation import findings

    began = time.monotonic()
    before = findings.read(str(inputs["base_evaluation"]))
    room = _begin(workspace, inputs, config.rows_per_batch, config.tasks)
    sft = room.sit(room.candidate("sft", "sft_model", config.name))
    found = findings.Findings(
        models=(sft,), comparisons=(findings.comparison(sft, before.of("base")),)
    )
    return _made(workspace, inputs, config, "sft_evaluation", found, began, before)


def chat_evaluation(workspace: Workspace, inputs: Inputs, config: ChatEvaluationConfig) -> Made:
    """What preferences and rewards brought, against what came before and against controls.

    A control had the same start and the same compute, spent on more fine-tuning. Reads
    ``dpo_model``, ``chat_model``, ``sft_evaluation``, ``instructions``, ``tokens``, ``tokenizer``
    and ``corpus``.
    """
    from evaluation import findings

    began = time.monotonic()
    before = findings.read(str(inputs["sft_evaluation"]))
    sft = before.of("sft")
    room = _begin(workspace, inputs, config.rows_per_batch, config.tasks)
    models, comparisons, left_out, last = [], [], [], sft
    for phase, asset, name in (
        ("dpo", "dpo_model", config.dpo_name),
        ("chat", "chat_model", config.chat_name),
    ):
        model = room.sit(room.candidate(phase, asset, name))
        models.append(model)
        comparisons.append(findings.comparison(model, last))
        last = model
        if control := room.control(phase, asset, name):
            models.append(room.sit(control))
            comparisons.append(findings.comparison(model, models[-1]))
        else:
            left_out.append(f"{name} is not compared with a control: none was trained.")
            workspace.say(left_out[-1])
    comparisons.append(findings.comparison(last, sft))
    found = findings.Findings(
        models=tuple(models), comparisons=tuple(comparisons), left_out=tuple(left_out)
    )
    return _made(workspace, inputs, config, "chat_evaluation", found, began, before)


def leaderboard(workspace: Workspace, inputs: Inputs, config: LeaderboardConfig) -> Made:
    """Every evaluated model, scores with intervals drawn. Every input is an evaluation."""
    from evaluation import findings
    from evaluation.pages import leaderboard as board_of
    from evaluation.pages import task_charts

    found = [findings.read(str(folder)) for folder in _in_order(inputs)]
    models = findings.all_models(found)
    board = board_of.leaderboard(found)
    folder, content = workspace.save_artifact(
        "leaderboard", lambda draft: board_of.write(draft, board, models, config.title)
    )
    whole = board.standings[0]
    best = whole.places[0]
    plots = {"Bits per byte": board_of.standing_chart(whole)}
    if board.tasks:
        plots = {"Right answers": task_charts.accuracy_chart(models), **plots}
    if board.comparisons:
        plots["Phase against phase"] = task_charts.gain_chart(board.comparisons)
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
            **{one.title: one.whole.verdict for one in board.comparisons},
            "page": str(Path(folder) / "index.html"),
        },
        plots=plots,
    )


def model_card(workspace: Workspace, inputs: Inputs, config: ModelCardConfig) -> Made:
    """What the last model is, what it was made of, and how good it is, on one page.

    Reads ``base_evaluation``, ``base_model``, ``training_plan`` and ``data_card``, and of a chat
    model also ``sft_evaluation``, ``chat_evaluation``, the models of all phases and
    ``scaling_runs``.
    """
    from evaluation import findings, subject
    from evaluation.pages import model_card as card_of
    from evaluation.pages import phase_sections, task_charts
    from training.checkpoint import load

    base = findings.read(str(inputs["base_evaluation"]))
    card = base.of("base").card
    checkpoint = load(Path(str(inputs["base_model"])))
    _refuse_other("base_model", checkpoint, card.weights)
    plan = subject.read_plan(str(inputs["training_plan"]))
    card = card.model_copy(update={"plan": subject.plan_check(plan, checkpoint)})
    training = subject.training_record(checkpoint, plan)
    data = card_of.read_data_card(str(inputs["data_card"]))
    story = None
    tables = [(name, made) for name, made in card.inputs.items() if isinstance(made, int)]
    if "chat_evaluation" in inputs:
        story, read = _story(workspace, inputs, base)
        tables += read
    versions = subject.data_versions(workspace.lake, tables)
    page = card_of.model_card_page(card, training, data, versions, config.purpose, story)

    def write(draft: Path) -> None:
        (draft / "index.html").write_text(page, encoding="utf-8")

    folder, content = workspace.save_artifact("model_card", write)
    plots = {"Training loss": card_of.loss_chart(training)}
    report: dict[str, int | float | str] = {
        "model": story.last.name if story else card.name,
        "parameters": card.num_params,
        "tokens": training.num_tokens,
        "limits": len(list(card_of.limits(card, training, data))),
    }
    if story:
        plots = {"Right answers by family": task_charts.family_chart(story.models), **plots}
        report |= {
            "limits": len(list(phase_sections.limits(story))),
            "FLOPs": sum(flops for _, flops, _ in story.costs),
            "training seconds": round(sum(seconds or 0 for _, _, seconds in story.costs), 1),
        }
    return Made(
        version=folder,
        content=content,
        rows=1,
        num_bytes=folder_bytes(folder),
        report=report | {"page": str(Path(folder) / "index.html")},
        plots=plots,
    )


def _story(
    workspace: Workspace, inputs: Inputs, base: "Findings"
) -> "tuple[Story, list[tuple[str, int]]]":
    """The later phases, and every table that they read, at its version."""
    from evaluation import findings, subject
    from evaluation.pages.phase_sections import Story
    from training.checkpoint import latest, load

    found = [base, *(findings.read(str(inputs[f"{p}_evaluation"])) for p in ("sft", "chat"))]
    models = {model.phase: model for model in findings.all_models(found)}
    records, tables = [], []
    costs: list[tuple[str, float, float | None]] = []
    if "scaling_runs" in inputs:
        costs.append(subject.sweep_cost(workspace.lake, int(inputs["scaling_runs"])))
    made_from = ""
    for phase in ("base", "sft", "dpo", "chat"):
        asset = f"{phase}_model"
        checkpoint = load(Path(str(inputs[asset])))
        _refuse_other(asset, checkpoint, models[phase].card.weights)
        record = subject.phase_record(asset, models[phase].name, made_from, checkpoint)
        records.append(record)
        made_from = record.name
        read = checkpoint.manifest["about"].get("inputs", {})
        if "preferences" in read:
            costs.append(subject.sampling_cost(workspace.lake, int(read["preferences"])))
        costs.append((record.name, record.flops, record.seconds))
        tables += [(name, made) for name, made in read.items() if isinstance(made, int)]
        if control := latest(checkpoint.path.parent / "control"):
            spent = control.manifest
            costs.append((f"{record.name} control", spent["flops"], spent["seconds"]))
    reward = None
    if "reward_model" in inputs:
        judge = load(Path(str(inputs["reward_model"])))
        reward = subject.phase_record("reward_model", "reward model", models["sft"].name, judge)
        costs.append((reward.name, reward.flops, reward.seconds))
    story = Story(findings=found, records=records, reward=reward, costs=costs)
    return story, tables


def _refuse_other(asset: str, checkpoint: "Checkpoint", evaluated: str) -> None:
    weights = str(checkpoint.manifest["weights"])
    if weights != evaluated:
        raise Refusal(
            f"{asset} must be the model that was evaluated, {evaluated[:16]}, got {weights[:16]}"
        )


def _check_prompts(prompts: PromptConfig, context_length: int) -> None:
    length = 1 + prompts.prompt_tokens + prompts.new_tokens  # one that sets the document off
    if length > context_length:
        raise Refusal(
            "prompts.prompt_tokens + prompts.new_tokens must be below the context of "
            f"{context_length}, got {prompts.prompt_tokens} + {prompts.new_tokens}"
        )


def _in_order(inputs: Inputs) -> list[Version]:
    """Evaluations as the phases follow one another, others behind them."""
    order = [*_MODEL_OF, *sorted(inputs)]
    return [inputs[key] for key in sorted(inputs, key=order.index)]


def _begin(
    workspace: Workspace, inputs: Inputs, rows_per_batch: int, tasks: TasksConfig
) -> "Examination":
    from evaluation import examination

    return examination.begin(
        workspace,
        inputs,
        rows_per_batch=rows_per_batch,
        answers_per_batch=tasks.rows_per_batch,
        max_new_tokens=tasks.max_new_tokens,
        temperature=tasks.temperature,
        seed=tasks.seed,
    )


def _made(
    workspace: Workspace,
    inputs: Inputs,
    config: Config,
    asset: str,
    found: "Findings",
    began: float,
    before: "Findings | None" = None,
) -> Made:
    """Keep ``found``, log it as an MLflow run and report it. ``before`` is drawn beside it."""
    from evaluation import findings, numbers
    from evaluation.pages import task_charts
    from evaluation.pages.model_card import score_chart
    from training import tracking

    folder, content = workspace.save_artifact(asset, lambda draft: findings.write(draft, found))
    drawn = [*(before.models if before else ()), *found.models]
    plots = {"Bits per byte": score_chart(found.models[-1].card)}
    if any(model.tasks for model in drawn):
        plots["Right answers by family"] = task_charts.family_chart(drawn)
    with tracking.open_run(
        workspace,
        asset,
        params=config.model_dump(),
        inputs=inputs,
        context="evaluation",
        parent_model=Path(str(inputs[_MODEL_OF[asset]])),
    ) as run:
        run.log_metrics(numbers.metrics(found))
        for title, plot in plots.items():
            run.log_text(f"plots/{title.lower().replace(' ', '_')}.svg", plot)
        for model in found.models:
            run.log_text(f"{model.phase}/evaluation.json", model.card.model_dump_json(indent=1))
    return Made(
        version=folder,
        content=content,
        rows=sum(len(model.sums.doc_ids) for model in found.models),
        num_bytes=folder_bytes(folder),
        report=numbers.report(found)
        | {"MLflow run": run.run_id, "seconds": round(time.monotonic() - began, 2)},
        plots=plots,
    )


_MODEL_OF = {
    "base_evaluation": "base_model",
    "sft_evaluation": "sft_model",
    "chat_evaluation": "chat_model",
}


def _baseline_nats(room: "Examination") -> "dict[str, NDArray[np.floating]]":
    from evaluation import ngrams
    from training.data.rows import Rows

    lake, version = room.workspace.lake, int(room.inputs["tokens"])
    trained = ngrams.train(Rows.from_files(lake.files("tokens", version, {"split": "train"})))
    rows = room.text.rows.rows
    return {"bigram": trained.nats(rows, 2), "trigram": trained.nats(rows, 3)}


def _samples(
    room: "Examination", base: "Candidate", config: EvaluationConfig
) -> "tuple[Sample, ...]":
    from evaluation import samples, subject

    prompts, text, tokenizer = config.prompts, room.text, room.tokenizer
    openings = samples.openings(
        text.rows,
        text.sources,
        tokenizer.bytes_per_token,
        per_source=prompts.per_source,
        prompt_tokens=prompts.prompt_tokens,
        new_tokens=prompts.new_tokens,
    )
    go_on = subject.continuing(
        base.model,
        tokenizer.bytes_per_token,
        new_tokens=prompts.new_tokens,
        top_p=prompts.top_p,
        seed=config.seed,
    )
    continued = samples.continued(list(openings), go_on, prompts.temperature)
    return tuple(
        samples.sample(one, text.origins[one.opening.doc_id], tokenizer) for one in continued
    )
