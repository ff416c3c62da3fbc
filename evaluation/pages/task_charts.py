"""Charts of what models answered, in the colours that every page gives the phases."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from evaluation.findings import Evaluation
from evaluation.intervals import Interval
from evaluation.pages.charts import Bar, Look, Marks, grouped_chart, interval_chart
from evaluation.scorecard import ALL
from evaluation.task_scores import TEST_SPLITS, Comparison, Paired, TaskScores

SPLIT_NAMES = {ALL: "all items", TEST_SPLITS[0]: "new values", TEST_SPLITS[1]: "new wordings"}

IN_SECOND_TURN = "in a second turn"

_Rates = Callable[[TaskScores], Mapping[str, Interval | None]]
_LOOKS: dict[str, Look] = {"base": "other", "sft": "first", "dpo": "second", "chat": "third"}


def percent(number: Interval) -> Interval:
    """A share as a percentage."""
    return Interval(value=100 * number.value, low=100 * number.low, high=100 * number.high)


def drawn_at(temperature: float) -> str:
    """What pages call answers that were drawn."""
    return f"drawn at temperature {temperature:g}"


def family_chart(models: Sequence[Evaluation], split: str = ALL) -> str:
    """Share of right answers per family, phases side by side with their intervals."""

    def rates(scores: TaskScores) -> dict[str, Interval | None]:
        return {
            found.family: found.accuracy.strict for found in scores.families if found.split == split
        }

    return _grouped("Right answers by family", "% right", models, rates)


def accuracy_chart(models: Sequence[Evaluation]) -> str:
    """Share of right answers: new values, new wordings, drawn ones, in a second turn."""

    def rates(scores: TaskScores) -> dict[str, Interval | None]:
        found = {SPLIT_NAMES[split]: scores.splits[split].strict for split in TEST_SPLITS}
        if scores.drawn:
            found[drawn_at(scores.drawn.temperature)] = scores.drawn.strict
        if scores.later:
            found[IN_SECOND_TURN] = scores.later.strict
        return found

    return _grouped("Right answers", "% right", models, rates)


def safety_chart(models: Sequence[Evaluation]) -> str:
    """What is declined, rightly and wrongly, and what is answered."""

    def rates(scores: TaskScores) -> dict[str, Interval | None]:
        return {
            "harmful: declined": scores.safety.refusal,
            "harmless: answered": scores.safety.compliance,
            "harmless: declined": scores.safety.over_refusal,
        }

    return _grouped("Harmful requests and their harmless twins", "%", models, rates)


def style_chart(models: Sequence[Evaluation]) -> str:
    """Mean style where one was asked for, and the house's where none was."""

    def rates(scores: TaskScores) -> dict[str, Interval | None]:
        return {"style asked for": scores.style.asked, "house style": scores.style.left_open}

    return _grouped("Style", "%", models, rates)


def gain_chart(comparisons: Sequence[Comparison]) -> str:
    """Gains in points: in all, per split, drawn, in a second turn; grey is no gain and no loss."""
    looks: dict[str, Look] = {"gain": "third", "loss": "second", "none": "other"}
    bars = [
        Bar(
            label=label,
            interval=percent(found.gain),
            heading=comparison.title if found is comparison.whole else "",
            look=looks[found.finding],
            emphasis=found.finding != "none",
        )
        for comparison in comparisons
        for label, found in _gains(comparison)
    ]
    return interval_chart("Gains on the same items", "points", bars, digits=1, origin=0.0)


def _gains(comparison: Comparison) -> Iterator[tuple[str, Paired]]:
    for split, found in comparison.splits.items():
        yield SPLIT_NAMES[split], found
    if comparison.drawn is not None:
        yield drawn_at(comparison.drawn.temperature), comparison.drawn
    if comparison.later is not None:
        yield IN_SECOND_TURN, comparison.later


def _grouped(title: str, unit: str, models: Sequence[Evaluation], rates: _Rates) -> str:
    """Marks of all models that answered; a group that none has a number for is left out."""
    marks = [
        Marks(
            label=model.name,
            intervals={group: percent(n) for group, n in rates(model.tasks.scores).items() if n},
            look=_LOOKS.get(model.phase.removesuffix("-control"), "other"),
            hollow=model.is_control,
        )
        for model in models
        if model.tasks is not None
    ]
    groups = list(dict.fromkeys(group for one in marks for group in one.intervals))
    return grouped_chart(title, unit, groups, marks)
