"""Short messages in a wanted style, or in any where none is asked for.

What a message says is copied from the prompt, so that a small model can be right about it; how it
says it is an opening and a closing. Where the prompt asks for no style, demonstrations show all
styles alike: which of them the assistant prefers is then for preference training to decide, and
its effect can be measured.
"""

import random
from collections.abc import Iterator

from evaluation.manner import STYLES, Styled
from evaluation.tasks.family import ANY_STYLE, Family, Task, keyed_random
from evaluation.tasks.words import NAMES

_EVENTS = (
    "the bus leaves",
    "the train leaves",
    "the test starts",
    "the class starts",
    "the game starts",
    "the film starts",
    "the shop opens",
    "the room opens",
    "the library opens",
    "the shop closes",
    "the room closes",
    "the library closes",
    "the meeting ends",
    "the class ends",
    "the game ends",
    "the film ends",
)
_FORMS = {
    "friendly": "Hi {name}! {News}. See you soon!",
    "formal": "Dear {name}, {news}. Kind regards.",
    "plain": "{name}, {news}.",
}


def _message(rng: random.Random) -> Iterator[Task]:
    while True:
        name, event, hour = rng.choice(NAMES), rng.choice(_EVENTS), rng.randrange(1, 13)
        news = f"{event} at {hour}"
        asked = rng.choice([None, *STYLES])
        key = f"{asked or 'any'} message to {name}: {news}"
        shown = asked or keyed_random("message", key).choice(list(STYLES))
        yield Task(
            key=key,
            slots={"message": f"a {asked} message" if asked else "a message", "name": name}
            | {"news": news},
            answer=_FORMS[shown].format(name=name, news=news, News=news[0].upper() + news[1:]),
            grader=Styled(style=asked, mentions=(name, news), avoids=("message",)),
            style=asked or ANY_STYLE,
        )


STYLE_FAMILIES = (
    Family(
        "message",
        "A short message in a wanted style.",
        (
            "Write {message} to {name}: {news}",
            "Write {message} to tell {name} that {news}",
            "Please write {message} to {name}, saying that {news}",
            "Send {name} {message}: {news}",
            "Tell {name} that {news}. Write {message}.",
            "I need {message} for {name}: {news}",
            "Can you write {message} to {name}? {news}",
            "{name} must know that {news}. Please write {message}.",
            "News for {name}: {news}\nWrite {message} about it.",
        ),
        _message,
    ),
)
