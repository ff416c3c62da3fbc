"""Preference pairs: of the answers that a model gave to a prompt, the best against the worst.

Answers come from the model that will be trained, so a pair shows it a choice it really makes. Their
value is how right the verifier finds them and how well they keep the wanted style; being right
weighs more than any style, so a pair never teaches style at the price of being right.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
from pydantic import Field

from datalake.config import Config, Refusal
from datalake.schemas import TABLES
from evaluation.manner import style_score
from evaluation.verdict import Verdict


class PreferenceRule(Config):
    """What makes one answer better than another, and which pairs are kept."""

    # Right answers before well-said ones. 2 and 1 took style from .58 to .96 and left accuracy
    # where it was, at 1.8M parameters (60 steps of 32 pairs).
    right_weight: float = Field(default=2.0, ge=0)
    style_weight: float = Field(default=1.0, ge=0)
    min_margin: float = Field(default=0.5, gt=0)  # half a style: less is a matter of taste
    held_out_fraction: float = Field(default=0.15, ge=0, lt=1)  # of contents, to test on

    def value(self, verdict: Verdict, style: float) -> float:
        """Value of an answer that was judged."""
        if verdict.score is None:
            raise Refusal(f"an answer must be judged to have a value, got {verdict.outcome}")
        return self.right_weight * verdict.score + self.style_weight * style


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One answer that a model gave to an item, with what the grader said of it."""

    item_id: str
    text: str
    verdict: Verdict


@dataclass(frozen=True, kw_only=True, slots=True)
class PairReport:
    """What became of the prompts; every prompt is in exactly one of the first five counts."""

    num_pairs: int
    num_all_right: int  # no pair: every usable answer was right, and none said it better
    num_all_wrong: int  # no pair: every usable answer was wrong, and none said it better
    num_too_close: int  # no pair, for another reason: values nearer than the rule asks for
    num_unusable: int  # fewer than two usable answers
    num_samples: int
    num_unfinished: int  # answers without an end: never in a pair
    num_errors: int  # answers whose grader failed: never in a pair
    mean_margin: float | None


def make_pairs(
    items: pa.Table,
    samples: Sequence[Sample],
    rule: PreferenceRule,
    *,
    sampler: str,
    temperature: float,
    sampling_flops: float,
) -> tuple[pa.Table, PairReport]:
    """At most one pair for every row of ``items`` with samples, as rows of ``preferences``.

    Equal values keep the order of the samples, so equal input gives equal pairs. Raises Refusal
    for a sample of an item that is not in ``items``.
    """
    rows = {row["item_id"]: row for row in items.to_pylist()}
    answers: dict[str, list[Sample]] = {item_id: [] for item_id in rows}
    for sample in samples:
        if sample.item_id not in answers:
            raise Refusal(f"samples must be of the items given, got one of {sample.item_id}")
        answers[sample.item_id].append(sample)
    pairs, fates = [], []
    for item_id, given in answers.items():
        if not given:
            continue
        fate, pair = _pair(rows[item_id], given, rule)
        fates.append(fate)
        if pair is not None:
            pairs.append(
                pair | {"num_samples": len(given), "temperature": temperature, "sampler": sampler}
            )
    for pair in pairs:
        pair["sampling_flops"] = sampling_flops / len(pairs)
    table = pa.Table.from_pylist(pairs, TABLES["preferences"].arrow)
    check_pairs(table)
    margins = [pair["margin"] for pair in pairs]
    return table, PairReport(
        num_pairs=len(pairs),
        num_all_right=fates.count("all right"),
        num_all_wrong=fates.count("all wrong"),
        num_too_close=fates.count("too close"),
        num_unusable=fates.count("unusable"),
        num_samples=len(samples),
        num_unfinished=sum(s.verdict.outcome == "unfinished" for s in samples),
        num_errors=sum(not s.verdict.counts for s in samples),
        mean_margin=sum(margins) / len(margins) if margins else None,
    )


def check_pairs(pairs: pa.Table) -> None:
    """Refuse pairs that teach nothing: equal answers, an empty one, a worse one that was chosen."""
    for row in pairs.to_pylist():
        name = f"pair of item {row['item_id']} ({row['content_key']})"
        if row["chosen"] == row["rejected"]:
            raise Refusal(f"{name} must have two different answers, got {row['chosen']!r} twice")
        for side in ("chosen", "rejected"):
            if not row[side].strip():
                raise Refusal(f"{name} must have a {side} answer, got {row[side]!r}")
        if not row["margin"] > 0:
            raise Refusal(f"{name} must prefer the better answer, got a margin of {row['margin']}")


def _pair(
    item: Mapping[str, Any], given: Sequence[Sample], rule: PreferenceRule
) -> tuple[str, dict[str, Any] | None]:
    """What became of a prompt, and its pair if it gave one."""
    # An empty or unfinished answer has no end of turn that the model chose, and a pair would teach
    # one; an answer that was not judged has no value.
    usable = [s for s in given if s.verdict.outcome == "graded" and s.text.strip()]
    if len(usable) < 2:
        return "unusable", None
    styles = [style_score(s.text, item["style"]) if item["style"] else 0.0 for s in usable]
    values = [rule.value(s.verdict, style) for s, style in zip(usable, styles, strict=True)]
    best = max(range(len(usable)), key=values.__getitem__)
    worst = min(range(len(usable)), key=values.__getitem__)
    margin = values[best] - values[worst]
    if margin < rule.min_margin:
        scores = {s.verdict.score for s in usable}
        return "all right" if scores == {1} else "all wrong" if scores == {0} else "too close", None
    sides = {
        column: value
        for side, place in (("chosen", best), ("rejected", worst))
        for column, value in (
            (side, usable[place].text),
            (f"{side}_score", usable[place].verdict.score),
            (f"{side}_style", styles[place]),
            (f"{side}_reason", usable[place].verdict.reason),
        )
    }
    kept = {column: item[column] for column in ("item_id", "family", "content_key", "prompt")}
    said = {"split": _split(item["content_key"], rule), "rule": json.dumps(rule.model_dump())}
    return "pair", kept | sides | said | {"margin": margin}


def _split(content_key: str, rule: PreferenceRule) -> str:
    """``held_out`` for a share of the contents, always the same ones."""
    digest = hashlib.sha256(f"held out\n{content_key}".encode()).digest()
    return "held_out" if int.from_bytes(digest[:8]) / 2**64 < rule.held_out_fraction else "train"


def report_of(report: PairReport) -> dict[str, int | float]:
    """The report as a flat dictionary, without what is not known."""
    return {name: value for name, value in asdict(report).items() if value is not None}
