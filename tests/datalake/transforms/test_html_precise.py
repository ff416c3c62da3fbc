"""Trafilatura as an extractor, where it is installed and where it is not."""

import sys

import pytest

from datalake.config import Refusal
from datalake.transforms.html_text import read_page

PAGE = (
    "<html><head><title>T</title></head><body><nav><a href=/>Home</a></nav>"
    "<article>{}</article></body></html>"
)


def test_the_main_text_is_what_trafilatura_finds() -> None:
    pytest.importorskip("trafilatura", exc_type=ImportError)
    body = "".join(
        f"<h2>Part {n}</h2><p>Paragraph {n} of an article tells of {n} things at length.</p>"
        for n in range(20)
    )
    found = read_page(PAGE.format(body).encode(), None, "precise")
    assert found.title == "T" and "Home" not in found.text
    assert all(f"Part {n}\nParagraph {n} of" in found.text for n in range(20))


def test_where_trafilatura_finds_nothing_resiliparse_is_asked() -> None:
    pytest.importorskip("trafilatura", exc_type=ImportError)
    assert read_page(b"<p>few words", None, "precise").text == "few words"


def test_without_trafilatura_the_refusal_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trafilatura", None)
    with pytest.raises(
        Refusal, match=r"^extractor must be resiliparse or blocks where .* \(extra precise"
    ):
        read_page(b"<p>words", None, "precise")
