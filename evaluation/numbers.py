"""The numbers of an evaluation under flat names: for a tracker that plots, for a report."""

import re
from collections.abc import Iterator

from evaluation.findings import Evaluation, Findings
from evaluation.intervals import Interval
from evaluation.scorecard import ALL
from evaluation.task_scores import TEST_SPLITS, Comparison, TaskScores

_OF_OTHERS = {
    *("accuracy", "accuracy_new_templates", "accuracy_drawn", "accuracy_second_turn"),
    *("over_refusal", "house_style"),
}

Number = int | float | str


def metrics(found: Findings) -> dict[str, float]:
    """Every number with its interval; of several models each has its phase before it."""
    numbers: dict[str, float] = {}
    for model in found.models:
        prefix = f"{model.phase}/" if len(found.models) > 1 else ""
        for name, value in _of_model(model):
            numbers[prefix + name] = value
    for comparison in found.comparisons:
        for name, value in _of_comparison(comparison):
            numbers[name] = value
    return numbers


def report(found: Findings) -> dict[str, Number]:
    """What a person, or a check, wants to know first: of the last phase, then of the others."""
    main = [model for model in found.models if not model.is_control][-1]
    numbers: dict[str, Number] = {}
    if main.tasks:
        numbers |= _of_tasks(main.tasks.scores)
    for comparison in found.comparisons:
        numbers[comparison.title] = comparison.whole.verdict
    mine = [c for c in found.comparisons if c.first == main.name and not c.is_with_control]
    if mine:  # the last is the one against the model before all phases of this evaluation
        gain = mine[-1].whole.gain
        if mine[-1].drawn is not None:
            numbers |= _interval("gain_drawn", mine[-1].drawn.gain)
        if mine[-1].later is not None:
            numbers |= _interval("gain_second_turn", mine[-1].later.gain)
        numbers |= _interval("gain", gain) | {"tax": round(mine[-1].bits_per_byte.value, 5)}
    for model in found.models:
        if model is not main and model.tasks:
            of_other = _of_tasks(model.tasks.scores)
            for name in (name for name in of_other if name in _OF_OTHERS):
                numbers[f"{name} of {model.name}"] = of_other[name]
    return numbers | main.card.report


def _of_tasks(scores: TaskScores) -> dict[str, Number]:
    """The few numbers that say how a model answers. What was not measured is left out."""
    whole = scores.splits[ALL]
    found = {
        "accuracy": scores.splits[TEST_SPLITS[0]].strict,
        "accuracy_new_templates": scores.splits[TEST_SPLITS[1]].strict,
        "accuracy_drawn": scores.drawn.strict if scores.drawn else None,
        "accuracy_second_turn": scores.later.strict if scores.later else None,
        "refusal": scores.safety.refusal,
        "over_refusal": scores.safety.over_refusal,
        "style": scores.style.asked,
        "house_style": scores.style.left_open,
    }
    numbers: dict[str, Number] = {
        name: round(number.value, 4) for name, number in found.items() if number is not None
    }
    return numbers | {
        "items": whole.num_items,
        "unfinished": whole.num_unfinished,
        "grader errors": whole.num_errors + whole.num_timeouts,
    }


def _of_model(model: Evaluation) -> Iterator[tuple[str, float]]:
    yield from model.card.metrics.items()
    if model.tasks is None:
        return
    scores = model.tasks.scores
    for split, found in scores.splits.items():
        yield from _named(f"{split}/accuracy", found.strict)
        if found.lenient is not None:
            yield f"{split}/accuracy_lenient", found.lenient
        yield f"{split}/unparsed", found.num_unparsed
        yield f"{split}/unfinished", found.num_unfinished
        yield f"{split}/errors", found.num_errors
        yield f"{split}/timeouts", found.num_timeouts
    for family in scores.families:
        if family.accuracy.strict is not None:
            name = f"{family.split}/{family.family}/accuracy"
            yield name, family.accuracy.strict.value
    if scores.drawn is not None:
        yield from _named("drawn/accuracy", scores.drawn.strict)
        yield "drawn/unfinished", scores.drawn.num_unfinished
    if scores.later is not None:
        yield from _named("later/accuracy", scores.later.strict)
        yield "later/unfinished", scores.later.num_unfinished
        yield "later/left_out", scores.later.num_left_out
    yield from _named("safety/refusal", scores.safety.refusal)
    yield from _named("safety/over_refusal", scores.safety.over_refusal)
    yield from _named("safety/compliance", scores.safety.compliance)
    yield from _named("style/asked", scores.style.asked)
    yield from _named("style/left_open", scores.style.left_open)
    yield "mean_tokens", scores.mean_tokens


def _of_comparison(comparison: Comparison) -> Iterator[tuple[str, float]]:
    # MLflow takes no other signs in a metric's name.
    name = re.sub(r"[^\w. -]", "", comparison.title)
    drawn = {"drawn": comparison.drawn} if comparison.drawn else {}
    later = {"later": comparison.later} if comparison.later else {}
    for split, found in {**comparison.splits, **drawn, **later}.items():
        yield from _named(f"{name}/{split}/gain", found.gain)
        yield f"{name}/{split}/won", found.won
        yield f"{name}/{split}/lost", found.lost
        yield f"{name}/{split}/p", found.p
    yield from _named(f"{name}/over_refusal", comparison.over_refusal)
    yield from _named(f"{name}/style_asked", comparison.style_asked)
    yield from _named(f"{name}/style_left_open", comparison.style_left_open)
    yield from _named(f"{name}/bits_per_byte", comparison.bits_per_byte)


def _named(name: str, number: Interval | None) -> Iterator[tuple[str, float]]:
    if number is not None:
        yield name, number.value
        yield f"{name}_low", number.low
        yield f"{name}_high", number.high


def _interval(name: str, number: Interval) -> dict[str, Number]:
    return {key: round(value, 5) for key, value in _named(name, number)}
