"""Git as it is asked: trees, contents, fetches, and what an untrusted repository cannot do."""

import os
import subprocess
from pathlib import Path

import pytest

from datalake.config import Refusal
from datalake.sources.software import git
from tests.datalake.sources.repository import Repository


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "project")


def fetch(
    repository: Repository, folder: Path, revision: str | None = None, **bounds: object
) -> str:
    settings: dict[str, object] = {
        "protocols": ("file",),
        "max_file_bytes": 1000,
        "max_bytes": 10 << 20,
        "timeout_seconds": 60.0,
    }
    url = repository.folder.as_uri()
    return git.fetch(url, folder, revision, **(settings | bounds))  # type: ignore[arg-type]


def test_a_commit_lists_its_paths_and_gives_their_contents(repository: Repository) -> None:
    named = {
        "a.py": b"x = 1\n",
        "b/c d\nä.txt": b"\0\1",
        "empty": b"",
        "z/big": b"z" * 99999,
    }
    commit = repository.commit(named)
    folder = git.objects_of(repository.folder)
    assert git.resolve(folder, None) == git.resolve(folder, "main") == commit
    entries = {entry.path.decode(): entry for entry in git.tree(folder, commit)}
    assert entries.keys() == named.keys()
    with git.Blobs(folder) as blobs:
        for path, content in named.items():
            assert entries[path].num_bytes == len(content)
            assert blobs.read(entries[path].object_id) == content
            assert git.read_path(folder, commit, path) == content
        assert blobs.read(entries["a.py"].object_id) == b"x = 1\n"  # again, in any order


def test_a_missing_or_damaged_object_costs_itself_alone(repository: Repository) -> None:
    commit = repository.commit({f"{n:03}.py": f"x = {n}\n" for n in range(200)})
    folder = git.objects_of(repository.folder)
    object_ids = [entry.object_id for entry in git.tree(folder, commit)]
    for number, damage in ((3, None), (50, b"damaged"), (51, b""), (199, b"damaged")):
        loose = folder / "objects" / object_ids[number][:2] / object_ids[number][2:]
        loose.unlink()
        if damage is not None:
            loose.write_bytes(damage)
    with git.Blobs(folder) as blobs:
        contents = list(blobs.each(object_ids))
        assert blobs.read(object_ids[0]) == b"x = 0\n"  # it goes on
        assert list(blobs.each([commit])) == [None]  # no blob
    expected = {n: f"x = {n}\n".encode() for n in range(200) if n not in (3, 50, 51, 199)}
    assert {n: content for n, content in enumerate(contents) if content is not None} == expected


def test_a_fetch_keeps_every_commit_and_leaves_large_files_out(
    repository: Repository, tmp_path: Path
) -> None:
    folder = tmp_path / "clone.git"
    first = repository.commit({"a.py": b"1\n", "big": os.urandom(5000)})
    assert fetch(repository, folder) == first
    assert {e.path: e.num_bytes for e in git.tree(folder, first)} == {b"a.py": 2, b"big": None}
    repository.git("tag", "v1")
    second = repository.commit({"a.py": b"2\n", "big": os.urandom(5000)})
    assert fetch(repository, folder, "main") == second
    assert fetch(repository, folder, "v1") == first
    assert fetch(repository, folder, second) == second
    assert git.read_path(folder, first, "a.py") == b"1\n"
    assert git.read_path(folder, second, "a.py") == b"2\n"
    with git.Blobs(folder) as blobs, pytest.raises(git.GitError, match="must be a blob"):
        blobs.read(next(e.object_id for e in git.tree(folder, second) if e.path == b"big"))


def test_a_commit_fetched_once_survives_a_cleaning(repository: Repository, tmp_path: Path) -> None:
    folder = tmp_path / "clone.git"
    first = repository.commit({"a.py": "1\n"})
    fetch(repository, folder)
    repository.git("checkout", "--quiet", "--orphan", "rewritten")  # without the first
    repository.commit({"a.py": "2\n"})
    fetch(repository, folder)
    subprocess.run(["git", "-C", folder, "gc", "--quiet", "--prune=now"], check=True)
    assert git.read_path(folder, first, "a.py") == b"1\n"


def test_a_commit_that_is_there_is_not_fetched_again(
    repository: Repository, tmp_path: Path
) -> None:
    commit = repository.commit({"a.py": "1\n"})
    fetch(repository, tmp_path / "clone.git")
    repository.folder.rename(tmp_path / "gone")
    assert fetch(repository, tmp_path / "clone.git", commit) == commit
    with pytest.raises(git.GitError, match="git fetch"):
        fetch(repository, tmp_path / "clone.git", "main")


def test_what_an_interrupted_fetch_left_is_cleared(repository: Repository, tmp_path: Path) -> None:
    folder = tmp_path / "clone.git"
    repository.commit({"a.py": "1\n"})
    fetch(repository, folder)
    for left in ("config.lock", "shallow.lock", "refs/tarn/new.lock", "objects/pack/tmp_pack_x"):
        (folder / left).parent.mkdir(exist_ok=True)
        (folder / left).write_text("")
    second = repository.commit({"a.py": "2\n"})
    assert fetch(repository, folder) == second
    assert not list(folder.rglob("*.lock"))


def test_a_transfer_is_bounded(repository: Repository, tmp_path: Path) -> None:
    repository.commit({"a": os.urandom(300_000)})
    with pytest.raises(git.GitError, match="git fetch"):
        fetch(repository, tmp_path / "a.git", max_file_bytes=1 << 20, max_bytes=100_000)
    with pytest.raises(git.GitError, match=r"took over 0\.001 s"):
        fetch(repository, tmp_path / "b.git", timeout_seconds=0.001)


def test_only_named_protocols_are_spoken(repository: Repository, tmp_path: Path) -> None:
    repository.commit({"a": "1"})
    with pytest.raises(git.GitError, match="transport 'file' not allowed"):
        fetch(repository, tmp_path / "clone.git", protocols=("https",))
    with pytest.raises(git.GitError, match="not allowed"):
        git.fetch("ext::touch", tmp_path / "c.git", None, protocols=("https",),
                  max_file_bytes=1, max_bytes=1000, timeout_seconds=9)  # fmt: skip


def test_nothing_that_a_repository_configures_is_run(
    repository: Repository, tmp_path: Path
) -> None:
    trace = tmp_path / "ran"
    script = tmp_path / "evil"
    script.write_text(f"#!/bin/sh\ntouch {trace}\ncat\n")
    script.chmod(0o755)
    commit = repository.commit({"a.x": "text\n", ".gitattributes": "* filter=evil diff=evil\n"})
    folder = git.objects_of(repository.folder)
    lacking = repository.commit_tree([("100644", "blob", b"a", b"gone")])
    missing = next(git.tree(folder, lacking)).object_id
    (folder / "objects" / missing[:2] / missing[2:]).unlink()
    hooks = repository.folder / ".git/hooks"
    hooks.mkdir(exist_ok=True)
    for name in ("post-checkout", "reference-transaction", "pre-auto-gc", "post-index-change"):
        (hooks / name).write_text(script.read_text())
        (hooks / name).chmod(0o755)
    for setting in (
        "filter.evil.smudge", "filter.evil.clean", "filter.evil.process", "diff.evil.textconv",
        "core.fsmonitor", "core.pager", "core.sshCommand", "core.editor", "core.askPass",
        "credential.helper", "remote.origin.uploadpack", "core.alternateRefsCommand",
        "uploadpack.packObjectsHook",
    ):  # fmt: skip
        repository.git("config", setting, str(script))
    # A partial clone would fetch what it lacks, by a command of its own.
    repository.git("config", "remote.origin.url", repository.folder.as_uri())
    repository.git("config", "remote.origin.promisor", "true")
    object_ids = [entry.object_id for entry in git.tree(folder, commit)]
    with git.Blobs(folder) as blobs:
        assert [blobs.read(o) for o in object_ids][1] == b"text\n"
    with git.Blobs(folder) as blobs, pytest.raises(git.GitError):
        blobs.read(missing)
    fetch(repository, tmp_path / "clone.git", "main")
    assert not trace.exists()


def test_settings_of_the_user_are_not_read(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = repository.commit({"a": "1"})
    broken = tmp_path / "home"
    broken.mkdir()
    (broken / ".gitconfig").write_text("[broken\n")
    (broken / "git").mkdir()
    (broken / "git/config").write_text("[broken\n")
    monkeypatch.setenv("HOME", str(broken))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(broken))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    assert git.resolve(git.objects_of(repository.folder), None) == commit


def test_a_replacement_of_an_object_is_not_believed(repository: Repository) -> None:
    commit = repository.commit({"a": "true\n"})
    other = repository.commit({"a": "false\n"})
    repository.git("replace", commit, other)
    assert git.read_path(git.objects_of(repository.folder), commit, "a") == b"true\n"


@pytest.mark.parametrize(
    "name",
    ["-x", "--upload-pack=touch", "a b", "a\nb", "", "\0", "a:b", "a..b", "HEAD^", "HEAD~1",
     "@{-1}", "a*", ":/x"],
)  # fmt: skip
def test_names_that_git_would_take_for_something_else_are_refused(
    repository: Repository, name: str
) -> None:
    repository.commit({"a": "1"})
    folder = git.objects_of(repository.folder)
    with pytest.raises(Refusal, match=r"^revision must be a "):
        git.check_name("revision", name)
    if name:
        with pytest.raises(Refusal, match=r"^revision must be a "):
            git.resolve(folder, name)
    with pytest.raises(git.GitError, match="40 or 64 digits"):
        list(git.tree(folder, name))


@pytest.mark.parametrize("url", ["--upload-pack=touch x", "-x", "https://a/b c", ""])
def test_a_url_that_git_would_take_for_an_option_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"^url must be a name without spaces that does not begin"):
        git.fetch(url, tmp_path / "a", None, protocols=("https",), max_file_bytes=1,
                  max_bytes=1, timeout_seconds=1)  # fmt: skip


def test_what_is_not_there_is_an_error_that_may_pass(
    repository: Repository, tmp_path: Path
) -> None:
    commit = repository.commit({"a": "1"})
    folder = git.objects_of(repository.folder)
    for read in (
        lambda: git.resolve(folder, "nobranch"),
        lambda: list(git.tree(folder, "0" * 40)),
        lambda: git.read_path(folder, commit, "b"),
        lambda: git.read_path(folder, commit, "a\0"),
        lambda: git.objects_of(tmp_path / "nowhere"),
    ):
        with pytest.raises(OSError):
            read()


def test_a_worktree_and_a_bare_repository_are_repositories(
    repository: Repository, tmp_path: Path
) -> None:
    commit = repository.commit({"a": "1"})
    repository.git("worktree", "add", "--quiet", "--detach", str(tmp_path / "tree"))
    repository.git("clone", "--quiet", "--bare", ".", str(tmp_path / "bare.git"))
    for folder in (tmp_path / "tree", tmp_path / "bare.git"):
        assert git.resolve(git.objects_of(folder), None) == commit
    assert not git.is_repository(tmp_path)
