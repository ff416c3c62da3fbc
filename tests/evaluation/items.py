"""Items of every kind as rows of ``instructions``, and a tokenizer that knows no word."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa

from datalake.schemas import TABLES
from evaluation.graders import stored
from evaluation.tasks.catalogue import Item, draw_items, family_of
from evaluation.tasks.family import ANY_STYLE
from training.tokenizer import chat
from training.tokenizer.bpe import Tokenizer
from training.tokenizer.patterns import character_classes


@cache
def bytes_tokenizer(special_tokens: Sequence[str] = chat.SPECIAL_TOKENS) -> Tokenizer:
    """Bytes and special tokens, no merges."""
    classes, _ = character_classes()
    return Tokenizer(np.zeros((0, 2), np.int32), "cl100k_digits", classes, special_tokens)


def row(item: Item, house_style: str = "friendly") -> dict[str, Any]:
    grader, arguments = stored(item.task.grader)
    return {
        "item_id": item.item_id,
        "family": item.family,
        "content_key": f"{item.family}: {item.task.key}",
        "template": item.template,
        "split": item.split,
        "prompt": item.prompt,
        "answer": item.task.answer,
        "grader": grader,
        "grader_arguments": arguments,
        "style": house_style if item.task.style == ANY_STYLE else item.task.style,
    }


def drawn(
    num: int = 4, families: Sequence[str] = ("sort", "refuse", "comply", "message")
) -> pa.Table:
    """``num`` items of each family in each test split."""
    rows = [
        row(item)
        for family in families
        for item in draw_items(family_of(family), {"test_values": num, "test_templates": num}, 0)
    ]
    return pa.Table.from_pylist(rows, TABLES["instructions"].arrow)
