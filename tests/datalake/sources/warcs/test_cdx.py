"""Indexes: every layout finds the same captures, in few ranges of a large one."""

import gzip
import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datalake.sources.remote import RemoteError
from datalake.sources.warcs.cdx import Line, _lower_bound, look_up, newest, surt
from tests.datalake.sources.range_site import RangeSite, Served, serving

HEADER = " CDX N b a m s k r M S V g\n"


@pytest.fixture
def site() -> Iterator[RangeSite]:
    with serving() as site:
        yield site


def cdxj(url: str, timestamp: str, offset: int, status: str = "200") -> str:
    fields = {"url": url, "mime": "text/html", "status": status, "digest": "ABC"}
    fields |= {"length": "100", "offset": str(offset), "filename": "a/1.warc.gz"}
    return f"{surt(url)} {timestamp} {json.dumps(fields)}\n"


def cdx(url: str, timestamp: str, offset: int, status: str = "200") -> str:
    return f"{surt(url)} {timestamp} {url} text/html {status} ABC - - 100 {offset} a/1.warc.gz\n"


def captures() -> list[tuple[str, str, int, str]]:
    """Three thousand captures, of which some pages have several and one has very many."""
    rng = random.Random(0)
    hosts = ["example.org", "www.example.org", "e.net", "a.b.example.org", "z.info"]
    found = []
    for n in range(3000):
        url = f"https://{rng.choice(hosts)}/page-{n // 2 if n < 2000 else 7}/"
        found.append((url, f"2026{n:010}", n, rng.choice(["200", "200", "404"])))
    return found


@pytest.fixture(params=["cdxj", "cdx", "cdx.gz", "cluster.idx", "cluster over HTTP"])
def index(request: pytest.FixtureRequest, tmp_path: Path, site: RangeSite) -> str:
    write = cdx if request.param.startswith("cdx") and request.param != "cdxj" else cdxj
    lines = sorted(write(*c).encode() for c in captures())
    path = tmp_path / request.param
    match request.param:
        case "cdxj":
            path.write_bytes(b"".join(lines))
        case "cdx":
            path.write_bytes(HEADER.encode() + b"".join(lines))
        case "cdx.gz":
            path.write_bytes(gzip.compress(b"".join([HEADER.encode(), *lines])))
        case _:
            blocks, index, offset = b"", b"", 0
            for start in range(0, len(lines), 40):
                block = gzip.compress(b"".join(lines[start : start + 40]))
                key = b" ".join(lines[start].split(b" ")[:2])
                number = start // 40 + 1
                index += key + f"\tcdx-00000.gz\t{offset}\t{len(block)}\t{number}\n".encode()
                blocks, offset = blocks + block, offset + len(block)
            (tmp_path / "cluster.idx").write_bytes(index)
            (tmp_path / "cdx-00000.gz").write_bytes(blocks)
            if "HTTP" in request.param:
                site.files["/i/cluster.idx"] = Served(index)
                site.files["/i/cdx-00000.gz"] = Served(blocks)
                return f"{site.url}/i/cluster.idx"
            return str(tmp_path / "cluster.idx")
    return str(path)


def test_every_layout_finds_all_captures_of_a_url(index: str) -> None:
    known = captures()
    asked = sorted({url for url, *_ in random.Random(1).sample(known, 12)})
    asked += ["https://example.org/page-7/", "https://example.org/none", "https://0.0/"]
    found = look_up(index, asked)
    for url in asked:
        expected = sorted((t, offset) for u, t, offset, _ in known if surt(u) == surt(url))
        assert [(line.timestamp, line.offset) for line in found[url]] == expected
        assert all(line.filename == "a/1.warc.gz" and line.length == 100 for line in found[url])
        assert all(line.digest == "ABC" and line.mime == "text/html" for line in found[url])
    assert len(found["https://example.org/page-7/"]) > 300  # over many blocks
    assert found["https://example.org/none"] == []


def test_a_large_index_is_searched_in_a_few_ranges(site: RangeSite) -> None:
    lines = [cdxj(f"https://e.org/{n:07}", "20260101000000", n) for n in range(20_000)]
    site.files["/index"] = Served("".join(lines).encode())
    url = "https://e.org/0012345"
    (line,) = look_up(f"{site.url}/index", [url])[url]
    assert line.offset == 12345
    assert len(site.requests) < 14
    assert None not in site.ranges


@given(
    st.lists(st.binary(min_size=1, max_size=30).filter(lambda b: b"\n" not in b), max_size=40),
    st.binary(min_size=1, max_size=10),
    st.integers(1, 60),
)
@settings(max_examples=80, deadline=None)
def test_the_search_finds_the_first_line_that_is_not_before(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], prefix: bytes, window: int
) -> None:
    path = tmp_path_factory.mktemp("index") / "index"
    lines = sorted(lines)
    data = b"".join(line + b"\n" for line in lines)
    path.write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datalake.sources.warcs.cdx._WINDOW_BYTES", window)
        patch.setattr("datalake.sources.warcs.cdx._LINE_BYTES", window)
        found = _lower_bound(str(path), len(data), prefix)
    assert found == sum(len(line) + 1 for line in lines if line + b"\n" < prefix)


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("https://www.Example.org/A/b/?Q=2&a=1", "org,example)/a/b?a=1&q=2"),
        ("http://example.org/", "org,example)/"),
        ("http://www2.example.org:8080/x", "org,example:8080)/x"),
        ("https://a.b.example.co.uk/x//", "uk,co,example,b,a)/x"),
    ],
)
def test_keys_are_spelled_as_the_indexer_does(url: str, key: str) -> None:
    assert surt(url) == key


def test_the_newest_successful_capture_wins_and_its_own_spelling_before() -> None:
    def line(url: str, timestamp: str, status: int | None = 200) -> Line:
        place = {"filename": "f", "offset": 0, "length": 1, "digest": None, "mime": None}
        return Line(url=url, timestamp=timestamp, status=status, **place)  # type: ignore[arg-type]

    url = "https://e.org/"
    old, new = line(url, "20250101000000"), line(url, "20260101000000")
    plain = line("http://e.org/", "20270101000000")
    assert newest([old, new, plain, line(url, "20280101000000", 404)], url) == new
    assert newest([plain], url) == plain
    assert newest([line(url, "20260101000000", 301)], url) is None


def test_what_is_no_index_is_an_error_that_shows_the_line(tmp_path: Path) -> None:
    path = tmp_path / "index.cdxj"
    path.write_text("org,e)/ yesterday {}\n")
    with pytest.raises(RemoteError, match=r"must hold CDX lines, got 'org,e\)/ yesterday"):
        look_up(str(path), ["http://e.org/"])
    (tmp_path / "cluster.idx").write_text("org,e)/ 20260101000000 no tabs\n")
    with pytest.raises(RemoteError, match="must name blocks of lines, got b'org"):
        look_up(f"{tmp_path}/cluster.idx", ["http://e.org/"])
    with pytest.raises(FileNotFoundError):
        look_up(f"{tmp_path}/none", ["http://e.org/"])
