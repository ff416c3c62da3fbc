"""What training minimises and evaluation sums: negative log-likelihood of the next token."""

import torch
from torch import Tensor

from training.kernels.linear_cross_entropy import CHUNK_ROWS, linear_cross_entropy, token_nats
from training.models.language_model import LanguageModel


def next_token_loss(model: LanguageModel, tokens: Tensor, chunk_rows: int = CHUNK_ROWS) -> Tensor:
    """Mean nats of ``tokens[:, 1:]`` given what precedes each: a scalar to differentiate.

    ``tokens`` [batch, time + 1].
    """
    hidden = model.hidden(tokens[:, :-1]).flatten(0, 1)
    return linear_cross_entropy(hidden, model.head_weight, tokens[:, 1:].flatten(), chunk_rows)


@torch.no_grad()
def next_token_nats(model: LanguageModel, tokens: Tensor) -> Tensor:
    """Nats [batch, time] of ``tokens[:, 1:]`` [batch, time + 1], in float32, for evaluation."""
    hidden = model.hidden(tokens[:, :-1]).flatten(0, 1)
    nats = token_nats(hidden, model.head_weight, tokens[:, 1:].flatten())
    return nats.view(tokens.shape[0], -1)
