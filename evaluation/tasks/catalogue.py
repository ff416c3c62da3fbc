"""Every family of tasks, by name, and the items that are drawn from them."""

import difflib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from datalake.config import Refusal
from evaluation.tasks.family import Family, Split, Task, keyed_random, split_of
from evaluation.tasks.formats import FORMAT_FAMILIES
from evaluation.tasks.lists import LIST_FAMILIES
from evaluation.tasks.safety import SAFETY_FAMILIES
from evaluation.tasks.strings import STRING_FAMILIES
from evaluation.tasks.style import STYLE_FAMILIES

FAMILIES: Mapping[str, Family] = {
    family.name: family
    for family in (
        *LIST_FAMILIES,
        *STRING_FAMILIES,
        *FORMAT_FAMILIES,
        *SAFETY_FAMILIES,
        *STYLE_FAMILIES,
    )
}
_PATIENCE = 20_000  # draws in a row without a content that was wanted, after which there is none


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """A task of a family in one of its templates, in the split that its content belongs to."""

    family: str
    split: Split
    template: int
    prompt: str
    task: Task

    @property
    def item_id(self) -> str:
        """Identity of the item, from family, content and template, whatever the seed."""
        name = f"{self.family}\n{self.template}\n{self.task.key}"
        return hashlib.sha256(name.encode()).hexdigest()[:32]


def family_of(name: str) -> Family:
    """The family called ``name``. Raises Refusal with the near ones and the list."""
    if name not in FAMILIES:
        near = difflib.get_close_matches(name, FAMILIES, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise Refusal(f"family must be one of {', '.join(FAMILIES)}, got {name}{hint}")
    return FAMILIES[name]


def draw_items(family: Family, counts: Mapping[Split, int], seed: int) -> list[Item]:
    """``counts[split]`` distinct items per split, split after split.

    As many contents as there are items where the family has them; a small family shows its
    contents in several templates. More items for a split begin with those of fewer. Raises
    Refusal where contents times templates are not enough.
    """
    tasks = _draw_tasks(family, counts, seed)
    return [
        item
        for split, count in counts.items()
        for item in _in_templates(family, split, count, tasks[split])
    ]


def _draw_tasks(family: Family, counts: Mapping[Split, int], seed: int) -> dict[Split, list[Task]]:
    """Up to ``counts[split]`` distinct contents per split, in the order in which they came."""
    drawn: dict[Split, dict[str, Task]] = {split: {} for split in counts}
    missing, patience = sum(counts.values()), _PATIENCE
    for task in family.contents(keyed_random("contents", family.name, seed)):
        if missing == 0 or patience == 0:
            break
        split = split_of(family.name, task.key)
        patience -= 1
        if len(drawn.get(split, ())) < counts.get(split, 0) and task.key not in drawn[split]:
            drawn[split][task.key] = task
            missing -= 1
            patience = _PATIENCE
    return {split: list(tasks.values()) for split, tasks in drawn.items()}


def _in_templates(family: Family, split: Split, count: int, tasks: list[Task]) -> list[Item]:
    """Tasks in templates, all alike often, every content once before any comes a second time."""
    templates = family.templates_of(split)
    if len(tasks) * len(templates) < count:
        raise Refusal(
            f"items of family {family.name} in {split} must be at most "
            f"{len(tasks) * len(templates)}, got {count}"
        )
    items = []
    for number in range(count):
        turn, place = divmod(number, len(tasks))
        task = tasks[place]
        template = templates[(place + turn) % len(templates)]
        items.append(
            Item(
                family=family.name,
                split=split,
                template=template,
                prompt=family.prompt(task, template),
                task=task,
            )
        )
    return items
