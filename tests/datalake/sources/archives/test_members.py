import gzip
import io
import os
import stat
import struct
import tarfile
import tracemalloc
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datalake.sources.archives.members import (
    Bounds,
    Member,
    is_archive,
    members,
    read_member,
    safe_path,
)
from datalake.sources.report import Report
from tests.datalake.sources.archive_files import (
    COMPRESSIONS,
    overlapping_zip,
    patched,
    streamed_zip,
    tar_of,
    tarred,
    zipped,
)

FILES = {
    "a.txt": b"hello" * 100,
    "deep/b.txt": bytes(range(256)) * 400,
    "n" * 180 + "/ü.txt": b"long",
}
INNER = {"in/one.zip": zipped({"q.txt": b"q"}), "two.tgz": gzip.compress(tarred({"r.txt": b"r"}))}


def quiet() -> Report:
    return Report("test", lambda line: None)


def unpack(data: bytes, name: str, report: Report | None = None, **bounds) -> list[Member]:
    return list(members(io.BytesIO(data), name, Bounds(**bounds), report or quiet()))


def contents(found: list[Member]) -> dict[str, bytes]:
    return {member.path: member.payload for member in found}


ARCHIVES = {
    "plain.zip": zipped,
    "stored.zip": lambda files: zipped(files, zipfile.ZIP_STORED),
    "bzip2.zip": lambda files: zipped(files, zipfile.ZIP_BZIP2),
    "streamed.zip": streamed_zip,
    "pax.tar": tarred,
    "gnu.tar": lambda files: tarred(files, tarfile.GNU_FORMAT),
    **{
        f"t.tar.{name}": lambda files, compress=compress: compress(tarred(files))
        for name, compress in COMPRESSIONS.items()
    },
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_members_are_what_was_put_in(name, report):
    found = unpack(ARCHIVES[name](FILES), name, report)
    assert contents(found) == FILES
    assert not report.failed and not report.skipped and not report.damages


@pytest.mark.parametrize("name", ARCHIVES)
def test_archives_inside_are_opened_and_every_member_can_be_read_again(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(ARCHIVES[name](FILES | INNER))
    found = unpack(path.read_bytes(), name)
    assert contents(found) == FILES | {"in/one.zip!/q.txt": b"q", "two.tgz!/r.txt": b"r"}
    for member in found:
        assert read_member(str(path), member.path) == member.payload
    assert read_member(path.as_uri(), "two.tgz") == INNER["two.tgz"]


def test_archives_inside_are_members_like_others_where_nested_is_off(report):
    data = zipped(FILES | INNER)
    found = members(io.BytesIO(data), "a.zip", Bounds(), report, nested=False)
    assert contents(list(found)) == FILES | INNER


@pytest.mark.parametrize("name", ["stored.zip", "plain.zip", "pax.tar"])
def test_places_are_those_of_the_bytes_in_the_file(name):
    data = ARCHIVES[name]({"a.txt": b"hello", "b.txt": b"world" * 9})
    for member in unpack(data, name):
        there = data[member.offset : member.offset + member.length]
        assert there == member.payload or name == "plain.zip"
        assert there


@pytest.mark.parametrize("suffix", COMPRESSIONS)
def test_a_single_file_is_called_as_its_archive_without_the_suffix(suffix):
    found = unpack(COMPRESSIONS[suffix](b"alone"), f"/some/where/notes.txt.{suffix}")
    assert contents(found) == {"notes.txt": b"alone"}


def test_compressed_streams_after_each_other_are_one():
    two = gzip.compress(b"one ") + gzip.compress(b"two")
    assert contents(unpack(two, "a.gz")) == {"a": b"one two"}


def test_many_short_streams_take_time_in_proportion_to_their_bytes():
    tiny = gzip.compress(b"x", 1)
    many = tiny * 100_000  # minutes, where every stream copies what follows it
    assert contents(unpack(many, "a.gz")) == {"a": b"x" * 100_000}


def test_a_header_of_many_records_takes_time_in_proportion_to_its_bytes(report):
    info = tarfile.TarInfo("a.txt")
    info.pax_headers = {f"{number:x}": "" for number in range(100_000)}
    assert contents(unpack(tar_of([(info, b"1")]), "a.tar", report)) == {"a.txt": b"1"}


def test_times_are_those_of_the_members():
    assert unpack(zipped({"a": b"1"}), "a.zip")[0].modified_at == datetime(
        2020, 2, 29, 12, 30, 2, tzinfo=UTC
    )
    assert unpack(tarred({"a": b"1"}), "a.tar")[0].modified_at == datetime.fromtimestamp(1.5e9, UTC)


def test_only_wanted_members_are_unpacked(report):
    bomb = zipped({"zeros.bin": bytes(40 << 20), "a.txt": b"a"})
    found = members(
        io.BytesIO(bomb), "a.zip", Bounds(), report, wanted=lambda path: path.endswith(".txt")
    )
    assert contents(list(found)) == {"a.txt": b"a"}
    assert not report.failed


UNSAFE = [
    "../up.txt",
    "a/../../up.txt",
    "/etc/passwd",
    "C:evil.txt",
    "c:/evil.txt",
    "dir\\..\\evil.txt",
    "new\nline",
    "..",
    "a/" * 3000 + "long",
]


@pytest.mark.parametrize("name", UNSAFE)
@pytest.mark.parametrize("make", [zipped, tarred])
def test_a_path_that_leads_out_costs_its_member_only(make, name, report):
    found = unpack(make({"before": b"1", name: b"evil", "after": b"2"}), "a", report)
    assert contents(found) == {"before": b"1", "after": b"2"}
    assert report.failed == {"unsafe path in an archive": 1}


@given(st.text(st.sampled_from("./\\ab:\0é"), max_size=12))
def test_a_safe_path_stays_below_its_folder_and_is_normal(name):
    path = safe_path(name)
    if path is not None:
        assert (Path("/root") / path).resolve().is_relative_to("/root")
        assert safe_path(path) == path
        assert not {"..", ".", ""} & set(path.split("/"))
        assert "\\" not in path and "\0" not in path


def test_links_and_devices_cost_their_member_only(report):
    kinds = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)
    headers = [(tarfile.TarInfo("first"), b"1")]
    for number, kind in enumerate(kinds):
        info = tarfile.TarInfo(f"odd{number}")
        info.type, info.linkname = kind, "/etc/passwd"
        headers.append((info, b""))
    headers += [(tarfile.TarInfo("last"), b"2")]
    assert contents(unpack(tar_of(headers), "a.tar", report)) == {"first": b"1", "last": b"2"}
    assert report.skipped == {"link in an archive": 2, "device in an archive": 3}


def test_links_and_devices_in_a_zip_cost_their_member_only(report):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, kind in (("l", stat.S_IFLNK), ("d", stat.S_IFCHR), ("f", stat.S_IFREG)):
            info = zipfile.ZipInfo(name)
            info.external_attr, info.create_system = (kind | 0o644) << 16, 3
            archive.writestr(info, b"/etc/passwd")
        archive.mkdir("folder")
    assert contents(unpack(out.getvalue(), "a.zip", report)) == {"f": b"/etc/passwd"}
    assert report.skipped == {"link in an archive": 1, "device in an archive": 1}


def test_encrypted_and_unknown_members_are_counted(report):
    data = zipped({"secret.txt": b"x" * 50})
    assert not unpack(patched(data, "flags", 1), "a.zip", report)
    assert not unpack(patched(data, "method", 97), "a.zip", report)
    assert report.failed == {"encrypted member": 1, "zip method 97 not supported": 1}


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_of_two_members_of_one_name_the_first_is_taken(report):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.txt", b"first")
        archive.writestr("./a.txt", b"second")
    assert contents(unpack(out.getvalue(), "a.zip", report)) == {"a.txt": b"first"}
    assert report.skipped == {"duplicate name in an archive": 1}


@pytest.mark.parametrize("suffix", COMPRESSIONS)
def test_a_bomb_is_left_at_its_ratio(suffix, report):
    bomb = COMPRESSIONS[suffix](bytes(60 << 20))
    tracemalloc.start()
    assert not unpack(bomb, f"bomb.{suffix}", report, max_ratio=50.0)
    assert tracemalloc.get_traced_memory()[1] < 40 << 20
    tracemalloc.stop()


def test_a_bomb_in_a_zip_costs_its_member_only(report):
    bomb = zipped({"first.txt": b"1", "zeros.txt": bytes(30 << 20), "last.txt": b"2"})
    assert contents(unpack(bomb, "a.zip", report)) == {"first.txt": b"1", "last.txt": b"2"}
    assert report.failed == {"compressed further than max_ratio": 1}


def test_a_small_text_of_blanks_is_no_bomb(report):
    blanks = b" " * (4 << 20)
    assert contents(unpack(zipped({"a.txt": blanks}), "a.zip", report)) == {"a.txt": blanks}


def test_a_zip_of_zips_is_opened_to_its_depth_only(report):
    data = zipped({f"{number}.txt": b"x" * 1000 for number in range(4)})
    for level in range(6):
        data = zipped({f"{level}-{number}.zip": data for number in range(4)})
    assert not unpack(data, "42.zip", report)
    assert report.failed == {"archive nested deeper than max_depth": 4**3}


def test_a_gzip_that_holds_itself_ends(report):
    data = gzip.compress(b"end")
    for _ in range(10):
        data = gzip.compress(data)
    assert not unpack(data, "a" + ".gz" * 11, report)
    assert report.failed == {"archive nested deeper than max_depth": 1}


@pytest.mark.parametrize("make", [zipped, tarred])
def test_more_members_than_allowed_end_the_archive(make, report):
    data = make({f"{number}.txt": b"1" for number in range(30)})
    assert len(unpack(data, "many", report, max_members=10)) == 10
    assert report.failed == {"archive of more than max_members": 1}


def test_the_bounds_hold_for_all_archives_inside_together(report):
    inner = zipped({f"{number}.txt": os.urandom(500) for number in range(10)})
    data = tarred({f"{number}.zip": inner for number in range(10)})
    assert len(unpack(data, "a.tar", report, max_members=24)) == 21
    assert len(unpack(data, "a.tar", report, max_total_bytes=9000)) == 18
    assert set(report.failed) == {
        "archive of more than max_members",
        "archive of more than max_total_bytes",
    }


@pytest.mark.parametrize("make", [zipped, tarred])
def test_a_member_larger_than_allowed_is_left_out_alone(make, report):
    data = make({"a": b"1", "large": os.urandom(5000), "z": b"2"})
    assert contents(unpack(data, "x", report, max_member_bytes=4999)) == {"a": b"1", "z": b"2"}
    assert report.failed == {"member larger than max_member_bytes": 1}


def test_entries_that_share_their_bytes_are_unpacked_once(report):
    data = overlapping_zip(500, b"kernel " * 1000)
    assert [member.path for member in unpack(data, "a.zip", report)] == ["0000"]
    assert report.failed == {"overlapping members": 499}


@pytest.mark.parametrize(("field", "value"), [("length", 5), ("length", 1 << 30), ("header", 9999)])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_false_size_or_place_costs_its_member(method, field, value, report):
    data = patched(zipped({"a.txt": os.urandom(100)}, method), field, value)
    assert not unpack(data, "a.zip", report)
    assert sum(report.failed.values()) == 1


def test_the_declared_size_of_a_zip_is_not_believed():
    data = zipped({"a.txt": b"hello" * 50})
    for size in (0, 3, 0xFFFFFFF0):
        assert contents(unpack(patched(data, "size", size), "a.zip")) == {"a.txt": b"hello" * 50}


def test_a_wrong_checksum_costs_its_member(report):
    data = bytearray(zipped({"a.txt": b"hello", "b.txt": b"world"}, zipfile.ZIP_STORED))
    data[data.find(b"hello")] ^= 1
    assert contents(unpack(bytes(data), "a.zip", report)) == {"b.txt": b"world"}
    assert report.failed == {"damaged member": 1}


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_cut_archive_gives_what_was_whole_and_says_so(name):
    files = {f"{number}.txt": os.urandom(3000) for number in range(8)}
    whole = ARCHIVES[name](files)
    for share in (0.3, 0.6, 0.8):
        report = quiet()
        found = contents(unpack(whole[: int(len(whole) * share)], name, report))
        assert found == {path: files[path] for path in list(files)[: len(found)]}
        assert report.damages
        if not name.endswith(("bz2", "xz", "zst")):  # those come in blocks larger than this
            assert len(found) >= int(8 * share) - 1


@pytest.mark.parametrize("suffix", COMPRESSIONS)
def test_a_cut_file_is_damaged_and_not_given_in_part(suffix, report):
    data = COMPRESSIONS[suffix](os.urandom(5000))
    assert not unpack(data[:-20], f"a.txt.{suffix}", report)
    assert len(report.damages) == 1


def test_a_tar_after_whose_damage_nothing_is_known_ends_there(report):
    data = bytearray(tarred({"a": b"1", "b": b"2", "c": b"3"}))
    second = data.find(b"b\0\0\0")
    data[second + 150] ^= 7  # in its checksum
    assert contents(unpack(bytes(data), "a.tar", report)) == {"a": b"1"}
    assert "damaged header" in report.damages[0]


def test_a_tar_header_of_absurd_length_costs_its_member(report):
    long = tarfile.TarInfo("ok")
    long.pax_headers = {"comment": "x" * (2 << 20)}
    headers = [(tarfile.TarInfo("a"), b"1"), (long, b"evil"), (tarfile.TarInfo("z"), b"2")]
    assert contents(unpack(tar_of(headers), "a.tar", report)) == {"a": b"1", "z": b"2"}
    assert report.failed == {"unsafe path in an archive": 1}


def test_a_sparse_file_is_not_filled_up(report):
    info = tarfile.TarInfo("sparse")
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.realsize": str(1 << 60)}
    headers = [(info, b"x" * 600), (tarfile.TarInfo("z"), b"2")]
    assert contents(unpack(tar_of(headers), "a.tar", report)) == {"z": b"2"}
    assert report.failed == {"sparse file in an archive": 1}


def test_a_tar_that_claims_more_than_it_has_is_damaged(report):
    data = bytearray(tarred({"a": b"1"}))
    header = bytearray(data[:512])
    header[124:136] = b"77777777777\0"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    assert not unpack(bytes(header) + bytes(data[512:]), "a.tar", report)
    assert report.damages == ["a.tar ends too early"]


def test_what_stands_before_a_zip_does_not_matter():
    data = b"#!/bin/sh\nexit\n" + zipped({"a.txt": b"hello"})
    assert contents(unpack(data, "installer.zip")) == {"a.txt": b"hello"}


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.7z", b"7z\xbc\xaf\x27\x1c" + bytes(50), "archive type .7z not supported"),
        ("a.rar", b"Rar!\x1a\x07\x00" + bytes(50), "archive type .rar not supported"),
        ("a.tar", b"only text " * 90, "not an archive inside"),
        ("a.gz", b"", "not an archive inside"),
    ],
)
def test_what_is_no_archive_that_can_be_read_is_counted(name, data, reason, report):
    assert is_archive(name)
    assert not unpack(data, name, report)
    assert report.failed == {reason: 1}


@given(data=st.data())
def test_damage_anywhere_is_never_more_than_lost_members(data):
    name = data.draw(st.sampled_from(sorted(ARCHIVES)))
    archive = bytearray(ARCHIVES[name]({"a.txt": b"hello", "b/c.zip": zipped({"d": b"e" * 40})}))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(archive) - 1))
        archive[at] = data.draw(st.integers(0, 255))
    report = quiet()
    for member in unpack(bytes(archive), name, report):
        assert all(safe_path(part) for part in member.path.split("!/"))


def test_a_wide_zip_is_read_by_its_wide_directory(report):
    whole = zipped({"a.txt": b"hello"})
    end = whole.rfind(b"PK\x05\x06")
    *_, length, offset, _ = struct.unpack("<4s4H2LH", whole[end:])
    wide = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, length, offset)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, end, 1)
    last = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, *[0xFFFF] * 2, *[0xFFFFFFFF] * 2, 0)
    assert contents(unpack(whole[:end] + wide + locator + last, "a.zip", report)) == {
        "a.txt": b"hello"
    }


def test_a_member_that_is_not_there_is_an_error_that_names_it(tmp_path):
    path = tmp_path / "a.zip"
    path.write_bytes(zipped({"a.txt": b"1"}))
    with pytest.raises(FileNotFoundError, match=r"a\.zip has no member b\.txt"):
        read_member(str(path), "b.txt")
