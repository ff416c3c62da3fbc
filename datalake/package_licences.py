"""The licence that a package's own metadata states, for the package managers of many languages.

``pyproject.toml``, ``setup.cfg``, ``setup.py``, ``PKG-INFO``, ``package.json``, ``composer.json``,
``Cargo.toml``, ``pom.xml`` and gemspecs. Where a format says what a list of licences means, such as
a choice, that is what it means here. What comes from free text is less sure.
"""

import configparser
import email.parser
import json
import re
import tomllib
from collections.abc import Callable, Iterable
from typing import Any

from datalake.licences import UNKNOWN, Finding, both, either, from_metadata, spdx

# Names of licences in a sentence; the longer ones first.
_NAMED = (
    (r"\bapache(?: software)?(?: licen[cs]e)?,?(?: version| v)?[ -]?2(?:\.0)?\b", "Apache-2.0"),
    (r"\b(?:bsd[- ]3(?:[- ]clause)?|(?:3|three)[- ]clause bsd|new bsd)\b", "BSD-3-Clause"),
    (r"\b(?:bsd[- ]2(?:[- ]clause)?|(?:2|two)[- ]clause bsd|simplified bsd)\b", "BSD-2-Clause"),
    (r"\b(?:mpl|mozilla public licen[cs]e)[, ]*(?:version |v)?[- ]?2(?:\.0)?\b", "MPL-2.0"),
    (r"\bagpl[- ]?v?3|\baffero general public licen[cs]e\b", "AGPL-3.0-only"),
    (r"\blgpl[- ]?v?3", "LGPL-3.0-only"),
    (r"\blgpl[- ]?v?2\.1", "LGPL-2.1-only"),
    (r"(?<![al])\bgpl[- ]?v?3|\bgnu general public licen[cs]e,? v(?:ersion )?3", "GPL-3.0-only"),
    (r"(?<![al])\bgpl[- ]?v?2|\bgnu general public licen[cs]e,? v(?:ersion )?2", "GPL-2.0-only"),
    (r"\bcc0\b", "CC0-1.0"),
    (r"\bunlicense\b", "Unlicense"),
    (r"\bisc\b", "ISC"),
    (r"\bmit\b", "MIT"),
)
_CHOICE = re.compile(
    r"\b(?:either|dual(?:ly)?[- ]licen[cs]ed?|at your option|\bor\b)", re.IGNORECASE
)


def reader_of(name: str) -> Callable[[str], Finding | None] | None:
    """What reads the metadata file ``name`` (in lower case); None where it is no such file."""
    if name.endswith(".gemspec"):
        return _gemspec
    return _READERS.get(name)


def stated(text: Any, field: str, confidence: float = 1.0) -> Finding | None:
    """Finding of an expression or of a name in free text, which is less sure."""
    if not isinstance(text, str) or not text.strip() or len(text) > 1000:
        return None
    licence = spdx(text)
    if licence is None:
        return None
    exact = licence.lower() == " ".join(text.split()).lower()
    return Finding(licence, field, confidence if exact else min(confidence, 0.9))


def listed(
    texts: Iterable[Any], field: str, join: Callable[[Iterable[str]], str | None]
) -> Finding | None:
    """Finding of several, put together by ``join``; None where one of them is not known."""
    found = [stated(text, field) for text in texts]
    if not found or None in found:
        return None
    known = [one for one in found if one is not None]
    licence = join(one.licence for one in known)
    return Finding(licence, field, min(one.confidence for one in known)) if licence else None


def _pyproject(text: str) -> Finding | None:
    tables = toml(text)
    project = _table(tables, "project")
    said = project.get("license")
    if isinstance(said, dict):
        said = said.get("text")
    lines = [f"Classifier: {c}" for c in project.get("classifiers") or () if isinstance(c, str)]
    return (
        stated(said, "project.license")
        or stated(_table(tables, "tool", "poetry").get("license"), "tool.poetry.license")
        or _core_metadata("\n".join(lines))
    )


def _setup_cfg(text: str) -> Finding | None:
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read_string(text)
    except configparser.Error:
        return None
    fields = dict(parser.items("metadata")) if parser.has_section("metadata") else {}
    classifiers = fields.get("classifiers", fields.get("classifier", ""))
    lines = [f"Classifier: {line.strip()}" for line in classifiers.splitlines() if line.strip()]
    return stated(fields.get("license"), "license") or _core_metadata("\n".join(lines))


def _setup_py(text: str) -> Finding | None:
    found = re.search(r"\blicense\s*=\s*([\"'])([^\"'\n]{1,200})\1", text)
    return stated(found[2], "license", 0.9) if found else None


def _core_metadata(text: str) -> Finding | None:
    return from_metadata(email.parser.HeaderParser().parsestr(text))  # type: ignore[arg-type]


def _package_json(text: str) -> Finding | None:
    fields = _json(text)
    said = fields.get("license")
    if isinstance(said, dict):
        said = said.get("type")
    if isinstance(said, str) and said.strip().upper() == "UNLICENSED":
        return Finding(UNKNOWN, "license UNLICENSED", 1.0)  # npm: all rights reserved
    choices = fields.get("licenses")  # npm until 2014: a list to choose from
    if not isinstance(choices, list):
        choices = []
    names = [choice.get("type") if isinstance(choice, dict) else choice for choice in choices]
    return stated(said, "license") or listed(names, "licenses", either)


def _composer_json(text: str) -> Finding | None:
    said = _json(text).get("license")
    if isinstance(said, list):  # Composer's schema: a choice
        return listed(said, "license", either)
    return stated(said, "license")


def _cargo(text: str) -> Finding | None:
    said = _table(toml(text), "package").get("license")
    if isinstance(said, str):  # Cargo's old way to write a choice
        said = re.sub(r"\s*/\s*", " OR ", said)
    return stated(said, "package.license")


def _gemspec(text: str) -> Finding | None:
    one = re.search(r"\.license\s*=\s*([\"'])([^\"'\n]{1,200})\1", text)
    if one:
        return stated(one[2], "license")
    several = re.search(r"\.licenses\s*=\s*\[([^\]]{1,500})\]", text)
    names = re.findall(r"[\"']([^\"']+)[\"']", several[1]) if several else []
    return listed(names, "licenses", both)


def _pom(text: str) -> Finding | None:
    listed = re.search(r"<licenses>(.{1,4000}?)</licenses>", text, re.DOTALL)
    names = re.findall(r"<name>([^<]{1,200})</name>", listed[1]) if listed else []
    found = [named_in(name) for name in names]
    if not found or None in found:
        return None
    licence = either(name for name in found if name is not None)  # Maven's POM: a choice
    return Finding(licence, "licenses", 0.9) if licence else None


_READERS: dict[str, Callable[[str], Finding | None]] = {
    "pyproject.toml": _pyproject,
    "setup.cfg": _setup_cfg,
    "setup.py": _setup_py,
    "pkg-info": _core_metadata,
    "metadata": _core_metadata,
    "package.json": _package_json,
    "composer.json": _composer_json,
    "cargo.toml": _cargo,
    "pom.xml": _pom,
}


def toml(text: str) -> dict[str, Any]:
    """Tables of a TOML file, none where it is damaged."""
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError):
        return {}


def _json(text: str) -> dict[str, Any]:
    try:
        fields = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}


def _table(tables: dict[str, Any], *names: str) -> dict[str, Any]:
    for name in names:
        found = tables.get(name)
        tables = found if isinstance(found, dict) else {}
    return tables


def named_in(sentence: str) -> str | None:
    """Licences that ``sentence`` names; a choice among several only where it says so."""
    sentence = " ".join(sentence.split())
    if (licence := spdx(sentence.rstrip("."))) is not None:
        return licence
    found = [licence for pattern, licence in _NAMED if re.search(pattern, sentence, re.IGNORECASE)]
    return either(found) if _CHOICE.search(sentence) else both(found)
