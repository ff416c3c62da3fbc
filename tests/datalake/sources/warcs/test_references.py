"""Rows without payload: the bytes come from the archive, in few requests, and are checked."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from datalake.isolation import Lost
from datalake.sources.remote import Patience
from datalake.sources.report import Report
from datalake.sources.source import Place
from datalake.sources.warcs.reader import read_captures
from datalake.sources.warcs.references import payloads
from datalake.sources.warcs.writer import WarcWriter
from tests.datalake.sources.range_site import RangeSite, Served, serving
from tests.datalake.sources.warcs.test_reader import response


@pytest.fixture(autouse=True)
def no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datalake.sources.remote._PATIENCE", Patience(first_wait_seconds=0.01))


@pytest.fixture
def site() -> Iterator[RangeSite]:
    with serving() as site:
        yield site


def archive(folder: Path, name: str, count: int = 12, size: int = 4000) -> Path:
    rng = random.Random(name)
    with WarcWriter(folder, name) as written:
        for number in range(count):
            written.write(response(number, rng.randbytes(size)))
    return written.path


def references(uri: str | Path, report: Report) -> tuple[list[Place], list[str], list[bytes]]:
    found = list(read_captures(uri, 1 << 20, report))
    places = [Place(archive=c.archive, offset=c.offset, length=c.length) for c in found]
    return places, [c.payload_digest for c in found], [c.payload for c in found]


def test_every_row_gets_its_payload_whatever_their_order(tmp_path: Path, report: Report) -> None:
    rows = [
        row
        for name in ("a", "b")
        for row in zip(*references(archive(tmp_path, name), report), strict=True)
    ]
    for _ in range(2):
        places, digests, wanted = (list(column) for column in zip(*rows, strict=True))
        assert list(payloads(places, digests)) == wanted
        random.Random(0).shuffle(rows)
    assert list(payloads([], [])) == []


def test_the_same_place_twice_gives_its_payload_twice(tmp_path: Path, report: Report) -> None:
    (place, *_), (digest, *_), (payload, *_) = references(archive(tmp_path, "a"), report)
    assert list(payloads([place, place], [digest, digest])) == [payload, payload]


def test_places_close_together_are_one_request_and_lone_ones_a_range_each(
    tmp_path: Path, site: RangeSite, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datalake.sources.warcs.references._GAP_BYTES", 10_000)
    path = archive(tmp_path, "a", 40)
    site.files["/a"] = Served(path.read_bytes())
    places, digests, wanted = references(f"{site.url}/a", report)
    site.requests.clear()
    site.num_bytes = 0
    assert list(payloads(places, digests)) == wanted
    assert len(site.requests) == 1
    site.num_bytes = 0
    few = [0, 1, 20, 39]
    found = payloads([places[n] for n in few], [digests[n] for n in few])
    assert list(found) == [wanted[n] for n in few]
    assert len(site.requests) == 1 + 3
    assert site.num_bytes < 6 * places[0].length


def test_another_payload_a_damaged_record_and_a_missing_archive_cost_their_rows_alone(
    tmp_path: Path, report: Report
) -> None:
    path = archive(tmp_path, "a")
    places, digests, wanted = references(path, report)
    data = bytearray(path.read_bytes())
    data[places[3].offset + 1000] ^= 0xFF
    path.write_bytes(data)
    digests[5] = digests[6]
    places.append(Place(archive=f"{tmp_path}/none.warc.gz", offset=0, length=10))
    places.append(Place(archive=str(path), offset=len(data) - 5, length=100))
    found = list(payloads(places, [*digests, "sha1:", "sha1:"]))
    lost = {index: value.reason for index, value in enumerate(found) if isinstance(value, Lost)}
    assert [found[n] for n in range(12) if n not in lost] == [
        p for n, p in enumerate(wanted) if n not in (3, 5)
    ]
    assert set(lost) == {3, 5, 12, 13} and lost[5] == "digest"
    assert lost[12].startswith("archive: FileNotFoundError") and "none.warc.gz" in lost[12]
    assert lost[3].startswith("record: ") and lost[13].startswith("record: ")


def test_a_connection_that_breaks_in_the_middle_costs_nothing(
    tmp_path: Path, site: RangeSite, report: Report
) -> None:
    path = archive(tmp_path, "a")
    size = path.stat().st_size
    site.files["/a"] = Served(path.read_bytes())
    places, digests, wanted = references(f"{site.url}/a", report)
    site.files["/a"].breaks = [size // 2]
    assert list(payloads(places, digests)) == wanted
