"""Text to numbers: what the rules decide by, measured once and without any decision.

A *word* lies between white space (``str.split``), as in the toolkits of C4 and Dolma. With
``words="unicode"`` a character of a script that puts no spaces between words (Chinese, Japanese,
Thai, ... ``characters.ALONE``) is a word by itself, together with the combining marks behind it, so
that such pages have words and n-grams, too; text in other scripts is measured alike. A *line* is
one of ``str.splitlines``, empty ones too; a *newline line* lies between line feeds. Lengths are in
characters (code points). Every ratio with nothing below it is 0.

Gopher (Rae et al. 2021, arXiv:2112.11446, A.1.1 and table A1), read as datatrove reads it:

- ``hash_ratio``, ``ellipsis_ratio``: occurrences of ``#``, and of ``...`` or U+2026, per word.
- ``bullet_line_fraction``: lines whose first character is U+2022 or ``-``, indentation aside;
  ``ellipsis_line_fraction``: lines that end in ``...`` or U+2026, trailing space aside.
- ``num_stop_words``: how many different ones of ``STOP_WORDS`` occur, in lower case, as words;
  ``num_stop_word_occurrences``, ``stop_word_fraction``: how many words are one (DCLM counts so).
- ``num_nonsymbol_words``, ``mean_nonsymbol_word_length``: words with a character outside Unicode's
  categories P* (punctuation), S* (symbols) and Cc (control).
- Repeated lines: the text is split at runs of line feeds, which leaves an empty piece at an end
  that has any. Repeated paragraphs: stripped of white space, it is split at two or more. Every
  repeat after the first counts. Fractions of *characters* are of the whole text; those of lines
  and paragraphs are of their number.
- ``top_n_gram_character_fraction``: characters of the most frequent n-gram, spaces inside it
  included, times its count (the first of equally frequent ones, even when it occurs once; at most
  1, since occurrences may overlap).
- ``duplicate_n_gram_character_fraction``: from left to right, an n-gram seen before counts its
  words' characters and the scan goes on behind it, so no character counts twice.

Of the whole text, after RedPajama 2 (Weber et al. 2024, arXiv:2411.12372) and Dolma (Soldaini et
al. 2024, arXiv:2402.00159):

- ``num_tokens``: runs of ``\\w`` (characters of ``ALONE`` one by one) and runs of other characters
  that are no white space. These are pieces that a pre-tokenizer hands to BPE, hence a lower bound
  of tokens.
- ``median_word_length``: the mean of the two in the middle of an even number.
- ``unique_word_fraction``: different words per word; ``unigram_entropy``: -sum p ln p over them,
  in nats. Case counts.
- ``uppercase_fraction``, ``digit_fraction``, ``space_fraction``, ``punctuation_fraction``:
  characters that are ``isupper``, ``isdigit``, ``isspace``, of category P*;
  ``all_caps_word_fraction``: words that are ``isupper``.
- ``compression_ratio``: bytes after zstd, level 1, per byte of the first 1,000,000.

FineWeb (Penedo et al. 2024, arXiv:2406.17557), over newline lines that are not blank:

- ``punctuated_line_fraction``: their last character has the property Sentence_Terminal;
  ``short_line_fraction``: 30 characters or fewer; ``repeated_line_ratio``: characters of lines
  that repeat an earlier one, per character that is no line feed; ``newline_ratio``: line feeds
  per word.
- ``num_long_lines``: newline lines of 200 characters or more (mC4);
  ``num_javascript_lines``, ``num_policy_lines``: lines that say so (``line_kernels``).
- ``c4_*``, ``fineweb_*``: of the lines that C4's rules leave, as published and as FineWeb runs
  them: ``num_sentences`` in them; ``lorem_ipsum``, ``curly_bracket``: whether C4 would drop the
  document for it when it comes to such a line; ``line_characters``: their characters (without
  white space at the ends of lines, and without citations), of all. FineWeb's own four again over
  the text of those lines, joined by line feeds and stripped, as FineWeb has it.
- ``refinedweb_cut_fraction``: words that RefinedWeb's line rules take out.

Signals of code: ``code_signals``. N-grams, different words and their entropy are those of the
first ``signal_kernels.MOST_WORDS`` words, their fractions of the characters up to there.
"""

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Literal, Protocol

import numpy as np
import pyarrow as pa

from datalake.dedup.exact import text_digest
from datalake.dedup.signatures.minhash import Banding, sign
from datalake.dedup.urls import url_keys
from datalake.derived import row_digests
from datalake.filters.measures.characters import ALONE, character_classes
from datalake.filters.measures.code_signals import CODE, code_signals
from datalake.filters.measures.language_score import language_score
from datalake.filters.measures.signal_columns import COLUMN, NUMBERS
from datalake.licences import licence_class
from datalake.schemas import TABLES
from datalake.text_bytes import text_bytes

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")  # Gopher

COPIED = ("doc_id", "source", "uri", "language", "licence", "num_bytes", "snapshot")
INPUT_COLUMNS = (*COPIED, "title", "text")  # of ``documents``
MEASURES = 1  # raised by hand when a measurement comes to give another number

_COMPRESSED_BYTES = 1_000_000  # of a document; the ratio is settled long before

Words = Literal["unicode", "whitespace"]


class Scorer(Protocol):
    """Something trained or listed that gives every document a number."""

    name: str

    def score(self, documents: pa.RecordBatch) -> np.ndarray:
        """One number a row of ``INPUT_COLUMNS``: ``float64 [rows]``."""


@dataclass(frozen=True, slots=True)
class Measuring:
    """Everything that decides a document's signals. It goes to every task."""

    hashing: Banding
    words: Words = "unicode"
    scorers: tuple[Scorer, ...] = ()


def measure(documents: pa.RecordBatch, measuring: Measuring) -> pa.RecordBatch:
    """Rows of ``signals`` for a batch of ``INPUT_COLUMNS``, in the same order.

    A null text counts as an empty one.
    """
    text = texts_of(documents)
    data, offsets = text_bytes(text)
    numbers = measure_text(text, measuring.words)
    texts = [data[a:b].tobytes() for a, b in pairwise(offsets)]
    columns = {name: documents[name] for name in COPIED}
    columns |= {name: pa.array(numbers[:, k]) for k, name in enumerate(NUMBERS)}
    num_characters = numbers[:, COLUMN["num_characters"]]
    columns |= code_signals(documents, texts, data, offsets, num_characters)
    columns["compression_ratio"] = _compression_ratios(texts)
    columns["language_score"] = _language_scores(documents, texts)
    columns["licence_class"] = pa.array(map(licence_class, documents["licence"].to_pylist()))
    scores = [scorer.score(documents) for scorer in measuring.scorers]
    names = [scorer.name for scorer in measuring.scorers]
    columns["score_names"] = pa.array([names] * len(texts), pa.list_(pa.string()))
    columns["scores"] = pa.array(
        list(np.stack(scores, axis=1)) if scores else [[]] * len(texts), pa.list_(pa.float64())
    )
    columns["measured"] = measured_digests(documents)
    columns["text_digest"] = pa.array(map(text_digest, texts), pa.string())
    columns["url_key"] = url_keys(documents)
    columns["band_keys"], columns["signature"] = sign(text, measuring.hashing)
    schema = TABLES["signals"].arrow
    return pa.RecordBatch.from_arrays([columns[f.name].cast(f.type) for f in schema], schema=schema)


def measure_text(text: pa.LargeStringArray, words: Words = "unicode") -> np.ndarray:
    """The signals of ``NUMBERS``, one row a text: ``float64 [rows, len(NUMBERS)]``."""
    from datalake.filters.measures import signal_kernels  # numba

    data, offsets = text_bytes(text)
    numbers = np.zeros((len(text), len(NUMBERS)))
    signal_kernels.measure(
        data, offsets, character_classes(), alone_class(words), _stop_table(), numbers
    )
    return numbers


def count_tokens(text: pa.Array) -> np.ndarray:
    """``num_tokens`` of every text: ``int64 [rows]``; 0 of null."""
    from datalake.filters.measures import scan_kernels  # numba

    data, offsets = text_bytes(text)
    counts = np.zeros(len(text), np.int64)
    scan_kernels.count_tokens(data, offsets, character_classes(), counts)
    return counts


def measured_digests(documents: pa.RecordBatch) -> pa.StringArray:
    """What each row was measured from, without the recipe: XXH3, 128 bits.

    Two rows have equal digests where every column of ``INPUT_COLUMNS`` is equal.
    """
    return row_digests(documents, INPUT_COLUMNS)


def texts_of(documents: pa.RecordBatch) -> pa.LargeStringArray:
    """The column ``text``, with '' where it is null."""
    return documents["text"].cast(pa.large_string()).fill_null("")


def alone_class(words: Words) -> np.uint32:
    """Class of the characters that are words by themselves: what kernels call ``alone``."""
    return np.uint32(ALONE if words == "unicode" else 0)


@cache
def _stop_table() -> tuple[np.ndarray, np.ndarray, np.uint64]:
    from datalake.filters.measures import scan_kernels, text_kernels

    points = [np.array([ord(c) for c in word], np.uint32) for word in STOP_WORDS]
    hashes = np.array([text_kernels.hash_word(p) for p in points], np.uint64)
    return scan_kernels.stop_table(hashes)


def _compression_ratios(texts: list[bytes]) -> pa.DoubleArray:
    codec = pa.Codec("zstd", compression_level=1)
    heads = (text[:_COMPRESSED_BYTES] for text in texts)
    return pa.array(
        [len(codec.compress(h, asbytes=True)) / len(h) if h else 0.0 for h in heads], pa.float64()
    )


def _language_scores(documents: pa.RecordBatch, texts: list[bytes]) -> pa.DoubleArray:
    rows = zip(
        documents["source"].to_pylist(), documents["language"].to_pylist(), texts, strict=True
    )
    return pa.array(
        [None if source == CODE else language_score(text, said) for source, said, text in rows],
        pa.float64(),
    )
