"""Templates of Wikipedia that carry words of a sentence, and what they say.

A template is a program that lies elsewhere in the wiki, so most can only be dropped: boxes,
navigation, citations, notices. These few stand inside sentences, which break without them. They
are named as on the English Wikipedia, from where many other wikis took them.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

Say = Callable[["Arguments"], str]


class Arguments:
    """The arguments of one call; a value is rendered when it is asked for."""

    def __init__(self, values: Mapping[str, Any], render: Callable[[Any], str]) -> None:
        self._values = values
        self._render = render

    def get(self, *keys: str | int) -> str:
        """The first of these arguments that says anything, or nothing."""
        values = (self._values[str(key)] for key in keys if str(key) in self._values)
        return next(filter(None, (self._render(value).strip() for value in values)), "")

    @property
    def listed(self) -> list[str]:
        """The arguments without a name, in order."""
        found: list[str] = []
        while (value := self._values.get(str(len(found) + 1))) is not None:
            found.append(self._render(value).strip())
        return found


def words_of(name: str) -> Say | None:
    """What the template ``name`` (lower case) says in a sentence, None where it is dropped."""
    known = _SAID.get(name)
    return known or next((said for prefix, said in _PREFIXES if name.startswith(prefix)), None)


def _argument(*keys: str | int) -> Say:
    return lambda arguments: arguments.get(*keys)


def _constant(text: str) -> Say:
    return lambda arguments: text


def _before(text: str) -> Say:
    return lambda arguments: text + arguments.get(1)


def _joined(separator: str, before: str = "", after: str = "") -> Say:
    return lambda arguments: before + separator.join(filter(None, arguments.listed)) + after


def _last(arguments: Arguments) -> str:
    return next(filter(None, reversed(arguments.listed)), "")


def _quote(arguments: Arguments) -> str:
    return "\n\n" + arguments.get("text", "quote", 1) + "\n\n"


_JOINERS = {"-": "–", "–": "–", "to": " to ", "and": " and ", "or": " or ", "by": " by "}
_JOINERS |= {"x": " × ", "×": " × ", "+/-": " ± ", "±": " ± ", "+": " + ", "to(-)": " to "}
_UNITS = {"km2": "km²", "m2": "m²", "cm2": "cm²", "mi2": "sq mi", "sqkm": "km²", "sqmi": "sq mi"}
_UNITS |= {"ft2": "sq ft", "sqft": "sq ft", "m3": "m³", "km3": "km³", "cm3": "cm³", "acre": "acres"}
_UNITS |= {"C": "°C", "F": "°F", "kph": "km/h", "foot": "feet", "inch": "inches"}
_NUMBER = re.compile(r"[-+−]?[\d.,/]+(?:e[-+]?\d+)?", re.IGNORECASE)


def _convert(arguments: Arguments) -> str:
    """The measure as the author wrote it, without what it is in other units."""
    parts, said = arguments.listed, ""
    at = 0
    while at + 1 < len(parts) and _NUMBER.fullmatch(parts[at]):
        said += (" " if at and not said.endswith(tuple(_JOINERS.values())) else "") + parts[at]
        if (joiner := _JOINERS.get(parts[at + 1])) is not None:
            said += joiner
        else:
            said += " " + _UNITS.get(parts[at + 1], parts[at + 1])
            if at + 3 >= len(parts) or _NUMBER.fullmatch(parts[at + 3]):
                break  # what follows is a number of digits, no second measure: 5 ft 9 in
        at += 2
    return said or " ".join(parts[:2])


def _value(arguments: Arguments) -> str:
    number, *error = arguments.listed[:2] or [""]
    said = number + (f" ± {error[0]}" if error and error[0] else "")
    if power := arguments.get("e"):
        said += f"×10^{power}"
    unit = arguments.get("u", "ul")
    return f"{said} {unit}" if unit else said


def _fraction(arguments: Arguments) -> str:
    parts = arguments.listed
    if len(parts) == 1:
        return f"1/{parts[0]}"
    return f"{parts[0]} {parts[1]}/{parts[2]}" if len(parts) > 2 else "/".join(parts)


def _japanese(arguments: Arguments) -> str:
    inside = ", ".join(filter(None, (arguments.get(2), arguments.get(3))))
    english = arguments.get(1)
    if not english:
        return inside
    return f"{english} ({inside})" if inside else english


def _chinese(arguments: Arguments) -> str:
    keys = ("c", "t", "s", "p", "w", "j", "hp", "tp", "l")
    return "; ".join(filter(None, (arguments.get(key) for key in keys)))


def _years(before: str) -> Say:
    return lambda arguments: before + "–".join(filter(None, arguments.listed[:2]))


_MONTHS = ("January", "February", "March", "April", "May", "June") + (
    ("July", "August", "September", "October", "November", "December")
)


def _date(arguments: Arguments) -> str:
    """{{start date|1999|12|31}} as 31 December 1999."""
    parts = arguments.listed[:3]
    if len(parts) > 1 and parts[1].isdecimal() and 1 <= int(parts[1]) <= 12:
        parts[1] = _MONTHS[int(parts[1]) - 1]
    return " ".join(reversed([part for part in parts if part]))


def _ship(arguments: Arguments) -> str:
    return " ".join(filter(None, arguments.listed[:2]))


def _named_ship(prefix: str) -> Say:
    return lambda arguments: f"{prefix} {arguments.get(1)}"


def _as_of(arguments: Arguments) -> str:
    before = arguments.get("pre", "alt") or ("as of" if arguments.get("lc") else "As of")
    return arguments.get("alt") or f"{before} {_date(arguments)}"


def _named(names: str, said: Say) -> dict[str, Say]:
    return dict.fromkeys(names.split("|"), said)


_SAID: dict[str, Say] = {
    # Words that are marked up: language, size, colour, emphasis, no line break.
    **_named("lang|rtl-lang|langx|color|colour|fontcolor", _last),
    **_named("transliteration|transl|tlit|font color|sort|nihongo2", _last),
    **_named(
        "nowrap|nobr|nobreak|small|smaller|resize|big|larger|nobold|noitalic|normal|em|strong"
        "|strikethrough|strike|s|u|underline|smallcaps|sc|sc2|smallcaps all|abbr|abbrlink|tooltip"
        "|visible anchor|vanchor|va|kbd|key press|mono|var|mvar|math|bigmath|samp|tt|angbr|angle"
        "|sic|not a typo|proper name|as written|typo|zwnj|keyboard|unicode|nastaliq|hebrew"
        "|citation needed span|cn span|ruby|ruby-ja|flag|flagu|flagcountry|nts|number"
        "|plainlist|flatlist|ordinal|center|left|right|italic|bold|b|i|no italic|text|mathcal"
        "|section link|slink|ill|interlanguage link|dfn"
        "|poem|plain list|title case|clarify span",
        _argument("lt", "text", 1),
    ),
    **_named("code|tlx|inline code|codett", _last),
    "tmath": lambda arguments: f"${arguments.get(1)}$",
    "sub": _argument(1),
    "sup": _before("^"),
    "su": lambda arguments: arguments.get("b") + arguments.get("p"),
    "link-interwiki": _argument("en", 1),
    "wikt-lang": _argument(3, 2),
    # Quotations, as paragraphs of their own.
    **_named(
        "quote|blockquote|quotation|cquote|bquote|poemquote|poem quote|quote box|rquote|verse"
        "|centered pull quote|block quote|citation bloc|zitat",
        _quote,
    ),
    # Numbers and measures.
    **_named("convert|cvt|conv", _convert),
    "val": _value,
    **_named("frac|fraction|sfrac|fract", _fraction),
    **_named("gaps", _joined("")),
    "e": _before("×10^"),
    "10^": _before("10^"),
    **_named("chem|chem2|chemf|ce", _joined("")),
    **_named("us$|usd|us dollar", _before("US$")),
    **_named("gbp|pound sterling", _before("£")),
    **_named("eur|euro", _before("€")),
    **_named("jpy|yen|cny|rmb", _before("¥")),
    **_named("inr|indian rupee", _before("₹")),
    **_named("unité|unite|nombre", _joined(" ")),
    # Dates and times.
    **_named("circa|c.|ca.|ca", lambda arguments: ("c. " + _years("")(arguments)).strip()),
    **_named("floruit|fl.|fl", _years("fl. ")),
    **_named("reign|r.", _years("r. ")),
    **_named("born|b.", _before("b. ")),
    **_named("died|d.", _before("d. ")),
    **_named("start date|end date|date|birth date|death date|film date|start date and age", _date),
    "as of": _as_of,
    # Lists.
    **_named("hlist|comma separated entries|cslist|enum", _joined(", ")),
    **_named("unbulleted list|ubl|bulleted list|blist|ordered list", _joined("\n")),
    **_named("linktext", _joined("")),
    # Names.
    "nihongo": _japanese,
    **_named("nihongo3|nihongo foot", _argument(1, 2)),
    **_named("zh|lang-zh|chinese", _chinese),
    **_named("korean|lang-ko", _argument("hangul", 1)),
    "ship": _ship,
    **{name: _named_ship(name.upper()) for name in ("uss", "hms", "ss", "rms", "hmas", "hmcs")},
    **_named("bibleverse|bible verse|bibleref2|bibleref", _joined(" ")),
    # Characters that markup cannot have.
    **_named("nbsp|space|spaces|thinsp|nnbsp|hairsp|thin space|ensp|emsp", _constant(" ")),
    **_named("snd|spnd|spaced ndash|spaced en dash|dash|ndash spaced", _constant(" – ")),
    **_named("ndash|en dash", _constant("–")),
    **_named("mdash|em dash|emdash", _constant("—")),
    **_named("'|`", _constant("'")),
    **_named("·|dot|middot|bullet|•|interpunct", _constant(" · ")),
    **_named("!|pipe", _constant("|")),
    "=": _constant("="),
    **_named("(|((", _constant("{")),
    **_named(")|))", _constant("}")),
    **_named("okina|ʻ|hamza", _constant("ʻ")),
    **_named("shy|wbr|zwj|zwsp|lrm|rlm|-", _constant("")),
    **_named("br|break|crlf|pb|paragraph break", _constant("\n")),
    **_named('"', lambda arguments: f"“{arguments.get(1)}”"),
    **_named("double single", lambda arguments: f"'{arguments.get(1)}'"),
}
_PREFIXES: tuple[tuple[str, Say], ...] = (
    ("lang-", _argument(1)),
    ("script/", _argument(1)),
)
