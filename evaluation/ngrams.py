"""The baseline that a language model has to beat: n-grams counted on the same training rows.

Interpolated Kneser-Ney with one discount (Kneser and Ney 1995; Chen and Goodman 1999, section 3):
every count gives up a constant ``DISCOUNT``, and what is given up is spread by the next shorter
context,

    p(w | u v) = max(c(u v w) - D, 0) / c(u v)  +  D n(u v) / c(u v) * p(w | v)

where ``n(u v)`` is the number of distinct tokens seen after ``u v``. A shorter level asks not how
often something occurs but after how many different tokens (its continuation count), and the last
one spreads its own discount evenly over the vocabulary, so nothing has probability zero.

Counts are sorted arrays of packed integers (``(u V + v) V + w``), not dictionaries: twelve million
tokens are counted in a second, and a lookup is a binary search.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datalake.config import Refusal
from training.data.rows import Rows

DISCOUNT = 0.75  # between the 0.6 and 0.9 of held-out estimates (Chen and Goodman 1999)
_SORTED_AT_ONCE = 1 << 24  # n-grams, 134 MB of keys
_ROWS_AT_ONCE = 4096  # rows scored together, about 1M targets of context 256


@dataclass(frozen=True, kw_only=True, slots=True)
class Level:
    """Counts of one order: n-grams in ascending order, and their contexts likewise."""

    ngrams: NDArray[np.int64]
    counts: NDArray[np.int64]  # c(context w), or in how many contexts of one token more
    contexts: NDArray[np.int64]
    totals: NDArray[np.int64]  # c(context), the sum over its n-grams
    followers: NDArray[np.int64]  # n(context), distinct tokens seen after it

    @classmethod
    def of(cls, ngrams: NDArray[np.int64], counts: NDArray[np.int64], vocab_size: int) -> "Level":
        heads = ngrams // vocab_size
        starts = _run_starts(heads)
        return cls(
            ngrams=ngrams,
            counts=counts,
            contexts=heads[starts],
            totals=np.add.reduceat(counts, starts) if starts.size else counts,
            followers=np.diff(starts, append=len(heads)),
        )

    def interpolate(
        self, contexts: NDArray[np.int64], ngrams: NDArray[np.int64], lower: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Probability of each n-gram's last token, given that of the next shorter context."""
        count = _look_up(self.ngrams, self.counts, ngrams)
        total = _look_up(self.contexts, self.totals, contexts)
        followers = _look_up(self.contexts, self.followers, contexts)
        kept = np.maximum(count - DISCOUNT, 0.0) + DISCOUNT * followers * lower
        return np.where(total > 0, kept / np.maximum(total, 1), lower)


@dataclass(frozen=True, kw_only=True, slots=True)
class Ngrams:
    """Bigram (``order`` 2) and trigram (``order`` 3) of one training split."""

    vocab_size: int
    unigram: NDArray[np.float64]  # [vocab], probability by continuation
    bigrams: Level  # by count: the bigram's own
    continued_bigrams: Level  # by continuation: what the trigram falls back to
    trigrams: Level

    def nats(self, rows: Rows, order: int) -> NDArray[np.float32]:
        """Negative log-likelihood ``[rows, context]`` of each target of ``rows``.

        A piece is all that is seen, as it is for a model: its first target has one token of context
        and so falls back to the bigram. Where there is no target, the number means nothing.
        """
        _refuse_order(order)
        nats = np.empty((len(rows), rows.context_length), np.float32)
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            chosen = np.arange(start, min(start + _ROWS_AT_ONCE, len(rows)))
            tokens, pieces = rows.tokens[chosen].astype(np.int64), rows.pieces(chosen)
            nats[chosen] = -np.log(self._probabilities(tokens, order, pieces))
        return nats

    def distribution(self, context: Sequence[int], order: int) -> NDArray[np.float64]:
        """Probability ``[vocab]`` of every token after ``context`` (its last ``order - 1``)."""
        _refuse_order(order)
        history = np.asarray(context, np.int64)[-(order - 1) :]
        rows = np.empty((self.vocab_size, len(history) + 1), np.int64)
        rows[:, :-1], rows[:, -1] = history, np.arange(self.vocab_size)
        return self._probabilities(rows, order)[:, -1]

    def _probabilities(
        self,
        rows: NDArray[np.int64],
        order: int,
        pieces: NDArray[np.int32] | None = None,
    ) -> NDArray[np.float64]:
        """Of each token but the first of a row, given those before it in its piece."""
        previous, target = rows[:, :-1], rows[:, 1:]
        pairs = previous * self.vocab_size + target
        unigram = self.unigram[target]
        if order == 2:
            return self.bigrams.interpolate(previous, pairs, unigram)
        p = np.empty(pairs.shape)
        alone = np.zeros(pairs.shape, bool)  # with one token of context
        alone[:, 0] = True
        if pieces is not None:
            alone[:, 1:] = pieces[:, 2:] != pieces[:, :-2]
        p[:, 1:] = self.trigrams.interpolate(
            pairs[:, :-1],
            pairs[:, :-1] * self.vocab_size + target[:, 1:],
            self.continued_bigrams.interpolate(previous[:, 1:], pairs[:, 1:], unigram[:, 1:]),
        )
        p[alone] = self.bigrams.interpolate(previous[alone], pairs[alone], unigram[alone])
        return p


def train(rows: Rows) -> Ngrams:
    """Counts of the n-grams of ``rows``, each inside a piece of a document.

    Raises Refusal where there is no bigram at all, or an id outside the vocabulary.
    """
    vocab_size = rows.vocab_size
    if not len(rows) or not rows.num_targets.any():
        raise Refusal(f"rows must hold at least one target, got none in {len(rows)} rows")
    if (largest := int(rows.tokens.max())) >= vocab_size:
        raise Refusal(f"tokens must be below vocab_size {vocab_size}, got {largest}")
    bigrams = Level.of(*_count(rows, 2), vocab_size)
    trigrams = Level.of(*_count(rows, 3), vocab_size)
    endings = np.sort(trigrams.ngrams % vocab_size**2)
    return Ngrams(
        vocab_size=vocab_size,
        unigram=_continuation(bigrams, vocab_size),
        bigrams=bigrams,
        continued_bigrams=Level.of(*_tally(endings), vocab_size),
        trigrams=trigrams,
    )


def _count(rows: Rows, order: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Distinct n-grams of ``rows`` in ascending order, and how often each occurs."""
    ngrams = counts = np.empty(0, np.int64)
    num_rows = max(1, _SORTED_AT_ONCE // rows.tokens.shape[1])
    for start in range(0, len(rows), num_rows):
        chosen = np.arange(start, min(start + num_rows, len(rows)))
        tokens, pieces = rows.tokens[chosen], rows.pieces(chosen)
        num_places = tokens.shape[1] - order + 1
        keys = np.zeros((len(chosen), max(num_places, 0)), np.int64)
        for offset in range(order):
            keys *= rows.vocab_size
            keys += tokens[:, offset : num_places + offset]
        last = pieces[:, order - 1 :]
        keys = np.sort(keys[(pieces[:, : keys.shape[1]] == last) & (last >= 0)])
        found, times = _tally(keys)
        ngrams, counts = np.concatenate([ngrams, found]), np.concatenate([counts, times])
        if start:
            places = np.argsort(ngrams, kind="stable")
            ngrams, counts = ngrams[places], counts[places]
            starts = _run_starts(ngrams)
            ngrams, counts = ngrams[starts], np.add.reduceat(counts, starts)
    return ngrams, counts


def _tally(ordered: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Distinct values of a sorted array, and how often each occurs."""
    starts = _run_starts(ordered)
    return ordered[starts], np.diff(starts, append=len(ordered))


def _run_starts(ordered: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each run of equal values begins."""
    new = np.ones(len(ordered), bool)
    np.not_equal(ordered[1:], ordered[:-1], out=new[1:])
    return np.flatnonzero(new)


def _continuation(bigrams: Level, vocab_size: int) -> NDArray[np.float64]:
    """Share of distinct pairs that end in each token, discounted towards the uniform."""
    preceded = np.bincount(bigrams.ngrams % vocab_size, minlength=vocab_size)
    given_up = DISCOUNT * np.count_nonzero(preceded)
    return (np.maximum(preceded - DISCOUNT, 0.0) + given_up / vocab_size) / len(bigrams.ngrams)


def _look_up(
    keys: NDArray[np.int64], values: NDArray[np.int64], wanted: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Value of each wanted key, 0 where it was never seen."""
    if not keys.size:
        return np.zeros(wanted.shape, np.int64)
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], 0)


def _refuse_order(order: int) -> None:
    if order not in (2, 3):
        raise Refusal(f"order must be 2 or 3, got {order}")
