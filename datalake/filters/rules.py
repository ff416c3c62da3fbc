"""Rules: the only place where a document is dropped, from its signals, for a named reason.

A rule is a signal and its bounds; the bound itself passes. A recipe lists, for every kind of
source, published sets by name and rules of its own; a rule takes the place of an earlier one of
the same name::

    rules:
      web: [gopher_quality, gopher_repetition]
      code: [starcoder2, {name: few_letters, signal: alphabetic_fraction, at_least: 0.2}]

The licence comes first, then the rules in order; the first that fails is the document's reason.
Signals are stored, so a new threshold reads no text. Thresholds belong to a kind of source: rules
made for prose drop a third of good source code.
"""

import difflib
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Discriminator, Tag, field_validator, model_validator

from datalake.config import Config, Refusal
from datalake.licences import is_allowed, spdx
from datalake.schemas import TABLES

LICENCE_REFUSED = "licence_refused"
LICENCE_UNKNOWN = "licence_unknown"

SIGNALS = tuple(
    column.name
    for column in TABLES["signals"].columns
    if pa.types.is_integer(column.type)
    or pa.types.is_floating(column.type)
    or pa.types.is_boolean(column.type)
)
_ALWAYS_READ = ("doc_id", "source", "licence", "num_bytes")


class Rule(Config):
    """Drops a document whose ``signal`` lies outside ``at_least`` .. ``at_most``."""

    name: str  # the reason that a dropped document carries
    signal: str
    at_least: float | None = None
    at_most: float | None = None
    only_for: tuple[str, ...] = ()  # languages, all where empty
    not_for: tuple[str, ...] = ()  # languages that it lets pass

    @model_validator(mode="after")
    def _has_a_signal_and_a_bound(self) -> Self:
        if self.signal not in SIGNALS:
            raise ValueError(
                f"signal of rule {self.name} must be a number in table signals, got {self.signal}"
                + _nearest(self.signal, SIGNALS)
            )
        if self.at_least is None and self.at_most is None:
            raise ValueError(f"rule {self.name} must have at_least or at_most, got neither")
        return self

    def fails(self, signals: pa.RecordBatch) -> np.ndarray:
        """Which rows it drops: ``bool [rows]``."""
        values = signals[self.signal].cast(pa.float64()).to_numpy()
        fails = np.zeros(len(values), bool)
        if self.at_least is not None:
            fails |= values < self.at_least
        if self.at_most is not None:
            fails |= values > self.at_most
        if self.only_for:
            fails &= _is_one_of(signals["language"], self.only_for)
        if self.not_for:
            fails &= ~_is_one_of(signals["language"], self.not_for)
        return fails


def _is_one_of(column: pa.Array, values: Sequence[str]) -> np.ndarray:
    return pc.is_in(column, pa.array(values, pa.string())).to_numpy(zero_copy_only=False)


def _rule(
    name: str, signal: str, at_least: float | None = None, at_most: float | None = None
) -> Rule:
    return Rule(name=name, signal=signal, at_least=at_least, at_most=at_most)


EMPTY = _rule("empty", "num_words", at_least=1)

# Rae et al. 2021, arXiv:2112.11446, A.1.1
GOPHER_QUALITY = (
    EMPTY,
    _rule("too_few_words", "num_words", at_least=50),
    _rule("too_many_words", "num_words", at_most=100_000),
    _rule("short_words", "mean_word_length", at_least=3),
    _rule("long_words", "mean_word_length", at_most=10),
    _rule("many_hashes", "hash_ratio", at_most=0.1),
    _rule("many_ellipses", "ellipsis_ratio", at_most=0.1),
    _rule("many_bullets", "bullet_line_fraction", at_most=0.9),
    _rule("many_cut_lines", "ellipsis_line_fraction", at_most=0.3),
    _rule("few_alphabetic_words", "alphabetic_word_fraction", at_least=0.8),
    _rule("few_stop_words", "num_stop_words", at_least=2),
)
# The same, table A1
GOPHER_REPETITION = (
    _rule("duplicate_paragraphs", "duplicate_paragraph_fraction", at_most=0.30),
    _rule("duplicate_paragraph_characters", "duplicate_paragraph_character_fraction", at_most=0.20),
    _rule("duplicate_lines", "duplicate_line_fraction", at_most=0.30),
    _rule("duplicate_line_characters", "duplicate_line_character_fraction", at_most=0.20),
    *(
        _rule(f"top_{n}_gram", f"top_{n}_gram_character_fraction", at_most=most)
        for n, most in ((2, 0.20), (3, 0.18), (4, 0.16))
    ),
    *(
        _rule(f"duplicate_{n}_grams", f"duplicate_{n}_gram_character_fraction", at_most=most)
        for n, most in ((5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10))
    ),
)
# Lozhkov et al. 2024, arXiv:2402.19173, 2.1, but its search for encoded data
LONG_LINES = ("html", "json", "markdown", "roff", "smt", "tex", "text", "xml")
DATA = ("graphviz", "json", "text", "web ontology language", "yaml")
STARCODER2 = (
    EMPTY,
    _rule("too_many_lines", "num_lines", at_most=100_000),
    Rule(name="long_lines", signal="mean_line_length", at_most=100, not_for=LONG_LINES),
    Rule(name="a_long_line", signal="max_line_length", at_most=1000, not_for=LONG_LINES),
    _rule("a_very_long_line", "max_line_length", at_most=100_000),
    Rule(name="long_data", signal="num_lines", at_most=512, only_for=DATA),
    _rule("generated", "generated", at_most=0),
    _rule("few_letters", "alphabetic_fraction", at_least=0.25),
)
RULE_SETS = {
    "gopher_quality": GOPHER_QUALITY,
    "gopher_repetition": GOPHER_REPETITION,
    "starcoder2": STARCODER2,
}


# Told apart by hand, so that a wrong rule is refused as a rule and not as "no string".
Entry = Annotated[
    Annotated[str, Tag("set")] | Annotated[Rule, Tag("rule")],
    Discriminator(lambda entry: "set" if isinstance(entry, str) else "rule"),
]


_MEANINGS = {column.name: column.meaning for column in TABLES["signals"].columns}
REASONS = {  # what a reader is told about each reason that has a published rule
    LICENCE_REFUSED: "the licence is not on the allow list",
    LICENCE_UNKNOWN: "no licence is known",
    **{rule.name: _MEANINGS[rule.signal] for rules in RULE_SETS.values() for rule in rules},
}


class KeptConfig(Config):
    """Which documents stay. Every kind of source has its own rules, in order."""

    rules: dict[str, tuple[Entry, ...]]  # kind of source -> names of sets, and rules
    unknown_licence: dict[str, Literal["keep", "drop"]]  # kind of source -> what to do
    # SPDX ids beyond the permissive ones, such as Wikipedia's CC-BY-SA-4.0: for you to judge.
    also_allowed: tuple[str, ...] = ()

    @field_validator("rules")
    @classmethod
    def _sets_are_known(cls, rules: dict[str, tuple[Entry, ...]]) -> dict[str, tuple[Entry, ...]]:
        for source, entries in rules.items():
            for entry in entries:
                if isinstance(entry, str) and entry not in RULE_SETS:
                    raise ValueError(
                        f"rules of {source} must be rules or one of {', '.join(RULE_SETS)}, "
                        f"got {entry}" + _nearest(entry, tuple(RULE_SETS))
                    )
        return rules

    @field_validator("also_allowed")
    @classmethod
    def _licences_are_known(cls, also_allowed: tuple[str, ...]) -> tuple[str, ...]:
        for name in also_allowed:
            if spdx(name) != name:
                raise ValueError(f"also_allowed must name SPDX licences, got {name}")
        return also_allowed

    def allows(self, expression: str) -> bool:
        """Whether the licence ``expression`` lets a document pass."""
        return is_allowed(expression, frozenset(self.also_allowed))

    def rules_for(self, source: str) -> tuple[Rule, ...]:
        """The rules of a kind of source, in order, names unique."""
        chosen: dict[str, Rule] = {}
        for entry in self.rules[source]:
            for rule in RULE_SETS[entry] if isinstance(entry, str) else (entry,):
                chosen[rule.name] = rule
        return tuple(chosen.values())

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of ``signals`` that the decision reads."""
        rules = [rule for source in self.rules for rule in self.rules_for(source)]
        languages = ["language"] if any(rule.only_for or rule.not_for for rule in rules) else []
        named = dict.fromkeys([*_ALWAYS_READ, *languages, *(rule.signal for rule in rules)])
        return tuple(named)

    def require_sources(self, sources: Sequence[str]) -> None:
        """Raise Refusal unless there are rules and a licence policy for each kind of source."""
        for place, known in (("rules", self.rules), ("unknown_licence", self.unknown_licence)):
            for source in sorted(sources):
                if source not in known:
                    raise Refusal(
                        f"datalake.kept.{place} must name every kind of source, "
                        f"got nothing for {source}"
                    )


def decide(signals: pa.RecordBatch, config: KeptConfig) -> pa.RecordBatch:
    """Rows of ``kept`` for a batch of ``config.columns`` of ``signals``, in the same order."""
    source = signals["source"].to_numpy(zero_copy_only=False)
    reasons = np.full(len(signals), None, object)
    undecided = np.ones(len(signals), bool)

    def drop(rows: np.ndarray, reason: str) -> None:
        nonlocal undecided
        reasons[undecided & rows] = reason
        undecided &= ~rows

    for kind in np.unique(source):
        of_kind = source == kind
        unknown = signals["licence"].is_null().to_numpy(zero_copy_only=False)
        if config.unknown_licence[kind] == "drop":
            drop(of_kind & unknown, LICENCE_UNKNOWN)
        drop(of_kind & ~unknown & ~_allowed(signals["licence"], config), LICENCE_REFUSED)
        for rule in config.rules_for(kind):
            drop(of_kind & rule.fails(signals), rule.name)
    columns = {name: signals[name] for name in _ALWAYS_READ}
    columns |= {"keep": pa.array(undecided), "reason": pa.array(reasons, pa.string())}
    schema = TABLES["kept"].arrow
    return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)


def require_some_kept(num_kept: int, reasons: Mapping[str, int]) -> None:
    """Raise Refusal, naming how many each rule dropped, where no document was kept."""
    if not num_kept:
        said = ", ".join(f"{name} dropped {count}" for name, count in reasons.items())
        raise Refusal(f"datalake.kept.rules must keep at least one document, got none: {said}")


def _allowed(licence: pa.StringArray, config: KeptConfig) -> np.ndarray:
    """Which rows have an allowed licence; each different expression is judged once."""
    expressions = pc.unique(licence.drop_null())
    good = [e for e in expressions.to_pylist() if config.allows(e)]
    return _is_one_of(licence, good)


def _nearest(name: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {near[0]}?" if near else ""
