r"""The source of one paper: its files in memory, and which of them TeX is run on.

A bundle is what arXiv keeps of a submission: a gzipped tar of files, or one gzipped file. Which
file is the main one is said by ``00README`` where there is one, in arXiv's old spelling (lines of
``name usage``) or its new one (JSON); else it is guessed as arXiv's own builder and its readers do,
by what a main file must contain.
"""

import codecs
import io
import json
import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from datalake.sources.archives.members import Bounds, members
from datalake.sources.report import Report
from datalake.transforms.text import Unreadable

BOUNDS = Bounds(
    max_members=20_000,  # a bundle of arXiv holds some ten; figures in frames some thousand
    max_member_bytes=16 << 20,  # of one source file; books have 3 MB in all
    max_total_bytes=1 << 30,  # bounds the time; figures are unpacked too, though not kept
    max_ratio=200.0,
    max_depth=1,
)
_MAX_SOURCE_BYTES = 32 << 20  # of all files that are kept

_PREAMBLE_BYTES = 64 << 10

_SOURCE = re.compile(
    r"\.(?:tex|ltx|latex|sty|def|bbl|inc|txt|sec|tikz)$|(?:^|/)[^.]+$", re.IGNORECASE
)
_HINTS = ("00README.XXX", "00README", "00README.json", "00README.yaml")
_CLASS = re.compile(r"^[^%\n]*?\\document(?:class|style)\b", re.MULTILINE)
_STANDALONE = re.compile(r"^[^%\n]*?\\documentclass[^%\n{]*\{standalone\}", re.MULTILINE)
_BEGIN = re.compile(r"^[^%\n]*?\\begin\s*\{document\}", re.MULTILINE)
_INCLUDED = re.compile(
    r"\\(?:input|include|subfile|subfileinclude)(?![A-Za-z])\s{0,9}\{?([^\s{}%\\]{1,200})"
)
# \bibitem[{Smith et~al.(2010)Smith, Jones, and Lee}]{smith2010}
_REFERENCE = re.compile(
    r"\\bibitem\s{0,9}\[\{?(?P<authors>[^()\[\]]{1,200})\((?P<year>\d{4}[a-z]?)\)[^\[\]]{0,5000}\]"
    r"(?:\s|%\s){0,9}\{(?P<key>[^{}]{1,200})\}"
)
_COMMENT = re.compile(r"(?<!\\)%[^\n]*")
_INPUTENC = re.compile(rb"\\usepackage\s*\[\s*([\w-]{1,20})\s*\]\s*\{inputenc\}")
_ENCODINGS = {  # names of inputenc that Python does not know
    "ansinew": "cp1252",
    "applemac": "mac_roman",
    "latin9": "iso8859_15",
    "latin10": "iso8859_16",
    "koi8-ru": "koi8_u",
}
_USUAL_NAMES = ("ms", "main", "paper", "article", "manuscript", "arxiv")  # of main files


@dataclass(frozen=True, slots=True)
class LatexSource:
    """The files of a paper, decoded, by their path in the bundle."""

    files: Mapping[str, str]
    main: str
    encoding: str  # of the main file, by Python's name
    # Authors and year of the references by key, as LaTeX, where a bibliography of natbib's says.
    references: Mapping[str, tuple[str, str]]

    def find(self, name: str) -> tuple[str, str] | None:
        r"""Path and text of the file that ``\input{name}`` reads, None where it is not here."""
        path = posixpath.normpath(name.strip().strip('"'))
        for candidate in (f"{path}.tex", path):
            if candidate in self.files:
                return candidate, self.files[candidate]
        return None


def open_bundle(bundle: bytes) -> LatexSource:
    """The files of ``bundle``. Raises Unreadable without LaTeX, or where it is beyond bounds."""
    raw = _unpack(bundle)
    hint = _encoding_hint(raw.values())
    decoded = {path: _decode(data, hint) for path, data in raw.items() if path not in _HINTS}
    files = {path: text for path, (text, _) in decoded.items()}
    main = _main_file(files, _hints(raw))
    return LatexSource(files, main, decoded[main][1], _references(files))


def _unpack(bundle: bytes) -> dict[str, bytes]:
    if bundle[:5] == b"%PDF-":
        raise Unreadable("no LaTeX source")
    packed = bundle[:2] == b"\x1f\x8b" or bundle[257:262] == b"ustar"
    if not packed and b"\\begin" in bundle[: 1 << 20]:
        return {"main.tex": bundle}
    report = Report("bundle", say=lambda line: None)
    held: dict[str, bytes] = {}
    num_bytes = 0
    has_pdf = False

    def wanted(name: str) -> bool:
        nonlocal has_pdf
        has_pdf = has_pdf or name.lower().endswith(".pdf")
        return name in _HINTS or _SOURCE.search(name) is not None

    file = io.BytesIO(bundle)
    for member in members(file, "main.tex.gz", BOUNDS, report, nested=False, wanted=wanted):
        has_pdf = has_pdf or member.payload[:5] == b"%PDF-"
        if b"\0" in member.payload[:4096] or member.payload[:2] in (b"%P", b"%!"):
            continue  # a figure without a name that says so
        num_bytes += len(member.payload)
        if num_bytes > _MAX_SOURCE_BYTES:
            raise Unreadable("source larger than 32 MB")
        held[member.path] = member.payload
    if not held or all(name in _HINTS for name in held):
        # The reasons of archives name what they refused: a bomb, a damaged stream.
        refused = next(iter(report.failed), "damaged bundle" if report.damages else None)
        raise Unreadable("no LaTeX source" if has_pdf or refused is None else refused)
    return held


def _encoding_hint(sources: Iterable[bytes]) -> str:
    """What the paper tells the package inputenc, by Python's name; else Latin-1, which fits all."""
    for data in sources:
        if (named := _INPUTENC.search(data[:_PREAMBLE_BYTES])) is not None:
            name = named[1].decode("ascii")
            try:
                return codecs.lookup(_ENCODINGS.get(name, name)).name
            except LookupError:
                continue
    return "iso8859-1"


def _decode(data: bytes, hint: str) -> tuple[str, str]:
    """UTF-8 where it fits, since text in another encoding is hardly ever valid UTF-8 by chance."""
    for encoding in ("utf-8", hint, "iso8859-1"):
        try:
            text = data.decode(encoding)
        except (LookupError, UnicodeError):
            continue
        break
    return clean(text), encoding


def clean(text: str) -> str:
    r"""``text`` with lines ended by ``\n``, without the characters that the reader marks by."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    return re.sub("[\0-\2]", "", text)


def _hints(raw: Mapping[str, bytes]) -> dict[str, str]:
    """What ``00README`` says of files: ``toplevel``, ``ignore``, ``include``."""
    found: dict[str, str] = {}
    for name in _HINTS:
        if (data := raw.get(name)) is None:
            continue
        text = data.decode("utf-8", "replace")
        if name.endswith("json"):
            try:
                for source in json.loads(text)["sources"]:
                    found[str(source["filename"])] = str(source.get("usage") or "")
            except (ValueError, KeyError, TypeError, RecursionError):
                continue
        for line in text.splitlines():
            match line.split():
                case [path, usage]:
                    found[path] = usage.removesuffix("file")
    return found


def _references(files: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    found = (match for text in files.values() for match in _REFERENCE.finditer(text))
    return {
        match["key"].strip(): (match["authors"].strip(), match["year"])
        for match in found
        if match["authors"].count("{") == match["authors"].count("}")
    }


def _main_file(files: Mapping[str, str], hints: Mapping[str, str]) -> str:
    for path, usage in hints.items():
        if usage == "toplevel" and path in files:
            return path
    candidates = [
        path
        for path, text in files.items()
        if _BEGIN.search(text) and hints.get(path) != "ignore" and not path.endswith(".sty")
    ]
    whole = [path for path in candidates if _CLASS.search(files[path])] or candidates
    included = {name for path in files for name in _includes(files, path)}
    for narrowed in (
        [path for path in whole if path not in included],
        [path for path in whole if not _STANDALONE.search(files[path])],
    ):
        if kept := [path for path in whole if path in narrowed]:
            whole = kept
    if not whole:
        raise Unreadable("no main file")

    def rank(path: str) -> tuple[bool, int, str]:
        stem = posixpath.basename(path).partition(".")[0].lower()
        size = len(files[path]) + sum(len(files[name]) for name in _includes(files, path))
        return stem in _USUAL_NAMES, size, path

    return max(whole, key=rank)


def _includes(files: Mapping[str, str], path: str) -> set[str]:
    """Files of the bundle that the file at ``path`` names for inclusion, itself left out."""
    names = (
        posixpath.normpath(found) for found in _INCLUDED.findall(_COMMENT.sub("", files[path]))
    )
    here = {name if name in files else f"{name}.tex" for name in names}
    return {name for name in here if name in files and name != path}
