"""Deduplication of a stream: what a Bloom filter has seen, in memory that does not grow.

A Bloom filter never forgets a key and takes a new one for a known one at a rate that is chosen
beforehand. It decides as documents arrive: the first copy to come stays, so another order of the
same documents keeps others, and a copy that one reader decides on is unknown to another. For a
result that depends on the documents alone, see ``dedup.clusters`` and ``dedup.lines``.

The published use of it is DCLM's (Li et al. 2024, arXiv:2406.11794, appendix L): n-grams of words,
and a paragraph or a document goes when most of its n-grams were seen.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import pairwise
from math import exp
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from datalake.config import Config, Refusal
from datalake.cuts import SCHEMA, cuts_of
from datalake.dedup.exact import text_digest
from datalake.dedup.repeats.lines import ParagraphsConfig, Pieces
from datalake.text_bytes import text_bytes

_WORDS, _WORD_BITS = 8, 64  # of a block, one bit of each for a key
_MAGIC = b"tarn bloom 1\n"


class _Stream(Config):
    """How much the filter is made for. Both decide its size, and neither has a default."""

    capacity: int = Field(ge=1)  # different keys: documents, paragraphs or n-grams
    false_positive_rate: float = Field(gt=1e-12, lt=0.5)


class DocumentStreamConfig(_Stream):
    """A document whose text was seen is dropped; case and white space do not count."""

    kind: Literal["documents"]


class ParagraphStreamConfig(_Stream):
    """A paragraph between blank lines that was seen is cut; case and white space do not count."""

    kind: Literal["paragraphs"]
    min_characters: int = Field(ge=1)  # shorter ones are not looked at


class NGramStreamConfig(_Stream):
    """A line, or a document, of which more than ``threshold`` of the n-grams were seen goes.

    Words are as in ``dedup.substrings``. N-grams of what stays are added once its document is
    decided. A line of fewer words than ``max_ngram_size``, but no fewer than ``min_ngram_size``,
    is one n-gram; one of fewer has none and stays.
    """

    kind: Literal["ngrams"]
    min_ngram_size: int = Field(default=13, ge=1)  # DCLM
    max_ngram_size: int = Field(default=13, ge=1)  # DCLM
    threshold: float = Field(default=0.8, ge=0, lt=1)  # DCLM

    @model_validator(mode="after")
    def _is_ordered(self) -> Self:
        if self.min_ngram_size > self.max_ngram_size:
            sizes = f"{self.min_ngram_size} and {self.max_ngram_size}"
            raise ValueError(f"min_ngram_size must be at most max_ngram_size, got {sizes}")
        return self


StreamConfig = Annotated[
    DocumentStreamConfig | ParagraphStreamConfig | NGramStreamConfig, Field(discriminator="kind")
]


class BloomFilter:
    """A set of 64-bit keys that answers ``seen`` for every key added, and seldom for others.

    ``capacity`` different keys fit; one more is refused, since the rate would leave the one stated.
    A standard filter takes m = -n ln p / (ln 2)^2 bits; blocks are filled unevenly, for which this
    one takes a third more at p = 1e-4.
    """

    def __init__(self, capacity: int, false_positive_rate: float) -> None:
        self.capacity = capacity
        self.stated_rate = false_positive_rate
        self.count = 0  # keys that were new when they were added
        self._words = _aligned(num_blocks(capacity, false_positive_rate) * _WORDS)

    @property
    def num_bytes(self) -> int:
        return self._words.nbytes

    @property
    def false_positive_rate(self) -> float:
        """The rate at the present fill, counted from the bits that are set."""
        from datalake.dedup.repeats import bloom_kernels

        return float(bloom_kernels.chance(self._words))

    def add(self, keys: np.ndarray) -> np.ndarray:
        """Add uint64 ``keys`` in order; bool for each, whether it was there before.

        Raises Refusal at the first new key beyond the capacity; those before it are added.
        """
        from datalake.dedup.repeats import bloom_kernels

        seen = np.empty(len(keys), bool)
        done = bloom_kernels.add(self._words, keys, self.capacity - self.count, seen)
        self.count += int(done - seen[:done].sum())
        if done < len(keys):
            raise self._full()
        return seen

    def contains(self, keys: np.ndarray) -> np.ndarray:
        """Bool for each of uint64 ``keys``: False is certain."""
        from datalake.dedup.repeats import bloom_kernels

        seen = np.empty(len(keys), bool)
        bloom_kernels.contains(self._words, keys, seen)
        return seen

    def cut_n_grams(
        self, documents: pa.RecordBatch, config: NGramStreamConfig
    ) -> tuple[pa.RecordBatch, pa.BooleanArray]:
        """Cuts of a batch, and which of its documents are dropped, by the n-grams held so far."""
        from datalake.dedup.repeats import bloom_kernels
        from datalake.filters.measures.characters import character_classes

        data, offsets = text_bytes(documents["text"])
        most = int(np.count_nonzero(data[offsets[0] : offsets[-1]] == 10)) + len(documents)
        dropped = np.zeros(len(documents), bool)
        rows, firsts, ends = (np.empty(most, np.int64) for _ in range(3))
        done, num_cuts, num_new = bloom_kernels.n_grams(
            data,
            offsets,
            character_classes(),
            config.min_ngram_size,
            config.max_ngram_size,
            config.threshold,
            self._words,
            self.capacity - self.count,
            dropped,
            rows,
            firsts,
            ends,
        )
        self.count += num_new
        if done < len(documents):
            raise self._full()
        taken = slice(num_cuts)
        cuts = cuts_of(documents, rows[taken], firsts[taken], ends[taken], "seen_n_grams")
        return cuts, pa.array(dropped)

    def _full(self) -> Refusal:
        return Refusal(
            f"a bloom filter of capacity {self.capacity:,} must hold no more different keys to "
            f"keep its false positive rate of {self.stated_rate:g}, got another at "
            f"{self.false_positive_rate:.3g}; make one of a larger capacity"
        )

    def save(self, path: Path) -> None:
        """Write the filter to ``path``, which is replaced only by a whole one."""
        about = {
            "capacity": self.capacity,
            "false_positive_rate": self.stated_rate,
            "count": self.count,
            "digest": _digest(self._words),
        }
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".draft-", delete=False) as file:
            try:
                file.write(_MAGIC + json.dumps(about).encode() + b"\n")
                self._words.tofile(file)
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise

    @classmethod
    def load(cls, path: Path) -> "BloomFilter":
        """The filter saved at ``path``. Raises Refusal for a file that is not a whole one."""
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise Refusal(f"{path} must be a bloom filter saved by Tarn, got another file")
            about = json.loads(file.readline())
            made = cls(about["capacity"], about["false_positive_rate"])
            made.count = about["count"]
            num_read = file.readinto(made._words.data.cast("B"))
        if num_read < made.num_bytes or _digest(made._words) != about["digest"]:
            rule = f"hold the {made.num_bytes:,} bytes that were saved"
            raise Refusal(f"{path} must {rule}, got {num_read:,} that are not those")
        return made


def stream(
    batches: Iterable[pa.RecordBatch], bloom: BloomFilter, config: StreamConfig
) -> Iterator[tuple[pa.RecordBatch, pa.BooleanArray]]:
    """For every batch of ``doc_id``, ``source``, ``text``: its ``cuts``, and which rows to drop.

    A dropped document has no cuts. The order of arrival decides what is seen and what is new, and
    ``bloom`` is changed: give it again, or save it, to go on where the stream ended. Raises Refusal
    where it is full.
    """
    for batch in batches:
        if isinstance(config, NGramStreamConfig):
            yield bloom.cut_n_grams(batch, config)
        elif isinstance(config, DocumentStreamConfig):
            data, offsets = text_bytes(batch["text"])
            digests = [text_digest(data[a:b].tobytes())[:16] for a, b in pairwise(offsets)]
            seen = bloom.add(np.array([int(d, 16) for d in digests], np.uint64))
            yield pa.RecordBatch.from_pylist([], schema=SCHEMA), pa.array(seen)
        else:
            paragraphs = ParagraphsConfig(kind="paragraphs", min_characters=config.min_characters)
            pieces = Pieces.of(batch["text"], paragraphs)
            seen = bloom.add(pieces.hashes)
            rows, starts, ends = pieces.rows[seen], pieces.starts[seen], pieces.ends[seen]
            cuts = cuts_of(batch, rows, starts, ends, "seen_paragraph")
            yield cuts, pa.array(np.zeros(len(batch), bool))


@cache
def num_blocks(capacity: int, false_positive_rate: float) -> int:
    """Blocks of 512 bits that ``capacity`` keys need to be mistaken no more often."""
    low, high = 0.0, 4096.0  # keys a block
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if rate(middle) <= false_positive_rate else (low, middle)
    return int(np.ceil(capacity / low))


def rate(keys_a_block: float) -> float:
    """Chance that a block holds a key not added, with so many keys a block on average (Poisson).

    With j keys a word has a bit at a place with 1 - (1 - 1/64)^j, and all eight words must.
    """
    total, j = 0.0, 0
    likely = exp(-keys_a_block) if keys_a_block < 700 else 0.0
    if not likely:
        return 1.0
    while j < keys_a_block or likely > 1e-18:
        total += likely * (1 - (1 - 1 / _WORD_BITS) ** j) ** _WORDS
        j += 1
        likely *= keys_a_block / j
    return total


def _digest(words: np.ndarray) -> str:
    return hashlib.blake2b(words.data, digest_size=16).hexdigest()


def _aligned(size: int) -> np.ndarray:
    """``size`` zeros, uint64, that begin at a line of the cache."""
    room = np.zeros(size + _WORDS, np.uint64)
    skip = -(room.ctypes.data // room.itemsize) % _WORDS
    return room[skip : skip + size]
