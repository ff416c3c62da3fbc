"""What an evaluation found about one model as a model of text: every score with its interval."""

import hashlib

import numpy as np
from numpy.typing import NDArray

from datalake.config import Config, Refusal
from evaluation.intervals import Interval, paired_difference, ratio_of_sums
from evaluation.likelihood import DocumentSums

MODEL = "model"  # the scorer that is judged; all others are its baselines
ALL = "all"  # every source together


class Score(Config):
    """One scorer on one source."""

    bits_per_byte: Interval
    perplexity: float  # per scored token; comparable only where the tokenizer is the same


class SourceScores(Config):
    """All scorers on one source, and how the model differs from each baseline."""

    source: str
    num_documents: int
    num_tokens: int
    num_bytes: int
    scores: dict[str, Score]  # by scorer
    differences: dict[str, Interval]  # by baseline: bits per byte of the model minus its own


class Validation(Config):
    """The text that was scored. Scores compare only where ``digest`` is the same."""

    digest: str
    num_rows: int
    num_documents: int
    num_tokens: int
    num_bytes: int


class PlanCheck(Config):
    """The loss that the scaling law promised, and the loss that training reached.

    Both in bits per byte on the rows that the law was fitted on.
    """

    predicted: Interval
    realised: float

    @property
    def kept(self) -> bool:
        """Whether the realised loss lies within the predicted interval."""
        return self.predicted.low <= self.realised <= self.predicted.high


class Sample(Config):
    """How a held-out document begins, how it goes on, and how the model would go on."""

    doc_id: str
    source: str
    title: str
    licence: str | None
    prompt: str
    prompt_ids: tuple[int, ...]  # says whether a beginning-of-text token was there
    truth: str
    greedy: str
    sampled: str


class Scorecard(Config):
    """All that one evaluation found about one model."""

    name: str  # what the pages call the model
    weights: str  # digest
    tokenizer: str  # digest
    num_params: int
    inputs: dict[str, int | str]  # asset -> Delta version or artifact's digest
    validation: Validation
    sources: tuple[SourceScores, ...]  # ``ALL`` first
    unscored_sources: dict[str, int]  # of too few documents for an interval -> how many
    plan: PlanCheck | None = None
    temperature: float | None = None  # of the sampled continuations
    samples: tuple[Sample, ...] = ()

    def of(self, source: str) -> SourceScores:
        """Scores of one source. An unknown one is refused with the list."""
        for scores in self.sources:
            if scores.source == source:
                return scores
        known = ", ".join(scores.source for scores in self.sources)
        raise Refusal(f"source must be one of {known}, got {source}")

    @property
    def metrics(self) -> dict[str, float]:
        """Every number with its interval, under names that a tracker can plot."""
        numbers: dict[str, float] = {}
        for scores in self.sources:
            intervals = {
                f"{scores.source}/{scorer}/bits_per_byte": found.bits_per_byte
                for scorer, found in scores.scores.items()
            } | {
                f"{scores.source}/{MODEL}_minus_{baseline}/bits_per_byte": difference
                for baseline, difference in scores.differences.items()
            }
            for name, number in intervals.items():
                numbers |= {name: number.value, f"{name}_low": number.low}
                numbers |= {f"{name}_high": number.high}
        return numbers

    @property
    def report(self) -> dict[str, int | float | str]:
        """What a person, or a check, wants to know first."""
        whole = self.of(ALL)
        model = whole.scores[MODEL]
        report: dict[str, int | float | str] = {
            "bits_per_byte": round(model.bits_per_byte.value, 5),
            "bits_per_byte_low": round(model.bits_per_byte.low, 5),
            "bits_per_byte_high": round(model.bits_per_byte.high, 5),
            "perplexity": round(model.perplexity, 3),
        }
        for baseline, difference in whole.differences.items():
            report |= {
                f"{baseline}_bits_per_byte": round(whole.scores[baseline].bits_per_byte.value, 5),
                f"difference from {baseline}": round(difference.value, 5),
                f"difference from {baseline}, low": round(difference.low, 5),
                f"difference from {baseline}, high": round(difference.high, 5),
            }
        for scores in self.sources[1:]:
            value = scores.scores[MODEL].bits_per_byte.value
            report[f"bits per byte of {scores.source}"] = round(value, 5)
        if self.plan:
            report |= {
                "predicted": round(self.plan.predicted.value, 5),
                "realised": round(self.plan.realised, 5),
                "inside the interval": str(self.plan.kept),
            }
        return report | {"documents": whole.num_documents, "bytes": whole.num_bytes}


def score(sums: DocumentSums, source: str) -> SourceScores:
    """Every scorer of ``sums`` with its interval; the differences are paired by document."""
    bits = {scorer: nats / np.log(2) for scorer, nats in sums.nats.items()}
    return SourceScores(
        source=source,
        num_documents=len(sums.doc_ids),
        num_tokens=int(sums.num_tokens.sum()),
        num_bytes=int(sums.num_bytes.sum()),
        scores={
            scorer: Score(
                bits_per_byte=ratio_of_sums(of_one, sums.num_bytes),
                perplexity=sums.likelihood(scorer).perplexity,
            )
            for scorer, of_one in bits.items()
        },
        differences={
            scorer: paired_difference(bits[MODEL], of_one, sums.num_bytes)
            for scorer, of_one in bits.items()
            if scorer != MODEL
        },
    )


def score_sources(
    sums: DocumentSums, sources: NDArray[np.str_]
) -> tuple[tuple[SourceScores, ...], dict[str, int]]:
    """Scores in all and per source, and the sources of a single document, which have no interval.

    ``sources`` names the source of each document of ``sums``.
    """
    scored, unscored = [score(sums, ALL)], {}
    for source in np.unique(sources).tolist():
        here = sources == source
        if here.sum() < 2:
            unscored[source] = int(here.sum())
        else:
            scored.append(score(sums.only(here), source))
    return tuple(scored), unscored


def validation_of(sums: DocumentSums, num_rows: int) -> Validation:
    """What was scored; the digest covers each document's identity and scored length."""
    digest = hashlib.sha256()
    for doc_id, num_bytes in zip(sums.doc_ids.tolist(), sums.num_bytes.tolist(), strict=True):
        digest.update(f"{doc_id} {num_bytes}\n".encode())
    return Validation(
        digest=digest.hexdigest(),
        num_rows=num_rows,
        num_documents=len(sums.doc_ids),
        num_tokens=int(sums.num_tokens.sum()),
        num_bytes=int(sums.num_bytes.sum()),
    )
