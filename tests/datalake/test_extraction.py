"""From raw rows to documents, in Spark: what is read, what cannot be, and what stays equal."""

from datetime import timedelta
from typing import Any

import pyarrow as pa
import pytest

from datalake.extraction import DocumentsConfig, extract, read_batch
from datalake.run import documents
from datalake.schemas import TABLES
from datalake.sources.record import doc_id
from datalake.transforms import formats
from datalake.transforms.text import Text
from datalake.workspace import Workspace
from tests.datalake.raw_rows import DAY, raw_row, store


def page(number: int, payload: bytes | None, **changes: Any) -> dict[str, Any]:
    return raw_row("raw/web", f"http://example.com/{number}", payload, **changes)


def file(name: str, payload: bytes, **changes: Any) -> dict[str, Any]:
    return raw_row("raw/code", f"pkg:pypi/thing#{name}", payload, path=name, **changes)


def read(
    workspace: Workspace, inputs: dict[str, int], **settings: Any
) -> dict[str, dict[str, Any]]:
    made = extract(workspace, inputs, DocumentsConfig(**settings))
    rows = workspace.lake.read("documents", made.version).to_pylist()
    return {row["uri"]: row for row in rows}


HTML = (
    b"<html lang=en><meta charset=utf-8><title>Foxes</title>"
    b"<p>The quick brown fox jumps over the lazy dog today.</p>"
)


def test_pages_and_files_become_documents_of_one_table(spark_workspace: Workspace) -> None:
    inputs = {
        "raw/web": store(spark_workspace, "raw/web", page(1, HTML)),
        "raw/code": store(spark_workspace, "raw/code", file("a/b.py", b"x = 'caf\xc3\xa9'\r\n")),
    }
    found = read(spark_workspace, inputs)
    web, code = found["http://example.com/1"], found["pkg:pypi/thing#a/b.py"]
    assert (web["title"], web["language"], web["encoding"]) == ("Foxes", "en", "utf-8")
    assert web["text"] == "The quick brown fox jumps over the lazy dog today."
    assert (code["title"], code["language"]) == ("a/b.py", "python")
    assert code["text"] == "x = 'café'\n" and code["num_bytes"] == 12
    for row, source in ((web, "web"), (code, "code")):
        assert row["source"] == source and row["doc_id"] == doc_id(source, row["uri"])
        assert (row["licence"], row["archive"], row["offset"]) == ("MIT", "archive", 7)
        assert (row["licence_evidence"], row["licence_confidence"]) == ("recipe", 1.0)


def test_a_page_may_name_its_own_licence(spark_workspace: Workspace) -> None:
    link = b'<link rel=license href="https://creativecommons.org/licenses/by/4.0/">'
    inputs = {
        "raw/web": store(
            spark_workspace, "raw/web", page(1, link + HTML, licence=None), page(2, HTML)
        ),
        "raw/code": store(spark_workspace, "raw/code", file("a.py", b"x\n")),
    }
    found = read(spark_workspace, inputs)
    assert found["http://example.com/1"]["licence"] == "CC-BY-4.0"
    assert found["http://example.com/2"]["licence"] == "MIT"


def test_what_cannot_be_read_stays_without_text_and_is_counted(
    spark_workspace: Workspace,
) -> None:
    inputs = {
        "raw/web": store(
            spark_workspace, "raw/web", page(1, b""), page(2, b"<div>" * 30_000), page(3, HTML)
        ),
        "raw/code": store(
            spark_workspace, "raw/code", file("a.py", b"\x7fELF\x00"), file("b.py", b"b = 1\n")
        ),
    }
    found = read(spark_workspace, inputs)
    assert {uri for uri, row in found.items() if not row["text"]} == {
        "http://example.com/1",
        "http://example.com/2",
        "pkg:pypi/thing#a.py",
    }
    made = documents(spark_workspace, inputs, DocumentsConfig())
    assert made.report["without text"] == 3
    assert made.report["unreadable: binary"] == 1
    assert made.report["unreadable: nested deeper than 20000 elements"] == 1


def test_of_several_snapshots_the_newest_capture_is_the_document(
    spark_workspace: Workspace,
) -> None:
    later = DAY + timedelta(days=1)
    inputs = {
        "raw/web": store(
            spark_workspace,
            "raw/web",
            page(1, HTML),
            page(1, HTML.replace(b"quick", b"slow"), snapshot="2026-01-02", fetched_at=later),
            page(2, HTML),
        ),
        "raw/code": store(spark_workspace, "raw/code", file("a.py", b"x\n")),
    }
    found = read(spark_workspace, inputs)
    assert len(found) == 3 and "slow brown fox" in found["http://example.com/1"]["text"]
    found = read(spark_workspace, inputs, versions="oldest")
    assert len(found) == 3 and "quick brown fox" in found["http://example.com/1"]["text"]
    found = read(spark_workspace, inputs, until="2026-01-01")
    assert len(found) == 3 and "quick brown fox" in found["http://example.com/1"]["text"]


def test_what_is_gone_is_no_document(spark_workspace: Workspace) -> None:
    later = {"snapshot": "2026-01-02", "fetched_at": DAY + timedelta(days=1)}
    gone = page(1, None, deleted=True, payload_digest="", **later)
    inputs = {"raw/web": store(spark_workspace, "raw/web", page(1, HTML), page(2, HTML), gone)}
    assert set(read(spark_workspace, inputs)) == {"http://example.com/2"}


def test_a_record_that_hangs_its_reader_costs_itself_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def read_or_hang(record: dict[str, Any], extractor: str) -> Text:
        while record["payload"] == b"hang":
            pass
        return Text(text=record["payload"].decode())

    monkeypatch.setitem(formats._READERS, "web", read_or_hang)
    rows = [page(1, b"one"), page(2, b"hang"), page(3, b"three")]
    batch = pa.RecordBatch.from_pylist(rows, schema=TABLES["raw/web"].arrow)
    config = DocumentsConfig(record_seconds=0.5)
    found = read_batch(batch, "web", frozenset(), config).to_pylist()
    assert [row["text"] for row in found] == ["one", "", "three"]
    assert found[1]["encoding"] == "unreadable: timeout"
    assert found[1]["title"] == "http://example.com/2"


def test_only_what_a_reader_sees_makes_a_new_version(spark_workspace: Workspace) -> None:
    code = store(spark_workspace, "raw/code", file("a.py", b"x\n"))
    printed = b"<p>The default is &lt;object object at 0x7fb648450bc0&gt; here.</p>"
    first = store(spark_workspace, "raw/web", page(1, printed))
    before = extract(spark_workspace, {"raw/web": first, "raw/code": code}, DocumentsConfig())
    moved = printed.replace(b"7fb648450bc0", b"7f0000001230")
    again = store(spark_workspace, "raw/web", page(1, moved, archive="other", offset=9))
    assert again != first
    after = extract(spark_workspace, {"raw/web": again, "raw/code": code}, DocumentsConfig())
    assert after.changed is False and after.version == before.version


def test_each_input_is_read_at_its_version(spark_workspace: Workspace) -> None:
    code = store(spark_workspace, "raw/code", file("a.py", b"x\n"))
    old = store(spark_workspace, "raw/web", page(1, HTML))
    store(spark_workspace, "raw/web", page(2, HTML))
    found = read(spark_workspace, {"raw/web": old, "raw/code": code})
    assert "http://example.com/1" in found and "http://example.com/2" not in found
