"""Rules: the only place where a document is dropped, from its signals, for a named reason.

A rule is a signal and its bounds (``filters.bounds``); published recipes are sets of rules with a
name (``filters.rule_sets``). A recipe lists, for every kind of source, such names and rules of its
own, or says one name alone; a rule takes the place of an earlier one of the same name::

    rules:
      web: fineweb
      pdf: [gopher, {name: low_quality, signal: scores.quality, keep_highest: 0.3}]
      code: [the-stack-v2, {name: few_letters, signal: alphabetic_fraction, at_least: 0.2}]

The licence comes first, then the rules in order; the first that fails is the document's reason.
Thresholds belong to a kind of source: rules made for prose drop a third of good source code.

Signals are stored, so a new threshold reads no text. What was dropped stays in ``kept`` with its
reason and in ``signals`` with its numbers, under the same ``doc_id``: ``filters.dropped``
joins the two, as any engine that reads Delta does::

    SELECT k.reason, s.uri, s.num_nonsymbol_words, s.language
    FROM kept k JOIN signals s USING (doc_id) WHERE k.reason = 'too_few_words'
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Discriminator, Tag, field_validator

from datalake.config import Config, Refusal
from datalake.filters.bounds import Rule, is_one_of, nearest
from datalake.filters.reasons import LICENCE_REFUSED, LICENCE_UNKNOWN, REASONS
from datalake.filters.rule_sets import RULE_SETS, in_place, line_rules_of
from datalake.licences import is_allowed, spdx
from datalake.schemas import TABLES

__all__ = [
    "REASONS",
    "KeptConfig",
    "Rule",
    "decide",
    "require_some_kept",
    "resolve",
]

_ALWAYS_READ = ("doc_id", "source", "licence", "num_bytes", "num_tokens")


# Told apart by hand, so that a wrong rule is refused as a rule and not as "no string".
Entry = Annotated[
    Annotated[str, Tag("set")] | Annotated[Rule, Tag("rule")],
    Discriminator(lambda entry: "set" if isinstance(entry, str) else "rule"),
]


Entries = Annotated[
    Annotated[str, Tag("name")] | Annotated[tuple[Entry, ...], Tag("list")],
    Discriminator(lambda entries: "name" if isinstance(entries, str) else "list"),
]


class KeptConfig(Config):
    """Which documents stay. Every kind of source has its own rules, in order."""

    rules: dict[str, Entries]  # kind of source -> name of a set, or such names and rules
    unknown_licence: dict[str, Literal["keep", "drop"]]  # kind of source -> what to do
    # SPDX ids beyond the permissive ones, such as Wikipedia's CC-BY-SA-4.0: for you to judge.
    also_allowed: tuple[str, ...] = ()

    @field_validator("rules")
    @classmethod
    def _sets_are_known(cls, rules: dict[str, Entries]) -> dict[str, Entries]:
        for source, entries in rules.items():
            for entry in (entries,) if isinstance(entries, str) else entries:
                if isinstance(entry, str) and entry not in RULE_SETS:
                    raise ValueError(
                        f"rules of {source} must be rules or one of {', '.join(RULE_SETS)}, "
                        f"got {entry}" + nearest(entry, tuple(RULE_SETS))
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

    def entries_for(self, source: str) -> tuple[str | Rule, ...]:
        """What the recipe says for a kind of source, as a list."""
        entries = self.rules[source]
        return (entries,) if isinstance(entries, str) else entries

    def rules_for(self, source: str) -> tuple[Rule, ...]:
        """The rules of a kind of source, in order, names unique."""
        return in_place(self.entries_for(source))

    def line_rules_for(self, source: str) -> tuple[str, ...]:
        """What ``filters.lines`` cuts from the documents of a kind of source, in order."""
        return line_rules_of(self.entries_for(source))

    @property
    def every_rule(self) -> tuple[Rule, ...]:
        """The rules of every kind of source, one after another."""
        return tuple(rule for source in self.rules for rule in self.rules_for(source))

    @property
    def score_names(self) -> tuple[str, ...]:
        """Scorers that a rule names, which the recipe must have."""
        return tuple(dict.fromkeys(rule.scorer for rule in self.every_rule if rule.scorer))

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of ``signals`` that the decision reads."""
        read = [column for rule in self.every_rule for column in rule.columns]
        return tuple(dict.fromkeys([*_ALWAYS_READ, *read]))

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


def resolve(config: KeptConfig, signals: Iterable[pa.RecordBatch]) -> KeptConfig:
    """The same settings with every share to keep turned into a bound over all of ``signals``.

    signals: batches of ``config.columns`` of one version, in any order. A share is of the documents
    of its kind of source that have the signal, whatever other rules say of them. Holds 8 bytes a
    document for each such rule; reads nothing where there is none.
    """
    shares = {
        (source, rule.name): rule
        for source in config.rules
        for rule in config.rules_for(source)
        if rule.keeps_a_fraction
    }
    if not shares:
        return config
    values: dict[tuple[str, str], list[np.ndarray]] = {key: [np.zeros(0)] for key in shares}
    for batch in signals:
        for (source, name), rule in shares.items():
            chosen = is_one_of(batch["source"], (source,)) & rule.applies(batch)
            values[source, name].append(rule.values(batch)[chosen])
    rules = {source: config.entries_for(source) for source in config.rules}
    for (source, name), rule in shares.items():  # the later of two rules of one name holds
        rules[source] = (*rules[source], rule.resolved(np.concatenate(values[source, name])))
    return config.model_copy(update={"rules": rules})


def require_some_kept(num_kept: int, reasons: Mapping[str, int]) -> None:
    """Raise Refusal, naming how many each rule dropped, where no document was kept."""
    if not num_kept:
        said = ", ".join(f"{name} dropped {count}" for name, count in reasons.items())
        raise Refusal(f"datalake.kept.rules must keep at least one document, got none: {said}")


def _allowed(licence: pa.StringArray, config: KeptConfig) -> np.ndarray:
    """Which rows have an allowed licence; each different expression is judged once."""
    expressions = pc.unique(licence.drop_null())
    good = [e for e in expressions.to_pylist() if config.allows(e)]
    return is_one_of(licence, good)
