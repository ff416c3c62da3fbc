"""Answers in a wanted form: JSON, bullets, and constraints in IFEval's manner.

Zhou et al. 2023 (arXiv:2311.07911) check what a program can check: number of words, letter case,
last mark. A count alone is met by one word said again and again, so the words must differ and one
of them is given.
"""

import json
import random
from collections.abc import Iterator
from typing import Any, Literal

from evaluation.graders import BulletList, FollowsConstraints, JsonAnswer
from evaluation.tasks.family import Family, Task, keyed_random
from evaluation.tasks.words import COLORS, NAMES, WORDS

_TEXT_FIELDS = {"name": NAMES, "color": COLORS, "type": WORDS, "group": WORDS}
_NUMBER_FIELDS = ("size", "line", "year", "level")
_ENDS = (".", "!", "?")
# One sentence per number of words, with room for the word that must be in it.
_SENTENCES = {
    2: ("{word} works", "use {word}"),
    3: ("the {word} works", "use this {word}"),
    4: ("the {word} works well", "please use this {word}"),
    5: ("the new {word} works well", "please use this new {word}"),
}


def _json(rng: random.Random) -> Iterator[Task]:
    while True:
        fields: dict[str, Any] = {}
        for name in rng.sample([*_TEXT_FIELDS, *_NUMBER_FIELDS], rng.choice((1, 2))):
            if name in _NUMBER_FIELDS:
                fields[name] = rng.randrange(1, 100)
            else:
                fields[name] = rng.choice(_TEXT_FIELDS[name])
        said = ", ".join(f"{name} is {value}" for name, value in fields.items())
        yield Task(
            key=said,
            slots={"fields": said},
            answer=json.dumps(fields),
            grader=JsonAnswer(wanted=fields),
        )


def _bullets(rng: random.Random) -> Iterator[Task]:
    while True:
        words = tuple(rng.sample(WORDS, rng.choice((2, 3, 4))))
        yield Task(
            key=" ".join(words),
            slots={"list": " ".join(words)},
            answer="\n".join(f"- {word}" for word in words),
            grader=BulletList(items=words),
        )


def _follow(rng: random.Random) -> Iterator[Task]:
    cases: tuple[Literal["lower", "upper"], ...] = ("lower", "upper")
    while True:
        word, end, letter_case = rng.choice(WORDS), rng.choice(_ENDS), rng.choice(cases)
        num_words = rng.choice(list(_SENTENCES))
        key = f"{word}, {num_words} words, {letter_case} case, ends with {end}"
        sentence = keyed_random("follow", key).choice(_SENTENCES[num_words]).format(word=word)
        yield Task(
            key=key,
            slots={"word": word, "count": str(num_words), "case": letter_case, "end": end},
            answer=getattr(sentence, letter_case)() + end,
            grader=FollowsConstraints(
                num_words=num_words, letter_case=letter_case, end=end, mentions=word, distinct=True
            ),
        )


FORMAT_FAMILIES = (
    Family(
        "json",
        "One or two fields as a JSON object.",
        (
            "Write as JSON: {fields}",
            "Give me this as JSON: {fields}",
            "Turn this into JSON: {fields}",
            "JSON, please: {fields}",
            "{fields}\nWrite this as JSON.",
            "Make a JSON object with {fields}",
            "Can you write this as JSON? {fields}",
            "I need a JSON object: {fields}",
            "Fields: {fields}\nGive them to me as JSON.",
        ),
        _json,
    ),
    Family(
        "bullets",
        "A few words as a bullet list.",
        (
            "Write as bullets: {list}",
            "Give me these words as bullets: {list}",
            "Make a bullet list: {list}",
            "Bullets, please: {list}",
            "{list}\nWrite this as a bullet list.",
            "Turn {list} into bullets",
            "Can you make bullets of this? {list}",
            "I need a bullet list of these words: {list}",
            "Words: {list}\nGive them to me as bullets.",
        ),
        _bullets,
    ),
    Family(
        "follow",
        "A sentence with a given word, number of words, letter case and last mark.",
        (
            "Write {count} words with {word}, in {case} case, end with {end}",
            "Use the word {word}: {count} words, {case} case, end with {end}",
            "Say something about {word} in {count} words, {case} case, end with {end}",
            "{count} words about {word}, {case} case, end with {end}",
            "In {case} case, write {count} words about {word}, end with {end}",
            "Write about {word} in {case} case with {count} words, end with {end}",
            "Give me {count} words with {word}, {case} case, end with {end}",
            "Please write {count} words about {word} in {case} case and end with {end}",
            "Word: {word}\nSay {count} words with it, {case} case, end with {end}",
        ),
        _follow,
    ),
)
