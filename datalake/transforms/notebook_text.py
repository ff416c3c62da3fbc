"""Notebooks to text: prose as it is, code between fences, short results of text after it.

Formats 3 and 4 of nbformat, read by hand. Pictures, widgets, errors and long outputs are left out:
they are of machines, and a table or a log of thousands of lines would drown the prose.
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from datalake.transforms.normalise import normalise, without_addresses
from datalake.transforms.text import Text, Unreadable

_MAX_OUTPUT = 1000  # characters of one result: a screen of 80 x 12; a longer one is left out
_NAMES = {"c++": "cpp", "c#": "csharp", "f#": "fsharp"}  # of kernels: as files are called here
# Parts of these exclude what they begin with, so that no text takes longer than its length.
_PICTURE = re.compile(
    r"!\[([^\]\[]{0,1000})\]\(\s?data:[^)\s!]*[^)!]{0,200}\)|<img\b[^<>]*\bsrc=[\"']?data:[^<>]*>"
)
_FENCE = re.compile(r"^[ \t]*(`{3,})", re.MULTILINE)
_HEADING = re.compile(r"^#{1,6}[ \t]+([^\s#][^\n]{0,1000})", re.MULTILINE)
_ESCAPE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")  # colours of a terminal


def read_notebook(payload: bytes) -> Text:
    """Markdown cells, code cells and their short results of text, in order.

    Of a notebook that is mostly code, the language is the kernel's; of prose it is not said.
    Raises Unreadable.
    """
    try:
        notebook = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise Unreadable("not a notebook: damaged JSON") from error
    cells = _cells(notebook)
    metadata = _dict(_dict(notebook).get("metadata"))
    language = _language(metadata, cells)
    prose, code = 0, 0
    blocks: list[str] = []
    title = _string(metadata.get("title"))
    for cell in cells:
        kind = cell.get("cell_type")
        source = _string(cell.get("input" if kind == "code" and "input" in cell else "source"))
        if not source.strip():
            continue
        if kind == "code":
            code += len(source)
            blocks.append(_fenced(source, language))
            blocks += [_fenced(output, "") for output in _outputs(cell.get("outputs"))]
            continue
        if kind == "heading":  # of format 3
            level = cell.get("level")
            source = f"{'#' * (level if isinstance(level, int) and 1 < level < 7 else 1)} {source}"
        elif kind != "markdown":
            continue  # raw cells are for converters
        source = _PICTURE.sub(lambda match: match[1] or "", source)
        prose += len(source)
        heading = _HEADING.search(source)
        title = title or (heading[1].rstrip("# \t") if heading else "")
        blocks.append(source.strip("\n"))
    if not blocks:
        raise Unreadable("empty")
    return Text(
        text=without_addresses(normalise("\n\n".join(blocks))).strip() + "\n",
        title=" ".join(normalise(title).split()),
        language=_NAMES.get(language.lower(), language.lower()) or None if code > prose else None,
    )


def _cells(notebook: Any) -> list[dict[str, Any]]:
    found = _dict(notebook)
    cells = found.get("cells")
    if cells is None:
        sheets = found.get("worksheets")
        sheets = sheets if isinstance(sheets, list) else []
        cells = [cell for sheet in sheets for cell in _list(_dict(sheet).get("cells"))]
        if not sheets:
            raise Unreadable("not a notebook: no cells")
    return [cell for cell in _list(cells) if isinstance(cell, dict)]


def _language(metadata: dict[str, Any], cells: Iterable[dict[str, Any]]) -> str:
    for said in (
        _dict(metadata.get("language_info")).get("name"),
        _dict(metadata.get("kernelspec")).get("language"),
        *(cell.get("language") for cell in cells),  # format 3
    ):
        if isinstance(said, str) and re.fullmatch(r"[\w+#.-]{1,30}", said):
            return said
    return ""


def _outputs(outputs: Any) -> Iterator[str]:
    """Results and what was printed, where it is text and short."""
    for output in _list(outputs):
        output = _dict(output)
        data = _dict(output.get("data", output))  # format 3 has the types beside the rest
        if output.get("stream", output.get("name")) == "stderr":
            continue
        if any(kind.startswith("image") or kind in ("png", "jpeg", "svg") for kind in data):
            continue  # its text is "<Figure size 640x480>"
        text = _string(data.get("text/plain")) or _string(output.get("text"))
        text = _ESCAPE.sub("", text)
        if output.get("output_type") not in ("error", "pyerr") and 0 < len(text) <= _MAX_OUTPUT:
            yield text


def _fenced(source: str, language: str) -> str:
    longest = max((len(fence[1]) for fence in _FENCE.finditer(source)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{source.strip(chr(10))}\n{fence}"


def _string(said: Any) -> str:
    """Text, which the format allows as one string or as a list of lines."""
    if isinstance(said, list):
        return "".join(line for line in said if isinstance(line, str))
    return said if isinstance(said, str) else ""


def _dict(said: Any) -> dict[str, Any]:
    return said if isinstance(said, dict) else {}


def _list(said: Any) -> list[Any]:
    return said if isinstance(said, list) else []
