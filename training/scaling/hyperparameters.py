"""Batch size and learning rates that suit a run of a given length, between two measured anchors.

At the small end: 512 tokens a step at 1.1M training tokens (Muon .01, tables .1). On Python text,
4 layers of 48 and 4e12 FLOPs, 512, 1,024 and 2,048 tokens a step came to 1.684, 1.708 and 1.772
bits per byte; at a third of the tokens 256 and 512 were equal.
At the large end: nanochat's d12, 524,288 tokens a step at 1.3G tokens, Muon .02, tables .2. A power
law through both puts 43k tokens a step at 100M, where OLMo's rule for AdamW, 2,048 x 160 x
(N / 108M)^(2/3) with 20 tokens a parameter, has 42k (arXiv:2406.19146). The rate of the head stays.
"""

import math

from training.schedule import OptimizerConfig

SMALL_TOKENS, SMALL_BATCH = 1.1e6, 512
LARGE_TOKENS, LARGE_BATCH = 1.3e9, 524_288
BATCH_EXPONENT = math.log(LARGE_BATCH / SMALL_BATCH) / math.log(LARGE_TOKENS / SMALL_TOKENS)  # .98
RATE_EXPONENT = math.log(2) / math.log(LARGE_BATCH / SMALL_BATCH)  # .1: twice the rate at the end
MIN_ROWS = 2  # one was no better, at half the speed


def batch_tokens(num_tokens: float) -> float:
    """Tokens a step that suit a run of ``num_tokens``."""
    return SMALL_BATCH * (num_tokens / SMALL_TOKENS) ** BATCH_EXPONENT


def batch_rows(num_tokens: float, context_length: int) -> int:
    """The same in rows: the power of two below, so that ranks can share it.

    Below, since a batch that is too large costs more than one that is too small.
    """
    rows = batch_tokens(num_tokens) / context_length
    return int(max(MIN_ROWS, 2 ** math.floor(math.log2(rows))))


def rates(reference: OptimizerConfig, num_batch_tokens: float) -> OptimizerConfig:
    """``reference``, whose rates are for 512 tokens a step, at another batch size."""
    factor = (num_batch_tokens / SMALL_BATCH) ** RATE_EXPONENT
    return reference.model_copy(
        update={
            "muon_lr": reference.muon_lr * factor,
            "table_lr": reference.table_lr * factor,
        }
    )
