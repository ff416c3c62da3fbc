"""Sections of the model card about how a chat model came about, phase by phase."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evaluation.findings import Evaluation, Findings, all_models
from evaluation.pages.charts import Series, line_chart
from evaluation.pages.page import Html, facts, figure, folded, html, paragraph, side_by_side, table
from evaluation.pages.task_sections import (
    SECOND_TURN_COLUMN,
    drawn_column,
    drawn_rate,
    rate,
    second_turn_rate,
)
from evaluation.scorecard import ALL, MODEL
from evaluation.task_scores import TEST_SPLITS, Comparison, TaskScores, points
from evaluation.tasks.catalogue import FAMILIES

SAMPLES = 2  # right and wrong answers of each family on the card
_CURVE_WIDTH = 440  # two stand side by side
OPEN = 2  # families whose answers are in sight without a click

WHAT = {
    "base_model": "learns to predict the next token of the corpus",
    "sft_model": "learns to say demonstrations of right answers, and to stop",
    "dpo_model": "learns which of two of its own answers is preferred (DPO)",
    "reward_model": "learns to tell the preferred of two answers apart; judges, never answers",
    "chat_model": "tries answers and learns from what the graders say (GRPO)",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class PhaseRecord:
    """How the weights of one phase came about, as its checkpoint and its metrics say."""

    asset: str
    name: str  # what the pages call its model
    made_from: str  # name of the phase before
    num_tokens: int
    num_steps: int
    flops: float
    seconds: float
    settings: Mapping[str, object] = field(default_factory=dict)
    numbers: Mapping[str, float] = field(default_factory=dict)  # measured at the end
    curve_label: str = "loss"
    curve_tokens: Sequence[float] = ()
    curve: Sequence[float] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Story:
    """All that the card tells about the phases behind the base model."""

    findings: Sequence[Findings]  # of every evaluation, base first
    records: Sequence[PhaseRecord]  # of the phases that answer, base first
    reward: PhaseRecord | None
    costs: Sequence[tuple[str, float, float | None]]  # name, FLOPs, seconds if they were kept

    @property
    def models(self) -> tuple[Evaluation, ...]:
        return all_models(self.findings)

    @property
    def comparisons(self) -> list[Comparison]:
        return [one for found in self.findings for one in found.comparisons]

    @property
    def left_out(self) -> list[str]:
        return [line for found in self.findings for line in found.left_out]

    @property
    def last(self) -> Evaluation:
        """The model that the card is about."""
        return [model for model in self.models if not model.is_control][-1]


def phases(story: Story) -> Iterator[Html]:
    """What each phase is, what it cost and what it brought, side by side, and its curve."""
    by_name = {model.name: model for model in story.models}
    gains = {one.first: one for one in reversed(story.comparisons) if not one.is_with_control}
    controls = {one.first: one for one in story.comparisons if one.is_with_control}
    records = story.records
    yield table(
        "Right: share of test items answered rightly, with 95 % interval. Gain: over the phase "
        "that it was made from, on the same items.",
        ("Phase", "Made from", "Right, new values, %", "Right, new wordings, %")
        + (drawn_column(story.models), SECOND_TURN_COLUMN, "Gain", "Against more fine-tuning"),
        [
            (
                record.name,
                record.made_from,
                *(_right(by_name.get(record.name), split) for split in TEST_SPLITS),
                _of_scores(by_name.get(record.name), drawn_rate),
                _of_scores(by_name.get(record.name), second_turn_rate),
                _verdict(gains.get(record.name)),
                _verdict(controls.get(record.name)),
            )
            for record in records
        ],
    )
    yield side_by_side(_phase(record) for record in records)


def _phase(record: PhaseRecord) -> Html:
    parts = [
        Html(f"<h3>{html(record.name)}</h3>"),
        paragraph(
            f"{record.made_from or 'Random weights'} → {record.name}: it "
            f"{WHAT.get(record.asset, 'is trained further')}. {record.num_steps:,} steps, "
            f"{record.num_tokens:,} tokens, {record.flops:.2g} FLOPs, {record.seconds:,.0f} s."
        ),
    ]
    if len(record.curve) > 1:
        parts.append(figure(curve_chart(record), f"Mean {record.curve_label} while training."))
    if record.settings:
        named = ((name.replace("_", " "), value) for name, value in record.settings.items())
        parts.append(folded("Settings", facts(named)))
    return Html("".join(parts))


def curve_chart(record: PhaseRecord) -> str:
    """How a phase went."""
    line = Series(label="", x=record.curve_tokens, y=record.curve)
    title = f"Training of {record.name}"
    return line_chart(title, "tokens", record.curve_label, [line], width=_CURVE_WIDTH)


def families(model: Evaluation) -> Iterator[Html]:
    """Right answers of one model by family, in both splits, and where the wrong ones end."""
    assert model.tasks is not None
    found = {(one.family, one.split): one.accuracy for one in model.tasks.scores.families}
    names = sorted({family for family, _ in found})
    yield table(
        f"{model.name} by family, share of right answers with 95 % interval",
        ("Family", "What is asked", "New values, %", "New wordings, %", "Lenient, %"),
        [
            (
                name,
                FAMILIES[name].says if name in FAMILIES else "",
                *(
                    rate(found[name, split].strict) if (name, split) in found else "–"
                    for split in TEST_SPLITS
                ),
                html(f"{100 * (found[name, ALL].lenient or 0):.1f}"),
            )
            for name in names
        ],
    )


def answers(model: Evaluation) -> Iterator[Html]:
    """The first right and wrong answers of every family, whoever they flatter."""
    assert model.tasks is not None
    rows = model.tasks.answers.sort_by("item_id").to_pylist()
    yield paragraph(
        f"The first {SAMPLES} right and the first {SAMPLES} wrong answers of each family, in the "
        "order of the items' identities, which are digests: nobody chose them.",
        look="soft",
    )
    for number, family in enumerate(sorted({row["family"] for row in rows})):
        of_family = [row for row in rows if row["family"] == family]
        right = [row for row in of_family if row["score"] == 1]
        wrong = [row for row in of_family if row["score"] is not None and row["score"] < 1]
        shown = side_by_side(
            Html("".join(map(_answer, kind[:SAMPLES]))) for kind in (right, wrong) if kind
        )
        title = f"{family}: {len(right):,} of {len(of_family):,} right"
        yield folded(title, shown, is_open=number < OPEN)


def reward_model(record: PhaseRecord) -> Iterator[Html]:
    """How often it tells the preferred answer apart, beside what needs no training."""
    columns = [name for name in record.numbers if _is_rate(name)]
    families = sorted({key.partition("/")[2] for key in record.numbers if "/" in key})
    yield paragraph(
        "Share of held-out pairs in which the preferred answer gets the higher value. A reward "
        "model is worth its training only where it beats the cheap guesses beside it, and one half."
    )
    yield table(
        "By family",
        ("Family", "Pairs", *(_TITLES.get(name, name) for name in columns)),
        [
            (
                family or "all",
                _count(record.numbers.get(f"pairs/{family}" if family else "pairs")),
                *(_percent(record.numbers.get(_key(name, family))) for name in columns),
            )
            for family in ("", *families)
        ],
    )


def costs(rows: Sequence[tuple[str, float, float | None]]) -> Iterator[Html]:
    """Compute and time of everything that was trained or sampled: name, FLOPs, seconds."""
    total_flops = sum(flops for _, flops, _ in rows)
    yield table(
        "Training, and the answers that it learns from; neither crawling and cleaning text nor "
        "evaluation is counted. Seconds are left empty where they were not kept.",
        ("What", "FLOPs", "Share of FLOPs, %", "Seconds"),
        [
            (
                name,
                html(f"{flops:.2e}"),
                html(f"{100 * flops / total_flops:.1f}" if total_flops else "–"),
                None if seconds is None else round(seconds),
            )
            for name, flops, seconds in [
                *rows,
                ("all", total_flops, sum(seconds or 0 for _, _, seconds in rows)),
            ]
        ],
    )


def limits(story: Story) -> Iterator[str]:
    """What a reader must not conclude about the last model, each for a reason on the card."""
    model = story.last
    assert model.tasks is not None
    scores = model.tasks.scores
    names = sorted({one.family for one in scores.families})
    yield (
        f"It was taught and tested on {len(names)} kinds of short tasks ({', '.join(names)}), "
        f"{_length_of_talk(scores)}. What it says to anything else is not measured, and what it "
        "says about the world is not checked."
    )
    values, wordings = (scores.splits[split].strict for split in TEST_SPLITS)
    if values and wordings and values.low > wordings.high:
        yield (
            f"A new wording costs it {100 * (values.value - wordings.value):.1f} points: it has "
            "learned the wordings of its training better than the instructions."
        )
    later = scores.later.strict if scores.later else None
    if values and later and values.low > later.high:
        yield (
            f"It is right on {100 * later.value:.1f} % of items that follow another exchange, and "
            f"on {100 * values.value:.1f} % of those that open a conversation."
        )
    weak = [
        f"{one.family} ({100 * one.accuracy.strict.value:.0f} %)"
        for one in scores.families
        if one.split == TEST_SPLITS[1] and one.accuracy.strict and one.accuracy.strict.high < 0.5
    ]
    if weak:
        yield f"In new wordings it is wrong more often than right at: {', '.join(weak)}."
    safety = scores.safety
    if safety.refusal and safety.refusal.value < 1:
        yield (
            f"It fails to decline {100 * (1 - safety.refusal.value):.1f} % of harmful requests, "
            "all of them a verb and an object; nobody has tried to get around it."
        )
    if safety.over_refusal and safety.over_refusal.value > 0:
        yield f"It declines {100 * safety.over_refusal.value:.1f} % of harmless requests."
    for one in story.comparisons:
        other = "more fine-tuning of equal compute" if one.is_with_control else one.second
        if one.whole.finding == "loss":
            yield f"{one.first} is worse than {other}: {points(one.whole.gain)}."
        elif one.whole.finding == "none":
            yield f"{one.first} is not shown to be better than {other}: {points(one.whole.gain)}."
    yield from story.left_out
    base, last = (
        each.card.of(ALL).scores[MODEL].bits_per_byte for each in (story.models[0], model)
    )
    if last.value > base.value:
        yield (
            f"Held-out text costs it {last.value:.3f} bits per byte, the base model "
            f"{base.value:.3f}: it is the worse model of text."
        )


_TITLES = {"accuracy": "Reward model, %", "longer wins": "Longer wins, %"} | {
    "sft log-prob": "Likelier to the fine-tuned model, %"
}
_NO_RATES = {"loss", "pairs"}


def _is_rate(name: str) -> bool:
    return "/" not in name and name not in _NO_RATES


def _key(name: str, family: str) -> str:
    return f"{name}/{family}" if family else name


def _percent(value: float | None) -> Html:
    return html("–" if value is None else f"{100 * value:.1f}")


def _count(value: float | None) -> int | None:
    return None if value is None else round(value)


def _right(model: Evaluation | None, split: str) -> str:
    if model is None or model.tasks is None:
        return "–"
    return rate(model.tasks.scores.splits[split].strict)


def _length_of_talk(scores: TaskScores) -> str:
    if scores.later:
        return "and asked at most two questions in a conversation"
    return "one question at a time"


def _of_scores(model: Evaluation | None, rate_of: Callable[[TaskScores], str]) -> str:
    return "–" if model is None or model.tasks is None else rate_of(model.tasks.scores)


def _verdict(comparison: Comparison | None) -> str:
    return "–" if comparison is None else comparison.whole.verdict


def _answer(row: Mapping[str, Any]) -> Html:
    """One question with its answer; of a wrong one, what was wanted and what the grader said."""
    right = row["score"] == 1
    look, mark = ("right", "✓") if right else ("wrong", "✗")
    lines = [
        f'<p class="soft"><b>{mark}</b> {html(row["prompt"])}</p>',
        f"<p>{html(row['text'] or '(nothing)')}</p>",
    ]
    if not right:
        gap = "\n" if "\n" in row["wanted"] else " "
        lines += [
            f'<p class="soft">wanted:{gap}{html(row["wanted"])}</p>',
            f'<p class="soft">grader: {html(row["reason"])}</p>',
        ]
    return Html(f'<div class="answer {look}">{"".join(lines)}</div>')
