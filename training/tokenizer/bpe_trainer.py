"""Byte-pair encoding learned from pre-token counts (Gage 1994; Sennrich et al. 2016).

The most frequent pair of adjacent tokens becomes a token, again and again. Among equally frequent
pairs the one whose two byte strings are lexicographically greater wins, so that the vocabulary is a
function of the counts alone.
"""

from dataclasses import dataclass

import numpy as np

from datalake.config import Refusal
from training.tokenizer.pair_merger import merge_pairs
from training.tokenizer.pretokens import PretokenCounts

NUM_BYTES = 256


@dataclass(frozen=True, slots=True, eq=False)
class Merges:
    """What was learned: merge ``i`` joins two earlier tokens into token ``256 + i``."""

    pairs: np.ndarray  # int32 [merges, 2]
    num_bytes: int  # of the text that was learned from
    num_tokens: int  # that the same text has become

    @property
    def bytes_per_token(self) -> float:
        return self.num_bytes / self.num_tokens


def learn_merges(counts: PretokenCounts, vocab_size: int, num_special: int = 0) -> Merges:
    """The merges that fill a vocabulary of 256 bytes, merges and ``num_special`` special tokens.

    Raises Refusal if ``vocab_size`` leaves no place for the bytes, or is more than the text
    supports: when every pre-token is one token there is nothing left to merge.
    """
    num_merges = vocab_size - NUM_BYTES - num_special
    if num_merges < 0:
        raise Refusal(
            f"vocab_size must be at least {NUM_BYTES + num_special} ({NUM_BYTES} bytes and "
            f"{num_special} special tokens), got {vocab_size}"
        )
    pairs, num_tokens = merge_pairs(counts, num_merges)
    if len(pairs) < num_merges:
        raise Refusal(
            f"vocab_size must be at most {NUM_BYTES + len(pairs) + num_special}, all that "
            f"{counts.num_bytes} bytes of text support, got {vocab_size}"
        )
    return Merges(pairs=pairs, num_bytes=counts.num_bytes, num_tokens=num_tokens)
