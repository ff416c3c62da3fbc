"""What training minimises and evaluation sums: negative log-likelihood of the next token."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from training.kernels.linear_cross_entropy import (
    CHUNK_ROWS,
    UNSCORED,
    linear_cross_entropy,
    token_nats,
)
from training.models.experts import Routing
from training.models.language_model import LanguageModel


def next_token_loss(
    model: LanguageModel,
    tokens: Tensor,
    pieces: Tensor | None = None,
    has_several: bool = True,
    chunk_rows: int = CHUNK_ROWS,
) -> Tensor:
    """Mean nats of ``tokens[:, 1:]`` given what precedes each: a scalar to differentiate.

    ``tokens`` [batch, time + 1]. ``pieces``, of the same shape, number the pieces of documents in
    each row, -1 where it is not filled: each is read as if it were alone, and its first token is
    not scored; without them a row is one piece. Where no row has several there is nothing to keep
    apart, which saves a twentieth of the time.

    Layers of experts count the scored tokens that each expert got, and add what their settings say
    of balance and logits.
    """
    routing: list[Routing] = []
    hidden = _hidden(model, tokens, pieces if has_several else None, routing)
    wanted = targets(tokens, pieces).flatten()
    softcap = model.config.logit_softcap
    loss = linear_cross_entropy(hidden, model.head_weight, wanted, chunk_rows, softcap)
    for route in routing:
        counted = wanted != UNSCORED
        loss = loss + route.penalty(counted)
        route.count(counted)
    return loss


def mean_nats(
    model: LanguageModel, tokens: Tensor, documents: Tensor, wanted: Sequence[Tensor]
) -> list[Tensor]:
    """Mean nats of several choices of targets in one pass: a scalar to differentiate for each.

    ``tokens`` and ``documents``, which keeps the documents of a row apart, are [batch, time + 1].
    Each of ``wanted`` [batch, time] says what is predicted at each place, or UNSCORED; logits are
    made at the others alone.
    """
    hidden = _hidden(model, tokens, documents)
    softcap = model.config.logit_softcap
    means = []
    for predicted in wanted:
        chosen = predicted.flatten()
        places = (chosen != UNSCORED).nonzero().flatten()
        states = hidden.index_select(0, places)
        means.append(
            linear_cross_entropy(states, model.head_weight, chosen[places], softcap=softcap)
        )
    return means


@torch.no_grad()
def next_token_nats(model: LanguageModel, tokens: Tensor, pieces: Tensor | None = None) -> Tensor:
    """Nats [batch, time] of ``tokens[:, 1:]`` [batch, time + 1], in float32, for evaluation.

    ``pieces`` as ``next_token_loss`` takes them; 0 where a token is not scored.
    """
    hidden = _hidden(model, tokens, pieces)
    wanted, softcap = targets(tokens, pieces).flatten(), model.config.logit_softcap
    nats = token_nats(hidden, model.head_weight, wanted, softcap=softcap)
    return nats.view(tokens.shape[0], -1)


def targets(tokens: Tensor, pieces: Tensor | None = None) -> Tensor:
    """What is predicted at each place, [batch, time]: the next token of its piece, or UNSCORED."""
    if pieces is None:
        return tokens[:, 1:]
    before, here = pieces[:, :-1], pieces[:, 1:]
    return torch.where((before == here) & (here >= 0), tokens[:, 1:], UNSCORED)


def _hidden(
    model: LanguageModel,
    tokens: Tensor,
    pieces: Tensor | None,
    routing: list[Routing] | None = None,
) -> Tensor:
    """Hidden states [batch * time, d_model] of all tokens but the last of each row."""
    documents = None if pieces is None else pieces[:, :-1]
    return model.hidden(tokens[:, :-1], documents=documents, routing=routing).flatten(0, 1)


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
    logits = model.logits(hidden).float()
    if temperature != 1:
        logits = logits / temperature
    said = -F.cross_entropy(logits, tokens[:, 1:][mask], reduction="none")
    log_probs = torch.zeros(mask.shape, dtype=said.dtype, device=said.device)
    return log_probs.masked_scatter(mask, said), mask
