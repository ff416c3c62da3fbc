"""Items as training rows: rendered with the chat template, packed, and kept apart.

Short conversations are packed several to a row, each into the row with the least room that still
holds it (best fit, longest first). A row says by number which conversation every token is of, so
that attention and whatever else looks back stops at its beginning: positions that start anew do
not keep conversations apart, and a mask keyed on the end token would cut one with two turns in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from datalake.config import Refusal
from training.data.best_fit import best_fit
from training.tokenizer import chat
from training.tokenizer.bpe import Tokenizer
from training.tokenizer.chat import Message, Rendered


@dataclass(frozen=True, slots=True, eq=False)
class PackedRows:
    """Conversations end to end, ``[rows, context_length + 1]`` each; row = inputs and targets.

    ``conversation`` counts from 1 inside its row and is 0 where the row is not filled; ``position``
    counts from 0 inside its conversation. ``learned`` marks tokens that are targets to learn.
    """

    tokens: np.ndarray  # the tokenizer's dtype
    learned: np.ndarray  # bool
    conversation: np.ndarray  # int32
    position: np.ndarray  # int32
    places: tuple[tuple[int, ...], ...]  # numbers of the conversations in each row, in order

    @property
    def fill(self) -> float:
        """Share of the places that hold a token, 0..1."""
        return float((self.conversation > 0).mean())


def render_items(items: pa.Table, tokenizer: Tokenizer, context_length: int) -> list[Rendered]:
    """Prompt and demonstration of every row of ``instructions``, for training.

    Raises Refusal for an item that is longer than the context.
    """
    rows = items.select(["item_id", "content_key", "prompt", "answer"]).to_pylist()
    exchanges = [[_user(row), _assistant(row["answer"])] for row in rows]
    rendered = chat.render_all(exchanges, tokenizer)
    for row, conversation in zip(rows, rendered, strict=True):
        _refuse_long(row, len(conversation.ids), context_length + 1, "with its answer")
    return rendered


def render_prompts(
    items: pa.Table, tokenizer: Tokenizer, context_length: int, max_new_tokens: int
) -> list[np.ndarray]:
    """Ids of every row's prompt up to where the assistant begins, for sampling.

    Raises Refusal for a prompt that leaves no room for ``max_new_tokens`` in the context.
    """
    rows = items.select(["item_id", "content_key", "prompt"]).to_pylist()
    prompts = chat.render_prompts([[_user(row)] for row in rows], tokenizer)
    for row, ids in zip(rows, prompts, strict=True):
        _refuse_long(row, len(ids) + max_new_tokens, context_length, "with its new tokens")
    return prompts


def render_pairs(
    pairs: pa.Table, tokenizer: Tokenizer, context_length: int
) -> list[tuple[Rendered, Rendered]]:
    """Chosen and rejected conversation of every row of ``preferences``."""
    rows = pairs.select(["item_id", "content_key", "prompt", "chosen", "rejected"]).to_pylist()
    chosen, rejected = (
        chat.render_all([[_user(row), _assistant(row[side])] for row in rows], tokenizer)
        for side in ("chosen", "rejected")
    )
    rendered = list(zip(chosen, rejected, strict=True))
    for row, both in zip(rows, rendered, strict=True):
        for conversation in both:
            _refuse_long(row, len(conversation.ids), context_length + 1, "with its answer")
    return rendered


def in_turns(
    conversations: Sequence[Rendered], length: int, share: float, seed: int
) -> list[Rendered]:
    """The same exchanges, of which a ``share`` (0..1) stands in conversations of several turns.

    Who learns from single exchanges alone does not find the question in a longer conversation.
    Exchanges are drawn in a random order and follow one another as long as ``length`` tokens hold
    them; the others stay alone. Every exchange is there once.
    """
    order = np.random.default_rng(seed).permutation(len(conversations)).tolist()
    num_alone = len(order) - round(share * len(order))
    chained = [conversations[number] for number in order[:num_alone]]
    turns: list[Rendered] = []
    for number in order[num_alone:]:
        following = conversations[number]
        if turns and len(_joined([*turns, following]).ids) > length:
            chained.append(_joined(turns))
            turns = []
        turns.append(following)
    return chained + ([_joined(turns)] if turns else [])


def _joined(turns: Sequence[Rendered]) -> Rendered:
    """One conversation: what opens it stands there once, so all but the first lose it.

    Raises Refusal where the chat template writes a turn in another way when others are before it.
    """
    if turns[0].opening is None and len(turns) > 1:
        raise Refusal(
            "chat template must write turns alike wherever they stand to join exchanges into "
            "conversations, got one that does not; set later_turns to 0"
        )
    others = [(turn, turn.opening or 0) for turn in turns[1:]]
    first = turns[0]
    return Rendered(
        ids=np.concatenate([first.ids, *(turn.ids[begin:] for turn, begin in others)]),
        learned=np.concatenate([first.learned, *(turn.learned[begin:] for turn, begin in others)]),
        opening=first.opening,
    )


def pack(conversations: Sequence[Rendered], context_length: int) -> PackedRows:
    """All conversations in as few rows of ``context_length + 1`` tokens as best fit finds.

    Raises Refusal for a conversation that leaves nothing to learn, or does not fit a row.
    """
    if not conversations:
        raise Refusal("conversations to pack must be at least 1, got 0")
    length = context_length + 1
    for number, conversation in enumerate(conversations):
        if not conversation.learned[1:].any():  # the first token is nobody's target
            raise Refusal(f"conversation {number} must have a token to learn, got none")
        if len(conversation.ids) > length:
            raise Refusal(
                f"conversation {number} must fit a row of {length} tokens, "
                f"got {len(conversation.ids)}"
            )
    lengths = np.array([len(conversation.ids) for conversation in conversations])
    rows, starts = best_fit(lengths, length)
    in_order = np.lexsort((starts, rows))
    places = np.split(in_order, np.flatnonzero(np.diff(rows[in_order])) + 1)
    tokens = np.zeros((len(places), length), conversations[0].ids.dtype)
    learned = np.zeros(tokens.shape, bool)
    conversation_ids = np.zeros(tokens.shape, np.int32)
    position = np.zeros(tokens.shape, np.int32)
    for row, in_row in enumerate(places):
        start = 0
        for place, number in enumerate(in_row):
            here = conversations[number]
            span = slice(start, start + len(here.ids))
            tokens[row, span] = here.ids
            learned[row, span] = here.learned
            learned[row, start] = False  # predicted from the conversation before it, if at all
            conversation_ids[row, span] = place + 1
            position[row, span] = np.arange(len(here.ids))
            start = span.stop
    numbers = tuple(tuple(row.tolist()) for row in places)
    return PackedRows(tokens, learned, conversation_ids, position, numbers)


def pad(conversations: Sequence[Rendered]) -> tuple[np.ndarray, np.ndarray]:
    """(tokens, learned), each [conversations, longest], filled with zeros behind.

    Causal models never look behind, so no mask is needed. Raises Refusal for a conversation that
    leaves nothing to learn.
    """
    longest = max(len(conversation.ids) for conversation in conversations)
    tokens = np.zeros((len(conversations), longest), np.int64)
    learned = np.zeros(tokens.shape, bool)
    for number, conversation in enumerate(conversations):
        if not conversation.learned[1:].any():
            raise Refusal(f"conversation {number} must have a token to learn, got none")
        tokens[number, : len(conversation.ids)] = conversation.ids
        learned[number, : len(conversation.ids)] = conversation.learned
    return tokens, learned


def _user(row: dict[str, Any]) -> Message:
    return Message(role="user", content=row["prompt"])


def _assistant(text: str) -> Message:
    return Message(role="assistant", content=text)


def _refuse_long(row: dict[str, Any], length: int, limit: int, what: str) -> None:
    if length > limit:
        raise Refusal(
            f"item {row['item_id']} ({row['content_key']}) must fit {limit} tokens {what}, "
            f"got {length}"
        )
