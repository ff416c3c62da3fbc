"""The validation loss of a training: bits per byte on a fixed sample of held-out rows.

Bits per byte does not depend on the tokenizer, so it compares models of different vocabularies
(Gao et al. 2020, arXiv:2101.00027).
"""

import math

import numpy as np
import torch

from training.data.loader import batch_of
from training.data.rows import Rows
from training.hardware import Hardware
from training.kernels.linear_cross_entropy import UNSCORED
from training.losses import next_token_nats, targets
from training.models.language_model import LanguageModel
from training.parallel.data_parallel import DataParallel


def bits_per_byte(
    model: LanguageModel,
    rows: Rows,
    bytes_per_token: np.ndarray,
    hardware: Hardware,
    *,
    num_rows: int,
    rows_per_batch: int,
    ranks: DataParallel,
) -> float:
    """Bits per byte of ``num_rows`` of ``rows``, spread evenly; the same number on every rank.

    Spread, because neighbouring rows come from the same documents: the first 512 rows of a split
    read 2.126 where all of it read 2.025. ``bytes_per_token`` is int [vocab]; tokens of zero bytes
    are not scored, nor is the first of a piece.
    """
    spread = np.linspace(0, len(rows) - 1, min(num_rows, len(rows))).round().astype(np.int64)
    own = spread[ranks.rank :: ranks.world]
    lengths_of = torch.from_numpy(np.asarray(bytes_per_token, dtype=np.int64)).to(hardware.device)
    nats, num_bytes = 0.0, 0
    for first in range(0, len(own), rows_per_batch):
        read = batch_of(rows, own[first : first + rows_per_batch]).to(hardware.device)
        with hardware.autocast():
            surprise = next_token_nats(model, read.tokens, read.pieces)
        predicted = targets(read.tokens, read.pieces)
        scored = predicted != UNSCORED
        lengths = lengths_of[predicted.clamp(min=0)] * scored
        nats += surprise.double()[lengths > 0].sum().item()
        num_bytes += int(lengths.sum())
    shares = ranks.gather((nats, num_bytes))
    return sum(n for n, _ in shares) / math.log(2) / sum(b for _, b in shares)
