import pytest

from datalake.transforms.file_types import (
    DOCX,
    HEAD_BYTES,
    HTML,
    MAIL,
    MAILBOX,
    MARKDOWN,
    NOTEBOOK,
    OLE_MAGIC,
    PLAIN,
    RST,
    may_be_read,
    media_type,
)

MESSAGE = b"Received: from x\nFrom: a@example.org\nDate: Tue, 1 Apr 2003 10:00:00 +0000\n\nhi\n"
PICTURE = b"\x89PNG\r\n\x1a\n\x00\x00"


@pytest.mark.parametrize(
    ("path", "head", "kind"),
    [
        ("a.HTML", b"<p>text", HTML),
        ("a/b.md", b"# text", MARKDOWN),
        ("a.rst", b"text", RST),
        ("a.ipynb", b"{}", NOTEBOOK),
        ("a.docx", b"PK\x03\x04", DOCX),
        ("locked.docx", OLE_MAGIC, DOCX),
        ("a.txt", "\ufefftext".encode("utf-16-le"), PLAIN),
        ("README", b"text", PLAIN),
        ("index", b"<!-- x -->\n<!DOCTYPE html><p>", HTML),
        ("1712345678.M20P3.host:2,S", MESSAGE, MAIL),
        ("cur/17", MESSAGE, MAIL),
        ("inbox", b"From ada@example.org Tue Apr  1 10:00:00 2003\n" + MESSAGE, MAILBOX),
        ("letter", b"From here on nothing is a mailbox.\n", PLAIN),
    ],
)
def test_a_type_is_told_by_name_and_content(path, head, kind):
    assert may_be_read(path)
    assert media_type(path, head) == kind


@pytest.mark.parametrize(
    ("path", "head"),
    [
        ("picture.html", PICTURE),
        ("paper.txt", b"%PDF-1.7"),
        ("document.docx", b"no zip"),
        ("program", b"\x7fELF\x02\x01\x01\x00"),
        ("nul.txt", b"te\0xt"),
    ],
)
def test_a_name_is_not_believed_against_the_content(path, head):
    assert media_type(path, head) is None


@pytest.mark.parametrize("path", ["a.png", "a/b.PY", "data.parquet", "back.up~", "a.b.js", "v1.c"])
def test_files_of_other_types_are_not_even_opened(path):
    assert not may_be_read(path)
    assert media_type(path, b"text") is None


@pytest.mark.parametrize(
    "unit", [b"<!---->", b"From: ", b"\n", b"From:\n", b" ", b"<!--", b"From x "]
)
def test_a_head_made_to_be_slow_is_not(unit):
    for start in (b"", b"From: x\n"):
        assert media_type("file", start + unit * (HEAD_BYTES // len(unit))) == PLAIN
