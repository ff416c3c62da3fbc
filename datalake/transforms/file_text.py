"""Files of every kind in a folder to text, each by the reader of its type."""

import re

from datalake.transforms import file_types
from datalake.transforms.code_text import DecodingError, decode_source
from datalake.transforms.file_types import HEAD_BYTES, media_type
from datalake.transforms.html_text import Extractor, read_page
from datalake.transforms.text import Text, Unreadable

# Readers are imported where they are used: a worker that meets no slides needs no library for them.

_FRONT_MATTER = re.compile(r"\A(---|\+\+\+)[ \t]*\n(.{0,20000}?)\n\1[ \t]*(?:\n|\Z)", re.DOTALL)
_FRONT_TITLE = re.compile(r"^title[ \t]*[:=][ \t]*(\S[^\n]*)$", re.MULTILINE | re.IGNORECASE)
_TITLE_CHARACTERS = 4096  # a heading further down is not the title
_FENCED = re.compile(r"^(```|~~~).*?(?:^\1|\Z)", re.MULTILINE | re.DOTALL)
_MARK = r"([!-/:-@\[-`{-~])\2{2,}[ \t]*$"  # three and more of one character
_HEADINGS = {
    file_types.MARKDOWN: (
        re.compile(r"^ {0,3}#{1,6}[ \t]+(\S[^\n]*?)[ \t#]*$", re.MULTILINE),
        re.compile(r"^([^\s>-][^\n]*)\n(?:=+|-{2,})[ \t]*$", re.MULTILINE),
    ),
    file_types.RST: (re.compile(r"^([ \t]?\S[^\n]*)\n" + _MARK, re.MULTILINE),),
    file_types.PLAIN: (re.compile(r"^(?:#\+TITLE:|=)[ \t]+(\S[^\n]*)$", re.MULTILINE),),
}


def read_file(
    payload: bytes, path: str, content_type: str | None, extractor: Extractor = "blocks"
) -> Text:
    """The text of the file ``path``, by its type: declared, else as name and bytes say.

    ``extractor`` is that of pages. A file without a title of its own has none. Raises Unreadable.
    """
    kind = (content_type or "").partition(";")[0].strip().lower()
    if kind not in file_types.KNOWN:
        kind = media_type(path, payload[:HEAD_BYTES]) or ""
    if kind in file_types.OFFICE:
        from datalake.transforms.office_text import read_office

        return read_office(payload, kind)
    match kind:
        case file_types.HTML:
            return read_page(payload, content_type, extractor)
        case file_types.NOTEBOOK:
            from datalake.transforms.notebook_text import read_notebook

            return read_notebook(payload)
        case file_types.MAIL | file_types.MAILBOX:
            from datalake.transforms.mail_text import read_mail

            return read_mail(payload)
        case file_types.MARKDOWN | file_types.RST | file_types.PLAIN:
            return _read_marked(payload, kind)
    raise Unreadable("type not known")


def _read_marked(payload: bytes, kind: str) -> Text:
    """Text with the marks that its author wrote, without front matter."""
    try:
        text, encoding = decode_source(payload)
    except DecodingError as error:
        raise Unreadable(str(error)) from error
    title = ""
    if (front := _FRONT_MATTER.match(text)) is not None:
        said = _FRONT_TITLE.search(front[2])
        title = said[1].strip().strip("\"'") if said else ""
        text = text[front.end() :].lstrip("\n")
    if not text.strip():
        raise Unreadable("empty")
    return Text(text=text, title=title or _heading(text, kind), encoding=encoding)


def _heading(text: str, kind: str) -> str:
    """The first heading near the top, by the marks of ``kind``."""
    top = text[:_TITLE_CHARACTERS]
    if kind == file_types.MARKDOWN:
        top = _FENCED.sub("", top)
    found = [match for pattern in _HEADINGS[kind] for match in pattern.finditer(top)]
    headings = (" ".join(match[1].split()) for match in sorted(found, key=re.Match.start))
    return next((heading for heading in headings if any(map(str.isalnum, heading))), "")
