"""Byte-pair encoding learned from pre-token counts (Gage 1994; Sennrich et al. 2016).

The most frequent pair of adjacent tokens becomes a token, again and again. Among equally frequent
pairs the one whose two byte strings are lexicographically greater wins, so that the vocabulary is a
function of the counts alone.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from datalake.config import Refusal
from training.tokenizer.learning.count_table import PretokenCounts
from training.tokenizer.learning.pair_merger import merge_pairs

NUM_BYTES = 256


@dataclass(frozen=True, slots=True, eq=False)
class Merges:
    """What was learned: merge ``i`` joins two earlier tokens into token ``256 + i``."""

    pairs: np.ndarray  # int32 [merges, 2]
    num_wanted: int  # merges that were asked for
    num_bytes: int  # of the text that was learned from
    num_tokens: int  # that the same text has become

    @property
    def bytes_per_token(self) -> float:
        return self.num_bytes / self.num_tokens

    @property
    def shortfall(self) -> str | None:
        """Why there are fewer merges than were asked for; None where there are not."""
        if len(self.pairs) == self.num_wanted:
            return None
        return (
            f"{len(self.pairs):,} merges of {self.num_wanted:,}: then every pre-token of "
            f"{self.num_bytes:,} bytes of text is one token, and no pair is left"
        )


def check_vocab_size(vocab_size: int, num_special: int = 0) -> int:
    """How many merges fill a vocabulary of 256 bytes, merges and ``num_special`` special tokens.

    Raises Refusal if there is no place for the bytes and special tokens.
    """
    num_merges = vocab_size - NUM_BYTES - num_special
    if num_merges < 0:
        raise Refusal(
            f"vocab_size must be at least {NUM_BYTES + num_special} ({NUM_BYTES} bytes and "
            f"{num_special} special tokens), got {vocab_size}"
        )
    return num_merges


def learn_merges(
    counts: PretokenCounts,
    vocab_size: int,
    num_special: int = 0,
    say: Callable[[str], None] | None = None,
    num_threads: int | None = None,
) -> Merges:
    """The merges that fill a vocabulary of 256 bytes, merges and ``num_special`` special tokens.

    There are fewer where the text supports no more: when every pre-token is one token, nothing is
    left to merge. ``say`` hears of the progress, and of that. ``num_threads`` (by default one a
    core) changes nothing but the time. Raises Refusal if ``vocab_size`` leaves no place for the
    bytes, or if there is no text.
    """
    num_merges = check_vocab_size(vocab_size, num_special)
    if not len(counts.counts):
        raise Refusal("text to learn a vocabulary from must have at least a byte, got none")
    tell = say or (lambda line: None)
    pairs, num_tokens = merge_pairs(
        counts, num_merges, lambda done: tell(f"{done:,} of {num_merges:,} merges"), num_threads
    )
    merges = Merges(
        pairs=pairs, num_wanted=num_merges, num_bytes=counts.num_bytes, num_tokens=num_tokens
    )
    if merges.shortfall:
        tell(f"stopped early after {merges.shortfall}")
    return merges
