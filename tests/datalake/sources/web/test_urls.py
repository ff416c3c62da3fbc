"""One spelling for every address."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datalake.sources.web.urls import canonical, host_of, origin_of


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("HTTP://Example.COM", "http://example.com/"),
        ("http://example.com:80/a", "http://example.com/a"),
        ("https://example.com:443/a", "https://example.com/a"),
        ("http://example.com:8080/a", "http://example.com:8080/a"),
        ("http://example.com/a#part", "http://example.com/a"),
        ("http://example.com/a?", "http://example.com/a"),
        ("http://example.com/a/../b/./c/..", "http://example.com/b/"),
        ("http://example.com/../../a", "http://example.com/a"),
        ("http://example.com/%7euser/%c3%a9", "http://example.com/~user/%C3%A9"),
        ("http://example.com/a b?c d", "http://example.com/a%20b?c%20d"),
        ("http://example.com/50%", "http://example.com/50%25"),
        ("http://example.com/é?q=ü", "http://example.com/%C3%A9?q=%C3%BC"),
        ("http://bücher.example/", "http://xn--bcher-kva.example/"),
        ("http://[::1]:80/", "http://[::1]/"),
        (" http://exam\nple.com/a\tb ", "http://example.com/ab"),
        ("http://example.com/?b=1&a=2", "http://example.com/?b=1&a=2"),
        ("http://example.com//a//b", "http://example.com//a//b"),
    ],
)
def test_equal_addresses_get_one_spelling(link: str, expected: str) -> None:
    assert canonical(link) == expected


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("b.html", "http://example.com/x/b.html"),
        ("/b", "http://example.com/b"),
        ("?q=1", "http://example.com/x/a?q=1"),
        ("#here", "http://example.com/x/a"),
        ("", "http://example.com/x/a"),
        ("//other.example/y", "http://other.example/y"),
        ("../../../y", "http://example.com/y"),
    ],
)
def test_a_link_is_resolved_against_its_page(link: str, expected: str) -> None:
    assert canonical(link, "http://example.com/x/a") == expected


@pytest.mark.parametrize(
    "link",
    [
        "mailto:a@b.example",
        "javascript:void(0)",
        "file:///etc/passwd",
        "ftp://a.example/",
        "data:,x",
    ],
)
def test_what_is_no_web_address_is_none(link: str) -> None:
    assert canonical(link, "http://example.com/") is None


def test_an_address_with_a_password_is_none() -> None:
    assert canonical("http://user:secret@example.com/") is None


@pytest.mark.parametrize(
    "link",
    [
        "http://[half/",
        "http://a b.example/",
        "http:///nowhere",
        "http://example.com:99999/",
        "http://..\ud800/",
        "http://example.com/" + "a" * 3000,
    ],
)
def test_what_cannot_be_read_raises_value_error(link: str) -> None:
    with pytest.raises(ValueError):
        canonical(link)


@given(st.text(max_size=60), st.sampled_from([None, "http://example.com/x/y?z"]))
def test_the_spelling_of_a_spelling_is_itself(link: str, base: str | None) -> None:
    try:
        url = canonical(link, base)
    except ValueError:
        return
    if url is not None:
        assert canonical(url) == url
        assert url.isascii()
        assert url.startswith(origin_of(url) + "/")


def test_host_and_port_are_named_also_where_the_port_is_the_default() -> None:
    assert host_of("https://example.com/a") == ("example.com", 443)
    assert host_of("http://[::1]:81/") == ("::1", 81)
