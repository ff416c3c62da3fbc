"""What a rule is: one signal, the values that pass, and the name that a dropped document carries.

A bound passes: ``at_least`` and ``at_most`` include their value, ``above`` and ``below`` do not,
``one_of`` lists words. A signal that a document does not have (null: no comments in a language
without them) lets it pass. ``scores.NAME`` is what the recipe's scorer NAME gave.

``keep_highest`` and ``keep_lowest`` say no value but the share of the documents of one kind of
source that pass; ``resolved`` turns them into a bound, once, from that column of all documents.
"""

import difflib
import math
from collections.abc import Sequence
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import model_validator

from datalake.config import Config, Refusal
from datalake.schemas import TABLES

SCORES = "scores."  # before the name of a scorer

NUMBERS = tuple(
    column.name
    for column in TABLES["signals"].columns
    if pa.types.is_integer(column.type)
    or pa.types.is_floating(column.type)
    or pa.types.is_boolean(column.type)
)
WORDS = ("language", "licence_class")
_BOUNDS = ("at_least", "at_most", "above", "below", "one_of", "keep_highest", "keep_lowest")
_FRACTIONS = ("keep_highest", "keep_lowest")


class Rule(Config):
    """Drops a document whose ``signal`` lies outside its bounds."""

    name: str  # the reason that a dropped document carries
    signal: str  # column of ``signals``, or scores.NAME
    at_least: float | None = None
    at_most: float | None = None
    above: float | None = None
    below: float | None = None
    one_of: tuple[str, ...] = ()  # words that pass
    keep_highest: float | None = None  # share that passes, ties included
    keep_lowest: float | None = None
    only_for: tuple[str, ...] = ()  # languages, all where empty
    not_for: tuple[str, ...] = ()  # languages that it lets pass

    @model_validator(mode="after")
    def _has_a_signal_and_a_bound(self) -> Self:
        known = WORDS if self.one_of else NUMBERS
        if self.signal not in known and (self.one_of or not self.scorer):
            kind = "a word" if self.one_of else "a number"
            raise ValueError(
                f"signal of rule {self.name} must be {kind} in table signals, got {self.signal}"
                + nearest(self.signal, known)
            )
        given = [bound for bound in _BOUNDS if getattr(self, bound) not in (None, ())]
        if not given:
            raise ValueError(f"rule {self.name} must have at_least or at_most, got neither")
        if self.keeps_a_fraction and len(given) > 1:
            raise ValueError(
                f"rule {self.name} must have a share to keep or bounds, got {' and '.join(given)}"
            )
        for bound in given:
            value = getattr(self, bound)
            if bound in _FRACTIONS and not 0 < value <= 1:
                raise ValueError(f"{bound} of rule {self.name} must be in (0, 1], got {value}")
            if value != value:
                raise ValueError(f"{bound} of rule {self.name} must be a number, got {value}")
        return self

    @property
    def scorer(self) -> str:
        """Name of the scorer that it reads; empty where it reads a column of its own."""
        return self.signal.removeprefix(SCORES) if self.signal.startswith(SCORES) else ""

    @property
    def keeps_a_fraction(self) -> bool:
        return self.keep_highest is not None or self.keep_lowest is not None

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of ``signals`` that it reads."""
        read = ("score_names", "scores") if self.scorer else (self.signal,)
        return (*read, "language") if self.only_for or self.not_for else read

    def applies(self, signals: pa.RecordBatch) -> np.ndarray:
        """Which rows are in a language that it judges: ``bool [rows]``."""
        applies = np.ones(len(signals), bool)
        if self.only_for:
            applies &= is_one_of(signals["language"], self.only_for)
        if self.not_for:
            applies &= ~is_one_of(signals["language"], self.not_for)
        return applies

    def values(self, signals: pa.RecordBatch) -> np.ndarray:
        """What it judges, ``float64 [rows]``; NaN where a document has no such signal."""
        if self.scorer:
            return scores_of(signals, self.scorer)
        return signals[self.signal].cast(pa.float64()).to_numpy(zero_copy_only=False)

    def fails(self, signals: pa.RecordBatch) -> np.ndarray:
        """Which rows it drops: ``bool [rows]``. Raises Refusal while a share is not resolved."""
        if self.keeps_a_fraction:
            raise Refusal(f"rule {self.name} must be resolved over all documents, got a batch")
        if self.one_of:
            words = signals[self.signal]
            absent = words.is_null().to_numpy(zero_copy_only=False)
            return ~is_one_of(words, self.one_of) & ~absent & self.applies(signals)
        values = self.values(signals)
        fails = np.zeros(len(values), bool)
        if self.at_least is not None:
            fails |= values < self.at_least
        if self.at_most is not None:
            fails |= values > self.at_most
        if self.above is not None:
            fails |= values <= self.above
        if self.below is not None:
            fails |= values >= self.below
        return fails & self.applies(signals)

    def resolved(self, values: np.ndarray) -> "Rule":
        """The same rule with the bound that lets its share of ``values`` pass, ties included.

        values: of all documents that it applies to, in any order; NaN are left out. Of n numbers
        at least ``ceil(share * n)`` pass, whatever their order. Where there are none, all pass.
        """
        if not self.keeps_a_fraction:
            return self
        known = np.sort(values[~np.isnan(values)])
        nothing = {"keep_highest": None, "keep_lowest": None}
        if self.keep_highest is not None:
            rank = len(known) - _count(self.keep_highest, len(known))
            bound = {"at_least": float(known[rank]) if len(known) else -math.inf}
        else:
            assert self.keep_lowest is not None
            rank = _count(self.keep_lowest, len(known)) - 1
            bound = {"at_most": float(known[rank]) if len(known) else math.inf}
        return self.model_copy(update=nothing | bound)


def _count(share: float, number: int) -> int:
    """``ceil(share * number)``, where 0.1 of 10 is 1 and not, by rounding, 2."""
    return min(number, math.ceil(round(share * number, 9)))


def scores_of(signals: pa.RecordBatch, scorer: str) -> np.ndarray:
    """What ``scorer`` gave each row, ``float64 [rows]``; NaN where it gave nothing.

    All rows of one version have the same ``score_names``. Raises Refusal where it is none of them.
    """
    if not len(signals):
        return np.zeros(0)
    names = signals["score_names"][0].as_py()
    if scorer not in names:
        listed = f"one of {', '.join(names)}" if names else "a scorer of the recipe"
        raise Refusal(
            f"{SCORES}{scorer} must name {listed}, got {scorer}" + nearest(scorer, names)
            if names
            else f"{SCORES}{scorer} must name {listed}, got none"
        )
    scores = pc.list_element(signals["scores"], names.index(scorer))
    return scores.cast(pa.float64()).to_numpy(zero_copy_only=False)


def is_one_of(column: pa.Array, values: Sequence[str]) -> np.ndarray:
    """Which rows of ``column`` are one of ``values``; null is none of them."""
    return pc.is_in(column, pa.array(values, pa.string())).to_numpy(zero_copy_only=False)


def nearest(name: str, known: Sequence[str]) -> str:
    """What may have been meant, as the end of a message; empty where nothing is near."""
    near = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {near[0]}?" if near else ""
