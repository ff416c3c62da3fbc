"""The one table of items that every phase of alignment reads, each phase its own split of it.

Fine-tuning uses an item's demonstration, preferences and reinforcement learning its grader,
evaluation both. What a phase may see is decided by the content of an item and for good
(``evaluation.tasks.family``); ``assert_disjoint`` proves it again on the rows a phase was given.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Self

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from datalake.config import Config, Refusal
from datalake.schemas import TABLES
from evaluation.graders import load_grader, stored
from evaluation.manner import refuse_unknown_style
from evaluation.tasks.catalogue import Item, draw_items, family_of
from evaluation.tasks.family import ANY_STYLE, SPLITS, Split
from evaluation.verdict import Grader

Counts = dict[Split, Annotated[int, Field(ge=0)]]


class ItemsConfig(Config):
    """Which families, with how many items in each split, and the style that the house prefers."""

    counts: Counts  # of every family, where the family does not say otherwise
    families: dict[str, Counts]
    house_style: str  # of answers whose prompt leaves the style open

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.families:
            raise Refusal("families must name at least one family, got none")
        for name in self.families:
            family_of(name)
        refuse_unknown_style(self.house_style)
        return self

    def counts_of(self, family: str) -> Counts:
        """Number of items per split of ``family``, in the order of the splits."""
        wanted = self.counts | self.families[family]
        return {split: wanted[split] for split in SPLITS if wanted.get(split)}


def make_items(config: ItemsConfig, seed: int) -> pa.Table:
    """The rows of ``instructions``: the same for equal settings and seed.

    Raises Refusal where a family has fewer items than asked for, and for what ``check_items``
    refuses.
    """
    rows = [
        _row(item, config.house_style)
        for name in sorted(config.families)
        for item in draw_items(family_of(name), config.counts_of(name), seed)
    ]
    table = pa.Table.from_pylist(rows, TABLES["instructions"].arrow)
    check_items(table)
    return table


def check_items(items: pa.Table) -> None:
    """Refuse items that cannot teach or test: the first that is found is named.

    An item without a prompt or an answer, two with one identity or one prompt, a content in two
    splits, a grader that does not exist, a demonstration that its own grader does not take.
    """
    seen: dict[str, str] = {}
    for row in items.to_pylist():
        name = f"item {row['item_id']} ({row['content_key']})"
        for column in ("prompt", "answer"):
            if not (row[column] or "").strip():
                raise Refusal(f"{name} must have its {column}, got nothing")
        for thing in (f"id {row['item_id']}", f"prompt {row['prompt']!r}"):
            if thing in seen:
                raise Refusal(f"{name} must be there once, got {seen[thing]} with the same {thing}")
            seen[thing] = name
        verdict = grader_of(row)(row["answer"])
        if verdict.score != 1:
            raise Refusal(f"{name} must pass its own grader, got {verdict.reason}")
    assert_disjoint({split: of_split(items, split) for split in SPLITS})


def assert_disjoint(phases: Mapping[str, pa.Table]) -> None:
    """Raise Refusal where two phases hold the same content; ``phases`` is name -> rows.

    Every phase calls it with the rows that it reads and those it must not have seen.
    """
    owner: dict[str, str] = {}
    for phase, rows in phases.items():
        for key in pc.unique(rows["content_key"]).to_pylist():
            if owner.setdefault(key, phase) != phase:
                raise Refusal(
                    f"{owner[key]} and {phase} must share no content, got {key!r} in both"
                )


def of_split(items: pa.Table, split: Split, families: Sequence[str] | None = None) -> pa.Table:
    """The items of one split, of all families or of some."""
    chosen = pc.equal(items["split"], split)
    if families is not None:
        chosen = pc.and_(chosen, pc.is_in(items["family"], pa.array(families, pa.string())))
    return items.filter(chosen)


def grader_of(row: Mapping[str, str]) -> Grader:
    """The grader of a row of ``instructions``."""
    return load_grader(row["grader"], row["grader_arguments"])


def _row(item: Item, house_style: str) -> dict[str, object]:
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
