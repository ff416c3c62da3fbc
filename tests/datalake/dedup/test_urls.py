"""Keys of addresses: what one page's spellings share, what keeps its own, what has none."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datalake.dedup.urls import url_key, url_keys
from datalake.sources.record import doc_id

ADDRESSES = st.builds(
    lambda scheme, host, path, query: f"{scheme}://{host}{path}{query}",
    st.sampled_from(["http", "https"]),
    st.sampled_from(["example.org", "www.example.org", "a.b.example", "[::1]", "xn--bcher-kva.de"]),
    st.from_regex(r"\A(/[a-z0-9%._-]{0,5}){0,4}\Z"),
    st.from_regex(r"\A(\?([a-c]{1,2}=[0-9é日]{0,2}&?){0,4})?\Z"),
)


@given(ADDRESSES, st.permutations(range(5)))
def test_spellings_of_one_address_share_a_key(address: str, order: list[int]) -> None:
    scheme, _, rest = address.partition("://")
    host, slash, path = rest.partition("/")
    path, _, query = (slash + path).partition("?") if slash else ("", "", "")
    if not slash:
        host, _, query = host.partition("?")
    more = [*query.split("&"), "utm_source=x", "gclid=1", "FBCLID=2", "UTM_Campaign=%20"]
    shuffled = [more[k] for k in order if k < len(more)] + more[5:]
    left_out = [p for k, p in enumerate(more[:5]) if k not in order]
    port = {"http": ":80", "https": ":443"}[scheme]
    other = f"{scheme.upper()}://{host.upper()}{port}{path}/?{'&'.join(shuffled + left_out)}#top"
    assert url_key(other) == url_key(address)


@given(ADDRESSES)
def test_the_key_of_a_key_with_a_scheme_is_the_key(address: str) -> None:
    assert url_key(f"https://{url_key(address)}") == url_key(address)


@pytest.mark.parametrize(
    ("uri", "key"),
    [
        ("https://www.Example.org:443/a/?utm_source=x&b=2&a=1#top", "example.org/a?a=1&b=2"),
        ("http://example.org", "example.org"),
        ("http://example.org/", "example.org"),
        ("http://example.org:8080/", "example.org:8080"),
        ("http://example.org:443/", "example.org:443"),  # not the port of this scheme
        ("https://example.org/A/b", "example.org/A/b"),  # a path may tell cases apart
        ("https://example.org/?a", "example.org?a"),
        ("https://example.org/?a=2&a=1&gclid", "example.org?a=1&a=2"),
        ("https://www.org/x", "www.org/x"),
        ("https://www2.example.org/x", "www2.example.org/x"),
        ("https://user@example.org./x", "example.org/x"),
        ("https://例え.jp/日本語?ページ=1", "例え.jp/日本語?ページ=1"),
    ],
)
def test_an_address_has_this_key(uri: str, key: str) -> None:
    assert url_key(uri) == key


@pytest.mark.parametrize(
    "uri",
    [
        "file:///srv/texts/a.txt#page=2",
        "pkg:pypi/numpy#core/numeric.py",
        "dump:enwiki/12",
        "a/b/../c?utm_source=x",
        "",
        "http://",
        "https://[::1/half",
        "http://example.org:port/",
        "http://example.org:99999/",
        "\x00",
    ],
)
def test_what_is_no_web_address_keeps_its_own(uri: str) -> None:
    assert url_key(uri) == uri


def test_parts_of_one_resource_have_no_key() -> None:
    table = "https://example.org/table.parquet"
    rows = [
        ("web", "https://example.org/page/", ""),
        ("web", "http://www.example.org/page", ""),
        ("tables", table, "row 1"),
        ("tables", table, "row 2"),
        ("web", table, ""),  # the address itself, as a page
        ("tables", "https://example.org/page", ""),  # a table that names the page of each row
    ]
    documents = pa.table(
        {
            "doc_id": [doc_id(*row) for row in rows],
            "source": [row[0] for row in rows],
            "uri": [row[1] for row in rows],
        }
    )
    page, file = "example.org/page", "example.org/table.parquet"
    assert url_keys(documents).to_pylist() == [page, page, "", "", file, page]
    (batch,) = documents.to_batches()
    assert url_keys(batch) == url_keys(documents)
    assert url_keys(documents.slice(0, 0)).to_pylist() == []
