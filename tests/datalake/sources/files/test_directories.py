import io
import os
import pickle
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import docx
import pyarrow as pa
import pytest

from datalake.config import Refusal
from datalake.ingestion import ingest
from datalake.licences import Finding
from datalake.schemas import TABLES
from datalake.sources.files.directories import DirectoriesConfig
from datalake.sources.record import payload_digest
from datalake.sources.report import Report
from datalake.sources.source import Event, Record, Refresh, Unchanged
from datalake.transforms.file_text import read_file
from datalake.transforms.formats import read_text
from tests.datalake.sources.archive_files import tarred, zipped

TEXT = b"Some words.\n"
MAILBOX = b"".join(
    b"From ada@example.org Tue Apr  1 10:00:00 2003\nMessage-ID: <%d@x>\nSubject: %s\n"
    b"Content-Type: text/plain; charset=%s\n\n%s\n\n" % (n, b"S%d" % n, charset, body)
    for n, (charset, body) in enumerate(
        [(b"utf-8", "Grüße".encode()), (b"koi8-r", "Привет".encode("koi8-r"))]
    )
)


class Known:
    """Earlier snapshots that hold every position in ``rows``."""

    def __init__(self, rows: list[tuple[str, str]]) -> None:
        self._rows = rows

    def digest(self, uri: str, position: str = "") -> str | None:
        return None

    def rows(self, columns: list[str]) -> pa.Table:
        assert columns == ["uri", "position"]
        return pa.table(
            {"uri": [uri for uri, _ in self._rows], "position": [at for _, at in self._rows]}
        )


def refresh_of(home: Path, known: list[tuple[str, str]] | None = None) -> Refresh:
    return Refresh(
        origin="docs",
        snapshot="1",
        home=home,
        report=Report("docs", lambda line: None),
        previous=Known(known or []),
    )


def read(config: DirectoriesConfig, refresh: Refresh) -> list[Event]:
    return [event for piece in config.pieces(refresh) for event in config.read(piece, refresh)]


def records(config: DirectoriesConfig, refresh: Refresh) -> dict[tuple[str, str], Record]:
    found = [event for event in read(config, refresh) if isinstance(event, Record)]
    assert len({(record.uri, record.position) for record in found}) == len(found)
    return {(record.uri.removeprefix("d:/"), record.position): record for record in found}


def tree(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def config_of(root: Path, **settings) -> DirectoriesConfig:
    return DirectoriesConfig(folder=str(root), **{"base": "d:/"} | settings)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A tree with something of every kind."""
    document = docx.Document()
    document.add_paragraph("In a document.")
    out = io.BytesIO()
    document.save(out)
    inner = zipped({"deep.txt": b"deep\n", "picture.png": b"\x89PNG\0", "list.mbox": MAILBOX})
    return tree(
        tmp_path / "tree",
        {
            "a.md": b"# A\n",
            "sub/page.html": b"<title>P</title><p>" + b"words " * 50,
            "sub/paper.docx": out.getvalue(),
            "sub/mail.eml": b"From: a@x\nDate: x\nSubject: S\n\nhello\n",
            "sub/list.mbox": MAILBOX,
            "old.tar": tarred(
                {"in/old.txt": b"old\n", "in/inner.zip": inner, ".hidden/x.txt": b"h"}
            ),
            "picture.png": b"\x89PNG\r\n\x1a\n\0",
            "false.txt": b"\x7fELF\0\0",
            "empty.txt": b"",
            "locked.7z": b"7z\xbc\xaf\x27\x1c",
            ".git/config": TEXT,
            ".cache/x.txt": TEXT,
        },
    )


def test_every_kind_of_file_gives_its_records(mixed, tmp_path):
    refresh = refresh_of(tmp_path)
    found = records(config_of(mixed), refresh)
    assert set(found) == {
        ("a.md", ""),
        ("sub/page.html", ""),
        ("sub/paper.docx", ""),
        ("sub/mail.eml", ""),
        ("sub/list.mbox", "<0@x>"),
        ("sub/list.mbox", "<1@x>"),
        ("old.tar", "in/old.txt"),
        ("old.tar", "in/inner.zip!/deep.txt"),
        ("old.tar", "in/inner.zip!/list.mbox!/<0@x>"),
        ("old.tar", "in/inner.zip!/list.mbox!/<1@x>"),
    }
    assert refresh.report.skipped == {
        "type .png": 2,
        "type .txt": 1,
        "empty": 1,
        "hidden": 2,
        "version control": 1,
    }
    assert refresh.report.failed == {"archive type .7z not supported": 1}
    assert refresh.report.rows == len(found)


def test_every_record_can_be_read_again_and_has_a_text(mixed, tmp_path):
    for record in records(config_of(mixed), refresh_of(tmp_path)).values():
        assert DirectoriesConfig.read_again(record.place) == record.payload
        text = read_file(record.payload, record.own["path"], record.content_type)
        assert text.text.strip()


def test_messages_are_read_in_their_charset(mixed, tmp_path):
    found = records(config_of(mixed), refresh_of(tmp_path))
    record = found["sub/list.mbox", "<1@x>"]
    assert read_file(record.payload, record.own["path"], record.content_type).text == "Привет\n"


def test_records_have_the_columns_of_their_table(mixed, tmp_path):
    record = records(config_of(mixed, licence="MIT"), refresh_of(tmp_path))["old.tar", "in/old.txt"]
    assert record.own == {
        "path": "old.tar!/in/old.txt",
        "modified_at": datetime.fromtimestamp(1.5e9, UTC),
    }
    assert set(record.own) < set(TABLES[DirectoriesConfig.table].arrow.names)
    assert record.licence == Finding("MIT", "recipe", 1.0)
    assert record.fetched_at.tzinfo is not None


def test_pieces_and_settings_can_be_sent_to_a_task(mixed, tmp_path):
    config, refresh = config_of(mixed), refresh_of(tmp_path)
    pieces = pickle.loads(pickle.dumps(config.pieces(refresh)))
    assert list(pickle.loads(pickle.dumps(config)).read(pieces[0], refresh))


def test_pieces_are_groups_of_bounded_size_in_a_fixed_order(tmp_path):
    tree(tmp_path / "t", {f"{number:02}.txt": b"x" * 100 for number in range(20)})
    refresh = refresh_of(tmp_path)
    by_bytes = config_of(tmp_path / "t", max_piece_bytes=350).pieces(refresh)
    by_number = config_of(tmp_path / "t", max_piece_files=4).pieces(refresh)
    assert [len(piece.detail["files"]) for piece in by_bytes] == [3] * 6 + [2]
    assert [len(piece.detail["files"]) for piece in by_number] == [4] * 5
    names = [name for piece in by_bytes for _, name in piece.detail["files"]]
    assert names == sorted(names)
    assert len({piece.uri for piece in by_bytes}) == len(by_bytes)
    assert by_bytes == config_of(tmp_path / "t", max_piece_bytes=350).pieces(refresh)


def test_links_never_lead_out_and_nothing_counts_twice(tmp_path):
    tree(tmp_path, {"outside/secret.txt": TEXT, "t/a.txt": TEXT, "t/sub/b.txt": TEXT})
    root = tmp_path / "t"
    (root / "out.txt").symlink_to(tmp_path / "outside" / "secret.txt")
    (root / "out").symlink_to(tmp_path / "outside")
    (root / "again").symlink_to(root / "sub")
    (root / "sub" / "loop").symlink_to(root)
    (root / "self").symlink_to(root / "self")
    (root / "nothing.txt").symlink_to(root / "missing")
    os.link(root / "a.txt", root / "hard.txt")
    refresh = refresh_of(tmp_path)
    assert set(records(config_of(root), refresh)) == {("a.txt", ""), ("sub/b.txt", "")}
    assert refresh.report.skipped == {
        "link out of the tree": 2,
        "link inside the tree": 2,
        "link to nothing": 2,
        "the same file under another name": 1,
    }


def test_the_folder_itself_may_be_a_link(tmp_path):
    tree(tmp_path, {"t/a.txt": TEXT})
    (tmp_path / "link").symlink_to(tmp_path / "t")
    assert set(records(config_of(tmp_path / "link"), refresh_of(tmp_path))) == {("a.txt", "")}


def test_what_is_no_file_is_never_opened(tmp_path):
    root = tree(tmp_path / "t", {"a.txt": TEXT})
    os.mkfifo(root / "pipe.txt")
    refresh = refresh_of(tmp_path)
    config = config_of(root)
    assert set(records(config, refresh)) == {("a.txt", "")}
    assert refresh.report.skipped == {"neither a file nor a folder": 1}
    (piece,) = config.pieces(refresh)
    (root / "a.txt").unlink()
    os.mkfifo(root / "a.txt")
    assert not list(config.read(piece, refresh))  # and does not wait for a writer
    assert refresh.report.failed == {"unreadable": 1}


def test_a_link_that_took_the_place_of_a_file_is_not_followed(tmp_path):
    root = tree(tmp_path / "t", {"a.txt": TEXT})
    config, refresh = config_of(root), refresh_of(tmp_path)
    (piece,) = config.pieces(refresh)
    (root / "a.txt").unlink()
    (root / "a.txt").symlink_to("/etc/passwd")
    assert not list(config.read(piece, refresh))
    assert refresh.report.failed == {"unreadable": 1}


def test_what_is_lost_now_stays_as_an_earlier_snapshot_has_it(tmp_path):
    root = tree(tmp_path / "t", {"a.tar": tarred({"1.txt": b"1", "2.txt": b"2"})})
    before = [("d:/a.tar", "1.txt"), ("d:/a.tar", "2.txt"), ("d:/b.tar", "1.txt")]
    (root / "a.tar").write_bytes((root / "a.tar").read_bytes()[:1100])
    first, second = read(config_of(root), refresh_of(tmp_path, before))
    assert isinstance(first, Record) and first.position == "1.txt"
    assert second == Unchanged("d:/a.tar", "2.txt")


def test_a_file_gone_since_it_was_listed_is_gone(tmp_path):
    root = tree(tmp_path / "t", {"a.txt": TEXT})
    config, refresh = config_of(root), refresh_of(tmp_path, [("d:/a.txt", "")])
    pieces = config.pieces(refresh)
    (root / "a.txt").unlink()
    assert not list(config.read(pieces[0], refresh))
    assert refresh.report.skipped == {"gone since it was listed": 1}


def test_a_folder_that_cannot_be_listed_cuts_the_refresh(tmp_path, monkeypatch):
    root = tree(tmp_path / "t", {"a.txt": TEXT})
    monkeypatch.chdir(root)
    for _ in range(20):  # deeper than a path can say
        name = "d" * 250
        Path(name).mkdir()
        os.chdir(name)
    refresh = refresh_of(tmp_path)
    assert set(records(config_of(root), refresh)) == {("a.txt", "")}
    assert refresh.report.cut is not None and "cannot be listed" in refresh.report.cut


def test_patterns_say_which_files_are_meant(tmp_path):
    names = ("a.md", "a.txt", "docs/b.md", "docs/build/c.md", "vendor/d.md")
    root = tree(tmp_path / "t", dict.fromkeys(names, TEXT))
    refresh = refresh_of(tmp_path)
    config = config_of(root, include=("*.md",), exclude=("/vendor", "build/"))
    assert {uri for uri, _ in records(config, refresh)} == {"a.md", "docs/b.md"}
    assert refresh.report.skipped == {"not included": 1, "excluded": 2}
    assert {uri for uri, _ in records(config_of(root, include=("docs",)), refresh)} == {
        "docs/b.md",
        "docs/build/c.md",
    }


def test_hidden_files_are_read_on_demand_but_never_those_of_version_control(tmp_path):
    root = tree(tmp_path / "t", {".notes.txt": TEXT, ".git/x.txt": TEXT, "CVS/y.txt": TEXT})
    found = records(config_of(root, hidden=True), refresh_of(tmp_path))
    assert {uri for uri, _ in found} == {".notes.txt"}


def test_a_file_larger_than_allowed_is_left_out(tmp_path):
    root = tree(tmp_path / "t", {"a.txt": TEXT, "b.txt": TEXT * 10, "c.mbox": MAILBOX})
    refresh = refresh_of(tmp_path)
    assert len(records(config_of(root, max_file_bytes=90), refresh)) == 3
    assert refresh.report.skipped == {"larger than max_file_bytes": 1}


def test_without_a_base_an_address_is_that_of_the_file(tmp_path):
    root = tree(tmp_path / "t", {"with space é.txt": TEXT})
    ((uri, _),) = records(config_of(root, base=None), refresh_of(tmp_path))
    assert uri == (root / "with space é.txt").as_uri()


def test_a_name_that_is_not_utf8_has_an_address_too(tmp_path):
    root = tmp_path / "t"
    root.mkdir()
    (root / os.fsdecode(b"caf\xe9.txt")).write_bytes(TEXT)
    ((uri, _),) = found = records(config_of(root), refresh_of(tmp_path))
    assert uri == "caf%E9.txt"
    record = found[uri, ""]
    assert DirectoriesConfig.read_again(record.place) == TEXT
    for said in (record.place.archive, record.own["path"]):
        said.encode()


def test_the_watched_state_changes_with_names_sizes_and_times(tmp_path):
    root = tree(tmp_path / "t", {"a.txt": TEXT, "b/c.txt": TEXT})
    config = config_of(root)
    states = [config.watched()]
    assert config.watched() == states[0]
    (root / "a.txt").write_bytes(TEXT * 2)
    states.append(config.watched())
    (root / "b" / "c.txt").rename(root / "b" / "d.txt")
    states.append(config.watched())
    os.utime(root / "a.txt", (1, 1))
    states.append(config.watched())
    assert len(set(states)) == 4


def test_equal_messages_of_one_mailbox_have_one_position(tmp_path):
    message = b"From a@x Tue Apr  1 10:00:00 2003\nSubject: S\n\nwords\n\n"
    root = tree(tmp_path / "t", {"a.mbox": message * 2})
    events = read(config_of(root), refresh_of(tmp_path))
    assert {e.position for e in events} == {payload_digest(b"Subject: S\n\nwords\n")}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"folder": "/no/such"}, "folder must be a folder with at least one file to read"),
        ({"base": "docs/"}, "base must be an absolute address without query and fragment"),
        ({"base": "http://x/?q"}, "base must be an absolute address without query and fragment"),
    ],
)
def test_a_wrong_setting_is_refused(settings, message, tmp_path):
    tree(tmp_path / "t", {"a.txt": TEXT})
    config = DirectoriesConfig(**{"folder": str(tmp_path / "t")} | settings)
    with pytest.raises(Refusal, match=message):
        config.pieces(refresh_of(tmp_path))


def test_an_empty_folder_is_refused_since_it_may_not_be_mounted(tmp_path):
    (tmp_path / "t").mkdir()
    with pytest.raises(Refusal, match="at least one file to read"):
        config_of(tmp_path / "t").pieces(refresh_of(tmp_path))


def test_a_refresh_adds_what_changed_and_marks_what_is_gone(mixed, workspace):
    def snapshot(name: str) -> list[dict]:
        named = replace(workspace, origin={"tarn/snapshot": name})
        version = ingest(named, "raw/directories", {"docs": config_of(mixed)}).commit.version
        rows = workspace.lake.read("raw/directories", version).to_pylist()
        return [row for row in rows if row["snapshot"] == name]

    first = snapshot("1")
    assert len(first) == 10
    assert all(read_text(row, "directories", "blocks").text for row in first)
    assert not snapshot("2")

    (mixed / "a.md").write_bytes(b"# Changed\n")
    (mixed / "sub" / "mail.eml").unlink()
    (mixed / "sub" / "list.mbox").write_bytes(
        b"From x@x Tue Apr  1 10:00:00 2003\n\nhi\n\n" + MAILBOX
    )
    (mixed / "old.tar").write_bytes(tarred({"in/old.txt": b"old\n"}))
    last = {(row["uri"], row["position"]): row["deleted"] for row in snapshot("3")}
    assert last == {
        ("d:/a.md", ""): False,
        ("d:/sub/list.mbox", payload_digest(b"\nhi\n")): False,
        ("d:/sub/mail.eml", ""): True,
        ("d:/old.tar", "in/inner.zip!/deep.txt"): True,
        ("d:/old.tar", "in/inner.zip!/list.mbox!/<0@x>"): True,
        ("d:/old.tar", "in/inner.zip!/list.mbox!/<1@x>"): True,
    }
