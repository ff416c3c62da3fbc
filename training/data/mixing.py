"""Sources in given shares: rows by the source of their text, and an order that mixes them.

A row belongs to the source that most of it comes from. ``Mixture`` is an order as ``Epochs`` is:
what a sample reads is computed from its number, so a run may begin anywhere, and the shares hold in
every stretch of it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from datalake.config import Refusal
from training.data.order import Epochs

BLOCK = 4096  # samples in which weights hold exactly, so to a part in as many


@dataclass(frozen=True, eq=False)
class Mixture:
    """An order in which ``counts[s]`` of every ``counts.sum()`` samples are of source ``s``.

    Within such a block the sources are interleaved evenly, so that every stretch of a run holds
    them in about the same shares. Each source is read epoch after epoch, each in an order of its
    own: no row comes again before all rows of its source were read. Samples of a source come in
    the same order whatever the counts, so that runs that differ in shares alone see the same rows
    as far as they can.
    """

    row_sources: np.ndarray  # int [rows]: the source of each, below 0 where it has none
    counts: np.ndarray  # int64 [sources]
    seed: int

    def __post_init__(self) -> None:
        for source, count in enumerate(self.counts.tolist()):
            if count and not len(self._own[source]):
                raise Refusal(f"source {source} must have a row to be read, got none")

    @classmethod
    def of(
        cls, weights: Mapping[str, float], names: Sequence[str], row_sources: np.ndarray, seed: int
    ) -> "Mixture":
        """Sources by ``weights``, exact in every ``BLOCK`` samples; what is not named is not read.

        ``names`` are the sources that ``row_sources`` numbers. Refuses a weight that is no positive
        number or too small for a block, a name that is not among them, and one without a row.
        """
        for name, weight in weights.items():
            if name not in names:
                raise Refusal(f"mixture must name sources of {', '.join(names)}, got {name}")
            if not 0 < weight < math.inf:
                raise Refusal(f"mixture.{name} must be above 0, got {weight:g}")
            if not (row_sources == names.index(name)).any():
                raise Refusal(
                    f"mixture.{name} must have a row that is mostly of it, got none; leave it out"
                )
        counts = apportioned(np.array([weights.get(name, 0.0) for name in names]), BLOCK)
        for name, weight in weights.items():
            if not counts[names.index(name)]:
                share = weight / sum(weights.values())
                raise Refusal(
                    f"mixture.{name} must be a row of every {BLOCK}, got a share of {share:.2g}"
                )
        return cls(row_sources, counts, seed)

    @property
    def num_rows(self) -> int:
        return len(self.row_sources)

    def ids(self, samples: np.ndarray) -> np.ndarray:
        """The row that each of ``samples`` (int64) reads, int64 of the same length."""
        blocks, places = np.divmod(samples, len(self._sources))
        sources = self._sources[places]
        numbers = blocks * self.counts[sources] + self._ranks[places]
        ids = np.empty(len(samples), np.int64)
        for source, own in self._own.items():
            here = np.flatnonzero(sources == source)
            if len(here):
                ids[here] = own[Epochs(len(own), self.seed).ids(numbers[here])]
        return ids

    def samples(self, row: int, stop: int) -> np.ndarray:
        """Those below ``stop`` that read ``row``, ascending int64."""
        source = int(self.row_sources[row])
        if source < 0 or not self.counts[source]:
            return np.empty(0, np.int64)
        block, own, count = len(self._sources), self._own[source], int(self.counts[source])
        epochs = Epochs(len(own), self.seed)
        numbers = epochs.samples(int(np.searchsorted(own, row)), -(-stop // block) * count)
        places = np.flatnonzero(self._sources == source)
        samples = numbers // count * block + places[numbers % count]
        return samples[samples < stop]

    def epochs(self, num_samples: int) -> np.ndarray:
        """How often so many samples read all rows of each source, ``[sources]``."""
        blocks, rest = divmod(num_samples, len(self._sources))
        last = np.bincount(self._sources[:rest], minlength=len(self.counts))
        num_own = np.array([len(own) for own in self._own.values()])
        return (blocks * self.counts + last) / np.maximum(num_own, 1)

    @cached_property
    def _own(self) -> dict[int, np.ndarray]:
        """Rows of each source, ascending int64."""
        return {s: np.flatnonzero(self.row_sources == s) for s in range(len(self.counts))}

    @cached_property
    def _places(self) -> np.ndarray:
        """Of the samples of a block, source after source, in the order in which they are read."""
        when = [(np.arange(count) + 0.5) / count for count in self.counts.tolist() if count]
        return np.argsort(np.concatenate(when), kind="stable")

    @cached_property
    def _sources(self) -> np.ndarray:
        """The source of each sample of a block, int64."""
        return np.repeat(np.arange(len(self.counts)), self.counts)[self._places]

    @cached_property
    def _ranks(self) -> np.ndarray:
        """Its number among those of its source in the block, int64."""
        before = np.cumsum(self.counts) - self.counts
        ranks = np.arange(len(self._places)) - np.repeat(before, self.counts)
        return ranks[self._places]


def bytes_by_source(
    tokens: np.ndarray,
    doc_ids: pa.ListArray,
    doc_starts: pa.ListArray,
    sources: np.ndarray,
    num_sources: int,
    bytes_per_token: np.ndarray,
) -> np.ndarray:
    """Bytes of the targets in each row that come from each source, int64 ``[rows, sources]``.

    ``tokens`` is ``[rows, context_length + 1]``; ``sources`` (int) names the source of each
    document of the flattened ``doc_ids``; ``bytes_per_token`` is int ``[vocab]``.
    """
    num_rows, length = tokens.shape
    num_bytes = bytes_per_token[tokens]
    counts = np.diff(doc_ids.offsets.to_numpy())
    rows = np.repeat(np.arange(num_rows), counts)
    begins = rows * length + doc_starts.flatten().to_numpy()
    num_bytes.ravel()[begins] = 0  # the first token of a piece is no target
    spans = np.add.reduceat(num_bytes.ravel(), begins) if len(begins) else np.empty(0, np.int64)
    summed = np.zeros((num_rows, num_sources), np.int64)
    np.add.at(summed, (rows, sources), spans)
    return summed


def apportioned(shares: np.ndarray, total: int) -> np.ndarray:
    """``total`` rows divided in proportion to ``shares``, int64: largest remainders round up."""
    exact = shares / shares.sum() * total
    counts = np.floor(exact).astype(np.int64)
    most = np.argsort(counts - exact, kind="stable")
    counts[most[: total - int(counts.sum())]] += 1
    return counts


def tokens_by_source(
    doc_starts: pa.ListArray, num_tokens: np.ndarray, sources: np.ndarray, num_sources: int
) -> np.ndarray:
    """Tokens in each row that come from each source, int64 ``[rows, sources]``.

    ``sources`` (int) names the source of each of the flattened ``doc_starts``.
    """
    counts = np.diff(doc_starts.offsets.to_numpy())
    starts = doc_starts.flatten().to_numpy()
    ends = np.append(starts[1:], 0)
    ends[np.cumsum(counts) - 1] = num_tokens
    rows = np.repeat(np.arange(len(counts)), counts)
    summed = np.zeros((len(counts), num_sources), np.int64)
    np.add.at(summed, (rows, sources), ends - starts)
    return summed


def owner(counted: np.ndarray) -> np.ndarray:
    """The source that most of each row comes from, int64 ``[rows]``; -1 where there is nothing."""
    return np.where(counted.any(axis=1), counted.argmax(axis=1), -1)
