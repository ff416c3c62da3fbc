"""Fetching: limits, redirects, and no way into a private network."""

import asyncio
import gzip
import time
from collections.abc import Awaitable, Callable

import pytest

from datalake.sources.web.fetch import Client, FetchError, Limits, Response, is_public
from tests.datalake.sources.site import Answer, Site

LIMITS = Limits(max_bytes=10_000, timeout_seconds=5.0)


def get(client: Client, url: str, media_types: tuple[str, ...] | None = None) -> Response:
    return _run(client, lambda: client.get(url, media_types))


def fetch(client: Client, url: str) -> Response:
    return _run(client, lambda: client.fetch(url))


def _run(client: Client, call: Callable[[], Awaitable[Response]]) -> Response:
    async def session() -> Response:
        async with client:
            return await call()

    return asyncio.run(session())


def allowed(site: Site, **settings: object) -> Client:
    return Client(limits=LIMITS, allow=(site.host,), **settings)  # type: ignore[arg-type]


def reason(failed: pytest.ExceptionInfo[FetchError]) -> str:
    return failed.value.reason


def test_a_page_comes_with_its_status_headers_and_time(site: Site) -> None:
    site.page("/a", text="Hello.")
    response = get(allowed(site), f"{site.url}/a")
    assert response.status == 200 and response.media_type == "text/html"
    assert b"Hello." in response.body and response.truncated is None
    assert response.header("content-type") == "text/html; charset=utf-8"
    assert response.fetched_at.utcoffset() is not None


def test_a_server_learns_who_asks_and_whom_to_write_to(site: Site) -> None:
    site.page("/")
    get(allowed(site, contact="crawler@example.com"), f"{site.url}/")
    assert site.requests[0][2]["User-Agent"] == "Tarn/0.1 (+crawler@example.com)"


def test_a_compressed_page_is_decoded(site: Site) -> None:
    site.answers["/"] = Answer(gzip.compress(b"<p>text"), headers={"Content-Encoding": "gzip"})
    assert get(allowed(site), f"{site.url}/").body == b"<p>text"


def test_a_large_page_is_cut_and_not_read_to_its_end(site: Site) -> None:
    site.answers["/"] = Answer(b"x" * (50 << 20))
    response = get(allowed(site), f"{site.url}/")
    assert response.truncated == "length" and len(response.body) == LIMITS.max_bytes
    assert site.num_bytes < 20 << 20  # the sockets' buffers, not the page


def test_a_small_page_that_unfolds_into_a_large_one_is_cut(site: Site) -> None:
    bomb = gzip.compress(bytes(8 << 20))
    site.answers["/"] = Answer(bomb, headers={"Content-Encoding": "gzip"})
    response = get(allowed(site), f"{site.url}/")
    assert response.truncated == "length" and len(response.body) == LIMITS.max_bytes


def test_a_body_of_another_type_stays_on_the_wire(site: Site) -> None:
    site.answers["/film"] = Answer(b"x" * (50 << 20), content_type="video/mp4")
    response = get(allowed(site), f"{site.url}/film", ("text/html",))
    assert response.status == 200 and response.body == b"" and site.num_bytes < 20 << 20


@pytest.mark.parametrize(
    "answer", [Answer(b"late", pause=3.0), Answer(b"x" * 9000, drip=0.5)], ids=["silent", "drip"]
)
def test_a_slow_page_times_out(site: Site, answer: Answer) -> None:
    site.answers["/"] = answer
    client = Client(limits=Limits(timeout_seconds=0.5), allow=(site.host,))
    began = time.monotonic()
    with pytest.raises(FetchError, match=r"timeout: 0\.5 s"):
        get(client, f"{site.url}/")
    assert time.monotonic() - began < 2.5


def test_a_connection_that_breaks_is_no_page(site: Site) -> None:
    site.answers["/"] = Answer(b"half", promised=1000)
    with pytest.raises(FetchError) as failed:
        get(allowed(site), f"{site.url}/")
    assert reason(failed) == "disconnect"


def test_nobody_there_is_said_so() -> None:
    with pytest.raises(FetchError) as failed:
        get(Client(allow=("127.0.0.1:9",)), "http://127.0.0.1:9/")
    assert reason(failed) == "no connection"


def test_an_unknown_name_is_said_so() -> None:
    with pytest.raises(FetchError) as failed:
        get(Client(), "http://no-such-host.invalid/")
    assert reason(failed) == "no such host"


def test_redirects_are_followed_to_their_end(site: Site) -> None:
    site.redirect("/a", "/b")
    site.redirect("/b", "c", status=308)
    site.page("/c")
    assert fetch(allowed(site), f"{site.url}/a").url == f"{site.url}/c"


def test_a_loop_of_redirects_ends(site: Site) -> None:
    site.redirect("/a", "/a")
    with pytest.raises(FetchError, match="redirects: more than 5"):
        fetch(allowed(site), f"{site.url}/a")
    assert len(site.requests) == 6


@pytest.mark.parametrize("location", ["http://[half/", "file:///etc/passwd", "mailto:a@b.example"])
def test_a_redirect_that_leads_to_no_address_is_refused(site: Site, location: str) -> None:
    site.redirect("/a", location)
    with pytest.raises(FetchError) as failed:
        fetch(allowed(site), f"{site.url}/a")
    assert reason(failed) == "bad redirect"


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"]
)
def test_a_private_address_is_refused_before_a_byte_is_sent(site: Site, host: str) -> None:
    with pytest.raises(FetchError) as failed:
        get(Client(limits=LIMITS), f"http://{host}:{site.port}/")
    assert reason(failed) == "private address"
    assert site.requests == []


def test_a_redirect_to_a_private_address_is_refused(site: Site, other_site: Site) -> None:
    other_site.page("/admin")
    for location in (f"{other_site.url}/admin", f"http://localhost:{other_site.port}/admin"):
        site.redirect("/a", location)
        with pytest.raises(FetchError) as failed:
            fetch(allowed(site), f"{site.url}/a")
        assert reason(failed) == "private address"
    assert other_site.requests == []


@pytest.mark.parametrize("spelling", ["2130706433", "0x7f000001", "127.1", "0177.0.0.1"])
def test_an_odd_spelling_of_a_private_address_is_refused(site: Site, spelling: str) -> None:
    with pytest.raises(FetchError):
        get(Client(limits=LIMITS), f"http://{spelling}:{site.port}/")
    assert site.requests == []


def test_a_host_by_name_can_be_allowed(site: Site) -> None:
    site.page("/")
    assert get(Client(allow=("localhost",)), f"http://localhost:{site.port}/").status == 200


def test_a_canonical_host_is_connected_to_where_the_source_says(site: Site) -> None:
    site.page("/a")
    client = Client(connect={"docs.localhost:80": ("127.0.0.1", site.port)})
    response = get(client, "http://docs.localhost/a")
    assert response.url == "http://docs.localhost/a" and response.status == 200
    assert site.requests[0][2]["Host"] == "docs.localhost"


@pytest.mark.parametrize(
    "address",
    ["10.0.0.1", "172.16.3.4", "192.168.1.1", "127.8.8.8", "169.254.169.254", "100.64.0.1",
     "0.0.0.0", "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1",
     "ff02::1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::", "192.0.2.1"],
)  # fmt: skip
def test_an_address_inside_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_an_address_outside_is_public(address: str) -> None:
    assert is_public(address)
