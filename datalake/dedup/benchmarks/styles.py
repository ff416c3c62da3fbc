"""How published recipes decide that a benchmark item was seen, by name.

Every style looks for n-grams of an item in the training documents; they differ in what a token is,
in n, and in what counts as found. An item is *found* where the style says so of all documents
together: such items are what the style calls contaminated, or dirty. Whether one document is acted
upon is a second question, since most of these papers only report.

Tokens are ours in every style: the papers that count tokens of their own tokenizer are followed
with words, and a character of a script without spaces is a word. An item with fewer words than
``min_words`` cannot be matched and is reported as such; one between ``min_words`` and n is matched
as a whole, which is how DeepSeek-Coder treats them.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from datalake.config import Config

if TYPE_CHECKING:
    from datalake.dedup.benchmarks.index import Grams, Tokens

_WHERE_IT_STANDS, _WHOLE_ITEM, _SKIP_GRAM = range(3)  # as in ``kernels``


class _Style(Config, ABC):
    """What all styles answer; the defaults are those of "any n-gram of the item"."""

    tokens: ClassVar["Tokens"] = "words"
    counts_tokens: ClassVar[bool] = False  # a fraction is of tokens covered, not of n-grams found
    in_one_document: ClassVar[bool] = False  # what is found elsewhere does not count
    follow: ClassVar[int] = _WHERE_IT_STANDS
    max_documents: ClassVar[int | None] = None  # n-grams in more are not acted upon
    needs_label: ClassVar[bool] = False
    budget: ClassVar[int] = 0
    least: ClassVar[int] = 0

    # A wording that many items of a benchmark share, its question without the numbers, says
    # nothing of one item; none of the papers knows such a rule, so it is off.
    max_items_per_gram: int | None = Field(default=None, ge=1)

    @abstractmethod
    def lengths(self, benchmark: str, num_tokens: np.ndarray) -> np.ndarray:
        """n for every item of one benchmark, whose sizes are given: 0 where it has none."""

    def acting_length(self) -> int | None:
        """The only length of n-grams that is acted upon, None where all are."""
        return None

    def grams(self, lengths: np.ndarray, num_tokens: np.ndarray, labels: np.ndarray) -> "Grams":
        """The n-grams that are looked for. ``labels``: the token at which each label begins."""
        from datalake.dedup.benchmarks.index import Grams

        items = np.flatnonzero(lengths > 0)
        taken = lengths[items]
        return Grams(items, taken, np.zeros_like(items), num_tokens[items] - taken + 1)

    def found(self, fractions: np.ndarray, benchmarks: Sequence[str]) -> np.ndarray:
        """Which items were found, by the fraction of each in all documents together."""
        return fractions > 0

    def acts(self, fractions: np.ndarray, benchmarks: Sequence[str]) -> np.ndarray:
        """Where a document is acted upon, by the fraction of the item in it alone."""
        return self.found(fractions, benchmarks)


def _at_least(num_tokens: np.ndarray, n: int, min_words: int) -> np.ndarray:
    """n for long items, all their words for shorter ones, 0 below ``min_words``."""
    return np.where(num_tokens >= min_words, np.minimum(num_tokens, n), 0)


class _Grams(_Style):
    n: int = Field(ge=1, le=1000)
    min_words: int = Field(ge=1)  # of an item that is looked for

    @model_validator(mode="after")
    def _short_items_are_shorter(self) -> "_Grams":
        if self.min_words > self.n:
            rule = f"at most n, which is {self.n}"
            raise ValueError(f"contamination.style.min_words must be {rule}, got {self.min_words}")
        return self

    def lengths(self, benchmark: str, num_tokens: np.ndarray) -> np.ndarray:
        return _at_least(num_tokens, self.n, self.min_words)


class NGrams(_Grams):
    """One n-gram of the item anywhere: GPT-2, GPT-3 and lm-evaluation-harness report by it."""

    kind: Literal["ngrams"] = "ngrams"
    n: int = Field(default=13, ge=1, le=1000)  # Brown et al. 2020, arXiv:2005.14165, appendix C
    min_words: int = Field(default=8, ge=1)  # the least N of the same appendix
    n_of: dict[str, Annotated[int, Field(ge=1, le=1000)]] = Field(default_factory=dict)

    def lengths(self, benchmark: str, num_tokens: np.ndarray) -> np.ndarray:
        n = self.n_of.get(benchmark, self.n)
        return _at_least(num_tokens, n, min(n, self.min_words))


class DeepSeek(_Grams):
    """One 10-gram of the item, or all of a shorter one (Guo et al. 2024, arXiv:2401.14196)."""

    kind: Literal["deepseek"]
    n: int = Field(default=10, ge=1, le=1000)
    min_words: int = Field(default=3, ge=1)


class GPT3(_Style):
    """Brown et al. 2020, arXiv:2005.14165, appendix C; punctuation is taken out of words.

    Training side: a 13-gram of an item is acted upon unless more than ten documents have it, which
    makes it a phrase of the language. Evaluation side: an item is dirty where one of its N-grams is
    found, N the 5th percentile of the lengths of its benchmark's items, from 8 to 13.
    """

    tokens: ClassVar["Tokens"] = "joined words"
    max_documents: ClassVar[int | None] = 10

    kind: Literal["gpt3"]

    def lengths(self, benchmark: str, num_tokens: np.ndarray) -> np.ndarray:
        n = int(np.clip(np.floor(np.percentile(num_tokens, 5)), 8, 13))
        return _at_least(num_tokens, n, n)

    def acting_length(self) -> int | None:
        return 13

    def grams(self, lengths: np.ndarray, num_tokens: np.ndarray, labels: np.ndarray) -> "Grams":
        from datalake.dedup.benchmarks.index import Grams

        evaluation = super().grams(lengths, num_tokens, labels)
        long = np.flatnonzero((num_tokens >= 13) & (lengths > 0) & (lengths != 13))
        return Grams(
            np.append(evaluation.items, long),
            np.append(evaluation.lengths, np.full(len(long), 13)),
            np.append(evaluation.firsts, np.zeros_like(long)),
            np.append(evaluation.lasts, num_tokens[long] - 12),
        )


class PaLM(_Grams):
    """70 % of the item's 8-grams found, wherever (Chowdhery et al. 2022, arXiv:2204.02311)."""

    kind: Literal["palm"]
    n: int = Field(default=8, ge=1, le=1000)
    min_words: int = Field(default=8, ge=1)  # the paper has nothing for shorter items
    threshold: float = Field(default=0.7, gt=0, le=1)

    def found(self, fractions: np.ndarray, benchmarks: Sequence[str]) -> np.ndarray:
        return fractions >= self.threshold


class Llama2(_Style):
    """The share of the item's tokens in a match (Touvron et al. 2023, arXiv:2307.09288, A.6).

    A match is longer than ten tokens; its first ten agree, and up to four of the further ones may
    differ, the last excepted. An item is not clean from 20 % on, and dirty from 80 % on: the former
    are found, the latter are acted upon.
    """

    counts_tokens: ClassVar[bool] = True
    follow: ClassVar[int] = _SKIP_GRAM
    budget: ClassVar[int] = 4
    least: ClassVar[int] = 11

    kind: Literal["llama2"]
    not_clean: float = Field(default=0.2, gt=0, le=1)
    dirty: float = Field(default=0.8, gt=0, le=1)

    def lengths(self, benchmark: str, num_tokens: np.ndarray) -> np.ndarray:
        return np.where(num_tokens >= self.least, self.least - 1, 0)

    def found(self, fractions: np.ndarray, benchmarks: Sequence[str]) -> np.ndarray:
        return fractions >= self.not_clean

    def acts(self, fractions: np.ndarray, benchmarks: Sequence[str]) -> np.ndarray:
        return fractions >= self.dirty


class Llama3(_Grams):
    """The share of the item's tokens in 8-grams found (Dubey et al. 2024, arXiv:2407.21783, 5.1.4).

    The paper chooses the threshold for each benchmark, so it has no default.
    """

    counts_tokens: ClassVar[bool] = True

    kind: Literal["llama3"]
    n: int = Field(default=8, ge=1, le=1000)
    min_words: int = Field(default=8, ge=1)  # the paper has nothing for shorter items
    threshold: float = Field(gt=0, le=1)
    threshold_of: dict[str, Annotated[float, Field(gt=0, le=1)]] = Field(default_factory=dict)

    def found(self, fractions: np.ndarray, benchmarks: Sequence[str]) -> np.ndarray:
        limits = [self.threshold_of.get(name, self.threshold) for name in benchmarks]
        return fractions >= np.array(limits, np.float64)


class Tulu3(_Grams):
    """More than half of the item's tokens in 8-grams of one document (arXiv:2411.15124, 3.2).

    A source is contaminated by a benchmark where it holds more than 2 % of the items; the report
    names such sources.
    """

    counts_tokens: ClassVar[bool] = True
    in_one_document: ClassVar[bool] = True

    kind: Literal["tulu3"]
    n: int = Field(default=8, ge=1, le=1000)
    min_words: int = Field(default=8, ge=1)  # the paper has nothing for shorter items
    threshold: float = Field(default=0.5, ge=0, lt=1)

    def found(self, fractions: np.ndarray, benchmarks: Sequence[str]) -> np.ndarray:
        return fractions > self.threshold


class Datatrove(_Grams):
    """One 12-gram of the label, or across its border with the query; none of the query alone.

    The last text column of a benchmark is the label. Words are ours, not those of datatrove 0.10
    with its numbers made equal.
    """

    needs_label: ClassVar[bool] = True

    kind: Literal["datatrove"]
    n: int = Field(default=12, ge=1, le=1000)
    min_words: int = Field(default=12, ge=1)  # it has nothing for shorter items

    def grams(self, lengths: np.ndarray, num_tokens: np.ndarray, labels: np.ndarray) -> "Grams":
        from datalake.dedup.benchmarks.index import Grams

        every = super().grams(lengths, num_tokens, labels)
        firsts = np.maximum(0, labels[every.items] - every.lengths + 1)
        some = firsts < every.lasts
        return Grams(every.items[some], every.lengths[some], firsts[some], every.lasts[some])


class Substring(_Style):
    """The whole item, white space aside, exactly (StarCoder: Li et al. 2023, arXiv:2305.06161;
    white space removed as in StarCoder2: Lozhkov et al. 2024, arXiv:2402.19173)."""

    tokens: ClassVar["Tokens"] = "characters"
    follow: ClassVar[int] = _WHOLE_ITEM

    kind: Literal["substring"]
    # Ours: shorter solutions, such as ``return x + y``, stand in programs that copied none.
    min_characters: int = Field(default=32, ge=1, le=1000)

    def lengths(self, benchmark: str, num_tokens: np.ndarray) -> np.ndarray:
        return np.where(num_tokens >= self.min_characters, self.min_characters, 0)

    def grams(self, lengths: np.ndarray, num_tokens: np.ndarray, labels: np.ndarray) -> "Grams":
        from datalake.dedup.benchmarks.index import Grams

        items = np.flatnonzero(lengths > 0)
        return Grams(items, lengths[items], np.zeros_like(items), np.ones_like(items))


Style = Annotated[
    NGrams | DeepSeek | GPT3 | PaLM | Llama2 | Llama3 | Tulu3 | Datatrove | Substring,
    Field(discriminator="kind"),
]
