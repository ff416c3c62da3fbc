"""Operations on short lists: the least that shows whether a model follows an instruction exactly.

Lists are short enough for a model of two million parameters: up to five numbers of two digits, or
five words. Sums do not belong here, such a model does not learn to carry.
"""

import random
from collections.abc import Callable, Iterator, Sequence

from evaluation.graders import ExactAnswer, ListAnswer
from evaluation.tasks.family import Contents, Family, Task, keyed_random
from evaluation.tasks.words import WORDS

_SEPARATOR = " "
_MAX_NUMBER = 99
_LENGTHS = (3, 4, 5)


def _numbers(rng: random.Random) -> list[int]:
    return rng.sample(range(1, _MAX_NUMBER + 1), rng.choice(_LENGTHS))


def _words(rng: random.Random, lengths: Sequence[int] = _LENGTHS) -> list[str]:
    return rng.sample(WORDS, rng.choice(lengths))


def _shuffled(family: str, numbers: Sequence[int]) -> str:
    """``numbers`` in an order that only depends on which they are.

    The key of such a task is the set, so no test asks for a set that was trained on in another
    order.
    """
    order = sorted(numbers)
    keyed_random(family, *order).shuffle(order)
    return _SEPARATOR.join(map(str, order))


def _extreme(rng: random.Random) -> Iterator[Task]:
    while True:
        numbers = sorted(_numbers(rng))
        word, answer = rng.choice([("largest", numbers[-1]), ("smallest", numbers[0])])
        yield Task(
            key=f"{word} {_SEPARATOR.join(map(str, numbers))}",
            slots={"which": word, "list": _shuffled("extreme", numbers)},
            answer=str(answer),
            grader=ExactAnswer(answer=str(answer)),
        )


def _sort(rng: random.Random) -> Iterator[Task]:
    while True:
        numbers = sorted(_numbers(rng))
        answer = tuple(map(str, numbers))
        yield Task(
            key=_SEPARATOR.join(answer),
            slots={"list": _shuffled("sort", numbers)},
            answer=_SEPARATOR.join(answer),
            grader=ListAnswer(answer=answer, separator=_SEPARATOR),
        )


def _words_to(
    answer_of: Callable[[list[str]], list[str]],
) -> Contents:
    """Contents whose answer is a list of words made from a list of words."""

    def contents(rng: random.Random) -> Iterator[Task]:
        while True:
            words = _words(rng)
            answer = answer_of(words)
            yield Task(
                key=_SEPARATOR.join(words),
                slots={"list": _SEPARATOR.join(words)},
                answer=_SEPARATOR.join(answer),
                grader=ListAnswer(answer=tuple(answer), separator=_SEPARATOR),
            )

    return contents


def _count(rng: random.Random) -> Iterator[Task]:
    while True:
        words = _words(rng, (2, 3, 4, 5, 6))
        yield Task(
            key=_SEPARATOR.join(words),
            slots={"list": _SEPARATOR.join(words)},
            answer=str(len(words)),
            grader=ExactAnswer(answer=str(len(words))),
        )


LIST_FAMILIES = (
    Family(
        "extreme",
        "The largest or smallest of a few numbers.",
        (
            "Which number is the {which}: {list}",
            "Find the {which} number: {list}",
            "What is the {which} of these numbers? {list}",
            "Give me the {which} number in {list}",
            "Look at these numbers: {list}\nWhich one is the {which}?",
            "{list}\nName the {which} number.",
            "Pick the {which} number from this list: {list}",
            "Tell me which number is {which} here: {list}",
            "Numbers: {list}\nSay the {which} one.",
        ),
        _extreme,
    ),
    Family(
        "sort",
        "A few numbers from small to large.",
        (
            "Sort these numbers: {list}",
            "Sort from small to large: {list}",
            "Please sort the list {list}",
            "Put these numbers in sorted order: {list}",
            "{list}\nSort this list.",
            "Give me these numbers sorted: {list}",
            "Can you sort this? {list}",
            "I need this list sorted: {list}",
            "Numbers: {list}\nSort them for me.",
        ),
        _sort,
    ),
    Family(
        "reverse",
        "A few words in reverse order.",
        (
            "Reverse this list: {list}",
            "Write these words in reverse order: {list}",
            "Please reverse the words {list}",
            "Give me the list reversed: {list}",
            "{list}\nReverse the order.",
            "Say these words in reverse: {list}",
            "Can you reverse this? {list}",
            "I need these words in reverse order: {list}",
            "Words: {list}\nNow reverse them.",
        ),
        _words_to(lambda words: words[::-1]),
    ),
    Family(
        "copy",
        "A few words as they are.",
        (
            "Copy this list: {list}",
            "Repeat these words: {list}",
            "Please copy the words {list}",
            "Repeat after me: {list}",
            "{list}\nCopy this.",
            "Say exactly this, repeat it: {list}",
            "Can you copy this? {list}",
            "I want you to repeat these words: {list}",
            "Words: {list}\nNow copy them.",
        ),
        _words_to(list),
    ),
    Family(
        "count",
        "How many words a list has.",
        (
            "Count these words: {list}",
            "How many words are in this list? {list}",
            "Please count the words {list}",
            "What is the count of words in {list}",
            "{list}\nCount the words.",
            "How many words do you see: {list}",
            "Can you count this? {list}",
            "Tell me how many words are here: {list}",
            "Words: {list}\nCount them.",
        ),
        _count,
    ),
)
