"""MinHash with banding: near duplicates as equal keys, computed while the signals are measured.

A document is the set of its shingles, runs of ``shingle_words`` folded words. The chance that two
documents have the same minimum under a random permutation is the Jaccard similarity s of their
sets (Broder 1997), so with b bands of r rows they share a band key with P(s) = 1 - (1 - s^r)^b
(Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, 3.4).

- A word is a run of ``\\w`` in lower case; a character of a script without spaces is a word.
- A document of fewer words than one shingle has no keys: only its exact duplicates are found. An
  empty set of shingles would have the maximum everywhere, and all such documents would be one.
- Permutations are those of text-dedup and datatrove: (h a + b) mod 2^61 - 1, low 32 bits, product
  modulo 2^64, ``a`` and ``b`` drawn by ``numpy.random.RandomState(seed)``.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from datalake.config import Config

_PRIME = (1 << 61) - 1


class _Shingles(Config):
    shingle_words: int = Field(
        default=5, ge=1
    )  # Lee et al. 2022, arXiv:2107.06499; FineWeb; The Stack
    seed: int = 42  # text-dedup


class BandsConfig(_Shingles):
    """Bands and rows as given."""

    kind: Literal["bands"] = "bands"
    num_bands: int = Field(default=14, ge=1)  # FineWeb, Penedo et al. 2024, arXiv:2406.17557
    num_rows: int = Field(default=8, ge=1)  # FineWeb


class ThresholdConfig(_Shingles):
    """The bands and rows that err least around a similarity, for a number of permutations.

    The error is the area under P(s) below the threshold and above it over, equally weighted.
    """

    kind: Literal["threshold"]
    threshold: float = Field(gt=0, lt=1)  # The Stack v2 takes 0.7
    num_perm: int = Field(ge=2)  # The Stack v2 takes 256


MinHashConfig = Annotated[BandsConfig | ThresholdConfig, Field(discriminator="kind")]


@dataclass(frozen=True, slots=True)
class Banding:
    """Everything that decides a document's band keys. Documents compare only under equal ones."""

    num_bands: int
    num_rows: int
    shingle_words: int
    seed: int

    @classmethod
    def of(cls, config: BandsConfig | ThresholdConfig) -> "Banding":
        if isinstance(config, BandsConfig):
            bands, rows = config.num_bands, config.num_rows
        else:
            from text_dedup.utils import optimal_param  # costs a second: datasets, scipy

            bands, rows = optimal_param(config.threshold, config.num_perm)
        return cls(bands, rows, config.shingle_words, config.seed)

    @property
    def num_perm(self) -> int:
        return self.num_bands * self.num_rows

    @property
    def threshold(self) -> float:
        """Similarity where P(s) is steepest, about: (1/b)^(1/r)."""
        return (1 / self.num_bands) ** (1 / self.num_rows)

    def detection_probability(self, similarity: float) -> float:
        """P(s): chance that two documents of this Jaccard similarity share a band key."""
        return 1 - (1 - similarity**self.num_rows) ** self.num_bands

    def permutations(self) -> tuple[np.ndarray, np.ndarray]:
        """Multipliers and addends of the permutations: two ``uint64 [num_perm]``."""
        random = np.random.RandomState(self.seed)
        a = random.randint(1, _PRIME, self.num_perm, dtype=np.uint64)
        b = random.randint(0, _PRIME, self.num_perm, dtype=np.uint64)
        return a, b
