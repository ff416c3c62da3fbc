"""Conversations as rows: every token once, kept apart, and only the assistant's are learned."""

from functools import cache

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignment.conversations import (
    in_turns,
    pack,
    pad,
    render_items,
    render_pairs,
    render_prompts,
)
from alignment.examples import ItemsConfig, make_items
from datalake.config import Refusal
from datalake.schemas import TABLES
from evaluation.tasks.catalogue import FAMILIES
from training.tokenizer.bpe import END_OF_TEXT, Tokenizer
from training.tokenizer.chat import (
    END_OF_TURN,
    ROLES,
    SPECIAL_TOKENS,
    Message,
    Rendered,
    render,
)
from training.tokenizer.patterns import character_classes

CONTEXT = 128
ITEMS = make_items(
    ItemsConfig(
        counts={"sft": 8, "rl": 3},
        families={name: {} for name in FAMILIES},
        house_style="friendly",
    ),
    seed=0,
)


@cache
def tokenizer() -> Tokenizer:
    """Bytes alone: no merges, so every text is as long as it can be."""
    classes, _ = character_classes()
    return Tokenizer(np.zeros((0, 2), np.int32), "cl100k_digits", classes, SPECIAL_TOKENS)


def _rendered(context: int = 256) -> list[Rendered]:
    return render_items(ITEMS, tokenizer(), context)


def test_what_is_learned_of_an_item_is_its_answer_and_the_end_of_the_turn() -> None:
    special = tokenizer().special_tokens
    for row, conversation in zip(ITEMS.to_pylist(), _rendered(), strict=True):
        learned = conversation.ids[conversation.learned]
        assert tokenizer().decode(learned[:-1]) == row["answer"]
        assert learned[-1] == special[END_OF_TURN]
        assert not conversation.learned[: len(conversation.ids) - len(learned)].any()


def test_a_prompt_is_the_beginning_of_its_conversation() -> None:
    prompts = render_prompts(ITEMS, tokenizer(), context_length=256, max_new_tokens=80)
    for prompt, conversation in zip(prompts, _rendered(), strict=True):
        assert conversation.ids[: len(prompt)].tolist() == prompt.tolist()
        assert not conversation.learned[: len(prompt)].any()
        assert conversation.learned[len(prompt) :].all()
        assert prompt[-1] == tokenizer().special_tokens[ROLES["assistant"]]


def test_packing_keeps_every_token_once_and_every_conversation_whole() -> None:
    conversations = _rendered()
    rows = pack(conversations, 255)
    assert sorted(n for row in rows.places for n in row) == list(range(len(conversations)))
    for r, numbers in enumerate(rows.places):
        for place, number in enumerate(numbers):
            here = rows.conversation[r] == place + 1
            assert rows.tokens[r][here].tolist() == conversations[number].ids.tolist()
            assert rows.learned[r][here].tolist() == conversations[number].learned.tolist()
            assert rows.position[r][here].tolist() == list(range(here.sum()))
            assert np.diff(np.flatnonzero(here)).max() == 1
    assert rows.tokens.shape == (len(rows.places), 256)
    assert not rows.learned[rows.conversation == 0].any()


def test_no_target_to_learn_is_predicted_from_another_conversation() -> None:
    rows = pack(_rendered(), 255)
    crosses = rows.conversation[:, 1:] != rows.conversation[:, :-1]
    assert crosses.any() and not rows.learned[:, 1:][crosses].any()


def test_the_first_token_of_a_conversation_is_nobodys_target() -> None:
    eager = Rendered(np.arange(4), np.ones(4, bool))
    rows = pack([eager, eager], 7)
    assert rows.learned.tolist() == [[False, True, True, True] * 2]


def test_a_conversation_with_two_turns_stays_one() -> None:
    ids = np.array([0, 1, 2, 3, 4, 5, 6, 7])
    learned = np.array([0, 0, 0, 1, 0, 0, 0, 1], bool)
    rows = pack([Rendered(ids, learned), Rendered(ids[:4], learned[:4])], 11)
    assert rows.conversation.tolist() == [[1] * 8 + [2] * 4]
    assert rows.fill == 1


@given(st.integers(100, 400), st.floats(0, 1), st.integers(0, 9))
def test_turns_keep_every_exchange_once_and_no_conversation_too_long(
    length: int, share: float, seed: int
) -> None:
    alone = [c for c in _rendered() if len(c.ids) <= length]
    chained = in_turns(alone, length, share, seed)
    begin = tokenizer().special_tokens[END_OF_TEXT]
    said = [ids for c in chained for ids in _exchanges(c)]
    assert sorted(said) == sorted(ids for c in alone for ids in _exchanges(c))
    for conversation in chained:
        assert len(conversation.ids) <= length
        assert (conversation.ids == begin).sum() == 1 and conversation.ids[0] == begin
    assert sum(len(_exchanges(c)) > 1 for c in chained) * 2 <= round(share * len(alone))


def _exchanges(conversation: Rendered) -> list[tuple[list[int], list[bool]]]:
    """What each user's turn and the answer to it are, with what is learned of them."""
    user = tokenizer().special_tokens[ROLES["user"]]
    starts = np.flatnonzero(conversation.ids == user)[1:]
    parts = zip(
        np.split(conversation.ids[1:], starts - 1),
        np.split(conversation.learned[1:], starts - 1),
        strict=True,
    )
    return [(ids.tolist(), learned.tolist()) for ids, learned in parts]


def test_a_conversation_of_turns_is_what_rendering_all_of_them_gives() -> None:
    chained = in_turns(_rendered(), 255, 1.0, 0)
    longest = max(chained, key=lambda c: len(_exchanges(c)))
    texts = [tokenizer().decode([i for i in ids if i < 256]) for ids, _ in _exchanges(longest)]
    rows = {row["prompt"] + row["answer"]: row for row in ITEMS.to_pylist()}
    messages = [
        Message(role=role, content=rows[text][column])
        for text in texts
        for role, column in (("user", "prompt"), ("assistant", "answer"))
    ]
    whole = render(messages, tokenizer())
    assert len(texts) > 1 and longest.ids.tolist() == whole.ids.tolist()
    assert longest.learned.tolist() == whole.learned.tolist()


def test_padding_is_behind_and_is_not_learned() -> None:
    conversations = _rendered()[:5]
    tokens, learned = pad(conversations)
    for row, mask, conversation in zip(tokens, learned, conversations, strict=True):
        length = len(conversation.ids)
        assert row[:length].tolist() == conversation.ids.tolist() and not row[length:].any()
        assert mask[:length].tolist() == conversation.learned.tolist() and not mask[length:].any()
    silent = Rendered(np.arange(4), np.zeros(4, bool))
    with pytest.raises(Refusal, match="conversation 0 must have a token to learn, got none"):
        pad([silent])


def test_packing_fills_rows_well_and_gives_the_same_rows_again() -> None:
    conversations = _rendered()
    rows = pack(conversations, 255)
    assert rows.fill > 0.9
    again = pack(conversations, 255)
    assert (again.tokens == rows.tokens).all() and again.places == rows.places


def test_both_answers_of_a_pair_follow_the_same_prompt() -> None:
    columns = {name: [None] for name in TABLES["preferences"].arrow.names}
    row = {"item_id": ["a"], "content_key": ["sort: 1"], "prompt": ["Sort"]}
    pairs = pa.table(columns | row | {"chosen": ["1 2"], "rejected": ["2 1 1"]})
    ((chosen, rejected),) = render_pairs(pairs, tokenizer(), CONTEXT)
    first = int(chosen.learned.argmax())
    assert first == int(rejected.learned.argmax())
    assert chosen.ids[:first].tolist() == rejected.ids[:first].tolist()
    assert tokenizer().decode(rejected.ids[rejected.learned][:-1]) == "2 1 1"


def test_an_item_longer_than_the_context_is_refused_by_name() -> None:
    with pytest.raises(
        Refusal, match=r"item \w+ \(\w+: .+\) must fit 21 tokens with its answer, got \d+"
    ):
        _rendered(20)


def test_a_prompt_that_leaves_no_room_for_an_answer_is_refused_by_name() -> None:
    with pytest.raises(Refusal, match=r"item .* must fit 100 tokens with its new tokens, got"):
        render_prompts(ITEMS, tokenizer(), context_length=100, max_new_tokens=90)


def test_a_conversation_without_a_token_to_learn_is_refused() -> None:
    silent = Rendered(np.arange(4), np.zeros(4, bool))
    only_first = Rendered(np.arange(4), np.array([True, False, False, False]))
    for conversation in (silent, only_first):
        with pytest.raises(Refusal, match="conversation 0 must have a token to learn, got none"):
            pack([conversation], CONTEXT)


def test_a_conversation_longer_than_a_row_is_refused() -> None:
    long = Rendered(np.arange(20), np.ones(20, bool))
    with pytest.raises(Refusal, match="conversation 0 must fit a row of 11 tokens, got 20"):
        pack([long], 10)


def test_no_conversations_are_refused() -> None:
    with pytest.raises(Refusal, match="conversations to pack must be at least 1, got 0"):
        pack([], CONTEXT)


def test_a_tokenizer_without_the_assistants_mark_is_refused() -> None:
    classes, _ = character_classes()
    names = [n for n in SPECIAL_TOKENS if n != ROLES["assistant"]]
    without = Tokenizer(np.zeros((0, 2), np.int32), "cl100k_digits", classes, names)
    with pytest.raises(Refusal, match=r"must have the special token <\|assistant\|> to chat"):
        render_items(ITEMS, without, CONTEXT)
    assert END_OF_TEXT in names


def test_exchanges_that_a_template_writes_in_two_ways_are_not_joined():
    alone = [Rendered(ids=r.ids, learned=r.learned, opening=None) for r in _rendered()]
    assert len(in_turns(alone, 255, 0.0, 0)) == len(alone)
    with pytest.raises(Refusal, match="must write turns alike wherever they stand to join exchang"):
        in_turns(alone, 255, 1.0, 0)


def test_what_opens_a_conversation_stands_there_once():
    said = [np.array([1, 2, 3, n], np.uint16) for n in (10, 11)]
    alone = [Rendered(ids=ids, learned=ids > 9, opening=2) for ids in said]
    (joined,) = in_turns(alone, 255, 1.0, 0)
    assert joined.ids.tolist() in ([1, 2, 3, 10, 3, 11], [1, 2, 3, 11, 3, 10])
    assert joined.learned.tolist() == [False, False, False, True, False, True]
