"""The model card: what a model is, what it was made of, how good it is, and what it is not.

In the spirit of Mitchell et al. 2019 (arXiv:1810.03993): every figure on it was measured, and its
limits are read off the same figures, so that a card of a weak model says so.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.intervals import Interval
from evaluation.pages import phase_sections, task_charts, task_sections
from evaluation.pages.charts import Bar, Series, interval_chart, interval_text, line_chart
from evaluation.pages.page import (
    Html,
    bullets,
    facts,
    figure,
    html,
    page,
    paragraph,
    section,
    table,
)
from evaluation.pages.phase_sections import Story
from evaluation.scorecard import ALL, MODEL, PlanCheck, Sample, Scorecard


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingRecord:
    """How the weights came about."""

    architecture: Mapping[str, object]  # setting -> value
    settings: Mapping[str, object]  # of the optimizer and the loop
    context_length: int
    num_tokens: int  # trained on, repeats included
    epochs: float  # of the training split
    flops: float
    seconds: float
    hardware: Mapping[str, object]
    curve_tokens: Sequence[float]
    curve_nats: Sequence[float]  # training loss, nats per token


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceData:
    """One source of the corpus, as the data card counts it."""

    source: str
    num_documents: int
    num_bytes: int
    licences: Mapping[str, int]  # SPDX expression, or "unknown" -> bytes
    languages: Mapping[str, int]  # language -> bytes


UNKNOWN_LICENCE = "unknown"  # as the data card calls it


def read_data_card(folder: str | Path) -> tuple[SourceData, ...]:
    """What the corpus is made of, from the ``funnel.json`` of a data card."""
    funnel = json.loads((Path(folder) / "funnel.json").read_text(encoding="utf-8"))

    def num_bytes(counts: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
        return {name: count["num_bytes"] for name, count in counts.items()}

    return tuple(
        SourceData(
            source=source,
            num_documents=count["documents"],
            num_bytes=count["num_bytes"],
            licences=num_bytes(funnel["licences"].get(source, {})),
            languages=num_bytes(funnel["languages"].get(source, {})),
        )
        for source, count in sorted(funnel["stages"]["corpus"].items())
    )


def model_card_page(
    card: Scorecard,
    training: TrainingRecord,
    data: Sequence[SourceData],
    versions: Mapping[str, str],
    purpose: str | None,
    story: Story | None = None,
) -> str:
    """The card as one self-contained HTML document. ``versions`` names every table behind it.

    ``card`` is that of the base model; ``story`` tells what the later phases made of it, and the
    page is then about the last one's model.
    """
    name = story.last.name if story else card.name
    base = "The base model: " if story else ""
    parts = [
        Html(f"<h1>{html(name)}</h1>"),
        *(_chat_lead(card, story) if story else [paragraph(*_lead(card, training), look="lead")]),
        section(
            "What it is for",
            paragraph(purpose or "Nobody has stated a purpose. The limits below hold for any."),
        ),
        *(_chat_sections(story) if story else ()),
        section(
            f"{base}how good it is" if story else "How good it is",
            *([paragraph(*_lead(card, training))] if story else ()),
            *_scores(card),
        ),
        section(
            f"{base}plan and outcome" if story else "Plan and outcome",
            *_plan(card.plan, None if story else training),
        ),
        section(f"{base}what it says" if story else "What it says", *_samples(card)),
        section("What it was made of", *_data(data, versions)),
        section("How it is built", *_build(card, training)),
    ]
    if story:
        parts += [
            section("Compute and time", *phase_sections.costs(story.costs)),
            section(
                "Limits",
                bullets(phase_sections.limits(story)),
                Html("<h3>Of the base model</h3>"),
                bullets(limits(card, training, data)),
            ),
        ]
    else:
        parts.append(section("Limits", bullets(limits(card, training, data))))
    return page(f"Model card: {name}", parts)


def _chat_lead(card: Scorecard, story: Story) -> Iterator[Html]:
    last = story.last
    assert last.tasks is not None
    scores = last.tasks.scores
    yield paragraph(
        f"A chat model of {card.num_params / 1e6:,.2f} million parameters, made from "
        f"{card.name} in {len(story.records) - 1} phases. Of "
        f"{scores.splits[ALL].num_items:,} questions that no phase has trained on, it answers:",
        look="lead",
    )
    yield task_sections.headline(scores)
    yield bullets(
        f"Against {one.second}: {one.summary}"
        for one in story.comparisons
        if one.phases[0] == last.phase
    )


def _chat_sections(story: Story) -> Iterator[Html]:
    """What the later phases brought, best news and bad news alike."""
    yield section(
        "What it can do",
        figure(
            task_charts.family_chart(story.models),
            "Share of right answers by family, new values and new wordings together, with 95 % "
            "intervals.",
        ),
        *phase_sections.families(story.last),
    )
    yield section("How it came about", *phase_sections.phases(story))
    yield section(
        "Phase against phase", *task_sections.comparisons(story.comparisons, story.left_out)
    )
    yield section("What it answers", *phase_sections.answers(story.last))
    yield section("Safety", *task_sections.safety(story.models))
    yield section("Style", *task_sections.style(story.models))
    yield section(
        "What alignment cost",
        paragraph(
            "Who learns to answer unlearns some of the rest. The bits that held-out text costs "
            "after each phase:"
        ),
        task_sections.text(story.models),
    )
    if story.reward is not None:
        yield section("The reward model", *phase_sections.reward_model(story.reward))


def score_chart(card: Scorecard) -> str:
    """Model and baselines on every source, with their intervals."""
    bars = []
    for scores in card.sources:
        heading = "All sources" if scores.source == ALL else scores.source
        for scorer, found in scores.scores.items():
            bars.append(
                Bar(
                    label=card.name if scorer == MODEL else scorer,
                    interval=found.bits_per_byte,
                    emphasis=scorer == MODEL,
                    heading=heading,
                )
            )
            heading = ""
    return interval_chart(f"Bits per byte of {card.name} and its baselines", "bits per byte", bars)


def loss_chart(training: TrainingRecord) -> str:
    """Training loss over the tokens read."""
    curve = Series(label="training", x=training.curve_tokens, y=training.curve_nats)
    return line_chart("Training loss", "tokens read", "nats per token", [curve])


def limits(card: Scorecard, training: TrainingRecord, data: Sequence[SourceData]) -> Iterator[str]:
    """What a reader must not conclude from the card, each for a reason that the card holds."""
    whole = card.of(ALL)
    yield (
        "It continues text. It was not trained to follow instructions, to decline, or to be "
        "truthful, and what it says about the world is not checked."
    )
    for baseline, difference in whole.differences.items():
        if difference.low > 0:
            yield f"It predicts held-out text worse than a {baseline} of the same training text."
        elif not difference.excludes_zero:
            yield (
                f"It is not shown to be better than a {baseline} of the same training text: the "
                f"difference is {interval_text(difference)} bits per byte, and one below "
                f"{difference.detectable:.3f} would not be seen on these documents."
            )
    if card.plan and not card.plan.kept:
        yield (
            f"Its loss, {card.plan.realised:.3f}, lies outside the predicted "
            f"{interval_text(card.plan.predicted)}: do not plan a larger model by this law alone."
        )
    yield (
        f"It sees {training.context_length} tokens, about "
        f"{training.context_length * whole.num_bytes / whole.num_tokens:,.0f} bytes, and nothing "
        "before them."
    )
    yield (
        f"It was trained on {training.num_tokens:,} tokens, "
        f"{training.num_tokens / card.num_params:.1f} for each parameter and "
        f"{training.epochs:.2f} times what its training split holds."
    )
    sources = ", ".join(one.source for one in data)
    languages = _largest(sum((Counter(one.languages) for one in data), Counter()))
    yield (
        f"The held-out documents come from the same sources as the training text ({sources}; "
        f"mostly {', '.join(languages[:4])}). Other text will be harder for it."
    )
    unknown = sum(one.licences.get(UNKNOWN_LICENCE, 0) for one in data)
    if unknown:
        share = unknown / sum(one.num_bytes for one in data)
        yield f"{share:.1%} of its text has no known licence ({unknown:,} bytes)."
    for source, count in card.unscored_sources.items():
        yield f"{source} has {count} held-out document, too few for a score of its own."
    yield (
        "The intervals say how the scores would move with other held-out documents. They do not "
        "say how they would move with another training run: there was one."
    )


def _lead(card: Scorecard, training: TrainingRecord) -> Iterator[str]:
    whole = card.of(ALL)
    yield (
        f"A language model of {card.num_params / 1e6:,.2f} million parameters, trained on "
        f"{training.num_tokens / 1e6:,.2f} million tokens with {training.flops:.2g} FLOPs. It "
        f"needs {interval_text(whole.scores[MODEL].bits_per_byte)} bits for each byte of "
        f"{whole.num_documents:,} held-out documents"
    )
    for baseline, difference in whole.differences.items():
        more_or_less = "fewer" if difference.value < 0 else "more"
        yield f", {abs(difference.value):.3f} {more_or_less} than a {baseline}"
    yield "."


def _scores(card: Scorecard) -> Iterator[Html]:
    yield figure(
        score_chart(card),
        f"Bits per byte on {card.validation.num_documents:,} held-out documents "
        f"({card.validation.num_bytes:,} bytes); lower is better. Lines are 95 % intervals from "
        "resampling documents.",
    )
    yield table(
        "The baselines are n-grams of the model's own training text. The difference is paired by "
        "document; the last column is the smallest that these documents would show.",
        ("Source", "Scorer", "Bits per byte", "Perplexity", "Model minus baseline", "Detectable"),
        [
            (
                "all" if scores.source == ALL else scores.source,
                card.name if scorer == MODEL else scorer,
                interval_text(found.bits_per_byte),
                html(f"{found.perplexity:.1f}"),
                interval_text(scores.differences[scorer]) if scorer != MODEL else "",
                f"{scores.differences[scorer].detectable:.3f}" if scorer != MODEL else "",
            )
            for scores in card.sources
            for scorer, found in scores.scores.items()
        ],
    )


def _plan(plan: PlanCheck | None, training: TrainingRecord | None) -> Iterator[Html]:
    if plan is None:
        yield paragraph("No scaling law predicted the loss of this model.")
    else:
        verdict = "inside" if plan.kept else "outside"
        yield paragraph(
            f"The scaling law promised {interval_text(plan.predicted)} bits per byte; training "
            f"reached {plan.realised:.3f}, {verdict} the interval."
        )
        realised = Interval(value=plan.realised, low=plan.realised, high=plan.realised)
        bars = [
            Bar(label="predicted", interval=plan.predicted),
            Bar(label="realised", interval=realised, emphasis=True),
        ]
        yield figure(
            interval_chart("Predicted and realised loss", "bits per byte", bars),
            "On the validation rows that the law was fitted on.",
        )
    if training and len(training.curve_tokens) > 1:
        yield figure(loss_chart(training), "Training loss, as it was logged every few seconds.")


def _samples(card: Scorecard) -> Iterator[Html]:
    yield paragraph(
        "Openings of held-out documents, chosen by the order of their identities, not by what "
        "came out. The model's words are set in colour.",
        look="soft",
    )
    for sample in card.samples:
        licence = sample.licence or "licence unknown"
        yield Html(f"<h3>{html(sample.title)}</h3>")
        yield paragraph(f"{sample.source}, {licence}, document {sample.doc_id}", look="soft")
        yield _continued(sample, "Greedy", sample.greedy)
        yield _continued(sample, f"Sampled at temperature {card.temperature:g}", sample.sampled)
        yield Html(
            f"<details><summary>How the document goes on</summary>"
            f"<pre>{html(sample.prompt)}{html(sample.truth)}</pre></details>"
        )


def _continued(sample: Sample, how: str, continuation: str) -> Html:
    return Html(
        f"<figure><figcaption>{html(how)}</figcaption>"
        f"<pre>{html(sample.prompt)}<b>{html(continuation)}</b></pre></figure>"
    )


def _data(data: Sequence[SourceData], versions: Mapping[str, str]) -> Iterator[Html]:
    yield table(
        "The corpus, before it was split",
        ("Source", "Documents", "Bytes", "Languages", "Licences, by bytes"),
        [
            (
                one.source,
                one.num_documents,
                one.num_bytes,
                ", ".join(_largest(one.languages)[:4]),
                ", ".join(
                    f"{name} {num_bytes / one.num_bytes:.0%}"
                    for name, num_bytes in sorted(
                        one.licences.items(), key=lambda item: (-item[1], item[0])
                    )[:8]
                ),
            )
            for one in data
        ],
    )
    yield Html("<h3>Versions</h3>")
    yield facts(versions.items())


def _build(card: Scorecard, training: TrainingRecord) -> Iterator[Html]:
    yield facts(
        [
            ("parameters", f"{card.num_params:,}"),
            ("weights", card.weights),
            ("tokenizer", card.tokenizer),
            *((name.replace("_", " "), value) for name, value in training.architecture.items()),
        ]
    )
    yield Html("<h3>Training</h3>")
    yield facts(
        [
            ("tokens", f"{training.num_tokens:,}"),
            ("FLOPs", f"{training.flops:.3g}"),
            ("time", f"{training.seconds:,.0f} s"),
            *((name.replace("_", " "), value) for name, value in training.hardware.items()),
            *((name.replace("_", " "), value) for name, value in training.settings.items()),
        ]
    )


def _largest(counts: Mapping[str, int]) -> list[str]:
    return sorted(counts, key=lambda name: (-counts[name], name))
