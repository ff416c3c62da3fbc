"""What the filters of code decide on: comments, encoded data, visible text, files nobody wrote.

- ``comment_fraction``: characters in comments, their signs included, of all characters; null where
  the comments of the language are not known (``SYNTAX``). Strings are passed over. As in StarCoder
  (Li et al. 2023, arXiv:2305.06161, 3.1) docstrings count: in Python, strings in triple quotes
  that begin a line outside brackets.
- ``encoded_fraction``, ``longest_encoded``: characters in runs of encoded data, of all characters
  (where runs overlap they count once), and in the longest run. Runs are the matches of StarCoder2
  (Lozhkov et al. 2024, arXiv:2402.19173, A.1) from left to right::

      base64   [a-zA-Z0-9+/\\n=]{64,}
      hex      (?:\\b(?:0x|\\\\x)?[0-9a-fA-F]{2}(?:,|\\b\\s*)){8,}
      unicode  (?:\\\\u[0-9a-fA-F]{4}){8,}

- ``hexadecimal_fraction``: characters in words (runs of ``\\w``) that are ``0x`` and hexadecimal
  digits, or 8 and more hexadecimal digits with a decimal one among them.
- ``visible_text_characters``, ``visible_text_fraction``: of HTML source, what resiliparse reads as
  the text of the page; null in other languages.
- ``starts_as_xml``: ``<?xml version=`` among the first 100 characters.
- ``vendored``, ``minified``: of code, see ``transforms.code_flags``; null of other documents.
- ``generated``: of code, the same; of other documents, whether one of the first five lines says
  that a program wrote it.
"""

import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from datalake.filters.measures.characters import character_classes
from datalake.transforms.code_flags import flags_of

CODE = "code"  # the source whose documents are files of a project
HTML = ("html", "xhtml")

_HASH, _SLASHES, _BLOCK, _BACKTICK, _TRIPLE, _LIFETIMES, _DOCSTRINGS = 1, 2, 4, 8, 16, 32, 64
_C = _SLASHES | _BLOCK
SYNTAX = {  # languages whose comments are known, by their bits in ``code_kernels``
    **dict.fromkeys(("python", "cython"), _HASH | _TRIPLE | _DOCSTRINGS),
    **dict.fromkeys(("r", "toml"), _HASH | _TRIPLE),
    **dict.fromkeys(("c", "cpp", "cuda", "objective-c", "objective-c++", "protobuf", "zig"), _C),
    **dict.fromkeys(("java", "kotlin", "scala", "groovy", "swift", "dart", "csharp"), _C | _TRIPLE),
    **dict.fromkeys(("javascript", "typescript", "go"), _C | _BACKTICK),
    **dict.fromkeys(("scss", "less"), _C),
    "css": _BLOCK,
    "rust": _C | _LIFETIMES,
    "php": _C | _HASH,
}

_GENERATED = re.compile(  # Lozhkov et al. 2024 (StarCoder2), arXiv:2402.19173, 2.1
    rb"auto-?generated|automatically generated|generated automatically|this file is generated",
    re.IGNORECASE,
)
_GENERATED_LINES = 5  # the same
_XML = b"<?xml version="
_XML_HEAD = 100  # characters (StarCoder)


def code_signals(
    documents: pa.RecordBatch,
    texts: Sequence[bytes],
    data: np.ndarray,
    offsets: np.ndarray,
    num_characters: np.ndarray,
) -> dict[str, pa.Array]:
    """Columns of ``signals`` about code, of ``source``, ``language``, ``title`` and the texts.

    ``num_characters`` float64 [rows]; ``texts`` are the bytes between ``offsets`` of ``data``.
    """
    from datalake.filters.measures import code_kernels  # numba

    languages = documents["language"].to_pylist()
    syntaxes = np.array([SYNTAX.get(language, 0) for language in languages], np.int64)
    numbers = np.zeros((len(texts), 4))
    code_kernels.measure_code(data, offsets, character_classes(), syntaxes, numbers)
    shares = numbers / np.maximum(num_characters, 1)[:, None]
    visible = [
        visible_characters(text) if language in HTML else None
        for text, language in zip(texts, languages, strict=True)
    ]
    is_code = [source == CODE for source in documents["source"].to_pylist()]
    flags = [
        flags_of(path, text) if code else None
        for path, text, code in zip(documents["title"].to_pylist(), texts, is_code, strict=True)
    ]
    return {
        "comment_fraction": pa.array(shares[:, 3], mask=syntaxes == 0),
        "encoded_fraction": pa.array(shares[:, 0]),
        "longest_encoded": pa.array(numbers[:, 1].astype(np.int64)),
        "hexadecimal_fraction": pa.array(shares[:, 2]),
        "visible_text_fraction": pa.array(
            [
                None if seen is None else min(1.0, seen / max(1.0, whole))
                for seen, whole in zip(visible, num_characters.tolist(), strict=True)
            ],
            pa.float64(),
        ),
        "visible_text_characters": pa.array(visible, pa.int64()),
        "starts_as_xml": pa.array([starts_as_xml(text) for text in texts], pa.bool_()),
        "generated": pa.array(
            [
                says_generated(text) if flag is None else flag.generated
                for text, flag in zip(texts, flags, strict=True)
            ],
            pa.bool_(),
        ),
        "vendored": pa.array([flag and flag.vendored for flag in flags], pa.bool_()),
        "minified": pa.array([flag and flag.minified for flag in flags], pa.bool_()),
    }


def visible_characters(html: bytes) -> int:
    """Characters of the text that a reader of the page sees."""
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.html import HTMLTree

    return len(extract_plain_text(HTMLTree.parse(html.decode("utf-8", "replace"))))


def starts_as_xml(text: bytes) -> bool:
    """Whether an XML declaration stands among the first 100 characters."""
    head = text[: 4 * _XML_HEAD].decode("utf-8", "replace")[:_XML_HEAD]
    return _XML.decode() in head


def says_generated(text: bytes) -> bool:
    """Whether one of the first lines says that a program wrote the file."""
    end = 0
    for _ in range(_GENERATED_LINES):
        newline = text.find(b"\n", end)
        if newline < 0:
            end = len(text)
            break
        end = newline + 1
    return _GENERATED.search(text, 0, end) is not None
