"""Text to numbers: what the rules decide by, measured once and without any decision.

A *word* is what lies between white space (``str.split``), as in the C4 and Dolma toolkits; a *line*
is one of ``str.splitlines``, empty ones too; lengths are in characters (code points). Definitions
are those of Rae et al. 2021 (Gopher, arXiv:2112.11446, A.1.1 and table A1), read as follows:

- ``hash_ratio``, ``ellipsis_ratio``: occurrences of ``#``, and of ``...`` or U+2026, per word.
- ``bullet_line_fraction``: lines whose first character is U+2022 or ``-``, indentation aside;
  ``ellipsis_line_fraction``: lines that end in ``...`` or U+2026, trailing space aside.
- ``num_stop_words``: how many different ones of ``STOP_WORDS`` occur, in lower case, as words.
- Repeated lines are pieces between newlines that are not empty; paragraphs are pieces between two
  or more newlines. Every repeat after the first counts. Fractions of *characters* are of the
  whole text; those of lines and paragraphs are of their number.
- ``top_n_gram_character_fraction``: characters of the most frequent n-gram, spaces inside it
  included, times its count (the first of equally frequent ones, even when it occurs once; at most
  1, since occurrences may overlap).
- ``duplicate_n_gram_character_fraction``: from left to right, an n-gram seen before counts its
  words' characters and the scan goes on behind it, so no character counts twice.

Every ratio with nothing below it (no words, no lines, no characters) is 0.
"""

import re
from functools import cache
from itertools import pairwise

import numpy as np
import pyarrow as pa

from datalake.dedup.exact import text_digest
from datalake.dedup.minhash import Banding
from datalake.filters.characters import character_classes, lower_cases
from datalake.schemas import TABLES

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")  # Gopher

NUMBERS = (  # measured by the kernel, in the order of its columns
    "num_words",
    "num_lines",
    "mean_word_length",
    "hash_ratio",
    "ellipsis_ratio",
    "bullet_line_fraction",
    "ellipsis_line_fraction",
    "alphabetic_word_fraction",
    "num_stop_words",
    "duplicate_line_fraction",
    "duplicate_line_character_fraction",
    "duplicate_paragraph_fraction",
    "duplicate_paragraph_character_fraction",
    *(f"top_{n}_gram_character_fraction" for n in (2, 3, 4)),
    *(f"duplicate_{n}_gram_character_fraction" for n in range(5, 11)),
    "max_line_length",
    "mean_line_length",
    "alphabetic_fraction",
    "alphanumeric_fraction",
)

COPIED = ("doc_id", "source", "uri", "language", "licence", "num_bytes", "snapshot")
INPUT_COLUMNS = (*COPIED, "title", "text")  # of ``documents``

_GENERATED = re.compile(  # Lozhkov et al. 2024 (StarCoder2), arXiv:2402.19173, 2.1
    rb"auto-?generated|automatically generated|generated automatically|this file is generated",
    re.IGNORECASE,
)
_GENERATED_LINES = 5  # the same


def measure(documents: pa.RecordBatch, banding: Banding) -> pa.RecordBatch:
    """Rows of ``signals`` for a batch of ``INPUT_COLUMNS``, in the same order."""
    text = documents["text"].cast(pa.large_string())
    data, offsets = buffers(text)
    numbers, band_keys = _measure(data, offsets, banding)
    texts = [data[a:b].tobytes() for a, b in pairwise(offsets)]
    columns = {name: documents[name] for name in COPIED}
    columns |= {name: pa.array(numbers[:, k]) for k, name in enumerate(NUMBERS)}
    columns["generated"] = pa.array([says_generated(t) for t in texts], pa.bool_())
    columns["text_digest"] = pa.array([text_digest(t) for t in texts], pa.string())
    columns["band_keys"] = band_keys
    columns["licence_class"] = columns["measured"] = pa.array([""] * len(texts))
    columns["url_key"] = documents["uri"]
    columns["score_names"] = columns["scores"] = pa.array([[]] * len(texts), pa.list_(pa.string()))
    schema = TABLES["signals"].arrow
    for field in schema:
        columns.setdefault(field.name, pa.nulls(len(texts), field.type))
    return pa.RecordBatch.from_arrays([columns[f.name].cast(f.type) for f in schema], schema=schema)


def says_generated(text: bytes) -> bool:
    """Whether one of the first lines says that a program wrote the file."""
    end = 0
    for _ in range(_GENERATED_LINES):
        newline = text.find(b"\n", end)
        if newline < 0:
            end = len(text)
            break
        end = newline + 1
    return _GENERATED.search(text, 0, end) is not None


def _measure(
    data: np.ndarray, offsets: np.ndarray, banding: Banding
) -> tuple[np.ndarray, pa.ListArray]:
    """The kernel's numbers, ``float64 [documents, len(NUMBERS)]``, and the lists of band keys."""
    from datalake.filters import signal_kernels  # numba

    num_documents = len(offsets) - 1
    numbers = np.zeros((num_documents, len(NUMBERS)))
    keys = np.zeros((num_documents, banding.num_bands), np.uint64)
    num_tokens = signal_kernels.measure(
        data,
        offsets,
        character_classes(),
        lower_cases(),
        _stop_word_hashes(),
        banding.shingle_words,
        *banding.permutations(),
        banding.num_rows,
        numbers,
        keys,
    )
    has_keys = num_tokens >= banding.shingle_words
    ends = np.cumsum(np.where(has_keys, banding.num_bands, 0), dtype=np.int32)
    values = pa.array(keys[has_keys].reshape(-1).view(np.int64))
    return numbers, pa.ListArray.from_arrays(np.concatenate([[0], ends]).astype(np.int32), values)


@cache
def _stop_word_hashes() -> np.ndarray:
    from datalake.filters import signal_kernels

    points = [np.array([ord(c) for c in word], np.uint32) for word in STOP_WORDS]
    return np.array([signal_kernels.hash_word(p) for p in points], np.uint64)


def buffers(text: pa.LargeStringArray) -> tuple[np.ndarray, np.ndarray]:
    """Bytes and row offsets of an Arrow array without nulls: ``[bytes]``, ``[rows + 1]``."""
    _, offsets, data = text.buffers()
    bounds = np.frombuffer(offsets, np.int64)[text.offset : text.offset + len(text) + 1]
    if data is None:  # every text is empty
        return np.zeros(0, np.uint8), np.zeros(len(text) + 1, np.int64)
    return np.frombuffer(data, np.uint8), bounds
