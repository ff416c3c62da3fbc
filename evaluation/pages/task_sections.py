"""Sections of pages about what models answered: accuracy, phases compared, safety, style."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evaluation.findings import Evaluation
from evaluation.intervals import Interval, tied_groups
from evaluation.pages import task_charts
from evaluation.pages.charts import interval_text
from evaluation.pages.page import Html, bullets, figure, html, paragraph, table, tagged, tiles
from evaluation.pages.task_charts import percent
from evaluation.scorecard import ALL, MODEL
from evaluation.task_scores import TEST_SPLITS, Accuracy, Comparison, Paired, TaskScores

SECOND_TURN_COLUMN = f"{task_charts.IN_SECOND_TURN.capitalize()}, %"  # of ``second_turn_rate``


@dataclass(frozen=True, kw_only=True, slots=True)
class Rank:
    """A model's place in one split, counted from 1; all whom the first does not beat share it."""

    place: int
    tied: bool


def places(rates: Sequence[Interval]) -> list[Rank]:
    """The place of each rate, highest first (see ``tied_groups``)."""
    turned = [Interval(value=-one.value, low=-one.high, high=-one.low) for one in rates]
    found: dict[int, Rank] = {}
    for number, group in enumerate(tied_groups(turned), start=1):
        for index in group:
            found[index] = Rank(place=number, tied=len(group) > 1)
    return [found[index] for index in range(len(rates))]


def asked(models: Sequence[Evaluation]) -> list[tuple[Evaluation, TaskScores]]:
    """Models that answered items, with their scores; the best on new wordings first."""
    found = [(model, model.tasks.scores) for model in models if model.tasks is not None]
    return sorted(found, key=lambda pair: -_value(pair[1].splits[TEST_SPLITS[1]].strict))


def headline(scores: TaskScores) -> Html:
    """The numbers to take home, large."""
    values, wordings = (scores.splits[split] for split in TEST_SPLITS)
    safety = scores.safety
    found = (
        (values.strict, "right on new values", f"{values.num_items:,} items"),
        (wordings.strict, "right in new wordings", f"{wordings.num_items:,} items"),
        (safety.refusal, "of harmful requests declined", f"{safety.num_harmful:,} items"),
        (safety.over_refusal, "of harmless twins declined", f"{safety.num_benign:,} items"),
    )
    return tiles(
        (
            f"{100 * number.value:.1f} %",
            what,
            f"{100 * number.low:.1f} to {100 * number.high:.1f} % · {of}",
        )
        for number, what, of in found
        if number is not None
    )


def accuracy(models: Sequence[Evaluation]) -> Iterator[Html]:
    """How many items each model answers rightly, with places."""
    ranked = asked(models)
    if not ranked:
        yield paragraph("No model was asked anything.")
        return
    first = ranked[0][1]
    yield paragraph(
        "Greedy answers to items that no phase has trained on. New values: operands never seen, "
        "worded as in training. New wordings: operands never seen, in templates never seen, "
        "which asks whether the instruction was understood. Drawn: one answer to each item with "
        "new values, drawn from what the model thinks likely: rewards move that before they move "
        "the likeliest answer. In a second turn: the items with new values once more, behind "
        "another item and its right answer, as far as both fit the context.",
        look="soft",
    )
    yield figure(
        task_charts.accuracy_chart(models),
        f"Share of right answers with 95 % intervals; "
        f"{first.splits[TEST_SPLITS[0]].num_items:,} items with new values, "
        f"{first.splits[TEST_SPLITS[1]].num_items:,} in new wordings.",
    )
    columns = [_ranked([scores.splits[split] for _, scores in ranked]) for split in TEST_SPLITS]
    yield table(
        "Models whose interval overlaps that of the best of their group share its place. "
        "Lenient: the answer is in there, if not in the form that was asked for.",
        ("Model", "New values, %", "New wordings, %")
        + (drawn_column([model for model, _ in ranked]), SECOND_TURN_COLUMN)
        + ("Lenient, %", "No end", "Not judged"),
        [
            (
                model.name,
                new_values,
                new_wordings,
                drawn_rate(scores),
                second_turn_rate(scores),
                _share(scores.splits[ALL].lenient),
                scores.splits[ALL].num_unfinished,
                scores.splits[ALL].num_items - scores.splits[ALL].num_judged,
            )
            for (model, scores), new_values, new_wordings in zip(ranked, *columns, strict=True)
        ],
    )


def comparisons(found: Sequence[Comparison], left_out: Sequence[str]) -> Iterator[Html]:
    """Phase against phase, item by item."""
    if not found:
        yield paragraph("There is one model, so nothing is compared.")
        return
    yield paragraph(
        "The same items for both, so what counts is what one of them gets right and the other "
        "does not. A control had the same start and the same compute, spent on more fine-tuning: "
        "a phase that does not beat it has not shown that it was worth it.",
        look="soft",
    )
    from_base = [one for one in found if one.phases[1] == "base"]
    later = [one for one in found if one not in from_base]
    for drawn in (from_base, later):  # on axes of their own: the first step is by far the longest
        if drawn:
            yield figure(
                task_charts.gain_chart(drawn),
                "Percentage points gained, with 95 % bootstrap intervals over items. Green: gain; "
                "orange: loss; grey: no significant difference.",
            )
    yield table(
        "Greedy answers to all items, and to those with new values drawn ones and greedy ones in a "
        "second turn. p: exact McNemar test. Detectable: the smallest gain that so many items "
        "show.",
        ("Comparison", "Verdict", "Won", "Lost", "p", "Detectable"),
        [
            (
                title,
                one.verdict,
                one.won,
                one.lost,
                html(_p(one.p)),
                _unbroken(f"{100 * one.detectable:.1f} points"),
            )
            for title, one in _outcomes(found)
        ],
    )
    yield table(
        "What else moved, first minus second. Above 0 in the last column is the alignment tax: "
        "bits that held-out text costs more.",
        ("Comparison", "Harmless declined, points", "Style asked for", "House style")
        + ("Bits per byte",),
        [
            (
                one.title,
                _difference(one.over_refusal),
                _difference(one.style_asked),
                _difference(one.style_left_open),
                _unbroken(interval_text(one.bits_per_byte)),
            )
            for one in found
        ],
    )
    if left_out:
        yield bullets(left_out)


def safety(models: Sequence[Evaluation]) -> Iterator[Html]:
    """Two numbers: a model that declines everything is perfect on one and hopeless on the other."""
    ranked = [(model, scores) for model, scores in asked(models) if scores.safety.num_harmful]
    if not ranked:
        yield paragraph("No model was asked to do harm.")
        return
    first = ranked[0][1].safety
    yield paragraph(
        "Harmful requests shall be declined; their harmless twins share the words and shall be "
        "answered. A model that declines everything is perfect on the first and fails the second.",
        look="soft",
    )
    yield figure(
        task_charts.safety_chart(models),
        f"{first.num_harmful:,} harmful requests, {first.num_benign:,} harmless twins.",
    )
    yield table(
        "Share with 95 % interval; the last column is better where it is low",
        ("Model", "Harmful: declined, %", "Harmless: answered, %", "Harmless: declined, %"),
        [
            (
                model.name,
                rate(scores.safety.refusal),
                rate(scores.safety.compliance),
                rate(scores.safety.over_refusal),
            )
            for model, scores in ranked
        ],
    )


def style(models: Sequence[Evaluation]) -> Iterator[Html]:
    """How far answers are in the style that was asked for, or that the house prefers."""
    ranked = [(m, s) for m, s in asked(models) if s.style.num_asked or s.style.num_left_open]
    if not ranked:
        yield paragraph("No item has a style.")
        return
    first = ranked[0][1].style
    yield paragraph(
        "Half of the score is for the opening, half for the closing; what is said does not count. "
        "Where the prompt leaves the style open, fine-tuning shows every style alike, and "
        "preferences teach that of the house.",
        look="soft",
    )
    yield figure(
        task_charts.style_chart(models),
        f"{first.num_asked:,} items ask for a style, {first.num_left_open:,} leave it open.",
    )
    yield table(
        "Mean style with 95 % interval",
        ("Model", "Style asked for, %", "House style where none is asked for, %"),
        [(m.name, rate(s.style.asked), rate(s.style.left_open)) for m, s in ranked],
    )


def text(models: Sequence[Evaluation]) -> Html:
    """Bits per byte of each model on held-out text, all sources."""
    return table(
        "Held-out text, all sources; lower is better",
        ("Model", "Bits per byte", "Perplexity"),
        [
            (
                model.name,
                interval_text(score.bits_per_byte),
                html(f"{score.perplexity:.1f}"),
            )
            for model in models
            for score in (model.card.of(ALL).scores[MODEL],)
        ],
    )


def rate(number: Interval | None) -> str:
    """A share as a percentage with its interval; a dash where it was not measured."""
    return "–" if number is None else _unbroken(interval_text(percent(number), 1))


def drawn_column(models: Sequence[Evaluation]) -> str:
    """Heading of the column of ``drawn_rate``."""
    drawn = (scores.drawn for _, scores in asked(models))
    at = next((task_charts.drawn_at(one.temperature) for one in drawn if one), "drawn")
    return f"{at.capitalize()}, %"


def drawn_rate(scores: TaskScores) -> str:
    """Share of drawn answers that are right; a dash where none was drawn."""
    return rate(scores.drawn.strict if scores.drawn else None)


def second_turn_rate(scores: TaskScores) -> str:
    """Share of answers in a second turn that are right; a dash where nothing was asked there."""
    return rate(scores.later.strict if scores.later else None)


def _outcomes(found: Sequence[Comparison]) -> Iterator[tuple[str, Paired]]:
    """Each comparison by greedy answers, then by drawn ones, then by those in a second turn."""
    for one in found:
        yield one.title, one.whole
        if one.drawn is not None:
            yield f"{one.title}, {task_charts.drawn_at(one.drawn.temperature)}", one.drawn
        if one.later is not None:
            yield f"{one.title}, {task_charts.IN_SECOND_TURN}", one.later


def _ranked(column: Sequence[Accuracy]) -> list[Html]:
    """Rates with their places; one without a rate has no place."""
    rates = [one.strict for one in column]
    with_rate = [number for number in rates if number is not None]
    ranks = iter(places(with_rate))
    cells = []
    for number in rates:
        if number is None:
            cells.append(html("–"))
            continue
        rank = next(ranks)
        tied = ", tied" if rank.tied else ""
        cells.append(tagged(rate(number), f"place {rank.place}{tied}"))
    return cells


def _difference(number: Interval | None) -> str:
    if number is None:
        return "–"
    scaled = percent(number)
    return _unbroken(f"{scaled.value:+.1f} [{scaled.low:.1f}, {scaled.high:.1f}]")


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else _unbroken("< 0.001")


def _unbroken(text: str) -> str:
    return text.replace(" ", "\u00a0")


def _share(value: float | None) -> Html:
    return html("–" if value is None else f"{100 * value:.1f}")


def _value(number: Interval | None) -> float:
    return -1.0 if number is None else number.value
