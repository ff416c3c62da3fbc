"""Which licences a text holds, by comparing its words with the words of known licences.

Two texts are the same licence if their words are, apart from copyright lines, list marks and the
spelling of a few words (SPDX matching guidelines, annex B of SPDX 2.3). Else a licence is found
where nine tenths of its runs of five words are in the text. Of licences that share most of their
words, such as BSD with two and with three clauses, the one counts that explains the most; of
several texts one after the other, all do. The texts are choosealicense.com's, which ``identify``
ships, and passages of a few licences that are missing there.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache

MIN_CONTAINMENT = 0.9

_RUN = 5  # words
_NEW_SHARE = 0.5  # of a licence's runs that no licence found before may have explained
_MAX_CHARACTERS = 1 << 20  # the longest collections of licences have some 400 kB
_CHOICE_WORDS = 200  # a sentence on choosing, not a collection of licences

# The text alone does not say whether a later version may be chosen; that takes a notice beside it
# (section 9 of GPL-2.0), so without one the version of the text is what holds.
_ONLY = re.compile(r"\A(?:A|L)?GPL-\d\.\d\Z")

_NOT_EVIL = "The Software shall be used for Good, not Evil."
_ADVERTISING = (
    "All advertising materials mentioning features or use of this software must display the "
    "following acknowledgement: This product includes software developed by"
)
_MIT_CONDITION = (
    "subject to the following conditions: The above copyright notice and this permission notice "
    "shall be included in all copies or substantial portions of the Software."
)
_X11 = (
    "shall not be used in advertising or otherwise to promote the sale, use or other dealings in "
    "this Software without prior written authorization"
)
_HPND = (
    "Permission to use, copy, modify and distribute this software and its documentation for any "
    "purpose and without fee is hereby granted, provided that the above copyright notice appear "
    "in all copies, and that both that copyright notice and this permission notice appear in "
    "supporting documentation"
)
_HPND_NAME = (
    "not be used in advertising or publicity pertaining to distribution of the software without "
    "specific, written prior permission"
)
_CMU = (
    "By obtaining, using, and/or copying this software and/or its associated documentation, you "
    "agree that you have read, understood, and will comply with the following terms and conditions"
)
_PSF = (
    "PSF hereby grants Licensee a nonexclusive, royalty-free, world-wide license to reproduce, "
    "analyze, test, perform and/or display publicly, prepare derivative works, distribute, and "
    "otherwise use",
    'on an "AS IS" basis. PSF MAKES NO REPRESENTATIONS OR WARRANTIES, EXPRESS OR IMPLIED. BY WAY '
    "OF EXAMPLE, BUT NOT LIMITATION, PSF MAKES NO AND DISCLAIMS ANY REPRESENTATION OR WARRANTY OF "
    "MERCHANTABILITY OR FITNESS FOR ANY PARTICULAR PURPOSE",
)
_BEOPEN = (
    "BeOpen hereby grants Licensee a non-exclusive, royalty-free, world-wide license to reproduce, "
    "analyze, test, perform and/or display publicly, prepare derivative works, distribute, and "
    "otherwise use the Software alone or in any derivative version"
)
_CWI = (
    "Permission to use, copy, modify, and distribute this software and its documentation for any "
    "purpose and without fee is hereby granted, provided that the above copyright notice appear "
    "in all copies and that both that copyright notice and this permission notice appear in "
    "supporting documentation, and that the name of Stichting Mathematisch Centrum or CWI not be "
    "used in advertising or publicity pertaining to distribution of the software without "
    "specific, written prior permission."
)
# Licence: the one it is made from ("" for none), passages that it has besides, one that it lacks.
_VARIANTS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "BSD-4-Clause": ("BSD-3-Clause", (_ADVERTISING,), ""),
    "JSON": ("MIT", (_NOT_EVIL,), ""),
    "X11": ("MIT", (_X11,), ""),
    "MIT-0": ("MIT", (), _MIT_CONDITION),
    "HPND": ("", (_HPND, _HPND_NAME), ""),
    "MIT-CMU": ("", (_CMU, _HPND, _HPND_NAME), ""),
    "PSF-2.0": ("", _PSF, ""),
    "Python-2.0": ("", (*_PSF, _BEOPEN, _CWI), ""),
}
_END = "END OF TERMS AND CONDITIONS"
# Words in what no known licence explains that take back what it grants.
_RESTRICTION = re.compile(
    r"\b(?:commons clause|noncommercial|non commercial|not for commercial|commercial use is (?:not"
    r"|prohibited|forbidden)|(?:academic|research|educational|evaluation|personal) (?:use|purposes)"
    r" only|right to sell the software|ethical source|may not be used for|competing (?:product"
    r"|service)|production use)\b"
)
_CHOICE = re.compile(
    r"\b(?:dual licen[cs]ed?|duallicensed|either of|either the|under either|at your option"
    r"|your choice|choose (?:either|one|which))\b"
)

# Where a text names whoever gave the licence.
_NAME = re.compile(r"\[[a-z]+\]|\bthe copyright (?:holders?|owner)\b", re.IGNORECASE)

_COPYRIGHT_LINE = re.compile(
    r"^[^\w\n]*(?:portions )?(?:(?:\(c\)|©)|copyright\b.*(?:\(c\)|©|\b(?:19|20)\d\d\b|year|yyyy)"
    r"|copyright (?:held )?by\b).*$",
    re.MULTILINE,
)
_LEADER = re.compile(r"^[\s#*/;%!|>\"'.-]+", re.MULTILINE)  # comment signs and bullets
_MARK = re.compile(
    r"(?<![\w.])(?<!version )\(?(?:\d{1,2}|[a-z]|[ivx]{1,4})[.)](?=\s)"
)  # 1. (a) ii)
_HYPHEN = re.compile(r"(?<=[a-z])-\s*(?=[a-z])")  # non-infringement, and words parted at line ends
_WORD = re.compile(r"[a-z0-9]+")
_SPELLINGS = {
    "licence": "license",
    "licences": "licenses",
    "licenced": "licensed",
    "sublicence": "sublicense",
    "https": "http",
    "organisation": "organization",
    "acknowledgment": "acknowledgement",
    "merchantibility": "merchantability",
    "copyrights": "copyright",
    "owner": "holder",  # "copyright owner" and "holders" vary in BSD texts
    "holders": "holder",
    "owners": "holder",
}

_GNU = {"": "GPL", "lesser ": "LGPL", "library ": "LGPL", "affero ": "AGPL"}
_GNU_NOTICE = re.compile(
    r"\bgnu (?P<which>lesser |library |affero )?general public license(?: as published by the free "
    r"software foundation)? (?:either )?(?:license )?version (?P<major>\d)(?: (?P<minor>\d))?"
    r"(?P<later>(?: of the license)? or (?:at your option )?(?:any )?later)?"
)
_NOTICES = {
    "Apache-2.0": re.compile(r"\blicensed under the apache license version 2\b"),
    "MPL-2.0": re.compile(
        r"\bsubject to the terms of the mozilla public license (?:v |version )?2 0\b"
    ),
    "EPL-2.0": re.compile(r"\bunder the terms of the eclipse public license (?:v |version )?2 0\b"),
    "MIT": re.compile(
        r"\b(?:licensed|released|distributed) under the (?:terms of the )?mit license\b"
    ),
}

Run = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Match:
    """One known licence in a text."""

    licence: str  # SPDX id
    containment: float  # of its runs of words, the fraction that the text has; 1.0 if none lacks


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a text was found to be."""

    matches: tuple[Match, ...] = ()  # what explains the most comes first
    exact: bool = False  # it is one licence, word for word
    num_others: int = 0  # words that no licence explains
    is_choice: bool = False  # the reader may choose among the licences
    is_restricted: bool = False  # words around take back what the licence grants


@lru_cache(512)
def compare(text: str) -> Comparison:
    """The known licences in ``text``, which may stand in comments and be broken anywhere."""
    words = _words(text[:_MAX_CHARACTERS])
    known = _known()
    if (licence := known.by_words.get(tuple(words))) is not None:
        return Comparison((Match(licence, 1.0),), exact=True)
    runs = list(_runs(words))
    matches = _explain(set(runs), known)
    names = [match.licence for match in matches]
    explaining = [known.runs[name] | known.appendix.get(name, frozenset()) for name in names]
    others = _others(words, runs, explaining)
    rest = " ".join(others)
    return Comparison(
        tuple(Match(_closer(match.licence, words), match.containment) for match in matches),
        num_others=len(others),
        is_choice=len(others) <= _CHOICE_WORDS and _CHOICE.search(rest) is not None,
        is_restricted=bool(matches) and _RESTRICTION.search(rest) is not None,
    )


def notice_in(head: str) -> list[str]:
    """Licences that the notices in ``head``, the top of a file, say that it is under.

    Such as the GNU licences recommend, the appendix of Apache-2.0 and exhibit A of MPL-2.0: there,
    unlike in a text, it is said whether later versions may be chosen.
    """
    words = " ".join(_words(head))
    found = []
    for gnu in _GNU_NOTICE.finditer(words):
        version = f"{gnu['major']}.{gnu['minor'] or 0}"
        later = "or-later" if gnu["later"] else "only"
        found.append(f"{_GNU[gnu['which'] or '']}-{version}-{later}")
    found += [licence for licence, pattern in _NOTICES.items() if pattern.search(words)]
    return list(dict.fromkeys(found))


@dataclass(frozen=True, slots=True)
class _Known:
    by_words: dict[Run, str]
    runs: dict[str, frozenset[Run]]
    appendix: dict[str, frozenset[Run]]
    having: dict[Run, tuple[str, ...]]


@cache
def _known() -> _Known:
    from identify.vendor.licenses import LICENSES

    parts: dict[str, list[list[str]]] = {}  # of each licence, its words between names
    for name, text in LICENSES:
        parts[_spdx(name)] = [_words(part) for part in _NAME.split(_clean(text))]
    for name, (base, passages, lacking) in _VARIANTS.items():
        kept = [part for whole in parts.get(base, []) for part in _without(whole, _words(lacking))]
        parts[name] = kept + [_words(passage) for passage in passages]
    runs = {
        name: frozenset(run for part in of_licence for run in _runs(part))
        for name, of_licence in parts.items()
    }
    # How to apply it: many leave that out, so it counts neither for nor against.
    ends = {_spdx(name): _words(text.partition(_END)[2]) for name, text in LICENSES}
    appendix = {name: frozenset(_runs(words)) for name, words in ends.items()}
    runs = {name: own - appendix.get(name, frozenset()) for name, own in runs.items()}
    having: dict[Run, list[str]] = {}
    for name, of_licence in runs.items():
        for run in of_licence:
            having.setdefault(run, []).append(name)
    return _Known(
        by_words={tuple(_words(text)): _spdx(name) for name, text in LICENSES},
        runs=runs,
        appendix=appendix,
        having={run: tuple(names) for run, names in having.items()},
    )


def _explain(runs: set[Run], known: _Known) -> list[Match]:
    """Licences of which ``runs`` hold enough, without those that a fuller one explains."""
    found: list[Match] = []
    counts = Counter(name for run in runs for name in known.having.get(run, ()))
    fitting = {
        name: count / len(known.runs[name])
        for name, count in counts.items()
        if count >= MIN_CONTAINMENT * len(known.runs[name])
    }
    explained: set[Run] = set()

    def lead(name: str) -> int:
        """Runs of the licence in the text, less twice those that the text lacks."""
        return 3 * counts[name] - 2 * len(known.runs[name])

    for name in sorted(fitting, key=lambda name: (-lead(name), name)):
        own = known.runs[name]
        if len(own - explained) > _NEW_SHARE * len(own):
            found.append(Match(name, round(fitting[name], 3)))
            explained |= own
    return found


def _others(words: list[str], runs: list[Run], licences: Iterable[frozenset[Run]]) -> list[str]:
    """Words of the text outside every run that one of ``licences`` has."""
    covered = bytearray(len(words))
    explained: frozenset[Run] = frozenset().union(*licences)
    for place, run in enumerate(runs):
        if run in explained:
            covered[place : place + _RUN] = b"\1" * _RUN
    return [word for word, known in zip(words, covered, strict=True) if not known]


def _closer(licence: str, words: list[str]) -> str:
    """Which of Creative Commons' licences is meant: their texts differ by a few words only."""
    if licence not in ("CC-BY-4.0", "CC-BY-SA-4.0"):
        return licence
    elements = [("NC", "noncommercial"), ("ND", "noderivatives"), ("SA", "sharealike")]
    said = [element for element, word in elements if any(word in whole for whole in words)]
    if "SA" in said and licence == "CC-BY-4.0" and said == ["SA"]:
        said = []  # a mention
    return "-".join(["CC-BY", *said, "4.0"])


def _spdx(name: str) -> str:
    return f"{name}-only" if _ONLY.match(name) else name


def _clean(text: str) -> str:
    """``text`` in lower case without comment signs and copyright lines."""
    return _COPYRIGHT_LINE.sub(" ", _LEADER.sub(" ", text.lower()))


def _words(text: str) -> list[str]:
    text = _clean(text)
    text = _HYPHEN.sub("", _MARK.sub(" ", text)).replace("all rights reserved", " ")
    return [_SPELLINGS.get(word, word) for word in _WORD.findall(text)]


def _runs(words: list[str]) -> Iterable[Run]:
    return zip(*(words[start:] for start in range(_RUN)), strict=False)


def _without(words: list[str], passage: list[str]) -> list[list[str]]:
    """``words`` before and after ``passage``."""
    for place in range(len(words) - len(passage) + 1 if passage else 0):
        if words[place : place + len(passage)] == passage:
            return [words[:place], words[place + len(passage) :]]
    return [words]
