"""Items as the second turn of a conversation, behind another item and its right answer.

A model that has only seen conversations of one turn can answer every item that it is asked first
and hardly any that it is asked second. So what stands before must be nothing but length: another
item of the same split, answered as its demonstration answers it.
"""

from collections.abc import Mapping, Sequence

import pyarrow as pa

from evaluation.answers import prompt_ids
from training.tokenizer.bpe import Tokenizer
from training.tokenizer.chat import Message


def exchanges(items: pa.Table) -> dict[str, tuple[Message, Message]]:
    """What stands before each item: the one that follows by ``item_id``, the first after the last.

    Identities are digests, so neighbours have nothing to do with one another. Empty where there are
    fewer than two items: none stands before itself.
    """
    rows = items.sort_by("item_id").to_pylist()
    if len(rows) < 2:
        return {}
    return {
        row["item_id"]: (
            Message(role="user", content=other["prompt"]),
            Message(role="assistant", content=other["answer"]),
        )
        for row, other in zip(rows, [*rows[1:], rows[0]], strict=True)
    }


def that_fit(
    items: pa.Table, before: Mapping[str, Sequence[Message]], tokenizer: Tokenizer, limit: int
) -> pa.Table:
    """The items whose prompt has at most ``limit`` tokens with what stands before it."""
    fits = [
        row["item_id"] in before
        and len(prompt_ids(row, tokenizer, before[row["item_id"]])) <= limit
        for row in items.to_pylist()
    ]
    return items.filter(pa.array(fits, pa.bool_()))
