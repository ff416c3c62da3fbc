"""Operations on words: letter case, first letters, joining.

Held out are combinations of words; each word by itself is met in training, since no vocabulary of
byte pairs shows a model how a token is spelled.
"""

import random
from collections.abc import Callable, Iterator, Sequence

from evaluation.graders import ExactAnswer, ListAnswer
from evaluation.tasks.family import Contents, Family, Task
from evaluation.tasks.words import WORDS

_JOINERS = {"dashes": "-", "underscores": "_", "slashes": "/"}


def _words_to(answer_of: Callable[[str], str], lengths: Sequence[int]) -> Contents:
    """Contents whose answer is made word by word."""

    def contents(rng: random.Random) -> Iterator[Task]:
        while True:
            words = rng.sample(WORDS, rng.choice(lengths))
            answer = tuple(map(answer_of, words))
            yield Task(
                key=" ".join(words),
                slots={"words": " ".join(words)},
                answer=" ".join(answer),
                grader=ListAnswer(answer=answer, separator=" "),
            )

    return contents


def _join(rng: random.Random) -> Iterator[Task]:
    while True:
        words = rng.sample(WORDS, rng.choice((2, 3, 4)))
        joiner, mark = rng.choice(list(_JOINERS.items()))
        yield Task(
            key=f"{joiner} {' '.join(words)}",
            slots={"words": " ".join(words), "marks": joiner},
            answer=mark.join(words),
            grader=ExactAnswer(answer=mark.join(words)),
        )


STRING_FAMILIES = (
    Family(
        "uppercase",
        "One or two words in upper case.",
        (
            "Write in upper case: {words}",
            "Put these words in upper case: {words}",
            "Upper case, please: {words}",
            "Make this upper case: {words}",
            "{words}\nWrite this in upper case.",
            "Turn {words} into upper case",
            "Can you write this in upper case? {words}",
            "I need these words in upper case: {words}",
            "Words: {words}\nMake them upper case.",
        ),
        _words_to(str.upper, (1, 2)),
    ),
    Family(
        "initials",
        "The first letter of each of a few words.",
        (
            "Give the first letter of each word: {words}",
            "Write the first letters of {words}",
            "What are the first letters here? {words}",
            "Take the first letter of every word: {words}",
            "{words}\nGive the first letters.",
            "First letters, please: {words}",
            "Can you write the first letter of each word? {words}",
            "I need the first letters of these words: {words}",
            "Words: {words}\nTell me their first letters.",
        ),
        _words_to(lambda word: word[0], (2, 3, 4)),
    ),
    Family(
        "join",
        "A few words joined by a mark.",
        (
            "Join with {marks}: {words}",
            "Join these words with {marks}: {words}",
            "Please join {words} with {marks}",
            "Use {marks} to join {words}",
            "{words}\nJoin them with {marks}.",
            "Write these words joined by {marks}: {words}",
            "Can you join this with {marks}? {words}",
            "I need these words joined with {marks}: {words}",
            "Words: {words}\nNow join them, use {marks}.",
        ),
        _join,
    ),
)
