"""Families: what is held out, and what a family must have."""

import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

import pytest

from datalake.config import Refusal
from evaluation.graders import ExactAnswer
from evaluation.tasks.family import (
    NUM_TRAINING,
    SHARES,
    SPLITS,
    Family,
    Task,
    keyed_random,
    slots_of,
    split_of,
)

NINE = tuple(f"{n}: {{word}}" for n in range(9))


def _task(word: str = "tree", **slots: str) -> Task:
    return Task(
        key=word, slots=slots or {"word": word}, answer=word, grader=ExactAnswer(answer=word)
    )


def _contents(rng: random.Random) -> Iterator[Task]:
    yield _task()


def test_contents_fall_into_the_splits_by_their_shares() -> None:
    counts = Counter(split_of("sort", str(n)) for n in range(20_000))
    assert sum(SHARES.values()) == pytest.approx(1)
    for split in SPLITS:
        assert counts[split] / 20_000 == pytest.approx(SHARES[split], abs=0.01)


def test_a_content_has_the_same_split_and_random_numbers_in_every_process() -> None:
    program = (
        "from evaluation.tasks.family import keyed_random, split_of\n"
        "print([split_of('sort', str(n)) for n in range(20)], keyed_random('a', 1).random())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    here = [split_of("sort", str(n)) for n in range(20)], keyed_random("a", 1).random()
    assert done.stdout.strip() == f"{here[0]} {here[1]}"


def test_only_the_test_of_templates_sees_the_test_templates() -> None:
    family = Family("words", "Words.", NINE, _contents)
    tested = set(family.templates_of("test_templates"))
    assert tested == {7, 8}
    for split in SPLITS:
        if split != "test_templates":
            assert not tested & set(family.templates_of(split))
    for split in ("sft", "preference", "rl", "test_values"):
        assert family.templates_of(split) == tuple(range(NUM_TRAINING))


def test_a_prompt_is_the_task_in_its_template() -> None:
    assert Family("words", "Words.", NINE, _contents).prompt(_task(), 4) == "4: tree"
    assert slots_of("{a} and {b}, {a}") == {"a", "b"}


def test_a_template_without_its_slot_is_refused() -> None:
    templates = (*NINE[:8], "Say it.")
    with pytest.raises(Refusal, match=r"of family words must have \{word\}, got 'Say it\.'"):
        Family("words", "Words.", templates, _contents)


def test_templates_without_any_slot_are_refused() -> None:
    with pytest.raises(Refusal, match="of family words must have a slot, got 'Say it'"):
        Family("words", "Words.", ("Say it",) * 9, _contents)


def test_a_family_with_too_few_templates_is_refused() -> None:
    with pytest.raises(Refusal, match="family words must have 9 templates, got 3"):
        Family("words", "Words.", NINE[:3], _contents)


def test_a_task_that_fills_other_slots_is_refused() -> None:
    family = Family("words", "Words.", NINE, _contents)
    with pytest.raises(Refusal, match=r"task tree must fill word, got \['list'\]"):
        family.prompt(_task(list="tree"), 0)
