"""Every evaluated model on one page, ordered only as far as the evidence goes.

First what models answer: right answers, phase against phase, safety and style. Then how well they
predict text, on the documents that all of them were scored on. A place is shared by all whom the
best of the group does not clearly beat: their intervals overlap. Beside it stands the difference
from that best one, paired by document, which settles closer races.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datalake.config import Config, Refusal
from evaluation.findings import Evaluation, Findings, all_models
from evaluation.intervals import Interval, paired_difference, ratio_of_sums, tied_groups
from evaluation.pages import task_charts, task_sections
from evaluation.pages.charts import Bar, interval_chart, interval_text
from evaluation.pages.page import (
    Html,
    bullets,
    facts,
    figure,
    folded,
    html,
    page,
    paragraph,
    section,
    table,
    tagged,
)
from evaluation.scorecard import ALL, MODEL, Scorecard
from evaluation.task_scores import Comparison, TaskScores


class Place(Config):
    """One model, or baseline, on one source."""

    name: str
    baseline: bool
    place: int  # of its group, counted from 1; the whole group shares it
    tied: bool  # the group has more than one
    bits_per_byte: Interval
    behind: Interval | None  # bits per byte more than the group's best, paired; None for the best


class Standing(Config):
    """The order of all entries on one source, best first."""

    source: str
    num_documents: int
    num_bytes: int
    places: tuple[Place, ...]


class Leaderboard(Config):
    """Standings on the shared documents, in all and per source."""

    standings: tuple[Standing, ...]
    tasks: dict[str, TaskScores]  # model -> what its answers came to
    comparisons: tuple[Comparison, ...] = ()
    not_compared: tuple[str, ...] = ()  # sentences
    evaluations: dict[str, dict[str, int | str]]  # model -> its inputs and their versions
    left_out: dict[str, int]  # model -> documents of its evaluation that others lack


@dataclass(frozen=True, kw_only=True, slots=True)
class _Entry:
    name: str
    baseline: bool
    bits: NDArray[np.float64]  # per shared document


def leaderboard(findings: Sequence[Findings]) -> Leaderboard:
    """All models of several evaluations, and all comparisons between them."""
    board = rank(all_models(findings))
    return board.model_copy(
        update={
            "comparisons": tuple(one for found in findings for one in found.comparisons),
            "not_compared": tuple(line for found in findings for line in found.left_out),
        }
    )


def rank(evaluations: Sequence[Evaluation]) -> Leaderboard:
    """Places of all models and their baselines on text; equal baselines appear once.

    Raises Refusal where the evaluations share fewer than two documents.
    """
    names = _distinct_names([model.card for model in evaluations])
    picked, sources, num_bytes = _shared(evaluations)
    entries: list[_Entry] = []
    for name, model, chosen in zip(names, evaluations, picked, strict=True):
        for scorer, nats in model.sums.nats.items():
            bits = nats[chosen] / np.log(2)
            if scorer == MODEL:
                entries.append(_Entry(name=name, baseline=False, bits=bits))
            elif not any(e.baseline and np.array_equal(e.bits, bits) for e in entries):
                known = any(e.name == scorer for e in entries)
                label = f"{scorer} of {name}" if known else scorer
                entries.append(_Entry(name=label, baseline=True, bits=bits))
    return Leaderboard(
        standings=tuple(
            _standing(source, entries, num_bytes, here)
            for source, here in _by_source(sources)
            if here.sum() >= 2
        ),
        tasks={
            n: model.tasks.scores
            for n, model in zip(names, evaluations, strict=True)
            if model.tasks is not None
        },
        evaluations={n: model.card.inputs for n, model in zip(names, evaluations, strict=True)},
        left_out={
            name: len(model.sums.doc_ids) - len(num_bytes)
            for name, model in zip(names, evaluations, strict=True)
        },
    )


def write(folder: Path, board: Leaderboard, models: Sequence[Evaluation], title: str) -> None:
    """The page ``index.html`` and the same as ``leaderboard.json``."""
    (folder / "leaderboard.json").write_text(
        json.dumps(board.model_dump(mode="json"), indent=1) + "\n", encoding="utf-8"
    )
    (folder / "index.html").write_text(leaderboard_page(board, models, title), encoding="utf-8")


def leaderboard_page(board: Leaderboard, models: Sequence[Evaluation], title: str) -> str:
    """The leaderboard as one self-contained HTML document; ``models`` are those of ``board``."""
    whole, *per_source = board.standings
    parts = [Html(f"<h1>{html(title)}</h1>"), *_lead(models, board)]
    if board.tasks:
        parts += [
            section("Right answers", *task_sections.accuracy(models)),
            section(
                "Phase against phase",
                *task_sections.comparisons(board.comparisons, board.not_compared),
            ),
            section("Safety", *task_sections.safety(models)),
            section("Style", *task_sections.style(models)),
            section(
                "Right answers by family",
                figure(task_charts.family_chart(models), "All items, with 95 % intervals."),
            ),
        ]
    parts += [
        section(
            "Held-out text",
            paragraph(
                "Bits per byte: how much information a model still lacks about each byte of text. "
                "Lower is better. Lines are 95 % intervals from resampling documents. Entries "
                "whose interval overlaps that of the best one in their group are tied and share "
                "a place. The difference is measured document by document, so it can tell apart "
                "what single intervals cannot.",
                look="soft",
            ),
            *_standing_parts(whole),
            *(
                folded(f"Source {standing.source}", *_standing_parts(standing))
                for standing in per_source
            ),
        ),
        section("What was scored", *_origins(board)),
    ]
    return page(title, parts)


def _lead(models: Sequence[Evaluation], board: Leaderboard) -> Iterator[Html]:
    """What a reader in a hurry takes home."""
    ranked = task_sections.asked(models)
    if not ranked:
        best = board.standings[0].places[0]
        yield paragraph(
            f"Held-out text costs {best.name} {interval_text(best.bits_per_byte)} bits per byte. "
            "Lower is better.",
            look="lead",
        )
        return
    first, scores = next(pair for pair in ranked if not pair[0].is_control)
    yield paragraph(f"Of the phases, {first.name} answers most items rightly:", look="lead")
    yield task_sections.headline(scores)
    if board.comparisons:
        yield bullets(f"{one.title}: {one.summary}" for one in board.comparisons)


def _standing_parts(standing: Standing) -> Iterator[Html]:
    yield figure(
        standing_chart(standing),
        f"{standing.num_documents:,} documents, {standing.num_bytes:,} bytes",
    )
    yield table(
        "Places; tied entries share one",
        ("Entry", "Place", "Bits per byte", "More than the best of its group"),
        [_row(place) for place in standing.places],
    )


def standing_chart(standing: Standing) -> str:
    """The scores of one source with their intervals, best first, a heading for each group."""
    bars, before = [], 0
    for place in standing.places:
        tied = ", tied" if place.tied else ""
        heading = f"Place {place.place}{tied}" if place.place != before else ""
        before = place.place
        bars.append(
            Bar(
                label=place.name,
                interval=place.bits_per_byte,
                emphasis=not place.baseline,
                heading=heading,
            )
        )
    return interval_chart(f"Bits per byte, {standing.source}", "bits per byte", bars)


def _row(place: Place) -> tuple[object, ...]:
    return (
        tagged(place.name, "baseline") if place.baseline else place.name,
        tagged(place.place, "tied") if place.tied else html(place.place),
        interval_text(place.bits_per_byte),
        "" if place.behind is None else interval_text(place.behind),
    )


def _origins(board: Leaderboard) -> Iterator[Html]:
    for name, inputs in board.evaluations.items():
        versions = [
            (asset, f"version {v}" if isinstance(v, int) else v) for asset, v in inputs.items()
        ]
        missing = board.left_out[name]
        left_out = [("documents left out", f"{missing:,}, not scored for all")] if missing else []
        yield folded(name, facts([*versions, *left_out]))


def _by_source(sources: NDArray[np.str_]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    yield ALL, np.ones(len(sources), bool)
    for source in np.unique(sources).tolist():
        yield source, sources == source


def _standing(
    source: str, entries: Sequence[_Entry], num_bytes: NDArray[np.int64], here: NDArray[np.bool_]
) -> Standing:
    scores = [ratio_of_sums(entry.bits[here], num_bytes[here]) for entry in entries]
    places = []
    for number, group in enumerate(tied_groups(scores), start=1):
        best = entries[group[0]]
        for index in group:
            entry = entries[index]
            behind = paired_difference(entry.bits[here], best.bits[here], num_bytes[here])
            places.append(
                Place(
                    name=entry.name,
                    baseline=entry.baseline,
                    place=number,
                    tied=len(group) > 1,
                    bits_per_byte=scores[index],
                    behind=None if entry is best else behind,
                )
            )
    return Standing(
        source=source,
        num_documents=int(here.sum()),
        num_bytes=int(num_bytes[here].sum()),
        places=tuple(places),
    )


def _shared(
    evaluations: Sequence[Evaluation],
) -> tuple[list[NDArray[np.intp]], NDArray[np.str_], NDArray[np.int64]]:
    """Where the shared documents stand in each evaluation, their sources and bytes.

    A document is shared where its identity and its scored length agree: tokenizers cut rows, and
    so the last document of a split, at different places.
    """
    keys = [
        list(zip(model.sums.doc_ids.tolist(), model.sums.num_bytes.tolist(), strict=True))
        for model in evaluations
    ]
    shared = sorted(set.intersection(*map(set, keys))) if keys else []
    if len(shared) < 2:
        raise Refusal(f"evaluations must share at least 2 documents, got {len(shared)}")
    picked = []
    for of_one in keys:
        places = {key: place for place, key in enumerate(of_one)}
        picked.append(np.array([places[key] for key in shared]))
    first = evaluations[0]
    return picked, first.sources[picked[0]], first.sums.num_bytes[picked[0]]


def _distinct_names(cards: Sequence[Scorecard]) -> list[str]:
    """Names of the models; those that share one get the start of their weights' digest."""
    names = [card.name for card in cards]
    return [
        f"{card.name} {card.weights[:8]}" if names.count(card.name) > 1 else card.name
        for card in cards
    ]
