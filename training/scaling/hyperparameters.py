"""Batch size and learning rates that suit a run of a given length, between two measured anchors.

At the small end: 1,024 tokens a step at 1.4M training tokens (Muon .01, tables .1) was the best of
small sweeps on Python text; 512, at a fifth of the tokens, and eight times as many were worse.
At the large end: nanochat's d12, 524,288 tokens a step at 1.3G tokens, Muon .02, tables .2. A power
law through both puts 42k tokens a step at 100M, where OLMo's rule for AdamW, 2,048 x 160 x
(N / 108M)^(2/3) with 20 tokens a parameter, has 42k as well (arXiv:2406.19146). The rate of the
head, .004 at both ends, stays.
"""

import math

from training.schedule import OptimizerConfig

SMALL_TOKENS, SMALL_BATCH = 1.4e6, 1024
LARGE_TOKENS, LARGE_BATCH = 1.3e9, 524_288
BATCH_EXPONENT = math.log(LARGE_BATCH / SMALL_BATCH) / math.log(LARGE_TOKENS / SMALL_TOKENS)  # .91
RATE_EXPONENT = math.log(2) / math.log(LARGE_BATCH / SMALL_BATCH)  # .11: twice the rate at the end
MIN_ROWS = 2  # fewer were never better, and leave the matrix products too thin


def batch_tokens(num_tokens: float) -> float:
    """Tokens a step that suit a run of ``num_tokens``."""
    return SMALL_BATCH * (num_tokens / SMALL_TOKENS) ** BATCH_EXPONENT


def batch_rows(num_tokens: float, context_length: int) -> int:
    """The same in rows: the nearest power of two (in the logarithm), so that ranks share it."""
    rows = batch_tokens(num_tokens) / context_length
    return int(max(MIN_ROWS, 2 ** round(math.log2(rows))))


def rates(reference: OptimizerConfig, num_batch_tokens: float) -> OptimizerConfig:
    """``reference``, whose rates are for 1,024 tokens a step, at another batch size."""
    factor = (num_batch_tokens / SMALL_BATCH) ** RATE_EXPONENT
    return reference.model_copy(
        update={
            "muon_lr": reference.muon_lr * factor,
            "table_lr": reference.table_lr * factor,
        }
    )
