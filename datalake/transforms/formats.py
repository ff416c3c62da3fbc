"""Which reader makes text of a record: by the table it lies in, and there by its type."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from datalake.transforms import language
from datalake.transforms.code_text import decode_source
from datalake.transforms.file_types import NOTEBOOK
from datalake.transforms.html_text import Extractor, read_page
from datalake.transforms.normalise import normalise
from datalake.transforms.text import Text

Record = Mapping[str, Any]  # the columns of a raw row that its reader needs, payload among them

# What each reader needs beside payload and content_type.
OWN_COLUMNS: dict[str, tuple[str, ...]] = {
    "web": (),
    "code": ("path",),
    "wikipedia": ("title",),
    "arxiv": ("title",),
    "pdf": (),
    "directories": ("path",),
    "tables": ("title", "language"),
}


def read_text(record: Record, source: str, extractor: Extractor) -> Text:
    """The text of a record of ``raw/<source>``, with its language. Raises Unreadable."""
    return _READERS[source](record, extractor)


def _web(record: Record, extractor: Extractor) -> Text:
    payload, content_type = record["payload"], record["content_type"]
    if (content_type or "").startswith("text/plain"):  # text that somebody else extracted: WET
        return _prose(Text(text=normalise(payload.decode("utf-8", "replace"))))
    return _prose(read_page(payload, content_type, extractor))


def _code(record: Record, extractor: Extractor) -> Text:
    text, encoding = decode_source(record["payload"])
    path = record["path"]
    return Text(text=text, title=path, encoding=encoding, language=language.of_code(path, text))


def _wikipedia(record: Record, extractor: Extractor) -> Text:
    from datalake.transforms.wikitext import read_wikitext

    return _prose(read_wikitext(record["payload"], record["title"]))


def _arxiv(record: Record, extractor: Extractor) -> Text:
    from datalake.transforms.latex_text import read_latex

    return _prose(read_latex(record["payload"], record["title"]))


def _pdf(record: Record, extractor: Extractor) -> Text:
    from datalake.transforms.pdf_text import read_pdf

    return _prose(read_pdf(record["payload"]))


def _directories(record: Record, extractor: Extractor) -> Text:
    from datalake.transforms.file_text import read_file

    text = read_file(record["payload"], record["path"], record["content_type"], extractor)
    return text if record["content_type"] == NOTEBOOK and text.language else _prose(text)


def _tables(record: Record, extractor: Extractor) -> Text:
    text = normalise(record["payload"].decode("utf-8", "replace"))
    return _prose(Text(text=text, title=record["title"] or "", language=record["language"]))


def _prose(text: Text) -> Text:
    """With the language that the letters tell, where what it says of itself is not plain."""
    return replace(text, language=language.of_prose(text.text, text.language))


_READERS: dict[str, Callable[[Record, Extractor], Text]] = {
    "web": _web,
    "code": _code,
    "wikipedia": _wikipedia,
    "arxiv": _arxiv,
    "pdf": _pdf,
    "directories": _directories,
    "tables": _tables,
}
