"""Repositories and archives of source: what is taken, flagged and left out, and refreshes."""

import io
import pickle
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from datalake.config import Refusal
from datalake.ingestion import ingest
from datalake.licences import UNKNOWN
from datalake.schemas import TABLES
from datalake.sources.record import payload_digest
from datalake.sources.software.addresses import OptOuts, address_of
from datalake.sources.software.repositories import RepositoriesConfig, RepositoryConfig
from datalake.workspace import Workspace
from tests.datalake.sources.repository import MIT, Repository, Snapshots

APACHE_NOTICE = """# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
x = 1
"""
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 12345\n"
FILES: dict[str, str | bytes] = {
    "LICENSE": MIT,
    "src/main.py": "print('hello')\n",
    "src/own.py": "# SPDX-License-Identifier: BSD-3-Clause\nx = 1\n",
    "src/noticed.py": APACHE_NOTICE,
    "src/lib.h": "class A {};\n",
    "src/latin.py": "# -*- coding: latin-1 -*-\nname = 'Käse'\n".encode("latin-1"),
    "src/utf16.txt": "words".encode("utf-16"),
    "logo.png": b"\x89PNG\r\n\x1a\n\0\0",
    "model.bin": LFS,
    "empty.py": "",
    "huge.py": "x" * 2000,
    "vendor/other/COPYING": "This is our very own licence and you may do nothing with it.\n",
    "vendor/other/other.c": "int x;\n",
    "static/app.min.js": "a=1",
    "api_pb2.py": "x = 1\n",
    "forced.py": "x = 2\n",
    ".gitattributes": "forced.py linguist-generated linguist-vendored\n",
}


def config(*repositories: RepositoryConfig | Path, **settings: object) -> RepositoriesConfig:
    listed = tuple(
        r if isinstance(r, RepositoryConfig) else RepositoryConfig(url=str(r)) for r in repositories
    )
    settings = {"max_file_bytes": 1500} | settings
    return RepositoriesConfig(repositories=listed, **settings)  # type: ignore[arg-type]


@pytest.fixture
def project(tmp_path: Path) -> Repository:
    """A repository with one file of each sort that makes a difference."""
    repository = Repository(tmp_path / "project")
    repository.write(FILES)
    (repository.folder / "link.py").symlink_to("src/main.py")
    repository.git("add", "--all", "--force")
    repository.git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},module")
    repository.git("commit", "--quiet", "--message", "first")
    return repository


@pytest.fixture
def snapshots(tmp_path: Path) -> Snapshots:
    return Snapshots(tmp_path / "home")


TEXTS = {
    "LICENSE", "src/main.py", "src/own.py", "src/noticed.py", "src/lib.h", "src/latin.py",
    "src/utf16.txt", "vendor/other/COPYING", "vendor/other/other.c", "static/app.min.js",
    "api_pb2.py", "forced.py", ".gitattributes",
}  # fmt: skip


def test_every_text_of_a_commit_is_a_record_that_can_be_read_again(
    project: Repository, snapshots: Snapshots
) -> None:
    commit = project.git("rev-parse", "HEAD")
    records = snapshots.read(config(project.folder))
    assert records.keys() == TEXTS
    columns = {column.name for column in TABLES["raw/code"].columns}
    for path, record in records.items():
        assert record.uri == f"git+{project.folder.as_uri()}#{path}"
        assert RepositoriesConfig.read_again(record.place) == record.payload
        assert record.own["revision"] == commit
        assert record.own["blob_id"] == project.git("rev-parse", f"HEAD:{path}")
        assert record.own.keys() <= columns
    assert snapshots.report.rows == len(TEXTS) and not snapshots.report.failed


def test_what_is_left_out_is_counted_by_its_reason(
    project: Repository, snapshots: Snapshots
) -> None:
    snapshots.read(config(project.folder))
    assert snapshots.report.skipped == {
        "symbolic link": 1, "submodule": 1, "binary": 1, "LFS pointer": 1, "empty": 1,
        "larger than max_file_bytes": 1,
    }  # fmt: skip


def test_what_nobody_wrote_here_is_flagged_and_kept(
    project: Repository, snapshots: Snapshots
) -> None:
    records = snapshots.read(config(project.folder, generated=("src/lib.*",)))
    flagged = {
        flag: {path for path, record in records.items() if record.own[flag]}
        for flag in ("generated", "vendored", "minified")
    }
    assert flagged == {
        "generated": {"static/app.min.js", "api_pb2.py", "forced.py", "src/lib.h"},
        "vendored": {"vendor/other/COPYING", "vendor/other/other.c", "forced.py"},
        "minified": {"static/app.min.js"},
    }


def test_the_nearest_word_on_a_licence_holds_and_says_where_it_was_found(
    project: Repository, snapshots: Snapshots
) -> None:
    records = snapshots.read(config(project.folder))
    found = {path: record.licence for path, record in records.items()}
    licences = {path: one.licence if one else None for path, one in found.items()}
    assert licences["src/main.py"] == licences["api_pb2.py"] == "MIT"
    assert licences["src/own.py"] == "BSD-3-Clause"
    assert licences["src/noticed.py"] == "Apache-2.0"
    assert licences["vendor/other/other.c"] == UNKNOWN  # not MIT: there is another text above it
    evidence = {path: one.evidence for path, one in found.items() if one}
    assert evidence["src/main.py"] == "LICENSE is MIT"
    assert evidence["src/own.py"] == "SPDX tag in the file"
    assert evidence["vendor/other/other.c"] == "vendor/other/COPYING is no text that is known"


def test_the_licence_of_the_recipe_holds_where_nothing_is_said(
    tmp_path: Path, snapshots: Snapshots
) -> None:
    one, two = Repository(tmp_path / "one"), Repository(tmp_path / "two")
    one.commit({"a.py": "x = 1\n"})
    two.commit({"b.py": "x = 1\n"})
    told = RepositoryConfig(url=str(one.folder), licence="Zlib")
    records = snapshots.read(config(told, two.folder, licence="0BSD"))
    assert {p: (r.licence and r.licence.licence) for p, r in records.items()} == {
        "a.py": "Zlib", "b.py": "0BSD",
    }  # fmt: skip
    assert Snapshots(tmp_path / "h").read(config(two.folder))["b.py"].licence is None


def test_a_second_refresh_reads_only_what_changed(
    project: Repository, snapshots: Snapshots
) -> None:
    source = config(project.folder)
    before = snapshots.read(source)
    assert snapshots.read(source) == {}
    assert {uri.partition("#")[2] for uri in snapshots.unchanged} == TEXTS
    (project.folder / "src/main.py").rename(project.folder / "src/moved.py")
    project.commit({"src/own.py": "# SPDX-License-Identifier: MIT\nx = 2\n"})
    after = snapshots.read(source)
    assert after.keys() == {"src/own.py", "src/moved.py"}
    assert after["src/own.py"].uri == before["src/own.py"].uri  # the same document, changed
    assert len(snapshots.unchanged) == len(TEXTS) - 2
    # What was not read again is still where it was.
    assert (
        RepositoriesConfig.read_again(before["src/main.py"].place) == FILES["src/main.py"].encode()
    )  # type: ignore[union-attr]


def test_a_lost_object_is_counted_and_its_record_stays_as_it_was(
    project: Repository, snapshots: Snapshots
) -> None:
    before = snapshots.read(config(project.folder))["src/main.py"]
    project.commit({"src/main.py": "changed\n", "src/new.py": "new\n"})
    for path in ("src/new.py", "src/main.py"):
        blob_id = project.git("rev-parse", f"HEAD:{path}")
        loose = project.folder / ".git/objects" / blob_id[:2] / blob_id[2:]
        loose.unlink()
    assert snapshots.read(config(project.folder)) == {}
    assert snapshots.report.failed == {"object missing or damaged": 2}
    assert snapshots.held[before.uri] == before
    # Damaged rather than missing: its size is not known either.
    loose.parent.mkdir(exist_ok=True)
    loose.write_bytes(zlib.compress(b"blob 8\0chang")[:-2])
    assert snapshots.read(config(project.folder)) == {}
    assert snapshots.report.failed == {"object missing or damaged": 2}
    assert snapshots.held[before.uri] == before


def test_a_changed_licence_or_attribute_reads_what_it_speaks_of_again(
    project: Repository, snapshots: Snapshots
) -> None:
    snapshots.read(config(project.folder))
    project.commit({"src/LICENSE": "SPDX-License-Identifier: ISC\nISC\n"})
    again = snapshots.read(config(project.folder))
    assert again.keys() == {
        "src/LICENSE", "src/main.py", "src/lib.h", "src/latin.py", "src/utf16.txt",
    }  # fmt: skip
    assert all(record.restated for path, record in again.items() if path != "src/LICENSE")
    project.commit({".gitattributes": "src/lib.h linguist-vendored\n"})
    again = snapshots.read(config(project.folder))
    assert again["src/lib.h"].own["vendored"] and again["src/lib.h"].restated
    assert not again[".gitattributes"].restated  # its bytes say it


def test_ingestion_holds_one_row_a_version_and_marks_what_is_gone(
    project: Repository, workspace: Workspace
) -> None:
    def refresh(day: int) -> list[dict[str, object]]:
        at = replace(workspace, origin={"tarn/snapshot": f"2026-01-0{day}"})
        ingest(at, "raw/code", {"ours": config(project.folder)})
        version = workspace.lake.latest("raw/code")
        assert version is not None
        rows = workspace.lake.read("raw/code", version).to_pylist()
        return [row for row in rows if row["snapshot"] == f"2026-01-0{day}"]

    assert {row["path"] for row in refresh(1)} == TEXTS
    assert refresh(2) == []
    (project.folder / "src/main.py").unlink()
    project.commit({"src/LICENSE": "SPDX-License-Identifier: ISC\n"})
    rows = refresh(3)
    gone = [row["uri"] for row in rows if row["deleted"]]
    assert gone == [f"git+{project.folder.as_uri()}#src/main.py"]
    # The bytes of these are as they were; the licence is not.
    assert {row["path"]: row["licence"] for row in rows if not row["deleted"]} == {
        "src/LICENSE": "ISC", "src/lib.h": "ISC", "src/latin.py": "ISC", "src/utf16.txt": "ISC",
    }  # fmt: skip


def test_a_remote_repository_is_the_same_as_a_local_one(
    project: Repository, snapshots: Snapshots, tmp_path: Path
) -> None:
    url = project.folder.as_uri()
    address = "https://Example.org/Owner/Name.git"
    remote = config(RepositoryConfig(url=url, address=address), protocols=("file",))
    records = snapshots.read(remote)
    local = Snapshots(tmp_path / "other").read(
        config(RepositoryConfig(url=str(project.folder), address=address))
    )
    assert records.keys() == local.keys() == TEXTS
    for path, record in records.items():
        assert record.uri == local[path].uri == f"git+https://example.org/Owner/Name#{path}"
        assert record.own == local[path].own and record.licence == local[path].licence
        assert RepositoriesConfig.read_again(record.place) == record.payload
    assert snapshots.report.skipped["larger than max_file_bytes"] == 1
    project.commit({"new.py": "x = 3\n"})
    assert snapshots.read(remote).keys() == {"new.py"}
    assert (
        RepositoriesConfig.read_again(records["src/main.py"].place)
        == records["src/main.py"].payload
    )


def test_a_revision_is_a_branch_a_tag_or_a_commit(
    project: Repository, snapshots: Snapshots
) -> None:
    first = project.git("rev-parse", "HEAD")
    project.git("tag", "v1")
    project.git("branch", "old")
    project.commit({"src/main.py": "changed\n"})
    for revision in ("v1", "old", first, first[:12]):
        source = config(RepositoryConfig(url=str(project.folder), revision=revision))
        found = Snapshots(snapshots.home).read(source)
        assert found["src/main.py"].payload == b"print('hello')\n"


def archive(kind: str, path: Path, files: Mapping[str, str | bytes]) -> Path:
    contents = {n: c.encode() if isinstance(c, str) else c for n, c in files.items()}
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
            for name, content in contents.items():
                zipped.writestr(name, content)
        return path
    with tarfile.open(path, "w:gz") as tarred:
        for name, content in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tarred.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("project-1.0/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tarred.addfile(link)
    return path


@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
def test_an_archive_of_source_is_read_like_its_repository(
    kind: str, project: Repository, snapshots: Snapshots, tmp_path: Path
) -> None:
    # The licence comes last: it holds for what comes before it nevertheless.
    files = {f"project-1.0/{p}": c for p, c in sorted(FILES.items(), reverse=True)}
    path = archive(kind, tmp_path / f"project-1.0.{kind}", files)
    address = "https://example.org/project"
    source = config(RepositoryConfig(url=str(path), address=address, revision="1.0"))
    records = snapshots.read(source)
    commit = Snapshots(tmp_path / "other").read(config(project.folder))
    assert records.keys() == TEXTS
    for name, record in records.items():
        assert record.uri == f"git+{address}#{name}"  # without the folder of the version
        assert record.licence == commit[name].licence
        assert record.own["blob_id"] == commit[name].own["blob_id"]
        assert RepositoriesConfig.read_again(record.place) == record.payload
    assert records["src/main.py"].own["revision"] == "1.0"
    assert snapshots.report.skipped["binary"] == 1
    files = {n.replace("1.0", "1.1"): c for n, c in files.items()}
    newer = archive(kind, tmp_path / f"b.{kind}", files | {"project-1.1/src/main.py": "new\n"})
    source = config(RepositoryConfig(url=str(newer), address=address, revision="1.1"))
    assert snapshots.read(source).keys() == {"src/main.py"}


def test_a_damaged_archive_does_not_delete_what_was_not_seen(
    snapshots: Snapshots, tmp_path: Path
) -> None:
    path = archive("tar.gz", tmp_path / "a.tar.gz", FILES)
    path.write_bytes(path.read_bytes()[:600])
    snapshots.read(config(path))
    assert snapshots.report.cut == f"damaged: {path}"


def test_hostile_names_cost_themselves_alone(
    project: Repository, snapshots: Snapshots, tmp_path: Path
) -> None:
    project.commit_tree(
        [
            ("100644", "blob", b"good.py", b"x = 1\n"),
            ("100644", "blob", b"--option.py", b"x = 2\n"),
            ("100644", "blob", "näme #1 %41?.py".encode(), b"x = 3\n"),
            ("100644", "blob", b"latin-\xe4.py", b"x = 4\n"),
            ("100644", "blob", b"new\nline.py", b"x = 5\n"),
            ("100644", "blob", b"..", b"x = 6\n"),
            ("100644", "blob", b"back\\slash.py", b"x = 7\n"),
            ("120000", "blob", b"evil-link", b"/etc/passwd"),
        ]
    )
    source = config(RepositoryConfig(url=str(project.folder), revision="by-hand"))
    records = snapshots.read(source)
    assert records.keys() == {"good.py", "--option.py", "näme #1 %41?.py"}
    assert snapshots.report.skipped == {
        "name is not UTF-8": 1, "unsafe path": 3, "symbolic link": 1,
    }  # fmt: skip
    assert records["näme #1 %41?.py"].uri.endswith("#n%C3%A4me%20%231%20%2541%3F.py")
    for record in records.values():
        assert RepositoriesConfig.read_again(record.place) == record.payload


def test_languages_and_extensions_narrow_what_is_taken(
    project: Repository, snapshots: Snapshots
) -> None:
    by_language = snapshots.read(config(project.folder, languages=("cpp", "c")))
    assert by_language.keys() == {"src/lib.h", "vendor/other/other.c"}
    assert snapshots.read(config(project.folder, languages=("cpp", "c"))) == {}
    only_c = Snapshots(snapshots.home).read(config(project.folder, languages=("c",)))
    assert only_c.keys() == {"vendor/other/other.c"}
    by_extension = Snapshots(snapshots.home).read(config(project.folder, extensions=("h", "js")))
    assert by_extension.keys() == {"src/lib.h", "static/app.min.js"}


def test_what_opted_out_is_not_taken_and_counted(
    project: Repository, snapshots: Snapshots, tmp_path: Path
) -> None:
    other = Repository(tmp_path / "other")
    other.commit({"b.py": "x = 1\n"})
    ours = RepositoryConfig(url=str(project.folder), address="https://github.com/Owner/Name")
    theirs = RepositoryConfig(url=str(other.folder), address="https://github.com/Other/Thing")
    listed = tmp_path / "opt-out.txt"
    listed.write_text("# asked by mail\nhttps://github.com/other/thing.git  # all of it\n\n")
    source = config(ours, theirs, opt_out=("github.com/owner/name/src",), opt_out_file=str(listed))
    records = snapshots.read(source)
    assert records.keys() == {path for path in TEXTS if not path.startswith("src/")}
    assert snapshots.report.skipped["opted out"] == 6
    assert snapshots.report.skipped["repository opted out"] == 1
    assert snapshots.read(config(ours, opt_out=("github.com/owner",))) == {}
    assert not snapshots.unchanged  # so that the next snapshot marks them as gone


@pytest.mark.parametrize(
    ("entry", "covered"),
    [
        ("github.com/owner", True), ("github.com/owner/name", True), ("GitHub.com/Owner/", True),
        ("git@github.com:owner/name.git", True), ("https://github.com/owner/name.git", True),
        ("github.com", True), ("github.com/*/name", True), ("github.com/own", False),
        ("owner", False), ("gitlab.com/owner", False), ("# github.com/owner", False), ("", False),
    ],
)  # fmt: skip
def test_an_opt_out_names_a_host_an_owner_or_a_repository(entry: str, covered: bool) -> None:
    assert OptOuts((entry,)).cover("git+https://github.com/owner/name") is covered
    inside = OptOuts((entry + "/*.py" if covered and entry else entry,))
    assert not inside.cover("git+https://github.com/owner/name")


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://github.com/Owner/Name.git", "git+https://github.com/owner/name"),
        ("git@github.com:Owner/Name.git", "git+https://github.com/owner/name"),
        ("ssh://git@github.com:22/owner/name/", "git+https://github.com/owner/name"),
        ("https://Git.Example.org:8443/a/B.git/", "git+https://git.example.org:8443/a/B"),
        ("git://example.org/a", "git+https://example.org/a"),
        ("https://user@example.org/a", "git+https://example.org/a"),
    ],
)
def test_a_repository_has_one_address_however_it_is_fetched(url: str, address: str) -> None:
    assert address_of(url) == address
    assert address_of(address.removeprefix("git+")) == address


def test_watching_sees_commits_archives_and_opt_outs(project: Repository, tmp_path: Path) -> None:
    path = archive("zip", tmp_path / "a.zip", FILES)
    listed = tmp_path / "opt-out.txt"
    listed.write_text("")
    seen = set()

    def watched() -> str:
        return config(project.folder, path, opt_out_file=str(listed)).watched()

    assert watched() == watched()
    seen.add(watched())
    project.commit({"a.py": "1"})
    seen.add(watched())
    archive("zip", path, FILES | {"more": "x"})
    seen.add(watched())
    listed.write_text("github.com/owner")
    seen.add(watched())
    assert len(seen) == 4


def refused(snapshots: Snapshots, *repositories: RepositoryConfig, **settings: object) -> str:
    with pytest.raises(Refusal) as error:
        snapshots.read(config(*repositories, **settings))
    return str(error.value)


def test_a_wrong_place_is_refused_with_its_rule(
    project: Repository, snapshots: Snapshots, tmp_path: Path
) -> None:
    def message(url: str, **settings: object) -> str:
        return refused(snapshots, RepositoryConfig(url=url, **settings))  # type: ignore[arg-type]

    nowhere = str(tmp_path / "nowhere")
    rule = "repositories[0].url must be a repository or an archive"
    assert message(nowhere) == f"{rule}, got {nowhere!r}"
    rule = "repositories[0].url must be of a protocol in https"
    for url in ("http://a.org/b", "git@a.org:b/c", "file:///a/b"):
        assert message(url) == f"{rule}, got {url!r}"
    assert "without a password" in message("https://a:b@c.org/d")
    assert "without a password and a remote helper" in message("https::https://a.org/b")
    assert message("ext::sh").startswith("repositories[0].url must be a repository or")
    assert "must be a name without spaces" in message("-oProxyCommand=x:y")
    assert message(str(project.folder), revision="-x").startswith("revision must be a name")
    assert message(str(project.folder), address="name#x") == (
        "repositories[0].address must be an absolute address without query and fragment, "
        "got 'name#x'"
    )


def test_two_repositories_of_one_address_are_refused(
    project: Repository, snapshots: Snapshots
) -> None:
    one = RepositoryConfig(url=str(project.folder))
    message = refused(snapshots, one, one)
    assert message.startswith("repositories[1] must have an address that no other repository has")


def test_an_opt_out_list_that_is_missing_is_refused(
    project: Repository, snapshots: Snapshots
) -> None:
    message = refused(snapshots, RepositoryConfig(url=str(project.folder)), opt_out_file="/nowhere")
    assert message.startswith("opt_out_file must be a file that can be read")


def test_a_source_travels_to_a_task(project: Repository, snapshots: Snapshots) -> None:
    source = config(project.folder, opt_out=("github.com/owner",))
    assert source.watched()
    copy = pickle.loads(pickle.dumps(source))
    assert copy == source and snapshots.read(copy).keys() == TEXTS


def test_too_many_files_are_cut_and_it_is_said(project: Repository, snapshots: Snapshots) -> None:
    snapshots.read(config(project.folder, max_files=3))
    assert (snapshots.report.cut or "").startswith("max_files 3, in ")


def test_a_repository_that_vanished_is_an_error_that_may_pass(
    project: Repository, snapshots: Snapshots, tmp_path: Path
) -> None:
    record = snapshots.read(config(project.folder))["src/main.py"]
    assert record.payload is not None
    assert payload_digest(record.payload).startswith("sha1:")
    project.folder.rename(tmp_path / "away")
    with pytest.raises(OSError, match="must be a repository"):
        RepositoriesConfig.read_again(record.place)
