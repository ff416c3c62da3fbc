"""Which language a document is in: of prose by its letters, of code by its file name."""

import re

from resiliparse.parse.lang import detect_fast

UNKNOWN = "unknown"

_SAMPLE = 20_000  # characters; the detector counts n-grams, which are settled long before
# One script, one language: the detector answers "unknown" for short texts in these.
_SCRIPTS = (
    (re.compile("[\u3040-\u30ff]"), "ja"),  # kana; before Han, which Japanese has too
    (re.compile("[\uac00-\ud7af]"), "ko"),
    (re.compile("[\u4e00-\u9fff]"), "zh"),
    (re.compile("[\u0e00-\u0e7f]"), "th"),
)
_SCRIPT_SHARE = 0.3  # of the letters
_BY_EXTENSION = {
    "c": "c",
    "cc": "cpp",
    "cpp": "cpp",
    "cu": "cuda",
    "cuh": "cuda",
    "css": "css",
    "go": "go",
    "h": "c",
    "hpp": "cpp",
    "html": "html",
    "java": "java",
    "js": "javascript",
    "json": "json",
    "md": "markdown",
    "pxd": "cython",
    "py": "python",
    "pyi": "python",
    "pyx": "cython",
    "rs": "rust",
    "rst": "restructuredtext",
    "scala": "scala",
    "sh": "shell",
    "sql": "sql",
    "toml": "toml",
    "ts": "typescript",
    "tsx": "typescript",
    "txt": "text",
    "yaml": "yaml",
    "yml": "yaml",
}


def of_prose(text: str) -> str:
    """ISO 639-1 code of the language of ``text``, or ``unknown``."""
    sample = text[:_SAMPLE]
    language, _ = detect_fast(sample)
    if language != UNKNOWN:
        return language
    letters = sum(character.isalpha() for character in sample)
    for script, spoken in _SCRIPTS:
        if letters and len(script.findall(sample)) >= _SCRIPT_SHARE * letters:
            return spoken
    return UNKNOWN


def of_code(path: str) -> str:
    """Programming language of the file ``path``, by its extension, or ``unknown``."""
    return _BY_EXTENSION.get(path.rsplit(".", 1)[-1].lower(), UNKNOWN)
