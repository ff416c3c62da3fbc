import os
import pickle
from pathlib import Path

import pyarrow as pa
import pytest

from datalake.config import Refusal
from datalake.licences import Finding
from datalake.sources.files.pdf import PdfConfig
from datalake.sources.report import Report
from datalake.sources.source import Place, Record, Refresh, Unchanged

BODY = b"%PDF-1.4\n" + b"x" * 91


class Known:
    """Previous snapshots that hold every address of ``uris``."""

    def __init__(self, *uris: str) -> None:
        self._uris = uris

    def digest(self, uri: str, position: str = "") -> str | None:
        return "sha1:AAAA" if uri in self._uris else None

    def rows(self, columns: list[str]) -> pa.Table:
        return pa.table({name: [] for name in columns})


def refresh(tmp_path: Path, *known: str) -> Refresh:
    report = Report("pdf", lambda line: None)
    return Refresh(
        origin="books", snapshot="s", home=tmp_path, report=report, previous=Known(*known)
    )


def put(path: Path, payload: bytes = BODY) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(payload)
    return path


def read(config: PdfConfig, now: Refresh) -> list[Record]:
    events = [event for piece in config.pieces(now) for event in config.read(piece, now)]
    assert all(isinstance(event, Record) for event in events)
    return [event for event in events if isinstance(event, Record)]


def test_every_record_can_be_read_again_at_its_place(tmp_path):
    root = tmp_path / "shelf"
    put(root / "a.pdf"), put(root / "deep" / "B.PDF", BODY + b"2")
    records = read(PdfConfig(files=(str(root),)), refresh(tmp_path))
    assert [PdfConfig.read_again(r.place) for r in records] == [r.payload for r in records]
    assert [r.uri for r in records] == [
        (root / "a.pdf").as_uri(),
        (root / "deep" / "B.PDF").as_uri(),
    ]
    assert {r.content_type for r in records} == {"application/pdf"}
    assert all(r.fetched_at.tzinfo is not None for r in records)


def test_addresses_below_a_base_do_not_depend_on_the_folder(tmp_path):
    addresses = []
    for name in ("one", "two"):
        put(tmp_path / name / "part 1" / "é.pdf")
        config = PdfConfig(files=(str(tmp_path / name),), base="https://books.example.org/x")
        addresses.append([r.uri for r in read(config, refresh(tmp_path))])
    assert addresses == [["https://books.example.org/x/part%201/%C3%A9.pdf"]] * 2


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*.pdf", ["a.pdf"]),
        ("**/*.pdf", ["a.pdf", "x/b.pdf", "x/y/c.pdf"]),
        ("x/*/?.pdf", ["x/y/c.pdf"]),
        ("x/**", ["x/b.pdf", "x/y/c.pdf", "x/y/d.PDF_"]),
        ("[!b]*.pdf", ["a.pdf"]),
        ("a.pdf", ["a.pdf"]),
    ],
)
def test_a_wildcard_takes_what_a_shell_would_take(tmp_path, pattern, names):
    root = tmp_path / "shelf"
    for name in ("a.pdf", "x/b.pdf", "x/y/c.pdf", "x/y/d.PDF_"):
        put(root / name)
    config = PdfConfig(files=(str(root / pattern),))
    found = [Path(r.place.archive).relative_to(root) for r in read(config, refresh(tmp_path))]
    assert [path.as_posix() for path in found] == names


def test_links_are_not_followed_and_everything_left_out_is_counted(tmp_path):
    root = tmp_path / "shelf"
    outside = put(tmp_path / "outside" / "secret.pdf").parent
    put(root / "a.pdf"), put(root / "note.txt"), put(root / "empty.pdf", b"")
    put(root / "page.pdf", b"<html>no such page</html>"), put(root / "big.pdf", BODY * 3)
    (root / "link.pdf").symlink_to(outside / "secret.pdf")
    (root / "folder").symlink_to(outside)
    os.mkfifo(root / "pipe.pdf")
    now = refresh(tmp_path)
    records = read(PdfConfig(files=(str(root),), max_file_bytes=200), now)
    assert [Path(r.place.archive).name for r in records] == ["a.pdf"]
    assert now.report.skipped == {
        "symbolic link": 2,
        "not named .pdf": 1,
        "empty": 1,
        "larger than max_file_bytes": 1,
        "neither a file nor a folder": 1,
    }
    assert now.report.failed == {"not a PDF file": 1}
    assert (now.report.rows, now.report.num_bytes) == (1, len(BODY))


def test_a_header_after_some_bytes_is_still_that_of_a_pdf_file(tmp_path):
    put(tmp_path / "a.pdf", b"\r\n" * 500 + BODY)
    assert len(read(PdfConfig(files=(str(tmp_path),)), refresh(tmp_path))) == 1


def test_pieces_are_bounded_and_hold_every_file_once(tmp_path):
    sizes = [100, 120, 300, 90, 100, 100]
    for number, size in enumerate(sizes):
        put(tmp_path / f"{number}.pdf", BODY.ljust(size))
    config = PdfConfig(files=(str(tmp_path), str(tmp_path / "*.pdf")), max_piece_bytes=250)
    now = refresh(tmp_path)
    pieces = pickle.loads(pickle.dumps(config.pieces(now)))
    assert [piece.num_bytes for piece in pieces] == [220, 300, 200, 100]
    assert [piece.name for piece in pieces][:2] == ["0.pdf and 1 more", "2.pdf"]
    assert len({piece.uri for piece in pieces}) == len(pieces)
    assert now.report.skipped == {"named twice": len(sizes)}
    assert pieces == config.pieces(now)


def test_a_file_that_cannot_be_opened_is_not_taken_for_deleted(tmp_path):
    path = put(tmp_path / "a.pdf")
    config = PdfConfig(files=(str(tmp_path),))
    now = refresh(tmp_path, path.as_uri())
    (piece,) = config.pieces(now)
    target = put(tmp_path / "elsewhere.txt")
    path.unlink(), path.symlink_to(target)  # the link that took its place is not followed either
    assert list(config.read(piece, now)) == [Unchanged(path.as_uri())]
    assert now.report.failed == {"unreadable": 1}


def test_a_file_that_went_away_since_it_was_listed_is_counted(tmp_path):
    path = put(tmp_path / "a.pdf")
    config, now = PdfConfig(files=(str(tmp_path),)), refresh(tmp_path)
    (piece,) = config.pieces(now)
    path.unlink()
    assert list(config.read(piece, now)) == []
    assert now.report.skipped == {"gone since it was listed": 1}


def test_the_licence_of_the_recipe_is_that_of_each_record(tmp_path):
    put(tmp_path / "a.pdf")
    (plain,) = read(PdfConfig(files=(str(tmp_path),)), refresh(tmp_path))
    (given,) = read(PdfConfig(files=(str(tmp_path),), licence="CC-BY-4.0"), refresh(tmp_path))
    assert plain.licence is None
    assert given.licence == Finding("CC-BY-4.0", "recipe", 1.0)


def test_what_is_watched_changes_with_the_files_alone(tmp_path):
    path = put(tmp_path / "a.pdf")
    config = PdfConfig(files=(str(tmp_path),))
    before = config.watched()
    put(tmp_path / "note.txt")
    assert config.watched() == before
    put(path, BODY + b"more")
    assert config.watched() != before


def test_bytes_that_are_no_longer_there_raise(tmp_path):
    path = put(tmp_path / "a.pdf")
    with pytest.raises(OSError, match=r"a\.pdf must have 500 bytes, got 100"):
        PdfConfig.read_again(Place(archive=str(path), length=500))


def test_a_place_without_pdf_files_is_refused(tmp_path):
    config = PdfConfig(files=(str(tmp_path / "missing"),))
    with pytest.raises(Refusal, match=r"files\[0\] must be a folder, a file or a wildcard with .*"):
        config.pieces(refresh(tmp_path))


def test_a_base_that_is_no_address_is_refused(tmp_path):
    put(tmp_path / "a.pdf")
    config = PdfConfig(files=(str(tmp_path),), base="books")
    with pytest.raises(Refusal, match="base must be an absolute address without query and fragm"):
        config.pieces(refresh(tmp_path))


def test_a_base_for_two_places_is_refused(tmp_path):
    config = PdfConfig(files=(str(tmp_path), "/x"), base="https://books.example.org/")
    with pytest.raises(Refusal, match="base must be left out where files names several places"):
        config.pieces(refresh(tmp_path))
