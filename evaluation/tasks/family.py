"""A family of tasks: endless contents, a few templates, a demonstration and a grader for each.

What is held out is decided by the *content* (the operands: a list, a pair of words), not by the
prompt. A content is put into one split for good by a hash of its key, so neither another seed nor
another number of items can carry a content from the test into the training data. The last
templates of every family are held out as well: scores on new values in known templates say that
the operation was learned, scores in new templates that the instruction was understood, and the
second is far lower on small models.
"""

import hashlib
import random
import string
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from datalake.config import Refusal
from evaluation.verdict import Grader

Split = Literal["sft", "preference", "rl", "validation", "test_values", "test_templates"]
SPLITS: tuple[Split, ...] = get_args(Split)

# Share of all contents that belongs to each split. Training phases must not meet one another's
# prompts: a policy would be rewarded for what it was shown. Most families have contents without
# end; the small ones (safety, some 500 contents) shall still leave 100 items for every test.
SHARES: Mapping[Split, float] = {
    "sft": 0.40,
    "preference": 0.12,
    "rl": 0.18,
    "validation": 0.06,
    "test_values": 0.12,
    "test_templates": 0.12,
}
ANY_STYLE = "any"
NUM_TRAINING, NUM_VALIDATION, NUM_TEST = 6, 1, 2  # templates of a family, in this order


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """One content: what fills a template's slots, what a good answer is and how it is checked."""

    key: str  # the operands, written one way only
    slots: Mapping[str, str]
    answer: str  # demonstration
    grader: Grader
    style: str | None = None  # asked for; ANY_STYLE where that is left open; None where it has none


Contents = Callable[[random.Random], Iterator[Task]]


@dataclass(frozen=True, slots=True)
class Family:
    """Tasks of one kind. ``contents`` yields them in a random order, perhaps without end.

    A task must be a function of its key alone: the same operands give the same demonstration.
    """

    name: str
    says: str  # one sentence for a person
    templates: tuple[str, ...]
    contents: Contents = field(repr=False)

    def __post_init__(self) -> None:
        expected = NUM_TRAINING + NUM_VALIDATION + NUM_TEST
        if len(self.templates) != expected:
            raise Refusal(
                f"family {self.name} must have {expected} templates, got {len(self.templates)}"
            )
        slots = slots_of(self.templates[0])
        for template in self.templates:
            if not slots or slots_of(template) != slots:
                wanted = " and ".join(f"{{{slot}}}" for slot in sorted(slots)) or "a slot"
                raise Refusal(
                    f"templates of family {self.name} must have {wanted}, got {template!r}"
                )

    def templates_of(self, split: Split) -> tuple[int, ...]:
        """Numbers of the templates that ``split`` may use: tests of templates see no others."""
        training = tuple(range(NUM_TRAINING))
        if split == "validation":  # both kinds, so that template choices need no look at a test
            return training + tuple(range(NUM_TRAINING, NUM_TRAINING + NUM_VALIDATION))
        if split == "test_templates":
            return tuple(range(NUM_TRAINING + NUM_VALIDATION, len(self.templates)))
        return training

    def prompt(self, task: Task, template: int) -> str:
        """The user's words: ``task`` in a template. Raises Refusal where they do not fit."""
        slots = slots_of(self.templates[template])
        if set(task.slots) != slots:
            raise Refusal(
                f"task {task.key} must fill {', '.join(sorted(slots))}, got {sorted(task.slots)}"
            )
        return self.templates[template].format(**task.slots)


def slots_of(template: str) -> set[str]:
    """Names of the slots of a template."""
    return {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}


def split_of(family: str, key: str) -> Split:
    """The split that the content ``key`` of ``family`` belongs to, whatever the seed."""
    place = int.from_bytes(hashlib.sha256(f"{family}\n{key}".encode()).digest()[:8]) / 2**64
    for split in SPLITS:
        place -= SHARES[split]
        if place < 0:
            return split
    return SPLITS[-1]


def keyed_random(*parts: object) -> random.Random:
    """Random numbers that depend on ``parts`` alone, the same in every process and version."""
    digest = hashlib.sha256("\n".join(map(str, parts)).encode()).digest()
    return random.Random(int.from_bytes(digest))
