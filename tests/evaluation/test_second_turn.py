"""What stands before an item, and which items are asked behind it."""

from evaluation import second_turn
from evaluation.answers import prompt_ids
from tests.evaluation.items import bytes_tokenizer, drawn
from training.tokenizer import chat

ITEMS = drawn(3)


def test_every_item_stands_behind_another_one_and_before_another_one():
    before = second_turn.exchanges(ITEMS)
    rows = {row["item_id"]: row for row in ITEMS.to_pylist()}
    assert before.keys() == rows.keys()
    order = sorted(rows)
    for item_id, follows in zip(order, [*order[1:], order[0]], strict=True):
        user, assistant = before[item_id]
        assert (user.role, assistant.role) == ("user", "assistant")
        assert (user.content, assistant.content) == (
            rows[follows]["prompt"],
            rows[follows]["answer"],
        )
        assert follows != item_id


def test_what_stands_before_does_not_depend_on_the_order_of_rows():
    backwards = ITEMS.take(list(range(len(ITEMS)))[::-1])
    assert second_turn.exchanges(backwards) == second_turn.exchanges(ITEMS)


def test_an_item_alone_has_nothing_before_it_and_is_left_out():
    alone = ITEMS.slice(0, 1)
    assert second_turn.exchanges(alone) == {}
    assert second_turn.that_fit(alone, {}, bytes_tokenizer(), 10_000).num_rows == 0


def test_prompts_of_second_turns_are_the_conversation_up_to_the_answer():
    before = second_turn.exchanges(ITEMS)
    tokenizer = bytes_tokenizer()
    for row in ITEMS.slice(0, 3).to_pylist():
        user, assistant = before[row["item_id"]]
        told = tokenizer.decode(prompt_ids(row, tokenizer, before[row["item_id"]]))
        assert told == (
            f"{chat.END_OF_TEXT}<|user|>{user.content}<|end|><|assistant|>{assistant.content}"
            f"<|end|><|user|>{row['prompt']}<|end|><|assistant|>"
        )


def test_items_that_fit_are_those_up_to_the_limit():
    before = second_turn.exchanges(ITEMS)
    tokenizer = bytes_tokenizer()
    lengths = {
        row["item_id"]: len(prompt_ids(row, tokenizer, before[row["item_id"]]))
        for row in ITEMS.to_pylist()
    }
    limit = sorted(lengths.values())[len(lengths) // 2]
    found = second_turn.that_fit(ITEMS, before, tokenizer, limit)
    assert set(found["item_id"].to_pylist()) == {i for i, n in lengths.items() if n <= limit}
    assert second_turn.that_fit(ITEMS, before, tokenizer, min(lengths.values()) - 1).num_rows == 0
    assert second_turn.that_fit(ITEMS, before, tokenizer, 10_000).equals(ITEMS)
