"""Pages of MediaWiki dumps: what is kept, what is not, and what damage costs."""

import bz2
import gzip
import pickle
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from xml.sax.saxutils import escape

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datalake.config import Refusal
from datalake.licences import Finding
from datalake.sources.files.dump_pages import Cutter
from datalake.sources.files.wikipedia import WikipediaConfig
from datalake.sources.report import Report
from datalake.sources.source import Place, Record, Refresh

HEAD = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11" xml:lang="en">
  <siteinfo>
    <sitename>Wikipedia</sitename>
    <dbname>enwiki</dbname>
    <base>https://en.wikipedia.org/wiki/Main_Page</base>
    <namespaces><namespace key="0" case="first-letter" /></namespaces>
  </siteinfo>
"""
TAIL = "</mediawiki>\n"


def page(
    number: int,
    text: str = "Some text.",
    *,
    namespace: int = 0,
    redirect: str = "",
    model: str = "wikitext",
    attributes: str = 'bytes="10" xml:space="preserve"',
    raw: str | None = None,
) -> str:
    return f"""  <page>
    <title>Page {number}</title>
    <ns>{namespace}</ns>
    <id>{number}</id>
    {f'<redirect title="{redirect}" />' if redirect else ""}
    <revision>
      <id>{number * 10}</id>
      <parentid>{number * 10 - 1}</parentid>
      <timestamp>2024-05-06T07:08:09Z</timestamp>
      <contributor><username>A</username><id>99999</id></contributor>
      <model>{model}</model>
      <format>text/x-wiki</format>
      <text {attributes}>{escape(text) if raw is None else raw}</text>
      <sha1>abc</sha1>
    </revision>
  </page>
"""


BLOCKS = [
    "".join(
        page(100 * block + i, f"Block {block}, page {i}: '''é''' & <ref>x</ref>") for i in (1, 2, 3)
    )
    for block in range(6)
]


def multistream(folder: Path, blocks: Iterable[str] = BLOCKS, *, index: bool = True) -> Path:
    path = folder / "enwiki-20240601-pages-articles-multistream.xml.bz2"
    data, lines = bz2.compress(HEAD.encode()), []
    for block in blocks:
        lines += [f"{len(data)}:{i}:A title: with colons\n" for i in range(3)]
        data += bz2.compress(block.encode())
    path.write_bytes(data + bz2.compress(TAIL.encode()))
    if index:
        name = "enwiki-20240601-pages-articles-multistream-index.txt.bz2"
        (folder / name).write_bytes(bz2.compress("".join(lines).encode()))
    return path


def plain(folder: Path, *pages: str, name: str = "dump.xml", head: str = HEAD) -> Path:
    path = folder / name
    path.write_text(head + "".join(pages) + TAIL, encoding="utf-8")
    return path


def refresh(folder: Path, report: Report) -> Refresh:
    return Refresh(origin="wiki", snapshot="s", home=folder, report=report, previous=None)  # type: ignore[arg-type]


def read(config: WikipediaConfig, folder: Path, report: Report) -> list[Record]:
    context = refresh(folder, report)
    pieces = pickle.loads(pickle.dumps(config.pieces(context)))
    return [record for piece in pieces for record in config.read(piece, context)]


def texts(records: list[Record]) -> list[tuple[str, bytes | None, object]]:
    return [(r.uri, r.payload, r.own) for r in records]


def test_a_record_says_what_the_dump_says(tmp_path: Path, report: Report) -> None:
    path = plain(tmp_path, page(12, 'a < b & "c" é\n\n[[x]]'))
    (record,) = read(WikipediaConfig(files=(str(path),)), tmp_path, report)
    assert record.uri == "https://en.wikipedia.org/?curid=12"
    assert record.payload == 'a < b & "c" é\n\n[[x]]'.encode()
    assert record.own == {
        "title": "Page 12",
        "page_id": 12,
        "revision_id": 120,
        "revised_at": datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC),
        "site": "enwiki",
    }
    assert record.content_type == "text/x-wiki"
    assert record.licence is not None and record.licence.licence == "CC-BY-SA-4.0"
    assert (report.rows, report.num_bytes) == (1, len(record.payload or b""))


def test_what_is_no_article_is_counted(tmp_path: Path, report: Report) -> None:
    older = page(8).replace("    <revision>", "<revision><id>1</id></revision>\n    <revision>", 1)
    path = plain(
        tmp_path,
        page(1, "#REDIRECT [[Page 2]]", redirect="Page 2"),
        page(2, " #redirect [[Page 3]]"),
        page(3, "discussion", namespace=1),
        page(4, "", attributes='deleted="deleted"'),
        page(5, "{}", model="json"),
        page(6, ""),
        page(7),
        older,
    )
    records = read(WikipediaConfig(files=(str(path),)), tmp_path, report)
    assert [r.place.member for r in records] == ["7", "8"]
    assert report.skipped == {
        "redirect": 2,
        "another namespace": 1,
        "deleted text": 1,
        "content model json": 1,
        "no text": 1,
        "older revision": 1,
    }
    assert not report.failed and not report.damages and report.cut is None


def test_other_namespaces_can_be_asked_for(tmp_path: Path, report: Report) -> None:
    path = plain(tmp_path, page(1), page(2, namespace=4))
    config = WikipediaConfig(files=(str(path),), namespaces=(4,))
    assert [r.place.member for r in read(config, tmp_path, report)] == ["2"]


def test_every_way_to_pack_a_dump_gives_the_same_records(tmp_path: Path, report: Report) -> None:
    (tmp_path / "streams").mkdir()
    streams = multistream(tmp_path / "streams")
    xml = (HEAD + "".join(BLOCKS) + TAIL).encode()
    cut = len(xml) // 3  # inside a page, as parallel compressors cut
    packed = {
        "x.xml": xml,
        "x.xml.bz2": bz2.compress(xml),
        "two.xml.bz2": bz2.compress(xml[:cut]) + bz2.compress(xml[cut:]),
        "x.xml.gz": gzip.compress(xml),
        "x.xml.zst": pa.Codec("zstd").compress(xml, asbytes=True),
        "multistream.xml.bz2": streams.read_bytes(),
    }
    expected = texts(read(WikipediaConfig(files=(str(streams),)), tmp_path, report))
    assert len(expected) == 18
    for name, data in packed.items():
        path = tmp_path / name
        path.write_bytes(data)
        found = read(WikipediaConfig(files=(str(path),)), tmp_path, report)
        assert texts(found) == expected, name
    assert not report.damages


def test_many_pieces_give_what_one_gives(tmp_path: Path, report: Report) -> None:
    multistream(tmp_path)
    pattern = str(tmp_path / "*.bz2")
    small = WikipediaConfig(files=(pattern,), piece_bytes=1)
    large = WikipediaConfig(files=(pattern,))
    assert len(small.pieces(refresh(tmp_path, report))) == 6
    (piece,) = large.pieces(refresh(tmp_path, report))
    found, expected = (read(c, tmp_path, report) for c in (small, large))
    assert [(r.uri, r.place, r.payload) for r in found] == [
        (r.uri, r.place, r.payload) for r in expected
    ]
    assert sum(p.num_bytes for p in small.pieces(refresh(tmp_path, report))) == piece.num_bytes


@pytest.mark.parametrize("packed", ["multistream", "xml", "bz2"])
def test_every_page_is_found_again_at_its_place(
    packed: str, tmp_path: Path, report: Report
) -> None:
    if packed == "multistream":
        path = multistream(tmp_path)
    else:
        path = plain(tmp_path, *BLOCKS)
        if packed == "bz2":
            data, path = path.read_bytes(), tmp_path / "dump.xml.bz2"
            path.write_bytes(bz2.compress(data))
    records = read(WikipediaConfig(files=(str(path),)), tmp_path, report)
    assert len(records) == 18
    assert all(WikipediaConfig.read_again(r.place) == r.payload for r in records)


def test_a_page_that_is_not_there_any_more_is_an_error(tmp_path: Path) -> None:
    path = plain(tmp_path, page(1))
    place = Place(archive=str(path), member="2", length=path.stat().st_size)
    with pytest.raises(FileNotFoundError, match="has no page 2"):
        WikipediaConfig.read_again(place)


@pytest.mark.parametrize("index", [True, False])
def test_a_damaged_block_costs_itself(index: bool, tmp_path: Path, report: Report) -> None:
    path = multistream(tmp_path, index=index)
    data = bytearray(path.read_bytes())
    starts = [i for i in range(len(data)) if data[i : i + 10] == b"BZh91AY&SY"]
    third = starts[3]  # behind the head
    for i in range(third + 60, third + 64):
        data[i] ^= 0xFF
    path.write_bytes(data)
    records = read(WikipediaConfig(files=(str(path),)), tmp_path, report)
    blocks = [int(r.place.member) // 100 for r in records]
    assert blocks == [b for b in (0, 1, 3, 4, 5) for _ in range(3)]
    assert len(report.damages) == 1
    assert f"{path} at byte {third}: " in report.damages[0]
    assert report.cut == "damaged dumps"  # so that nothing is taken for gone


def test_no_byte_of_a_block_gets_out_whose_check_sum_is_wrong(
    tmp_path: Path, report: Report
) -> None:
    long = page(1) + page(2, "x" * 3_000_000)  # of which much is unpacked before the sum is seen
    path = multistream(tmp_path, [long, *BLOCKS[1:]])
    data = bytearray(path.read_bytes())
    first = data.index(b"BZh91AY&SY", 1)
    data[first + 11] ^= 0xFF  # of the check sum
    path.write_bytes(data)
    records = read(WikipediaConfig(files=(str(path),)), tmp_path, report)
    assert [int(r.place.member) // 100 for r in records] == [b for b in range(1, 6) for _ in "abc"]
    assert len(report.damages) == 1


def test_pages_on_both_sides_of_a_hole_are_not_joined(tmp_path: Path, report: Report) -> None:
    xml = (HEAD + "".join(page(i) for i in range(1, 10)) + TAIL).encode()
    one, two = (xml.index(f"<id>{i}0</id>".encode()) for i in (3, 6))  # inside pages 3 and 6
    streams = [bz2.compress(part) for part in (xml[:one], xml[one:two], xml[two:])]
    path = tmp_path / "dump.xml.bz2"
    path.write_bytes(streams[0] + streams[1][:-30] + b"\0" * 30 + streams[2])
    records = read(WikipediaConfig(files=(str(path),)), tmp_path, report)
    assert [r.place.member for r in records] == ["1", "2", "7", "8", "9"]
    assert len(report.damages) == 1 and not report.failed


@given(st.lists(st.integers(0, 3000), max_size=30), st.sampled_from([400, 700, 10_000]))
def test_pages_do_not_depend_on_where_the_stream_is_cut(cuts: list[int], bound: int) -> None:
    xml = (page(1) + page(2, "x" * 900) + page(3)).encode()
    whole = list(Cutter(bound).feed(xml))
    assert [cut.whole for cut in whole] == [bound > 600, bound > 2000, bound > 600]
    cutter, found = Cutter(bound), []
    places = [0, *sorted(cuts), len(xml)]
    for start, end in pairwise(places):
        found += list(cutter.feed(xml[start:end]))
    assert [cut.whole for cut in found] == [cut.whole for cut in whole]
    assert [c.xml for c in found if c.whole] == [c.xml for c in whole if c.whole]
    assert not cutter.inside


def test_a_dump_that_ends_too_early_gives_what_is_there(tmp_path: Path, report: Report) -> None:
    path = multistream(tmp_path)
    data = path.read_bytes()
    starts = [i for i in range(len(data)) if data[i : i + 10] == b"BZh91AY&SY"]
    path.write_bytes(data[: starts[5] + 20])  # into the fifth block; the sixth is not there
    records = read(WikipediaConfig(files=(str(path),)), tmp_path, report)
    assert len(records) == 12
    assert "1 blocks of its index lie behind its end" in report.damages[0]
    assert "ends inside a stream of bzip2" in report.damages[1]
    assert report.cut


@pytest.mark.parametrize(
    ("keep", "damages"),
    [
        (-60, ["ends inside a page", "ends before </mediawiki>"]),
        (-13, ["ends before </mediawiki>"]),
    ],
)
def test_xml_that_ends_too_early_is_noticed(
    keep: int, damages: list[str], tmp_path: Path, report: Report
) -> None:
    path = plain(tmp_path, page(1), page(2))
    path.write_bytes(path.read_bytes()[:keep])
    records = read(WikipediaConfig(files=(str(path),)), tmp_path, report)
    assert len(records) == (1 if keep == -60 else 2)
    assert [d.partition(": ")[2] for d in report.damages] == damages


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_a_damaged_dump_of_another_compression_is_noticed(
    suffix: str, tmp_path: Path, report: Report
) -> None:
    xml = (HEAD + "".join(page(i, f"{i} " * 2000) for i in range(1, 900)) + TAIL).encode()
    packed = gzip.compress(xml) if suffix == "gz" else pa.Codec("zstd").compress(xml, asbytes=True)
    path = tmp_path / f"dump.xml.{suffix}"
    path.write_bytes(packed[: len(packed) * 2 // 3])
    records = read(WikipediaConfig(files=(str(path),)), tmp_path, report)
    assert 0 < len(records) < 899
    assert report.damages and report.cut


def test_a_malformed_page_costs_itself(tmp_path: Path, report: Report) -> None:
    path = plain(
        tmp_path,
        page(1),
        page(2, raw="<b>never closed"),
        page(3).replace("<ns>0</ns>", ""),
        page(4).replace("<id>40</id>", "<id>forty</id>"),
        page(5).replace("2024-05", "2024-55"),
        page(6, raw="\x01"),
        page(7),
    )
    records = read(WikipediaConfig(files=(str(path),)), tmp_path, report)
    assert [r.place.member for r in records] == ["1", "7"]
    assert report.failed == {"malformed page": 5}
    assert "page 2 of" in str(report.as_dict()["first failed: malformed page"])
    assert report.cut


def test_entities_are_never_expanded(tmp_path: Path, report: Report) -> None:
    layers = "".join(
        f'<!ENTITY l{i} "{f"&l{i - 1};" * 10 if i else "lol" * 10}">' for i in range(10)
    )
    bomb = f"<!DOCTYPE mediawiki [{layers}]>"
    inner = page(2).replace("<page>", f"<page>{bomb}")
    path = plain(tmp_path, page(1, raw="&l9;"), inner, page(3), head=bomb + HEAD)
    records = read(WikipediaConfig(files=(str(path),)), tmp_path, report)
    assert [r.place.member for r in records] == ["3"]
    assert report.failed == {"malformed page": 2}


def test_a_page_above_the_bound_costs_itself(tmp_path: Path, report: Report) -> None:
    path = plain(tmp_path, page(1), page(2, "x" * 3_000_000), page(3), page(4, "y" * 20_000))
    config = WikipediaConfig(files=(str(path),), max_page_bytes=10_000)
    assert [r.place.member for r in read(config, tmp_path, report)] == ["1", "3"]
    assert report.failed == {"page above 10000 bytes": 2}
    assert "page 2 of" in str(report.as_dict()["first failed: page above 10000 bytes"])


def test_a_multistream_dump_without_its_index_is_one_piece(tmp_path: Path) -> None:
    said: list[str] = []
    path = multistream(tmp_path, index=False)
    report = Report("test", said.append)
    pieces = WikipediaConfig(files=(str(path),)).pieces(refresh(tmp_path, report))
    assert len(pieces) == 1
    assert said == [f"{path.name} has no index beside it, so it is read as one piece"]


def test_a_damaged_index_costs_only_the_pieces(tmp_path: Path, report: Report) -> None:
    path = multistream(tmp_path)
    index = tmp_path / "enwiki-20240601-pages-articles-multistream-index.txt.bz2"
    index.write_bytes(index.read_bytes()[:-20])
    assert len(read(WikipediaConfig(files=(str(path),)), tmp_path, report)) == 18
    assert "is read as one piece" in report.damages[0]


def test_an_index_of_another_dump_is_noticed(tmp_path: Path, report: Report) -> None:
    path = multistream(tmp_path)
    index = tmp_path / "enwiki-20240601-pages-articles-multistream-index.txt"
    (tmp_path / f"{index.name}.bz2").unlink()
    index.write_text("7:1:A\n300:2:B\n")
    read(WikipediaConfig(files=(str(path),)), tmp_path, report)
    assert all("no stream of bzip2 begins here" in line for line in report.damages)
    assert len(report.damages) == 2 and report.cut


def test_the_parts_of_a_large_dump_have_their_own_indexes(tmp_path: Path, report: Report) -> None:
    path = multistream(tmp_path)
    part = path.with_name("enwiki-20240601-pages-articles-multistream7.xml-p1p9.bz2")
    path.rename(part)
    index = tmp_path / "enwiki-20240601-pages-articles-multistream-index.txt.bz2"
    index.rename(tmp_path / "enwiki-20240601-pages-articles-multistream-index7.txt-p1p9.bz2")
    config = WikipediaConfig(files=(str(tmp_path / "*"),), piece_bytes=1)
    assert len(config.pieces(refresh(tmp_path, report))) == 6


def test_the_licence_of_the_recipe_wins_and_no_other_wiki_has_one(
    tmp_path: Path, report: Report
) -> None:
    path = plain(tmp_path, page(1), head=HEAD.replace("en.wikipedia.org", "wiki.example.org"))
    (record,) = read(WikipediaConfig(files=(str(path),)), tmp_path, report)
    assert record.licence is None
    config = WikipediaConfig(files=(str(path),), licence="CC-BY-SA-3.0")
    (record,) = read(config, tmp_path, report)
    assert record.licence == Finding("CC-BY-SA-3.0", "recipe", 1.0)


@pytest.mark.parametrize("content", ["", "no XML at all", HEAD.replace("</siteinfo>", "")])
def test_a_file_that_is_no_dump_is_an_error(content: str, tmp_path: Path, report: Report) -> None:
    path = tmp_path / "x.xml"
    path.write_text(content)
    with pytest.raises(OSError, match="has no <siteinfo>"):
        read(WikipediaConfig(files=(str(path),)), tmp_path, report)


def test_a_dump_that_does_not_name_its_wiki_is_an_error(tmp_path: Path, report: Report) -> None:
    path = plain(tmp_path, page(1), head=HEAD.replace("https://en.wikipedia.org", ""))
    with pytest.raises(OSError, match="does not name its wiki by <base>"):
        read(WikipediaConfig(files=(str(path),)), tmp_path, report)


def test_files_must_match(tmp_path: Path, report: Report) -> None:
    config = WikipediaConfig(files=(str(tmp_path / "*.xml"),))
    with pytest.raises(Refusal, match=r"files must match at least one dump, got .*\*\.xml"):
        config.pieces(refresh(tmp_path, report))


def test_a_changed_dump_is_seen(tmp_path: Path) -> None:
    path = plain(tmp_path, page(1))
    config = WikipediaConfig(files=(str(path),))
    before = config.watched()
    assert before == config.watched()
    plain(tmp_path, page(1), page(2))
    assert config.watched() != before
