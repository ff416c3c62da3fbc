"""Which licence holds, as an SPDX expression, and whether text under it may be trained on.

Allowed are the licences that ScanCode's index calls Permissive or Public Domain, as for The Stack
v2 (Lozhkov et al. 2024, arXiv:2402.19173, 2.1). The index comes with ``license-expression``. A
licence that the index does not know is not allowed.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageMetadata
from typing import Any

from license_expression import (
    ExpressionError,
    LicenseWithExceptionSymbol,
    Licensing,
    get_license_index,
    get_spdx_licensing,
)

# A licence is stated that nobody here knows: unlike None, which says nothing, never allowed.
UNKNOWN = "LicenseRef-scancode-unknown-spdx"
ALLOWED_CATEGORIES = frozenset(("Permissive", "Public Domain"))

# What people write in free text, in lower case and without "license", "licence" and "the".
_ALIASES = {
    "apache": "Apache-2.0",
    "apache 2": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache software": "Apache-2.0",
    "apache version 2.0": "Apache-2.0",
    "asl 2.0": "Apache-2.0",
    # Which BSD is not said; all are permissive, and three clauses ask the most of a user.
    "bsd": "BSD-3-Clause",
    "bsd 3-clause": "BSD-3-Clause",
    "3-clause bsd": "BSD-3-Clause",
    "new bsd": "BSD-3-Clause",
    "modified bsd": "BSD-3-Clause",
    "bsd 2-clause": "BSD-2-Clause",
    "2-clause bsd": "BSD-2-Clause",
    "simplified bsd": "BSD-2-Clause",
    "isc iscl": "ISC",
    "psf": "PSF-2.0",
    "python software foundation": "PSF-2.0",
    "mpl 2.0": "MPL-2.0",
    "mozilla public 2.0": "MPL-2.0",
    "mozilla public 2.0 mpl 2.0": "MPL-2.0",
    "public domain": "LicenseRef-scancode-public-domain",
    "unlicense unlicense": "Unlicense",
    "lgpl": "LGPL-2.0-or-later",
    "lgplv3": "LGPL-3.0-only",
    "gnu lesser general public v2 lgplv2": "LGPL-2.0-only",
    "gnu lesser general public v2 or later lgplv2+": "LGPL-2.0-or-later",
    "gnu lesser general public v3 lgplv3": "LGPL-3.0-only",
    "gnu lesser general public v3 or later lgplv3+": "LGPL-3.0-or-later",
    "gnu library or lesser general public lgpl": "LGPL-2.0-or-later",
    "gpl": "GPL-1.0-or-later",
    "gplv2": "GPL-2.0-only",
    "gplv3": "GPL-3.0-only",
    "gnu general public gpl": "GPL-1.0-or-later",
    "gnu general public v2 gplv2": "GPL-2.0-only",
    "gnu general public v2 or later gplv2+": "GPL-2.0-or-later",
    "gnu general public v3 gplv3": "GPL-3.0-only",
    "gnu general public v3 or later gplv3+": "GPL-3.0-or-later",
    "gnu affero general public v3": "AGPL-3.0-only",
    "gnu affero general public v3 or later agplv3+": "AGPL-3.0-or-later",
}
_NOISE = re.compile(r"\b(the|licen[cs]e[ds]?)\b|[,()\"']")
_SAYS_NOTHING = ("OSI Approved", "DFSG approved", "Other/Proprietary License")
_TAG = re.compile(rb"SPDX-License-Identifier:[ \t]*([^\r\n*]+)")
_TAG_BYTES = 4096  # a tag stands at the top of its file (SPDX 2.3, annex E)
_URLS = (
    (r"creativecommons\.org/publicdomain/zero/1\.0", "CC0-1.0"),
    (r"creativecommons\.org/publicdomain/mark/1\.0", "CC-PDM-1.0"),
    (r"creativecommons\.org/licenses/(?P<kind>by[a-z-]*)/(?P<version>\d\.\d)", None),
    (r"opensource\.org/licen[cs]es?/(?P<id>[\w.-]+)", None),
    (r"spdx\.org/licenses/(?P<id>[\w.+-]+?)(?:\.html)?/?$", None),
    (r"apache\.org/licenses/LICENSE-2\.0", "Apache-2.0"),
    (r"gnu\.org/(?:licenses|copyleft)/(?P<id>[al]?gpl-\d\.\d|fdl-\d\.\d)", None),
)


@dataclass(frozen=True, slots=True)
class Finding:
    """A licence that was found: what it is, where, and how sure that is."""

    licence: str  # SPDX expression
    evidence: str  # where: "SPDX tag in the file", "LICENSE matches MIT", "recipe"
    confidence: float  # 0..1; 1 is a statement made for machines, less is a comparison of texts


def by_recipe(licence: str | None) -> Finding | None:
    """What a recipe says of all that says nothing itself; None where it says nothing either."""
    return Finding(licence, "recipe", 1.0) if licence else None


@cache
def is_allowed(expression: str, also: frozenset[str] = frozenset()) -> bool:
    """Whether text under ``expression`` may be trained on, by the index or by the ids in ``also``.

    OR needs one allowed licence, AND needs all. WITH counts as its licence: an exception takes
    conditions away and adds none.
    """
    try:
        tree = _licensing().parse(expression)
    except ExpressionError:
        return False
    return tree is not None and _judge(tree, also)


# From what binds a user least to what binds most; ``unknown`` is stated by nobody.
CLASSES = ("public domain", "permissive", "copyleft limited", "copyleft", "other", "unknown")


@cache
def licence_class(expression: str | None) -> str:
    """The one of ``CLASSES`` that ``expression`` belongs to, by ScanCode's categories.

    An OR is as its best arm, an AND as its worst, WITH as its licence. Categories that bind in
    other ways (proprietary, source-available, ...) are ``other``; None and ids that the index does
    not know are ``unknown``.
    """
    if expression is None:
        return CLASSES[-1]
    try:
        tree = _licensing().parse(expression)
    except ExpressionError:
        return CLASSES[-1]
    return CLASSES[-1] if tree is None else CLASSES[_class_of(tree)]


def _class_of(tree: Any) -> int:
    licensing = _licensing()
    if isinstance(tree, licensing.OR | licensing.AND):
        of = min if isinstance(tree, licensing.OR) else max
        return of(_class_of(part) for part in tree.args)
    symbol = tree.license_symbol if isinstance(tree, LicenseWithExceptionSymbol) else tree
    category = _categories().get(symbol.key)
    if category is None or symbol.key == UNKNOWN:
        return CLASSES.index("unknown")
    name = category.lower()
    return CLASSES.index(name if name in CLASSES else "other")


@cache
def spdx(text: str) -> str | None:
    """``text`` as a normal SPDX expression, or None if it is neither one nor a known alias."""
    text = " ".join(text.split())
    alias = " ".join(_NOISE.sub(" ", text.lower()).split())
    for candidate in (text, _ALIASES.get(alias), alias):
        if not candidate:
            continue
        try:
            return str(_licensing().parse(candidate, validate=True, strict=True).render())
        except ExpressionError:
            continue
    return None


def from_metadata(metadata: PackageMetadata) -> Finding | None:
    """Licence of a Python distribution, from its core metadata; None if it does not say.

    License-Expression comes first (PEP 639), then a License field of one line, the classifiers,
    and the first line of a License field that holds the whole text. Several classifiers are read
    as AND: they do not say that a user may choose.
    """
    if (said := metadata.get_all("License-Expression")) is not None:
        return _finding(spdx(said[0]), "License-Expression", 1.0)
    free_text = "\n".join(metadata.get_all("License") or [])
    lines = [line for line in free_text.splitlines() if line.strip()]
    if len(lines) == 1 and (found := _finding(spdx(lines[0]), "License field", 0.9)) is not None:
        return found
    listed = _from_classifiers(metadata.get_all("Classifier") or [])
    return _finding(listed, "classifiers", 0.9) or _finding(
        spdx(lines[0]) if lines else None, "first line of License field", 0.8
    )


def from_source(head: bytes) -> Finding | None:
    """Licence that a source file states for itself by SPDX tags near its top. All of them hold.

    A tag that names a licence of the author's own, ``LicenseRef-...``, gives ``UNKNOWN``.
    """
    said = [_tagged(tag) for tag in _TAG.findall(head[:_TAG_BYTES])]
    known = [licence for licence in dict.fromkeys(said) if licence is not None]
    return _finding(both(known), "SPDX tag in the file", 1.0)


def from_url(url: str) -> str | None:
    """Licence whose text is at ``url``: Creative Commons, OSI, SPDX, Apache and GNU pages."""
    for pattern, licence in _URLS:
        if (match := re.search(pattern, url, re.IGNORECASE)) is None:
            continue
        named = match.groupdict()
        if "kind" in named:
            licence = f"CC-{named['kind'].strip('-')}-{named['version']}"
        elif "id" in named:
            licence = named["id"]
        return spdx(licence or "")
    return None


def both(expressions: Iterable[str]) -> str | None:
    """Expression of all ``expressions`` holding together; None of none."""
    parts = list(dict.fromkeys(expressions))
    if len(parts) < 2:
        return parts[0] if parts else None
    return spdx(" AND ".join(f"({part})" for part in parts))


def either(expressions: Iterable[str]) -> str | None:
    """Expression of a choice among ``expressions``; None of none."""
    parts = list(dict.fromkeys(expressions))
    if len(parts) < 2:
        return parts[0] if parts else None
    return spdx(" OR ".join(f"({part})" for part in parts))


def keys(expression: str) -> frozenset[str]:
    """SPDX ids that ``expression`` names."""
    return frozenset(_licensing().license_keys(expression))


def _finding(licence: str | None, evidence: str, confidence: float) -> Finding | None:
    return None if licence is None else Finding(licence, evidence, confidence)


def _tagged(tag: bytes) -> str | None:
    said = tag.decode("utf-8", "replace").strip().removesuffix("-->").removesuffix("#").strip()
    return spdx(said) or (UNKNOWN if said.startswith("LicenseRef-") else None)


def _from_classifiers(classifiers: Iterable[str]) -> str | None:
    names = [c.split("::")[-1].strip() for c in classifiers if c.startswith("License ::")]
    found = [spdx(name) for name in names if name not in _SAYS_NOTHING]
    if not found or None in found:
        return None
    return both(licence for licence in found if licence is not None)


def _judge(tree: Any, also: frozenset[str]) -> bool:
    licensing = _licensing()
    if isinstance(tree, licensing.OR | licensing.AND):
        of = any if isinstance(tree, licensing.OR) else all
        return of(_judge(part, also) for part in tree.args)
    symbol = tree.license_symbol if isinstance(tree, LicenseWithExceptionSymbol) else tree
    return symbol.key in also or _categories().get(symbol.key) in ALLOWED_CATEGORIES


@cache
def _licensing() -> Licensing:
    return get_spdx_licensing()  # reads the whole index at every call


@cache
def _categories() -> dict[str, str]:
    """ScanCode's category of every licence, by its SPDX id."""
    return {
        entry["spdx_license_key"]: entry["category"]
        for entry in get_license_index()
        if entry.get("spdx_license_key") and not entry["is_exception"]
    }
