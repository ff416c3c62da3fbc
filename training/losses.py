"""What training minimises and evaluation sums: negative log-likelihood of the next token."""

import torch
import torch.nn.functional as F
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


def answer_log_probs(
    model: LanguageModel,
    tokens: Tensor,
    learned: Tensor,
    documents: Tensor | None = None,
    temperature: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the tokens that an assistant said: ([batch, time], mask of the same).

    ``tokens`` and ``learned`` (bool) are [batch, time + 1], padded behind; log-probabilities are 0
    where the mask is false. Logits are made at answers alone: in a small model they are more than
    half of the work. ``documents`` [batch, time + 1] keeps the conversations of a packed row apart.
    ``temperature`` divides the logits, as sampling does.
    """
    mask = learned[:, 1:]
    seen = None if documents is None else documents[:, :-1]
    hidden = model.hidden(tokens[:, :-1], documents=seen)[mask]
    logits = model.logits(hidden).float() / temperature
    said = -F.cross_entropy(logits, tokens[:, 1:][mask], reduction="none")
    log_probs = torch.zeros(mask.shape, dtype=said.dtype, device=said.device)
    return log_probs.masked_scatter(mask, said), mask
