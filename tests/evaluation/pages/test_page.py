from html.parser import HTMLParser

from evaluation.pages.page import (
    Html,
    bullets,
    facts,
    figure,
    folded,
    html,
    page,
    paragraph,
    section,
    side_by_side,
    table,
    tagged,
    tiles,
)

VOID = {"meta", "link", "br", "img", "hr", "input"}


class Outline(HTMLParser):
    """Every tag with its attributes, and whether all that was opened was closed in order."""

    def __init__(self, document: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(document)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_what_is_not_markup_is_escaped_wherever_it_enters():
    evil = "<script>alert('x')</script>"
    document = page(
        evil,
        [
            paragraph(evil),
            section(
                evil, facts([(evil, evil)]), table(evil, [evil], [[evil], [tagged(evil, evil)]])
            ),
            figure("<svg></svg>", evil),
        ],
    )
    outline = Outline(document)
    assert "script" not in {tag for tag, _ in outline.tags}
    assert document.count("alert(") == 11


def test_markup_is_left_as_it_is():
    assert html(Html("<b>1</b>")) == "<b>1</b>"
    assert html(3) == "3"


def test_a_page_names_nothing_outside_and_forbids_loading_it():
    document = page("Card", [paragraph("text")])
    outline = Outline(document)
    assert not {"script", "link", "iframe", "img"} & {tag for tag, _ in outline.tags}
    assert not any({"src", "href"} & set(attributes) for _, attributes in outline.tags)
    policy = next(a["content"] for _, a in outline.tags if "http-equiv" in a)
    assert "default-src 'none'" in policy
    assert "url(" not in document and "@import" not in document


def test_a_page_suits_light_and_dark_and_narrow_screens():
    document = page("Card", [])
    assert "color-scheme:light dark" in document
    assert "prefers-color-scheme:dark" in document
    assert 'name="viewport"' in document
    assert '<html lang="en">' in document


def test_columns_of_numbers_stand_flush_right_with_grouped_digits():
    drawn = table("Sizes", ["name", "bytes", "note"], [["web", 1234567, "x"], ["code", None, "y"]])
    assert '<td class="number">1,234,567</td>' in drawn
    assert '<th scope="col" class="number">bytes</th>' in drawn
    assert '<th scope="row">web</th>' in drawn
    assert '<td class="number"></td>' in drawn
    assert "<td>x</td>" in drawn


def test_tiles_and_folds_escape_what_they_are_given_and_close_what_they_open():
    evil = "<script>alert('x')</script>"
    document = page(
        "Card",
        [
            tiles([(evil, evil, evil)]),
            folded(evil, bullets([evil, evil])),
            folded("open", is_open=True),
            side_by_side([paragraph(evil), paragraph("right")]),
        ],
    )
    outline = Outline(document)
    assert "script" not in {tag for tag, _ in outline.tags}
    assert document.count("alert(") == 7
    assert [a for tag, a in outline.tags if tag == "details"] == [{}, {"open": None}]
