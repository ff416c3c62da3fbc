"""Pages that are all main text: the short way gives what the long way gives."""

import bisect
import colorsys
import contextlib
import csv
import fnmatch
import gzip
import linecache
import numbers
import pydoc
import queue
import random
import re
import shlex
import token
from types import ModuleType

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.html import HTMLTree

from datalake.transforms.html_plain import Markup, is_all_main

MANUAL = (
    '<!DOCTYPE html><link rel=stylesheet href="a.css"><title>json</title><body>'
    "<div style='float:left'><div>Python<br><a href='index.html'>Index</a> : "
    '<a href="topics.html">Topics</a></div></div><table class="section"><tr class="decor">'
    "<td>&nbsp;<td class='code' id=functions>&nbsp;&nbsp;<a name='-dump'>dump</a>(obj)&nbsp;"
    '-&gt;&nbsp;None<dl><dt><a name="x"><strong>x</strong></a> = 1</dl><p>Text.</table>'
)


def text_of(tree: HTMLTree, search: bool) -> str:
    return extract_plain_text(
        tree,
        main_content=search,
        alt_texts=False,
        list_bullets=False,
        comments=False,
        post_meta=False,
    )


def whole(html: str) -> str:
    return text_of(HTMLTree.parse(html), search=False)


def long_way(html: str) -> str:
    """The main text by resiliparse, where no letter before a space is taken for a symbol."""
    return text_of(HTMLTree.parse(html.replace("&nbsp;", " &nbsp; ")), search=True)


def short_way(html: str) -> str | None:
    """The same where it need not be searched for."""
    tree = HTMLTree.parse(html)
    return text_of(tree, search=False) if is_all_main(tree, Markup(html)) else None


def words(text: str | None) -> list[str] | None:
    return None if text is None else text.split()


def test_a_page_of_a_manual_is_all_main_text() -> None:
    text = short_way(MANUAL)
    assert words(text) == words(long_way(MANUAL)) and text is not None and "dump(obj)" in text


def test_a_letter_before_a_space_stays() -> None:
    html = MANUAL.replace("<p>Text.", "<td>A&nbsp;<a href=x>BZ2File</a>")
    searched = text_of(HTMLTree.parse(html), search=True)
    assert "A\xa0BZ2File" in (short_way(html) or "") and "A\xa0BZ2File" not in searched


@pytest.mark.parametrize(
    "part",
    [
        "<ul><li><a>x</a></ul>",
        "<NAV>x</NAV>",
        "<footer>x</footer>",
        "<time>x</time>",
        "<p hidden>x</p>",
        "<p aria-hidden = true>x</p>",
        "<a rel=next>x</a>",
        "<span itemprop=author>x</span>",
        "<p role=menu id=a>x</p>",
        "<p class=x style='display: none'>x</p>",
        "<p class=x style=display&colon;none>x</p>",
        "<div CLASS='NavBar nav'>x</div>",
        "<div class\n = nav>x</div>",
        "<div class='&#110;av'>x</div>",
        "<div id=footer>x</div>",
        "<p title='class=' class='sidebar'>x</p>",
        "<p class=x data-ad>x</p>",
        "<div><div><div><a>one</a><a>two</a></div></div></div>",
        "<b>&lt;&nbsp\n</b>",
        "<b>&para;</b>",
        "<b>¶</b>",
        "<b>\ue000</b>",
        "<b>a\u00e9</b>",
        "<div class=postcontent>x</div>",
        "<div class=articleBody>x</div>",
        "<div role=main>x</div>",
    ],
)
def test_a_page_with_anything_that_may_be_dropped_goes_the_long_way(part: str) -> None:
    html = MANUAL.replace("<p>Text.", part)
    assert long_way(html) != whole(html) and short_way(html) is None


# What is dropped and what is not, in the spellings that HTML allows, and in some that it does not.
NAMES = re.findall(
    r"\S+",
    """nav menu-item content body sidebar ad ad_1f x code section-title share-links logo comments
    head heading header right more-links more links by-line post meta hidden h-0 skip next
    articleBody entry_footer print- search popup main-content user info text _ - is a b""",
)
NAME = st.lists(st.sampled_from(NAMES), max_size=3).map(" ".join)
ATTRIBUTE = st.one_of(
    st.tuples(st.sampled_from(["class", "id", "CLASS", "Id", "data-id"]), NAME),
    st.tuples(st.just("rel"), st.sampled_from(["next", "nofollow", " tag ", "author x"])),
    st.tuples(st.just("style"), st.sampled_from(["top:0", "display:none", "visibility:hidden;"])),
    st.tuples(st.just("title"), st.sampled_from(["class=", "a > b", "id='nav'", "<ul>", "&quot;"])),
    st.tuples(st.sampled_from(["role", "aria-hidden"]), st.sampled_from(["main", "true", "x"])),
    st.tuples(st.sampled_from(["hidden", "data-ad", "checked"]), st.just("")),
)  # fmt: skip
SPELLING = st.sampled_from(
    [' {}="{}"', " {}='{}'", " {}={}", '\n{} = "{}"', "/{}=\n'{}'", '"{}="{}"', " {}", "\t{}\t= {}"]
)  # fmt: skip
TAG = st.sampled_from(
    re.findall(r"\S+", "div p span a td table tr li ul b dl dt nav time h1 body form pre br")
)
TEXT = st.sampled_from(
    ["a", "¶", "é", "–", ">", "<", "\ue000", "&", ";", "\n", " ", "\0", "words of text", "A&nbsp;"]
    + ["&nbsp;", "&nbsp", "&gt;", "&#160;", "&lt", "class=", "<!-- x -->", "</b>", "</div>"]
    + ["</table>", "<script>1<2"]
)


@st.composite
def start_tags(draw: st.DrawFn) -> str:
    attributes = draw(st.lists(st.tuples(SPELLING, ATTRIBUTE), max_size=2))
    spelled = "".join(spelling.format(*attribute) for spelling, attribute in attributes)
    return f"<{draw(TAG)}{spelled}>"


PAGE = st.lists(st.one_of(start_tags(), TEXT, TEXT), max_size=20).map("".join)


@settings(max_examples=1000)
@given(PAGE)
@example("A&nbsp;")
@example("<p>A&nbsp;")
@example('<p title="class=" class="nav">x')
@example("<div><p><div class=x><a>only a link</a></div>")
@example("<p>A</b>&nbsp;")
@example("<p>A&nbsp;<b>x")
def test_the_short_way_gives_what_the_long_way_gives(html: str) -> None:
    assert words(short_way(html)) in (None, words(long_way(html)))


@settings(max_examples=500)
@given(st.lists(st.sampled_from(NAMES), max_size=3), st.lists(st.sampled_from(NAMES), max_size=2))
def test_names_that_stay_alone_stay_together(classes: list[str], identifier: list[str]) -> None:
    html = (
        "<p>1<table><tr><td><div><section "
        f'class="{" ".join(classes)}" id="{" ".join(identifier)}">2</section></table>'
    )
    assert words(short_way(html)) in (None, words(long_way(html)))


def test_pages_that_pydoc_writes_go_the_short_way_and_give_the_same_text() -> None:
    modules: list[ModuleType] = [bisect, colorsys, contextlib, csv, fnmatch, gzip, linecache]
    for module in (*modules, numbers, queue, random, shlex, token):
        html = MANUAL.replace("<p>Text.", f"</table>{pydoc.html.document(module)}")
        assert words(short_way(html)) == words(long_way(html))
