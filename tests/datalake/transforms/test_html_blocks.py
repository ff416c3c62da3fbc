"""The article of a page: what is kept, what is taken away, and which pages are left alone."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datalake.transforms.html_text import read_page

SENTENCE = "Running text of an article goes on for quite a while before it comes to its end. "


def paragraphs(word: str, count: int) -> str:
    return "".join(f"<p>{word} {n}. {SENTENCE * 3}</p>" for n in range(count))


def text_of(body: str, head: str = "<title>T</title>") -> str:
    html = f"<!DOCTYPE html><html><head>{head}</head><body>{body}</body></html>".encode()
    return read_page(html, None, "blocks").text


ARTICLE = f"<div class=story>{paragraphs('Story', 6)}</div>"


@pytest.mark.parametrize(
    "beside",
    [
        f"<div class=teasers><h3>More stories</h3><p>OTHER {SENTENCE}</p></div>",
        "<div class=box>OTHER Sign up for our letter, which comes every week.</div>",
        f"<section><p><a href=/x>OTHER {SENTENCE}</a></p></section>",
        f"<div id=comments>{paragraphs('OTHER', 3)}</div>",
        f"<div class=list><a href=/x>{paragraphs('OTHER', 5)}</a></div>",
        # Longer than the article, and still not it.
        f"<footer>{paragraphs('OTHER', 40)}</footer>",
        f"<div class=Comment-list>{paragraphs('OTHER', 40)}</div>",
    ],
)
def test_what_stands_beside_the_article_is_left_out(beside: str) -> None:
    for body in (ARTICLE + beside, beside + ARTICLE):
        found = text_of(f"<div class=page>{body}</div>")
        assert "OTHER" not in found and found.count("Story") == 6


@pytest.mark.parametrize(
    "inside",
    [
        "<div class=wp-caption-text>OTHER photo by somebody</div>",
        "<aside><h3>OTHER</h3>Five facts in a box</aside>",
        "<p><b>OTHER</b> <a href=/read-on>Read more of it: the whole story of the other</a></p>",
        "<div class=comments>OTHER readers say</div>",
    ],
)
def test_what_stands_inside_the_article_beside_its_text_is_left_out(inside: str) -> None:
    body = f"<div>{paragraphs('Story', 3)}{inside}{paragraphs('Story', 3)}</div>"
    found = text_of(body)
    assert "OTHER" not in found and found.count("Story") == 6


@pytest.mark.parametrize(
    "inside",
    [
        "<h2>KEPT</h2>",
        "<ul><li>KEPT<li>and more</ul>",
        "<ol><li>KEPT<li>and more</ol>",
        "<table><tr><td>KEPT<td>1</table>",
        "<blockquote class=twitter-tweet><p>KEPT as it was said</p></blockquote>",
        "<p>KEPT, though <a href=/x>a link</a> is in it</p>",
        "<p><a href='#note'>KEPT</a></p>",
        "<div class=commentary>KEPT</div>",
    ],
)
def test_what_belongs_to_the_article_is_kept(inside: str) -> None:
    body = (
        f"<main><article>{paragraphs('Story', 3)}{inside}{paragraphs('Story', 3)}</article></main>"
    )
    found = text_of(body)
    assert "KEPT" in found and found.count("Story") == 6


@pytest.mark.parametrize(
    "wrap",
    [
        "<article class='post comments-open'>{}</article>",
        "<div class='has-comments'><h1>Heading</h1>{}</div>",
        "<div class='market-commentary'>{}</div>",
    ],
)
def test_an_article_that_is_named_as_having_comments_is_none(wrap: str) -> None:
    found = text_of(wrap.format(ARTICLE) + "<div><p>elsewhere</p></div>")
    assert found.count("Story") == 6 and "elsewhere" not in found


def test_paragraphs_made_with_line_breaks_are_running_text() -> None:
    lines = "<br><br>".join(f"Story {n}. {SENTENCE * 2}" for n in range(6))
    found = text_of(f"<div><div>{lines}</div><div><p>OTHER teaser</p></div></div>")
    assert "OTHER" not in found and found.count("Story") == 6


# Pages that are no articles ----------------------------------------------------------------------

NAMES = "".join(f"<div><h4>name_{n}</h4> takes {n} things</div>" for n in range(60))
PAGES = {
    "code": f"<div>{paragraphs('Text', 6)}</div><div>{NAMES}</div><code>x = 1</code>",
    "terms": f"<div>{paragraphs('Text', 6)}</div><div>{NAMES}</div><dl><dt>a<dd>b</dl>",
    "one long paragraph": f"<div>{paragraphs('Text', 2)}</div><div>{NAMES}</div>",
    "no long paragraph": f"<div><p>short</p></div><div>{NAMES}</div>",
    "links": "<table><tr><td>"
    + "".join(f"<p><a href=/{n}>{SENTENCE}</a></p>" for n in range(40))
    + f"</table><div>{NAMES}</div>",
    "nothing": "",
    "frames": "<frameset><frame src=a></frameset>",
}


@pytest.mark.parametrize("body", PAGES.values(), ids=PAGES)
def test_a_page_that_is_no_article_is_left_to_resiliparse(body: str) -> None:
    html = f"<html><body>{body}</body></html>".encode()
    assert read_page(html, None, "blocks") == read_page(html, None, "resiliparse")
    assert not NAMES or NAMES not in body or "name_59" in read_page(html, None, "blocks").text


# What no page may do -----------------------------------------------------------------------------


@given(
    st.lists(
        st.sampled_from(
            [
                *("<p>", "</p>", "<br>", "<div>", "</div>", "<div class=comments>", "<aside>"),
                *("<table>", "<td>", "<body>", "<html>", "<blockquote class=a>", "<a href=x>"),
                *("</a>", "<object>", "<svg>", "<template>", SENTENCE, "words "),
            ]
        ),
        max_size=40,
    )
)
def test_any_markup_is_read(pieces: list[str]) -> None:
    html = "".join(pieces).encode()
    whole = read_page(html, None, "resiliparse").text.split()
    assert set(read_page(html, None, "blocks").text.split()) <= set(whole)


@pytest.mark.parametrize(
    "html",
    [
        "<p><marquee>" * 2200 + SENTENCE * 50_000,  # paragraphs in paragraphs
        "<div class=comment>" * 2200 + paragraphs("x", 2000),
        paragraphs("x", 20_000),
        "<div>" + "word<br>" * 300_000,
        "<div><br>" * 2200 + SENTENCE,
        f"<span>{SENTENCE}<br></span>" * 19_000,
        ("<p>" + SENTENCE + "<a href=x>link</a>" * 30) * 5000,
        "<p>" + SENTENCE * 30 + "<blockquote class=x>" * 2000,
    ],
    ids=["nested", "comments", "paragraphs", "breaks", "deep", "spans", "links", "quotes"],
)
def test_a_page_made_to_be_slow_is_read_in_seconds(html: str) -> None:
    began = time.process_time()
    read_page(html.encode(), None, "blocks")
    assert time.process_time() - began < 10  # one at the most where nothing else runs
