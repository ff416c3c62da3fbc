"""Verifiers of answers, by name: what was computed, what form it has, how it is said.

``GRADERS`` is the registry: a table keeps a grader as its name and its arguments in JSON, and
``load_grader`` makes it again. Strict reads the text as the prompt asked for it; lenient looks for
the answer as a reader would, because strict reading alone takes right answers for wrong ones.
"""

import difflib
import json
import re
from collections.abc import Iterator
from typing import Any, Literal, Self

from pydantic import Field, JsonValue, ValidationError, model_validator

from datalake.config import Refusal
from evaluation.manner import Complies, Refuses, Styled
from evaluation.verdict import Grader, Verdict, graded

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_WORD = re.compile(r"\w+")  # "don't" is two words, as in IFEval (Zhou et al. 2023, 2311.07911)
_BULLET = re.compile(r"\s*(?:[-*+•]|\d+[.)])\s+(.+?)\s*")
_MAX_JSON_STARTS = 16  # braces tried leniently; each try reads on from its brace


class ExactAnswer(Grader):
    """One number, word or line. Leniently the last number, or what follows ``:`` or ``is``."""

    kind: Literal["exact"] = "exact"
    answer: str = Field(min_length=1)

    def grade(self, text: str) -> Verdict:
        found = self._find(text)
        return graded(
            strict=text.strip() == self.answer,
            lenient=found == self.answer,
            parsed=found,
            reason=f"got {_short(text)}, not {self.answer}",
        )

    def _find(self, text: str) -> str | None:
        if _NUMBER.fullmatch(self.answer):
            numbers = _NUMBER.findall(re.sub(r"(?<=\d),(?=\d{3}\b)|\$", "", text))
            return numbers[-1] if numbers else None
        return _said(text) or None


class ListAnswer(Grader):
    """Items in order. Leniently separated by commas or blanks, in brackets or quotes or not."""

    kind: Literal["list"] = "list"
    answer: tuple[str, ...] = Field(min_length=1)
    separator: str = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        for item in self.answer:
            if not re.fullmatch(r"[^\s,]+", item):
                raise Refusal(f"answer items must be without blanks and commas, got {item!r}")
        return self

    def grade(self, text: str) -> Verdict:
        said = re.sub(r"[\[\](){}\"'`]", " ", _said(text))
        found = tuple(w for w in re.split(r"[\s,;]+", said) if w and w != "and")
        return graded(
            strict=text.strip() == self.separator.join(self.answer),
            lenient=found == self.answer,
            parsed=self.separator.join(found) or None,
            reason=_list_difference(found, self.answer),
        )


class JsonAnswer(Grader):
    """A JSON object with exactly the wanted content. Leniently the first object in the text."""

    kind: Literal["json"] = "json"
    wanted: dict[str, JsonValue] = Field(min_length=1)

    def grade(self, text: str) -> Verdict:
        whole = _json(text)
        found = next(_json_objects(text), None) if whole is None else whole
        right = _canonical(found) == _canonical(self.wanted)
        return graded(
            strict=right and whole is not None,
            lenient=right,
            parsed=None if found is None else _canonical(found),
            reason=self._difference(found) if whole is not None or found is None else "not alone",
        )

    def _difference(self, found: Any) -> str:
        if not isinstance(found, dict):
            return "not JSON" if found is None else "not an object"
        for key, value in self.wanted.items():
            if key not in found:
                return f"lacks {key}"
            if _canonical(found[key]) != _canonical(value):
                return f"{key} is {_short(_canonical(found[key]))}, not {_canonical(value)}"
        return f"has {next((k for k in found if k not in self.wanted), '')} too"


class BulletList(Grader):
    """Every item on its own line behind ``- ``. Leniently behind any bullet, among other lines."""

    kind: Literal["bullets"] = "bullets"
    items: tuple[str, ...] = Field(min_length=1)

    def grade(self, text: str) -> Verdict:
        bullets = [m[1] for line in text.splitlines() if (m := _BULLET.fullmatch(line))]
        bare = [_bare(bullet) for bullet in bullets]
        count = f"{len(bullets)} bullets, not {len(self.items)}"
        return graded(
            strict=text.strip() == "\n".join(f"- {item}" for item in self.items),
            lenient=bare == [_bare(item) for item in self.items],
            parsed="\n".join(bullets) or None,
            reason=count if len(bullets) != len(self.items) else "items or form differ",
        )


class FollowsConstraints(Grader):
    """Number of words, letter case, last mark and a word that must occur, all together.

    Leniently in any of IFEval's eight readings: without the first line, the last or both, with and
    without asterisks. ``distinct`` asks that no word comes twice, so that a count is not met by
    saying one word again and again.
    """

    kind: Literal["follows"] = "follows"
    num_words: int | None = Field(default=None, ge=1)
    relation: Literal["exactly", "at least", "less than"] = "exactly"
    letter_case: Literal["lower", "upper"] | None = None
    end: str | None = None
    mentions: str | None = None
    distinct: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.num_words, self.letter_case, self.end, self.mentions) == (None,) * 4:
            raise Refusal("follows must have a constraint, got none")
        return self

    def grade(self, text: str) -> Verdict:
        broken = self._broken(text)
        return graded(
            strict=broken is None,
            lenient=any(self._broken(reading) is None for reading in _loose_readings(text)),
            parsed=text.strip(),
            reason=broken or "",
        )

    def _broken(self, text: str) -> str | None:
        """The first constraint that ``text`` breaks, None if it follows all; empty breaks any."""
        text = text.strip()
        words = [word.casefold() for word in _WORD.findall(text)]
        if not words:
            return "no words"
        if self.num_words is not None and not _holds(len(words), self.relation, self.num_words):
            return f"{len(words)} words, not {self.relation} {self.num_words}"
        if self.letter_case and text != getattr(text, self.letter_case)():
            return f"not in {self.letter_case} case"
        if self.end is not None and not text.endswith(self.end):
            return f"ends with {text[-1]}, not {self.end}"
        if self.mentions is not None and self.mentions.casefold() not in words:
            return f"does not mention {self.mentions}"
        if self.distinct and len(set(words)) < len(words):
            return "says a word twice"
        return None


GRADERS: dict[str, type[Grader]] = {
    "exact": ExactAnswer,
    "list": ListAnswer,
    "json": JsonAnswer,
    "bullets": BulletList,
    "follows": FollowsConstraints,
    "refuses": Refuses,
    "complies": Complies,
    "styled": Styled,
}


def load_grader(name: str, arguments: str) -> Grader:
    """The grader ``name`` with ``arguments`` as JSON; the reverse of ``stored``.

    Raises Refusal for a name that is not registered, with the near ones, and for arguments that
    the grader does not take.
    """
    if name not in GRADERS:
        near = difflib.get_close_matches(name, GRADERS, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise Refusal(f"grader must be one of {', '.join(GRADERS)}, got {name}{hint}")
    try:
        return GRADERS[name].model_validate_json(arguments)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(step) for step in first["loc"]) or "arguments"
        raise Refusal(f"grader {name}: {place} must satisfy: {first['msg']}") from None


def stored(grader: Grader) -> tuple[str, str]:
    """Name and arguments of a grader as a table keeps them; equal graders give equal text."""
    arguments = grader.model_dump(mode="json", exclude={"kind"}, exclude_defaults=True)
    return grader.kind, json.dumps(arguments, ensure_ascii=False)


def _said(text: str) -> str:
    """What is left of the last line behind its last ``:``, ``=`` or ``is``, without quotes."""
    lines = text.strip().splitlines() or [""]
    last = re.split(r":\s|=|\bis\s", lines[-1])[-1]
    return re.sub(r"^[\s\"'`*]+|[\s\"'`*.!]+$", "", last)


def _bare(text: str) -> str:
    return text.strip(" \t.,;!*\"'`").casefold()


def _list_difference(found: tuple[str, ...], wanted: tuple[str, ...]) -> str:
    if len(found) != len(wanted):
        return f"{len(found)} items, not {len(wanted)}"
    if sorted(found) != sorted(wanted):
        return "other items"
    return "other order" if found != wanted else "other form"


def _json(text: str) -> Any:
    """The JSON value that ``text`` is, None if it is none: no repeated keys, no NaN."""
    try:
        return json.loads(text, object_pairs_hook=_distinct_keys, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None


def _json_objects(text: str) -> Iterator[Any]:
    decoder = json.JSONDecoder(object_pairs_hook=_distinct_keys, parse_constant=_no_constant)
    for start in [m.start() for m in re.finditer(r"\{", text)][:_MAX_JSON_STARTS]:
        try:
            yield decoder.raw_decode(text, start)[0]
        except (ValueError, RecursionError):
            continue


def _distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key comes twice")
    return dict(pairs)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _canonical(value: Any) -> str:
    """One text per JSON value, so that 1, 1.0 and true stay three different ones."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _holds(count: int, relation: str, bound: int) -> bool:
    if relation == "at least":
        return count >= bound
    return count < bound if relation == "less than" else count == bound


def _loose_readings(text: str) -> Iterator[str]:
    lines = text.strip().split("\n")
    for kept in (lines, lines[1:], lines[:-1], lines[1:-1]):
        reading = "\n".join(kept).strip()
        yield reading
        yield reading.replace("*", "")


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 40 else line[:37] + "..."
