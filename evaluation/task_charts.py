"""Charts of what models answered, in the colours that every page gives the phases."""

from collections.abc import Sequence

from evaluation.charts import Look, Marks, grouped_chart
from evaluation.findings import Evaluation
from evaluation.intervals import Interval
from evaluation.scorecard import ALL

_LOOKS: dict[str, Look] = {"base": "other", "sft": "first", "dpo": "second", "chat": "third"}


def look_of(model: Evaluation) -> Look:
    """The colour of a model's phase; a control has that of the model it is held against."""
    return _LOOKS.get(model.phase.removesuffix("-control"), "other")


def percent(number: Interval) -> Interval:
    """A share as a percentage."""
    return Interval(value=100 * number.value, low=100 * number.low, high=100 * number.high)


def family_chart(models: Sequence[Evaluation], split: str = ALL) -> str:
    """Share of right answers per family, phases side by side with their intervals."""
    marks: list[Marks] = []
    families: set[str] = set()
    for model in models:
        if model.tasks is None:
            continue
        rates = {
            scores.family: percent(scores.accuracy.strict)
            for scores in model.tasks.scores.families
            if scores.split == split and scores.accuracy.strict is not None
        }
        families |= rates.keys()
        marks.append(
            Marks(
                label=model.name,
                intervals=rates,
                look=look_of(model),
                hollow=model.is_control,
            )
        )
    return grouped_chart("Right answers by family", "% right", sorted(families), marks)
