"""Text out of a model: token after token, each drawn from the model's distribution.

Prompts of any lengths share a batch: equal prompts are read once and their state is copied, and a
sequence that ends leaves the batch. What a sequence draws depends on the seed and its place among
the prompts alone, not on its neighbours.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from datalake.config import Refusal
from training.models.language_model import LanguageModel
from training.models.state import DecodingState

Finish = Literal["stop", "length"]  # a stop token was drawn; max_new_tokens or the context is full


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampled:
    """One drawn token. ``finish`` says why it is its sequence's last, if it is."""

    sequence: int  # index of its prompt
    id: int
    log_prob: float  # in the distribution that it was drawn from; of the plain model if greedy
    finish: Finish | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Completion:
    """What followed a prompt. A stop token, if one ended it, is the last of ``ids``."""

    ids: tuple[int, ...]
    log_probs: tuple[float, ...]
    finish: Finish


def generate(
    model: LanguageModel,
    prompt_ids: Sequence[int],
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    stop_ids: Collection[int] = (),
) -> Completion:
    """One continuation of ``prompt_ids``; the settings are those of ``stream``."""
    return generate_batch(
        model, [prompt_ids], max_new_tokens, temperature, top_k, top_p, seed, stop_ids
    )[0]


def generate_batch(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    stop_ids: Collection[int] = (),
) -> list[Completion]:
    """One continuation of each of ``prompts``, in their order; settings as in ``stream``."""
    drawn: list[list[Sampled]] = [[] for _ in prompts]
    for token in stream(model, prompts, max_new_tokens, temperature, top_k, top_p, seed, stop_ids):
        drawn[token.sequence].append(token)
    return [
        Completion(
            ids=tuple(token.id for token in tokens),
            log_probs=tuple(token.log_prob for token in tokens),
            finish=tokens[-1].finish or "length",
        )
        for tokens in drawn
    ]


def stream(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    stop_ids: Collection[int] = (),
) -> Iterator[Sampled]:
    """Draw the tokens that follow ``prompts``, one of every live sequence in turn.

    ``temperature`` divides the logits; 0 takes the likeliest token. ``top_k`` keeps the k
    likeliest tokens, ``top_p`` then the fewest whose probability reaches it (Holtzman et al. 2020,
    arXiv:1904.09751). A sequence ends with a token of ``stop_ids``, after ``max_new_tokens``, or
    where the context is full. Runs in the caller's autocast.
    Refuses settings out of range, and a prompt that is empty or leaves no room in the context.
    """
    _check(model, prompts, max_new_tokens, temperature, top_k, top_p)
    draws = np.stack(
        [np.random.default_rng((seed, row)).random(max_new_tokens) for row in range(len(prompts))]
    )
    room = [min(max_new_tokens, model.config.context_length - len(prompt)) for prompt in prompts]
    live = list(range(len(prompts)))
    logits, state = _read_prompts(model, prompts)
    for step in range(max_new_tokens):
        ids, log_probs = choose(logits, draws[live, step], temperature, top_k, top_p)
        going = []
        for place, (sequence, token, log_prob) in enumerate(
            zip(live, ids.tolist(), log_probs.tolist(), strict=True)
        ):
            finish: Finish | None = None
            if token in stop_ids:
                finish = "stop"
            elif step + 1 == room[sequence]:
                finish = "length"
            else:
                going.append(place)
            yield Sampled(sequence=sequence, id=token, log_prob=log_prob, finish=finish)
        if not going:
            return
        if len(going) < len(live):
            live = [live[place] for place in going]
            places = torch.tensor(going, device=ids.device)
            ids, state = ids[places], state.select(places)
        logits = _next_logits(model, ids[:, None], state)


@torch.no_grad()
def choose(
    logits: Tensor,
    draws: np.ndarray,
    temperature: float,
    top_k: int | None = None,
    top_p: float | None = None,
) -> tuple[Tensor, Tensor]:
    """(ids [batch], log-probabilities [batch]) at the quantiles ``draws`` [batch], in [0, 1).

    ``logits`` [batch, vocab]. The same draw gives the same token: the one at which the cumulated
    probability, likeliest first, passes it.
    """
    if temperature == 0:
        log_p = torch.log_softmax(logits.double(), dim=-1)
        ids = log_p.argmax(-1, keepdim=True)
        return ids[:, 0], log_p.gather(1, ids)[:, 0]
    p = torch.softmax(logits.double() / temperature, dim=-1)
    p, order = p.sort(dim=-1, descending=True, stable=True)
    if top_k is not None:
        p[:, top_k:] = 0
    if top_p is not None:
        p = p / p.sum(-1, keepdim=True)
        p[p.cumsum(-1) - p >= top_p] = 0  # what stands before it already reaches top_p
    cumulated = p.cumsum(-1)
    total = cumulated[:, -1:]
    quantiles = torch.from_numpy(draws).to(p.device)[:, None] * total
    places = torch.searchsorted(cumulated, quantiles, right=True)
    places = places.minimum((p > 0).sum(-1, keepdim=True) - 1)  # a rounded sum may fall short
    log_probs = (p.gather(1, places) / total).log()
    return order.gather(1, places)[:, 0], log_probs[:, 0]


def _read_prompts(
    model: LanguageModel, prompts: Sequence[Sequence[int]]
) -> tuple[Tensor, DecodingState]:
    """Next-token logits [batch, vocab] and state of all prompts, each distinct one read once."""
    by_length: dict[int, list[tuple[int, ...]]] = defaultdict(list)
    for distinct in dict.fromkeys(map(tuple, prompts)):
        by_length[len(distinct)].append(distinct)
    device = model.head_weight.device
    logits, states = [], []
    place: dict[tuple[int, ...], int] = {}
    for group in by_length.values():
        state = model.empty_state(len(group))
        logits.append(_next_logits(model, torch.tensor(group, device=device), state))
        states.append(state)
        place |= {prompt: len(place) + i for i, prompt in enumerate(group)}
    rows = torch.tensor([place[tuple(prompt)] for prompt in prompts], device=device)
    return torch.cat(logits)[rows], DecodingState.join(states).select(rows)


@torch.no_grad()
def _next_logits(model: LanguageModel, tokens: Tensor, state: DecodingState) -> Tensor:
    """Logits [batch, vocab] after the last of ``tokens`` [batch, time]; ``state`` goes on."""
    return model.logits(model.hidden(tokens, state)[:, -1])


def _check(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
) -> None:
    if not prompts:
        raise Refusal("prompts must be at least one, got none")
    context = model.config.context_length
    for prompt in prompts:
        if not 0 < len(prompt) < context:
            raise Refusal(
                f"prompt must be of 1 to {context - 1} tokens, so that the context holds one "
                f"more, got {len(prompt)}"
            )
    if max_new_tokens < 1:
        raise Refusal(f"max_new_tokens must be at least 1, got {max_new_tokens}")
    if temperature < 0:
        raise Refusal(f"temperature must be at least 0, got {temperature}")
    if top_k is not None and top_k < 1:
        raise Refusal(f"top_k must be at least 1, got {top_k}")
    if top_p is not None and not 0 < top_p <= 1:
        raise Refusal(f"top_p must be above 0 and at most 1, got {top_p}")
