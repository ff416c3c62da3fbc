"""MinHash with banding: near duplicates as equal keys.

A document is the set of its shingles, runs of ``shingle_words`` words. The chance that two
documents have the same minimum under a random permutation is the Jaccard similarity s of their
sets (Broder 1997), so with b bands of r rows they share a band key with P(s) = 1 - (1 - s^r)^b
(Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, 3.4).

- A word is a run of letters, digits and ``_``, with the marks on them, compared without case and
  in canonical decomposition; a character of a script without spaces is a word (``word_folds.py``).
- A document of fewer words than one shingle has no keys: only its exact duplicates are found. An
  empty set of shingles would have the maximum everywhere, and all such documents would be one.
  ``min_distinct`` asks for more different shingles than one.
- A shingle's hash has 32 bits, its permutations are (h a + b) modulo 2^32 with odd ``a``: on a
  hash that is random already they serve as well as those modulo 2^61 - 1, in a third of the time.

Two modes follow others, so that results can be compared: ``fineweb`` and ``text_dedup``.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from datalake.config import Config, Refusal
from datalake.text_bytes import text_bytes

_PRIME = (1 << 61) - 1

Recipe = Literal["words", "fineweb", "text_dedup_sha1", "text_dedup_xxh3"]


class _Shingles(Config):
    shingle_words: int = Field(
        default=5, ge=1, le=1000
    )  # Lee et al. 2022, arXiv:2107.06499; FineWeb; The Stack
    min_distinct: int = Field(default=1, ge=1, le=1000)  # every document that has a shingle
    seed: int = Field(default=42, ge=0, lt=1 << 32)  # text-dedup


class BandsConfig(_Shingles):
    """Bands and rows as given."""

    kind: Literal["bands"] = "bands"
    num_bands: int = Field(default=14, ge=1)  # FineWeb, Penedo et al. 2024, arXiv:2406.17557
    num_rows: int = Field(default=8, ge=1)  # FineWeb


class ThresholdConfig(_Shingles):
    """The bands and rows that err least around a similarity, for a number of permutations."""

    kind: Literal["threshold"]
    threshold: float = Field(gt=0, lt=1)  # The Stack v2 takes 0.7
    num_perm: int = Field(ge=2)  # The Stack v2 takes 256


class FinewebConfig(Config):
    """FineWeb's: datatrove's normalisation and permutations of 64 bits, over our words.

    Numbers are all one, so a table of numbers has a handful of different shingles and would be
    lost to one changed word, or found in another table: such documents have no keys.
    """

    kind: Literal["fineweb"]
    shingle_words: int = Field(default=5, ge=1, le=1000)  # Penedo et al. 2024, arXiv:2406.17557
    num_bands: int = Field(default=14, ge=1)  # the same
    num_rows: int = Field(default=8, ge=1)  # the same
    seed: int = Field(default=1, ge=0, lt=1 << 32)  # datatrove
    min_distinct: int = Field(default=5, ge=1, le=1000)  # number tables have 1 or 2


class TextDedupConfig(Config):
    """text-dedup 0.4 with its defaults: the same tokens, shingles, hashes and so clusters.

    Its tokens may be empty, which makes code and lists more alike than they are. A document of
    fewer than ``min_length`` tokens has all minima at the maximum, so that short and empty
    documents form one cluster, as they do for its ``embed_func``.
    """

    kind: Literal["text_dedup"]
    hash: Literal["sha1", "xxh3"] = "sha1"
    ngram: int = Field(default=5, ge=1, le=1000)
    min_length: int = Field(default=5, ge=0)
    num_perm: int = Field(default=250, ge=2)
    threshold: float = Field(default=0.7, gt=0, lt=1)
    num_bands: int | None = Field(default=None, ge=1)  # b; with num_rows, instead of threshold
    num_rows: int | None = Field(default=None, ge=1)  # r
    seed: int = Field(default=42, ge=0, lt=1 << 32)

    @model_validator(mode="after")
    def _bands_fit(self) -> "TextDedupConfig":
        if (self.num_bands is None) != (self.num_rows is None):
            given = "num_bands" if self.num_rows is None else "num_rows"
            raise Refusal(f"num_bands and num_rows must be given together, got {given} alone")
        used = (self.num_bands or 0) * (self.num_rows or 0)
        if used > self.num_perm:
            raise Refusal(f"num_bands x num_rows must be at most {self.num_perm}, got {used}")
        return self


MinHashConfig = Annotated[
    BandsConfig | ThresholdConfig | FinewebConfig | TextDedupConfig, Field(discriminator="kind")
]


@dataclass(frozen=True, slots=True)
class Banding:
    """Everything that decides a document's band keys. Documents compare only under equal ones."""

    num_bands: int
    num_rows: int
    shingle_words: int
    seed: int
    recipe: Recipe = "words"
    min_distinct: int = 1  # different shingles; a document of fewer has no keys
    min_words: int = 0  # text-dedup: tokens; a document of fewer has no shingles
    num_drawn: int | None = None  # permutations that are drawn, where not all are used

    @classmethod
    def of(cls, config: MinHashConfig) -> "Banding":
        match config:
            case BandsConfig():
                bands, rows = config.num_bands, config.num_rows
            case ThresholdConfig():
                bands, rows = best_bands(config.threshold, config.num_perm)
            case FinewebConfig():
                return cls(
                    config.num_bands,
                    config.num_rows,
                    config.shingle_words,
                    config.seed,
                    "fineweb",
                    config.min_distinct,
                )
            case TextDedupConfig():
                return _text_dedup_banding(config)
        return cls(bands, rows, config.shingle_words, config.seed, min_distinct=config.min_distinct)

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
        """Multipliers and addends modulo 2^61 - 1, of text-dedup and datatrove.

        Two ``uint64 [num_perm]``, drawn by ``numpy.random.RandomState(seed)``.
        """
        random = np.random.RandomState(self.seed)
        drawn = self.num_drawn or self.num_perm
        a = random.randint(1, _PRIME, drawn, dtype=np.uint64)
        b = random.randint(0, _PRIME, drawn, dtype=np.uint64)
        return a[: self.num_perm], b[: self.num_perm]

    def affine_permutations(self) -> tuple[np.ndarray, np.ndarray]:
        """Odd multipliers and addends modulo 2^32: two ``uint32 [num_perm]``."""
        random = np.random.RandomState(self.seed)
        a = random.randint(0, 1 << 31, self.num_perm, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
        b = random.randint(0, 1 << 32, self.num_perm, dtype=np.uint32)
        return a, b


def best_bands(threshold: float, num_perm: int) -> tuple[int, int]:
    """Bands and rows whose P(s) errs least: as little as possible below, as much above.

    The error is the area under P(s) below the threshold and above it over; of equal ones the
    fewest bands, then rows, win. It is what datasketch and text-dedup choose. P(s) is a polynomial
    of at most ``num_perm`` degrees, so Gauss-Legendre quadrature of half as many nodes is exact.
    """
    nodes, weights = np.polynomial.legendre.leggauss(min(num_perm // 2 + 1, 256))
    below, above = threshold * (nodes + 1) / 2, threshold + (1 - threshold) * (nodes + 1) / 2
    least, best = np.inf, (0, 0)
    for bands in range(1, num_perm + 1):
        rows = np.arange(1, num_perm // bands + 1)[:, None]
        false_positives = 1 - (1 - below**rows) ** bands
        false_negatives = (1 - above**rows) ** bands
        errors = threshold * (false_positives @ weights) + (1 - threshold) * (
            false_negatives @ weights
        )
        row = int(np.argmin(errors))
        if errors[row] < least:
            least, best = errors[row], (bands, row + 1)
    return best


def sign(
    text: pa.StringArray | pa.LargeStringArray, hashing: Banding
) -> tuple[pa.ListArray, pa.BinaryArray]:
    """Band keys, ``list<int64>``, and signatures, the minima, of a column of texts.

    A signature holds ``num_perm`` little-endian uint32. FineWeb's minima have 61 bits: its keys are
    made of them all, its signature keeps the low 32, which are equal where they are. A document
    without shingles, or null, has an empty list and null. Bytes that are not UTF-8 part words.

    Raises Refusal where the column is too long for the 32-bit offsets of what it gives.
    """
    if len(text) * hashing.num_perm * 4 >= 1 << 31:
        most = ((1 << 31) - 1) // (hashing.num_perm * 4)
        raise Refusal(f"text must have at most {most:,} rows at a time, got {len(text):,}")
    from datalake.dedup.signatures import minhash_kernels, text_dedup_kernels, word_folds

    data, offsets = text_bytes(text)
    valid = text.is_valid().to_numpy(zero_copy_only=False)
    valid.flags.writeable = False  # as Arrow's own are, sometimes
    minima = np.empty((len(text), hashing.num_perm), np.uint64)
    keys = np.empty((len(text), hashing.num_bands), np.uint64)
    if hashing.recipe in ("words", "fineweb"):
        wide = hashing.recipe == "fineweb"
        folding = word_folds.fineweb() if wide else word_folds.words()
        has_keys = minhash_kernels.sign_words(
            data,
            offsets,
            valid,
            folding.kinds,
            folding.starts,
            folding.content,
            wide,
            hashing.shingle_words,
            hashing.min_distinct,
            wide,
            *(hashing.permutations() if wide else hashing.affine_permutations()),
            hashing.num_rows,
            minima,
            keys,
        )
    else:
        folding = word_folds.text_dedup()
        text_dedup_kernels.sign(
            data,
            offsets,
            valid,
            folding.starts,
            folding.content,
            word_folds.sigma_neighbours(),
            hashing.shingle_words,
            hashing.min_words,
            hashing.recipe == "text_dedup_sha1",
            *hashing.permutations(),
            hashing.num_rows,
            minima,
            keys,
        )
        has_keys = valid
    return _lists(keys, has_keys), _signatures(minima, has_keys)


def _text_dedup_banding(config: TextDedupConfig) -> Banding:
    if config.num_bands is not None and config.num_rows is not None:
        bands, rows = config.num_bands, config.num_rows
    else:
        bands, rows = best_bands(config.threshold, config.num_perm)
    return Banding(
        bands,
        rows,
        config.ngram,
        config.seed,
        "text_dedup_sha1" if config.hash == "sha1" else "text_dedup_xxh3",
        min_words=config.min_length,
        num_drawn=config.num_perm,
    )


def _lists(keys: np.ndarray, has_keys: np.ndarray) -> pa.ListArray:
    ends = np.zeros(len(keys) + 1, np.int32)
    np.cumsum(has_keys * keys.shape[1], out=ends[1:])
    return pa.ListArray.from_arrays(ends, pa.array(keys[has_keys].reshape(-1).view(np.int64)))


def _signatures(minima: np.ndarray, has_keys: np.ndarray) -> pa.BinaryArray:
    content = (minima if has_keys.all() else minima[has_keys]).astype("<u4")
    ends = np.zeros(len(minima) + 1, np.int32)
    np.cumsum(has_keys * (minima.shape[1] * 4), out=ends[1:])
    nulls = None if has_keys.all() else pa.py_buffer(np.packbits(has_keys, bitorder="little"))
    buffers = [nulls, pa.py_buffer(ends), pa.py_buffer(content)]
    return pa.BinaryArray.from_buffers(pa.binary(), len(minima), buffers)
