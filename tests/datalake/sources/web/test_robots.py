"""robots.txt after RFC 9309."""

import asyncio

import pytest

from datalake.sources.web import robots
from datalake.sources.web.fetch import Client, Limits
from datalake.sources.web.robots import Robots, Rules
from tests.datalake.sources.site import Answer, Site


def rules_of(site: Site) -> Rules:
    async def ask() -> Rules:
        limits = Limits(timeout_seconds=2.0)
        async with Client(limits=limits, allow=(site.host, "localhost")) as client:
            return await Robots(client).rules(f"{site.url}/any/page")

    return asyncio.run(ask())


def parsed(site: Site, text: str | bytes) -> Rules:
    body = text.encode() if isinstance(text, str) else text
    site.answers["/robots.txt"] = Answer(body, content_type="text/plain")
    return rules_of(site)


def allow(site: Site, text: str, path: str) -> bool:
    return parsed(site, text).allow(f"{site.url}{path}")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_a_missing_file_allows_everything(site: Site, status: int) -> None:
    site.answers["/robots.txt"] = Answer(b"User-agent: *\nDisallow: /", status)
    found = rules_of(site)
    assert found.verdict == "unavailable" and found.allow(f"{site.url}/a")


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_failing_server_allows_nothing(site: Site, status: int) -> None:
    site.answers["/robots.txt"] = Answer(b"", status)
    found = rules_of(site)
    assert found.verdict == "unreachable" and not found.allow(f"{site.url}/a")
    assert found.why == f"status {status}"


def test_no_answer_allows_nothing(site: Site) -> None:
    site.answers["/robots.txt"] = Answer(b"", pause=4.0)
    assert not rules_of(site).allow(f"{site.url}/a")


def test_five_redirects_are_followed_even_to_another_host(site: Site, other_site: Site) -> None:
    for step in range(4):
        site.redirect(f"/{step}" if step else "/robots.txt", f"/{step + 1}")
    site.redirect("/4", f"http://localhost:{other_site.port}/there")
    other_site.answers["/there"] = Answer(b"User-agent: *\nDisallow: /a")
    found = rules_of(site)
    assert not found.allow(f"{site.url}/a") and found.allow(f"{site.url}/b")


def test_endless_redirects_count_as_a_missing_file(site: Site) -> None:
    site.redirect("/robots.txt", "/robots.txt")
    assert rules_of(site).verdict == "unavailable"


def test_a_redirect_into_a_private_network_allows_nothing(site: Site, other_site: Site) -> None:
    site.redirect("/robots.txt", f"{other_site.url}/robots.txt")
    assert rules_of(site).verdict == "unreachable" and other_site.requests == []


def test_an_html_page_at_its_place_is_no_file(site: Site) -> None:
    found = parsed(
        site, "\n <!DOCTYPE html><html><body>Disallow: /<br>\nUser-agent: *\nDisallow: /"
    )
    assert found.verdict == "none" and found.allow(f"{site.url}/a")


# The example of RFC 9309, section 5.1, and the rules of 2.2.
EXAMPLE = """\
User-Agent: *
Disallow: *.gif$
Disallow: /example/
Allow: /publications/

User-Agent: foobot
Disallow:/
Allow:/example/page.html
Allow:/example/allowed.gif

User-Agent: tarn
User-Agent: bazbot
Disallow: /example/page.html

User-Agent: quxbot
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/example/page.html", False), ("/example/other.html", True), ("/a.gif", True)],
)
def test_our_own_group_replaces_the_one_for_all(site: Site, path: str, expected: bool) -> None:
    assert allow(site, EXAMPLE, path) is expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/a.gif", False), ("/a.gif?x", True), ("/example/b", False), ("/publications/b", True)],
)
def test_the_group_for_all_holds_where_none_is_ours(site: Site, path: str, expected: bool) -> None:
    assert allow(site, EXAMPLE.replace("tarn", "other"), path) is expected


@pytest.mark.parametrize(
    ("rules", "path", "expected"),
    [
        ("Allow: /example/page\nDisallow: /example/", "/example/page/b", True),
        ("Disallow: /page/no.gif\nAllow: /page/", "/page/no.gif", False),
        ("Allow: /a\nDisallow: /a", "/a", True),
        ("Disallow:", "/a", True),
        ("Disallow: /*.php$", "/x.php", False),
        ("Disallow: /*.php$", "/x.php5", True),
        ("Disallow: /foo/bar?baz=http://foo.bar", "/foo/bar?baz=http://foo.bar", False),
        ("Disallow: /a%3cd", "/a%3Cd", False),
        ("Disallow: /\u00e9", "/%C3%A9", False),
        ("Disallow: / # all of it", "/x", False),
        ("Disallow: /", "/robots.txt", True),
    ],
)  # fmt: skip
def test_the_longest_rule_wins_and_allow_wins_a_tie(
    site: Site, rules: str, path: str, expected: bool
) -> None:
    assert allow(site, f"User-agent: *\n{rules}", path) is expected


# The table of RFC 9309, section 2.2.2: rules and addresses are compared octet by octet, after
# escapes of what needs none are undone and of what needs one are made.
@pytest.mark.parametrize(
    ("rule", "path"),
    [
        ("/foo/bar?baz=quz", "/foo/bar?baz=quz"),
        ("/foo/bar?baz=https://foo.bar", "/foo/bar?baz=https%3A%2F%2Ffoo.bar"),
        ("/foo/bar/\u30c4", "/foo/bar/%E3%83%84"),
        ("/foo/bar/%E3%83%84", "/foo/bar/%E3%83%84"),
        ("/foo/bar/%62%61%7A", "/foo/bar/baz"),
    ],
)
def test_escapes_are_compared_as_the_standard_shows(site: Site, rule: str, path: str) -> None:
    assert not allow(site, f"User-agent: *\nDisallow: {rule}", path)
    assert allow(site, f"User-agent: *\nDisallow: {rule}", "/foo/other")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/example/page/", True),
        ("/example/page/a", True),
        ("/example/page/disallowed.gif", False),
        ("/example/pages", False),
    ],
)
def test_the_longest_match_of_the_standards_second_example_wins(
    site: Site, path: str, expected: bool
) -> None:
    rules = "Allow: /example/page/\nDisallow: /example/page/disallowed.gif\nDisallow: /example/"
    assert allow(site, f"User-Agent: tarn\n{rules}", path) is expected


def test_sitemaps_are_named_outside_of_all_groups(site: Site) -> None:
    found = parsed(
        site,
        "Sitemap: https://example.com/a.xml\nUser-agent: other\nDisallow: /\n"
        "sitemap: /b.xml # as seen\n",
    )
    assert found.sitemaps == ["https://example.com/a.xml", "/b.xml"]
    assert Rules("unavailable").sitemaps == []


def test_groups_of_the_same_agent_are_one(site: Site) -> None:
    groups = ("TARN\nDisallow: /a", "*\nDisallow: /", "Tarn\nDisallow: /b")
    text = "\n\n".join(f"User-agent: {group}" for group in groups)
    assert [allow(site, text, path) for path in ("/a", "/b", "/c")] == [False, False, True]


def test_bytes_that_are_no_text_cost_their_line_only(site: Site) -> None:
    found = parsed(site, b"\xef\xbb\xbfUser-agent: *\nDisallow: /\xff\xfe\nDisallow: /b\n")
    assert not found.allow(f"{site.url}/b")


def test_a_file_over_the_limit_is_read_up_to_its_last_whole_line(site: Site) -> None:
    head = "User-agent: *\nDisallow: /a\n#"
    half = "\nAllow: /ab"  # where the limit falls; as a rule of its own it would allow /abc
    filler = "x" * (robots.MAX_BYTES - len(head) - len(half))
    assert not parsed(site, f"{head}{filler}{half}/only/this").allow(f"{site.url}/abc")
    assert parsed(site, f"{head}{filler[1:]}{half}\n").allow(f"{site.url}/abc")


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        ("Crawl-delay: 2.5", 2.5),
        ("Crawl-delay: 100000", 60.0),
        ("Crawl-delay: soon", 0.0),
        ("Crawl-delay: -3", 0.0),
        ("", 0.0),
    ],
)
def test_the_delay_is_what_the_site_asks_for_within_reason(
    site: Site, line: str, seconds: float
) -> None:
    assert parsed(site, f"User-agent: *\n{line}\nDisallow: /x").delay_seconds == seconds


def test_a_file_is_fetched_once_for_an_origin(site: Site) -> None:
    async def ask_twice() -> None:
        async with Client(allow=(site.host,)) as client:
            known = Robots(client)
            await known.rules(f"{site.url}/a")
            await known.rules(f"{site.url}/b")

    asyncio.run(ask_twice())
    assert site.paths == ["/robots.txt"]
