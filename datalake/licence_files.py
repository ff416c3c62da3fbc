"""Which licence holds for each file of a project, from the files that speak of licences.

From the surest to the vaguest: an SPDX tag in the file or in ``FILE.license`` beside it,
``REUSE.toml`` and ``.reuse/dep5`` (REUSE 3.3), a notice at the top of the file, then the nearest
folder above that says something: by licence texts such as ``LICENSE``, by its package metadata, and
at the top of the project by its ``README``. A text that nobody here knows is ``UNKNOWN``: that it
is there means that what holds further up does not hold below it.
"""

import email.parser
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from posixpath import basename, dirname
from typing import Any

from datalake.licence_texts import Comparison, compare, notice_in
from datalake.licences import (
    UNKNOWN,
    Finding,
    both,
    either,
    from_source,
    keys,
    spdx,
)
from datalake.package_licences import listed, named_in, reader_of, stated, toml
from datalake.path_patterns import matches

MAX_BYTES = 1 << 20  # of a file that speaks of licences; the longest collections have 400 kB

_TEXT = re.compile(
    r"(?:(?:mit|apache|bsd|gpl|lgpl|agpl|mpl|isc|zlib|un)[-_.]?)?(?:licen[cs]es?|copying|copyright"
    r"|copyleft)(?:[-_.][\w.+-]*)?|unlicense(?:\.\w+)?|(?:mit|apache-?2?(?:\.0)?)\.(?:txt|md)",
    re.IGNORECASE,
)
_NO_TEXT = re.compile(
    r"\.(?:py|pyi|js|ts|tsx|jsx|java|go|rs|c|h|cc|cpp|hpp|cs|rb|php|sh|json|ya?ml|toml|xml|html?"
    r"|css|svg|png|kt|swift|scala|lua|pl|license|spdx|gz|zip|tmpl|header|about)\Z",
    re.IGNORECASE,
)
_STORED = re.compile(r"LICENSES/(?P<id>[\w.+-]+)\.(?:txt|md)")
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


def speaks_of_licences(path: str) -> bool:
    """Whether the file ``path`` may say which licence holds for others."""
    name = basename(path).lower()
    return (
        _is_text(path)
        or reader_of(name) is not None
        or name.endswith(".license")
        or name == "reuse.toml"
        or path == ".reuse/dep5"
        or _STORED.fullmatch(path) is not None
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
                self._add(path, payload, said.setdefault(_folder_of(path), _Folder()))
        self._folders = {
            folder: found
            for folder, of_folder in said.items()
            if (found := of_folder.finding(is_top=not folder)) is not None
        }

    def _add(self, path: str, payload: bytes, folder: "_Folder") -> None:
        name = basename(path).lower()
        text = payload.decode("utf-8", "replace")
        if name.endswith(".license"):
            if (found := from_source(payload)) is not None:
                self._beside[path.removesuffix(".license")] = _at(found, f"SPDX tag in {path}")
        elif name == "reuse.toml":
            self._annotations += _reuse(dirname(path), path, text)
        elif path == ".reuse/dep5":
            self._annotations += _dep5(path, text)
        elif (read := reader_of(name)) is not None:
            if (found := read(text)) is not None:
                folder.metadata.append(_at(found, f"{found.evidence} in {path}"))
        elif (stored := _STORED.fullmatch(path)) is not None:
            folder.stored.append(stored["id"])
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
    found = from_source(payload)
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
        self.stored: list[str] = []  # ids of the texts in LICENSES/, which REUSE demands
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
        if (stored := [spdx(name) or UNKNOWN for name in self.stored]) and is_top:
            return Finding(both(stored) or UNKNOWN, "names in LICENSES/", 0.8)
        if is_top:
            for path, readme in self.readmes.items():
                if (found := _of_readme(readme)) is not None:
                    return Finding(found, f"section of {path}", 0.5)
        return None

    def _of_texts(self) -> Finding | None:
        found = {path: _of_text(path, c, self.contents[path]) for path, c in self.texts.items()}
        for path in [p for p, f in found.items() if f.licence == UNKNOWN]:
            if basename(path).lower().startswith("copyright"):
                del found[path]  # names of people only
        if not found:
            return None
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
    if (tag := from_source(text.encode())) is not None:
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
    return named_in(section["first"]) if section else None


def _is_text(path: str) -> bool:
    """Whether ``path`` is a licence text by its name. Those in LICENSES/ are only a store."""
    name = basename(path)
    in_store = "LICENSES" in dirname(path).split("/")
    return not in_store and _TEXT.fullmatch(name) is not None and not _NO_TEXT.search(name)


def _folder_of(path: str) -> str:
    """Folder that a file speaks of, from the top of the project."""
    return "" if _STORED.fullmatch(path) else dirname(path)


def _at(found: Finding, evidence: str) -> Finding:
    return Finding(found.licence, evidence, found.confidence)


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
    annotations = toml(text).get("annotations")
    for annotation in annotations if isinstance(annotations, list) else ():
        if not isinstance(annotation, dict):
            continue
        found = listed(_strings(annotation.get("SPDX-License-Identifier")), path, both)
        patterns = tuple("/" + pattern for pattern in _strings(annotation.get("path")))
        if found is not None and patterns:
            yield _Annotation(f"{folder}/" if folder else "", patterns, found)


def _dep5(path: str, text: str) -> Iterator[_Annotation]:
    """Paragraphs of a Debian copyright file; there a star crosses folders."""
    for paragraph in re.split(r"\n\s*\n", text):
        fields = email.parser.HeaderParser().parsestr(paragraph.strip())
        found = stated((fields.get("License") or "").partition("\n")[0], path)
        files = (fields.get("Files") or "").split()
        if found is not None and files:
            patterns = tuple("/" + re.sub(r"\*+", "**", name) for name in files)
            yield _Annotation("", patterns, found)


def _strings(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [value for value in values if isinstance(value, str)]
