"""Signals of code: the compiled scans against regular expressions, and examples by language."""

import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datalake.dedup.signatures.minhash import Banding, BandsConfig
from datalake.filters.measures import code_kernels
from datalake.filters.measures.characters import character_classes
from datalake.filters.measures.code_signals import (
    SYNTAX,
    says_generated,
    starts_as_xml,
    visible_characters,
)
from datalake.filters.measures.signals import Measuring, measure
from tests.datalake.document_rows import documents

RUNS = (
    re.compile(r"[a-zA-Z0-9+/\n=]{64,}"),
    re.compile(r"(?:\b(?:0x|\\x)?[0-9a-fA-F]{2}(?:,|\b\s*)){8,}"),
    re.compile(r"(?:\\u[0-9a-fA-F]{4}){8,}"),
)
PIECES = st.sampled_from(
    ["41 ", "0x4f,", "0x4F, ", "\\x41", "\\u00e9", "ff", "f", "0x", "\\x", "\\u", "\\", ",", " "]
    + ["\n", "x", "é", "_", "\u3000", "A" * 63, "b" * 64, "=", "==\n", "e\u0301", "(", "0", "\\u12"]
    + ["41 " * 8, "0x4f," * 8, "\\x41" * 9, "\\u00e9" * 8, "deadbeef", "12345678", "0xf", "0X1"]
)
TEXTS = st.lists(PIECES, max_size=40).map("".join)


def bytes_of(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8)


def row(text: str, language: str, title: str = "file", source: str = "code") -> dict:
    batch = documents(text, source=source)
    for name, value in (("language", language), ("title", title)):
        place = batch.schema.get_field_index(name)
        batch = batch.set_column(place, batch.schema.field(name), pa.array([value]))
    return measure(batch, Measuring(Banding.of(BandsConfig()))).to_pylist()[0]


@given(TEXTS)
@settings(max_examples=600, deadline=None)
def test_encoded_runs_are_the_matches_of_their_patterns(text: str) -> None:
    matches = [match for run in RUNS for match in run.finditer(text)]
    covered = {k for match in matches for k in range(match.start(), match.end())}
    data = bytes_of(text)
    scratch = np.full(len(data), 255, np.uint8)
    found = code_kernels.encoded(data, 0, len(data), character_classes(), scratch)
    longest = max((match.end() - match.start() for match in matches), default=0)
    assert found == (len(covered), longest)


@given(TEXTS)
@settings(max_examples=300, deadline=None)
def test_hexadecimal_words_are_those_of_the_pattern(text: str) -> None:
    words = re.findall(r"\w+", text)
    pattern = re.compile(r"0[xX][0-9a-fA-F]+|(?=.*[0-9])[0-9a-fA-F]{8,}")
    expected = sum(len(word) for word in words if pattern.fullmatch(word))
    data = bytes_of(text)
    assert code_kernels.hexadecimal(data, 0, len(data), character_classes()) == expected


def comments(text: str, language: str) -> int:
    data = bytes_of(text)
    return code_kernels.comment_characters(data, 0, len(data), SYNTAX[language])


@pytest.mark.parametrize(
    ("language", "text", "comment"),
    [
        ("python", "x = 1  # one\ny = '# no'\n", "# one"),
        ("python", '"""Module."""\nx = 1\n', '"""Module."""'),
        ("python", 'def f():\n    r"""Doc\n    # string."""\n', '"""Doc\n    # string."""'),
        ("python", 'x = """no\ncomment"""\n', ""),
        ("python", 'f(\n"""no"""\n)\n', ""),
        ("python", "'it\\'s' # é", "# é"),
        ("python", "'unfinished\n# yes\n", "# yes"),
        ("java", '// one\nString s = "// no"; /* two */', "// one/* two */"),
        ("java", 'var s = """\n// no\n"""; // yes', "// yes"),
        ("javascript", "let s = `// no\n`; // yes", "// yes"),
        ("cpp", "int n = 1'000; // yes'", "// yes'"),
        ("c", "char c = '\"'; // yes", "// yes"),
        ("rust", "fn f<'a>(s: &'a str) {} // it's", "// it's"),
        ("rust", "let c = '\"'; let d = '\\''; // yes", "// yes"),
        ("c", "/* to the end", "/* to the end"),
        ("css", "a { b: c } /* yes */ // no", "/* yes */"),
        ("php", "# one\n// two\n", "# one// two"),
        ("toml", 'a = "#no" # yes', "# yes"),
    ],
)
def test_comments_are_told_from_strings(language: str, text: str, comment: str) -> None:
    assert comments(text, language) == len(comment)


@given(st.text(alphabet="'\"`/*#\\\n \tab(r)é", max_size=60), st.sampled_from(sorted(SYNTAX)))
@settings(max_examples=400, deadline=None)
def test_there_is_never_more_comment_than_text(text: str, language: str) -> None:
    assert 0 <= comments(text, language) <= len(text)


def test_a_fraction_is_null_where_a_language_has_no_such_thing() -> None:
    html = row("<html><body><p>Hello you</p><script>x()</script></body></html>", "html")
    assert html["visible_text_characters"] == len("Hello you")
    assert html["visible_text_fraction"] == pytest.approx(9 / html["num_characters"])
    assert html["comment_fraction"] is None
    python = row("# all of it", "python")
    assert (python["comment_fraction"], python["visible_text_fraction"]) == (1.0, None)


def test_flags_of_code_go_by_path_and_other_documents_have_none() -> None:
    said = row("var a=1;" * 100, "javascript", "node_modules/x/y.min.js")
    assert (said["vendored"], said["minified"], said["generated"]) == (True, True, True)
    page = row("Some text.", "en", "node_modules/x/y.min.js", "web")
    assert (page["vendored"], page["minified"], page["generated"]) == (None, None, False)


def test_visible_text_of_what_is_no_html_is_the_text() -> None:
    assert visible_characters(b"plain words") == 11
    assert visible_characters(b"") == 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('<?xml version="1.0"?>', True),
        ("é" * 86 + "<?xml version=", True),
        ("é" * 87 + "<?xml version=", False),
        ("<xml>", False),
    ],
)
def test_an_xml_declaration_counts_among_the_first_hundred_characters(
    text: str, says: bool
) -> None:
    assert starts_as_xml(text.encode()) is says


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("# Autogenerated by tool\nx = 1\n", True),
        ("\n\n\n\n// THIS FILE IS GENERATED", True),
        ("a\nb\nc\nd\ne\n# automatically generated\n", False),
        ("words about generators\n", False),
        ("", False),
    ],
)
def test_only_the_first_five_lines_say_that_a_file_is_generated(text: str, says: bool) -> None:
    assert says_generated(text.encode()) is says


@pytest.mark.parametrize("piece", ["41 ", "0x41,", "\\x41", "\\u0041 ", "a", "[", "'", '"""', "/*"])
def test_work_grows_with_the_text_alone(piece: str) -> None:
    """A million repeats of what a run or a string begins with end at once."""
    text = piece * (1_000_000 // len(piece))
    data, scratch = bytes_of(text), np.empty(len(text), np.uint8)
    code_kernels.encoded(data, 0, len(data), character_classes(), scratch)
    code_kernels.hexadecimal(data, 0, len(data), character_classes())
    for language in ("python", "java", "javascript", "rust"):
        assert comments(text, language) <= len(text)
