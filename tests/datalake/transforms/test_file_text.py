import json

import pytest

from datalake.transforms import file_types
from datalake.transforms.file_text import read_file
from datalake.transforms.text import Unreadable


@pytest.mark.parametrize(
    ("path", "source", "title"),
    [
        ("a.md", "# The title #\n\n## Other\n", "The title"),
        ("a.md", "The\ttitle\n=====\n\n# Other\n", "The title"),
        ("a.md", "```sh\n# a comment\n```\n\n# The title\n", "The title"),
        ("a.md", "words only\n", ""),
        ("a.rst", "=========\nThe title\n=========\n\nwords\n", "The title"),
        ("a.rst", ".. _anchor:\n\nThe title\n~~~~~~~~~\n", "The title"),
        ("a.rst", "=====  =====\na      b\n=====  =====\n", ""),
        ("a.org", "#+TITLE: The title\nwords\n", "The title"),
        ("a.adoc", "= The title\n\nwords\n", "The title"),
        ("a.txt", "# no title\n", ""),
    ],
)
def test_the_first_heading_is_the_title_and_the_text_stays_as_it_is(path, source, title):
    text = read_file(source.encode(), path, None)
    assert (text.title, text.text) == (title, source)


@pytest.mark.parametrize(
    "front",
    ["---\nlayout: x\ntitle: 'The title'\n---\n", '+++\ntitle = "The title"\n+++\n\n'],
)
def test_front_matter_gives_the_title_and_is_no_text(front):
    text = read_file(f"{front}# Heading\n".encode(), "post.md", None)
    assert (text.title, text.text) == ("The title", "# Heading\n")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "iso-8859-1"])
def test_text_is_read_in_its_encoding(encoding):
    payload = "Déjà vu, encore une fois à la fenêtre.\n".encode(encoding)
    assert read_file(payload, "a.txt", None).text == "Déjà vu, encore une fois à la fenêtre.\n"


def test_a_declared_type_comes_before_the_name():
    payload = b"From: a@example.org\nSubject: S\n\nwords\n"
    assert read_file(payload, "list.mbox", file_types.MAIL).title == "S"
    assert read_file(payload, "list.txt", "text/plain; charset=ascii").title == ""
    assert read_file(payload, "list.eml", "application/octet-stream").title == "S"


def test_pages_and_notebooks_are_read_by_their_readers():
    page = b"<html><title>T</title><body><p>" + b"many words " * 30 + b"</p></body></html>"
    assert read_file(page, "a.html", None).title == "T"
    cells = {"cells": [{"cell_type": "markdown", "source": "# N"}]}
    assert read_file(json.dumps(cells).encode(), "a.ipynb", None).title == "N"


@pytest.mark.parametrize(
    ("payload", "path", "reason"),
    [
        (b"\x89PNG\r\n\x1a\n\x00", "a.png", "type not known"),
        (b" \n", "a.txt", "empty"),
        (b"---\ntitle: x\n---\n", "a.md", "empty"),
        (b"a" * 9000 + b"\0", "a.txt", "binary"),
    ],
)
def test_what_is_no_text_says_why(payload, path, reason):
    with pytest.raises(Unreadable, match=reason):
        read_file(payload, path, None)
