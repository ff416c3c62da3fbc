"""Which licence holds for each file of a project, from the files that speak of licences.

From the surest to the vaguest: an SPDX tag in the file or in ``FILE.license`` beside it,
``REUSE.toml`` and ``.reuse/dep5`` (REUSE 3.3), a notice at the top of the file, then the nearest
folder above that says something: by licence texts such as ``LICENSE``, by its package metadata, and
at the top of the project by its ``README``. A text that nobody here knows is ``UNKNOWN``: that it
is there means that what holds further up does not hold below it.
"""

import configparser
import email.parser
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from posixpath import basename, dirname, splitext
from typing import Any

from datalake.licence_texts import Comparison, compare, notice_in
from datalake.licences import (
    UNKNOWN,
    Finding,
    both,
    either,
    found_in_metadata,
    found_in_source,
    keys,
    spdx,
)
from datalake.path_patterns import matches

MAX_BYTES = 1 << 20  # of a file that speaks of licences; the longest collections have 400 kB

_TEXT = re.compile(
    r"(?:(?:mit|apache|bsd|gpl|lgpl|agpl|mpl|isc|zlib|un)[-_.]?)?(?:licen[cs]es?|copying|copyright"
    r"|copyleft)(?:[-_.][\w.+-]*)?|unlicense(?:\.\w+)?|(?:mit|apache-?2?(?:\.0)?)\.(?:txt|md)",
    re.IGNORECASE,
)
_NO_TEXT = re.compile(
    r"\.(?:py|pyi|js|ts|tsx|jsx|java|go|rs|c|h|cc|cpp|hpp|cs|rb|php|sh|json|ya?ml|toml|xml|html?"
    r"|css|svg|png|kt|swift|scala|lua|pl|license|spdx|gz|zip|tmpl|header)\Z",
    re.IGNORECASE,
)
_NOTICE = re.compile(r"notice(?:\.(?:txt|md|rst))?", re.IGNORECASE)
_README = re.compile(r"readme(?:\.(?:md|rst|txt|markdown))?", re.IGNORECASE)
_HEADING = re.compile(
    r"^[ \t]*(?:#{1,6}[ \t]*)?(?:\d+\.?[ \t]*)?licen[cs](?:e|ing)(?: information)?[ \t]*:?[ \t]*#*"
    r"[ \t]*\r?\n(?:[ \t]*[=~^*+-]{3,}[ \t]*\r?\n)?"
    r"\s*(?P<first>[^\n]{1,500}(?:\n[^\n#]{1,500}){0,3})",
    re.IGNORECASE | re.MULTILINE,
)
_MAX_EVIDENCE = 300  # characters
_HEAD_BYTES = 4096  # where a notice stands
_COMMENTS = ("#", "//", ";", "--", "%", "'", "!", "..", "dnl ", "REM ", "rem ", "<?", "@echo", "*")
_BLOCKS = {
    "/*": "*/",
    "<!--": "-->",
    '"""': '"""',
    "'''": "'''",
    'r"""': '"""',
    "(*": "*)",
    "{-": "-}",
    "#|": "|#",
    "=begin": "=end",
    "--[[": "]]",
    "{#": "#}",
}
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


def speaks_of_licences(path: str) -> bool:
    """Whether the file ``path`` may say which licence holds for others."""
    name = basename(path).lower()
    return (
        _is_text(path)
        or name in _MANIFESTS
        or splitext(name)[1] in (".gemspec", ".license")
        or path in ("REUSE.toml", ".reuse/dep5")
        or name == "reuse.toml"
        or ("/" not in path and _README.fullmatch(name) is not None)
        or _NOTICE.fullmatch(name) is not None
    )


class LicenceFiles:
    """The licences of one project. Asked per file; paths are relative to the project's top."""

    def __init__(self, files: Iterable[tuple[str, bytes]]) -> None:
        """``files``: path and payload of every file that ``speaks_of_licences``."""
        self._beside: dict[str, Finding] = {}  # path: what FILE.license says
        self._annotations: list[_Annotation] = []
        said: dict[str, _Folder] = {}
        for path, payload in sorted(files):
            if len(payload) <= MAX_BYTES:
                self._add(path, payload, said.setdefault(dirname(path), _Folder()))
        self._folders = {
            folder: found
            for folder, of_folder in said.items()
            if (found := of_folder.finding(is_top=not folder)) is not None
        }

    def _add(self, path: str, payload: bytes, folder: "_Folder") -> None:
        name = basename(path).lower()
        text = payload.decode("utf-8", "replace")
        if name.endswith(".license"):
            if (found := found_in_source(payload)) is not None:
                self._beside[path.removesuffix(".license")] = _at(found, f"SPDX tag in {path}")
        elif name == "reuse.toml":
            self._annotations += _reuse(dirname(path), path, text)
        elif path == ".reuse/dep5":
            self._annotations += _dep5(path, text)
        elif (read := _manifest(name)) is not None:
            if (found := read(text)) is not None:
                folder.metadata.append(_at(found, f"{found.evidence} in {path}"))
        elif _is_text(path):
            folder.texts[path] = compare(text)
            folder.contents[path] = text
        elif _NOTICE.fullmatch(name):
            folder.notices[path] = compare(text)
        elif _README.fullmatch(name):
            folder.readmes[path] = text

    def of_folder(self, path: str) -> Finding | None:
        """What holds for ``path`` unless the file itself says otherwise."""
        if (found := self._beside.get(path)) is not None:
            return found
        for annotation in reversed(self._annotations):  # the last that matches holds
            if annotation.covers(path):
                return annotation.finding
        folder = dirname(path)
        while True:
            if (found := self._folders.get(folder)) is not None:
                return found
            if not folder:
                return None
            folder = dirname(folder)

    def of(self, path: str, payload: bytes) -> Finding | None:
        """Licence of the file ``path`` with ``payload``, None where nothing is said."""
        return of_file(payload) or self.of_folder(path)


def of_file(payload: bytes) -> Finding | None:
    """What a source file says of itself, by SPDX tags or by a notice at its top."""
    found = found_in_source(payload)
    if found is not None:
        return found
    head = payload[:_HEAD_BYTES]
    if b"icense" not in head and b"ICENSE" not in head:
        return None
    licence = both(notice_in(_top_comment(head.decode("utf-8", "replace"))))
    return Finding(licence, "notice in the file", 0.9) if licence else None


def _top_comment(head: str) -> str:
    """Comments and docstrings before the first line of code: a notice in a string is none."""
    found: list[str] = []
    end: str | None = None  # of the block that we are in
    for line in head.splitlines():
        text = line.strip()
        if end is None:
            begin = next((b for b in _BLOCKS if text.startswith(b)), None)
            if begin is not None:
                end, text = _BLOCKS[begin], text[len(begin) :]
            elif text and not text.startswith(_COMMENTS):
                break
        found.append(text)
        if end is not None and end in text:
            end = None
    return "\n".join(found)


def is_own(evidence: str | None) -> bool:
    """Whether ``evidence`` is that of a file about itself, whatever is said around it."""
    return evidence in ("SPDX tag in the file", "notice in the file")


class _Folder:
    """What the files of one folder say."""

    def __init__(self) -> None:
        self.texts: dict[str, Comparison] = {}
        self.contents: dict[str, str] = {}
        self.notices: dict[str, Comparison] = {}
        self.metadata: list[Finding] = []
        self.readmes: dict[str, str] = {}

    def finding(self, is_top: bool) -> Finding | None:
        text = self._of_texts()
        said = self.metadata[0] if self.metadata else None
        if text is not None and said is not None:
            return _together(text, said)
        if text is not None or said is not None:
            return text or said
        for path, notice in self.notices.items():
            if notice.matches:
                return _of_comparison(path, notice)
        if is_top:
            for path, readme in self.readmes.items():
                if (found := _of_readme(readme)) is not None:
                    return Finding(found, f"section of {path}", 0.5)
        return None

    def _of_texts(self) -> Finding | None:
        if not self.texts:
            return None
        found = {path: _of_text(path, c, self.contents[path]) for path, c in self.texts.items()}
        chosen = self._choice({path: f for path, f in found.items() if f.licence != UNKNOWN})
        # A text that only says what to choose from is no licence that nobody knows.
        rest = [
            finding
            for path, finding in found.items()
            if path not in chosen and not (chosen and self.texts[path].is_choice)
        ]
        parts = [*chosen.values(), *rest]
        if len(parts) == 1:
            return parts[0]
        choice = either(finding.licence for finding in chosen.values())
        joined = both([*([choice] if choice else []), *(finding.licence for finding in rest)])
        evidence = ", ".join(dict.fromkeys(part.evidence for part in parts))[:_MAX_EVIDENCE]
        return Finding(joined or UNKNOWN, evidence, min(part.confidence for part in parts))

    def _choice(self, known: dict[str, Finding]) -> dict[str, Finding]:
        """Of the ``known`` texts, those among which a user may choose.

        That is said by a text beside them that names them, or by how Rust's projects name a pair.
        """
        names = {basename(path).lower(): path for path in known}
        if {name.partition(".")[0] for name in names} == {"license-apache", "license-mit"}:
            return known
        for path, compared in self.texts.items():
            if compared.is_choice and not compared.matches:
                said = self.contents[path].lower()
                return {p: known[p] for name, p in names.items() if name in said}
        return {}


def _of_text(path: str, compared: Comparison, text: str) -> Finding:
    if compared.matches:
        return _of_comparison(path, compared)
    if (tag := found_in_source(text.encode())) is not None:
        return _at(tag, f"SPDX tag in {path}")
    if len(text) <= _HEAD_BYTES:
        licence = both(notice_in(text)) or spdx(text)
        if licence is not None:
            return Finding(licence, f"notice in {path}", 0.9)
    return Finding(UNKNOWN, f"{path} is no text that is known", 0.5)


def _of_comparison(path: str, compared: Comparison) -> Finding:
    licences = [match.licence for match in compared.matches]
    joined = either(licences) if compared.is_choice else both(licences)
    if joined is None or compared.is_restricted:
        return Finding(both([*licences, UNKNOWN]) or UNKNOWN, f"{path} restricts {joined}", 0.5)
    if compared.exact:
        return Finding(joined, f"{path} is {joined}", 1.0)
    others = f" among {compared.num_others} other words" if compared.num_others else ""
    sure = min(match.containment for match in compared.matches)
    return Finding(joined, f"{path} has {sure:.3f} of {joined}{others}", sure)


def _together(text: Finding, said: Finding) -> Finding:
    """One finding of the licence texts of a folder and of its package metadata."""
    if text.licence == UNKNOWN:
        return Finding(said.licence, f"{said.evidence}; {text.evidence}", min(said.confidence, 0.8))
    of_text, of_metadata = _plain(text.licence), _plain(said.licence)
    evidence = f"{said.evidence}; {text.evidence}"
    if of_text == of_metadata:  # metadata alone says OR and or-later
        return Finding(said.licence, evidence, 1.0)
    if of_text < of_metadata:  # the other texts lie elsewhere
        return Finding(said.licence, evidence, min(said.confidence, 0.95))
    if of_metadata < of_text:  # collections of what is bundled
        return Finding(text.licence, text.evidence, min(text.confidence, 0.9))
    if {_family(key) for key in of_text} == {_family(key) for key in of_metadata}:
        return Finding(text.licence, text.evidence, min(text.confidence, 0.9))  # "BSD", "GPL"
    joined = both([said.licence, text.licence]) or UNKNOWN
    return Finding(joined, f"{evidence}, which disagree", 0.5)


def _plain(expression: str) -> frozenset[str]:
    """Ids of ``expression``, whether or not later versions may be chosen."""
    return frozenset(re.sub(r"-(?:only|or-later)\Z", "", key) for key in keys(expression))


def _family(key: str) -> str:
    return re.split(r"[-_]", key)[0]


def _of_readme(text: str) -> str | None:
    section = _HEADING.search(text)
    return _named(section["first"]) if section else None


def _named(sentence: str) -> str | None:
    """Licences that ``sentence`` names; a choice among several only where it says so."""
    sentence = " ".join(sentence.split())
    if (licence := spdx(sentence.rstrip("."))) is not None:
        return licence
    found = [licence for pattern, licence in _NAMED if re.search(pattern, sentence, re.IGNORECASE)]
    return either(found) if _CHOICE.search(sentence) else both(found)


def _is_text(path: str) -> bool:
    """Whether ``path`` is a licence text by its name. Those in LICENSES/ are only a store."""
    name = basename(path)
    in_store = "LICENSES" in dirname(path).split("/")
    return not in_store and _TEXT.fullmatch(name) is not None and not _NO_TEXT.search(name)


def _at(found: Finding, evidence: str) -> Finding:
    return Finding(found.licence, evidence, found.confidence)


# Package metadata.


def _manifest(name: str) -> Callable[[str], Finding | None] | None:
    if name.endswith(".gemspec"):
        return _gemspec
    return _MANIFESTS.get(name)


def _stated(text: Any, field: str, confidence: float = 1.0) -> Finding | None:
    """Finding of an expression or of a name in free text, which is less sure."""
    if not isinstance(text, str) or not text.strip() or len(text) > 1000:
        return None
    licence = spdx(text)
    if licence is None:
        return None
    exact = licence.lower() == " ".join(text.split()).lower()
    return Finding(licence, field, confidence if exact else min(confidence, 0.9))


def _listed(
    texts: Iterable[Any], field: str, join: Callable[[Iterable[str]], str | None]
) -> Finding | None:
    found = [_stated(text, field) for text in texts]
    if not found or None in found:
        return None
    known = [one for one in found if one is not None]
    licence = join(one.licence for one in known)
    return Finding(licence, field, min(one.confidence for one in known)) if licence else None


def _pyproject(text: str) -> Finding | None:
    tables = _toml(text)
    project = _table(tables, "project")
    stated = project.get("license")
    if isinstance(stated, dict):
        stated = stated.get("text")
    lines = [f"Classifier: {c}" for c in project.get("classifiers") or () if isinstance(c, str)]
    return (
        _stated(stated, "project.license")
        or _stated(_table(tables, "tool", "poetry").get("license"), "tool.poetry.license")
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
    return _stated(fields.get("license"), "license") or _core_metadata("\n".join(lines))


def _setup_py(text: str) -> Finding | None:
    found = re.search(r"\blicense\s*=\s*([\"'])([^\"'\n]{1,200})\1", text)
    return _stated(found[2], "license", 0.9) if found else None


def _core_metadata(text: str) -> Finding | None:
    return found_in_metadata(email.parser.HeaderParser().parsestr(text))  # type: ignore[arg-type]


def _package_json(text: str) -> Finding | None:
    fields = _json(text)
    stated = fields.get("license")
    if isinstance(stated, dict):
        stated = stated.get("type")
    if isinstance(stated, str) and stated.strip().upper() == "UNLICENSED":
        return Finding(UNKNOWN, "license UNLICENSED", 1.0)  # npm: all rights reserved
    choices = fields.get("licenses")  # npm until 2014: a list to choose from
    if not isinstance(choices, list):
        choices = []
    names = [choice.get("type") if isinstance(choice, dict) else choice for choice in choices]
    return _stated(stated, "license") or _listed(names, "licenses", either)


def _composer_json(text: str) -> Finding | None:
    stated = _json(text).get("license")
    if isinstance(stated, list):  # Composer's schema: a choice
        return _listed(stated, "license", either)
    return _stated(stated, "license")


def _cargo(text: str) -> Finding | None:
    stated = _table(_toml(text), "package").get("license")
    if isinstance(stated, str):  # Cargo's old way to write a choice
        stated = re.sub(r"\s*/\s*", " OR ", stated)
    return _stated(stated, "package.license")


def _gemspec(text: str) -> Finding | None:
    one = re.search(r"\.license\s*=\s*([\"'])([^\"'\n]{1,200})\1", text)
    if one:
        return _stated(one[2], "license")
    several = re.search(r"\.licenses\s*=\s*\[([^\]]{1,500})\]", text)
    names = re.findall(r"[\"']([^\"']+)[\"']", several[1]) if several else []
    return _listed(names, "licenses", both)


def _pom(text: str) -> Finding | None:
    listed = re.search(r"<licenses>(.{1,4000}?)</licenses>", text, re.DOTALL)
    names = re.findall(r"<name>([^<]{1,200})</name>", listed[1]) if listed else []
    found = [_named(name) for name in names]
    if not found or None in found:
        return None
    licence = either(name for name in found if name is not None)  # Maven's POM: a choice
    return Finding(licence, "licenses", 0.9) if licence else None


_MANIFESTS: dict[str, Callable[[str], Finding | None]] = {
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


def _toml(text: str) -> dict[str, Any]:
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


# REUSE.


@dataclass(frozen=True, slots=True)
class _Annotation:
    folder: str  # "" or "docs/"
    patterns: tuple[str, ...]
    finding: Finding

    def covers(self, path: str) -> bool:
        if not path.startswith(self.folder):
            return False
        inner = path[len(self.folder) :]
        return any(matches(pattern, inner) for pattern in self.patterns)


def _reuse(folder: str, path: str, text: str) -> Iterator[_Annotation]:
    annotations = _toml(text).get("annotations")
    for annotation in annotations if isinstance(annotations, list) else ():
        if not isinstance(annotation, dict):
            continue
        found = _listed(_strings(annotation.get("SPDX-License-Identifier")), path, both)
        patterns = tuple("/" + pattern for pattern in _strings(annotation.get("path")))
        if found is not None and patterns:
            yield _Annotation(f"{folder}/" if folder else "", patterns, found)


def _dep5(path: str, text: str) -> Iterator[_Annotation]:
    """Paragraphs of a Debian copyright file; there a star crosses folders."""
    for paragraph in re.split(r"\n\s*\n", text):
        fields = email.parser.HeaderParser().parsestr(paragraph.strip())
        found = _stated((fields.get("License") or "").partition("\n")[0], path)
        files = (fields.get("Files") or "").split()
        if found is not None and files:
            patterns = tuple("/" + re.sub(r"\*+", "**", name) for name in files)
            yield _Annotation("", patterns, found)


def _strings(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [value for value in values if isinstance(value, str)]
