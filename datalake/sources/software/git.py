"""The git command, asked only for what is safe to ask of a repository that nobody vouches for.

Nothing is checked out, so no hook, filter, attribute or submodule of the repository runs. Settings
of the machine and of the user are not read, no question is asked, what is missing is not fetched
behind our back, and only the protocols that the caller names may be spoken. Repositories of others
are fetched into bare folders of ours, one commit deep and without files over a size.
"""

import fcntl
import os
import re
import select
import shutil
import subprocess
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Self

from datalake.config import Refusal

_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")  # SHA-1 or SHA-256
_CHUNK = 1 << 16
_AHEAD = 64  # objects asked for before the first is read: 41 bytes each, far below a pipe's 64 KiB
_LOCAL_SECONDS = 120.0  # without an answer from a local repository: a dead disk, or a trap
_SETTINGS = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.alternateRefsCommand": "",
    "credential.helper": "",
    "gc.auto": "0",  # what a snapshot names stays
    "maintenance.auto": "false",
    "transfer.bundleURI": "false",
    "submodule.recurse": "false",
    "http.followRedirects": "initial",  # git's default, said so that nobody changes it
    "http.lowSpeedLimit": "1000",  # bytes a second; below it for a minute the server is gone
    "http.lowSpeedTime": "60",
}


class GitError(OSError):
    """A repository that cannot be had or read: worth another try, unlike a wrong setting."""


class _EndedError(GitError):
    """Git ended before it had answered."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One path of a commit. A blob without a size is not there, such as one not fetched."""

    path: bytes
    mode: str  # 100644, 100755, 120000 a symbolic link, 160000 a submodule
    object_id: str
    num_bytes: int | None

    @property
    def is_link(self) -> bool:
        return self.mode == "120000"

    @property
    def is_submodule(self) -> bool:
        return self.mode == "160000"


def is_repository(folder: Path) -> bool:
    """Whether ``folder`` is a repository, bare or with its files."""
    return _objects(folder) is not None


def objects_of(folder: Path) -> Path:
    """Where the repository in ``folder`` keeps its objects. Raises GitError where it is none."""
    found = _objects(folder)
    if found is None:
        raise GitError(f"{folder} must be a repository, got none there")
    return found


def resolve(repository: Path, revision: str | None) -> str:
    """Commit that ``revision`` names (branch, tag or commit; None for HEAD).

    Raises GitError where there is none.
    """
    name = check_name("revision", revision or "HEAD")
    found = _ask(repository, "rev-parse", "--verify", "--end-of-options", f"{name}^{{commit}}")
    return found.decode().strip()


def num_bytes(repository: Path) -> int:
    """Space that the objects of ``repository`` take on disk, of all commits. Raises GitError."""
    listed = _ask(repository, "count-objects", "-v").decode()
    sizes = re.findall(r"^size(?:-pack)?: (\d+)$", listed, re.MULTILINE)
    return 1024 * sum(map(int, sizes))


def tree(repository: Path, commit: str) -> Iterator[Entry]:
    """Every path below ``commit``, in git's order. Raises GitError."""
    check_commit(commit)
    with _start(repository, "ls-tree", "-r", "-l", "-z", "--full-tree", commit) as process:
        lines = _Pipe(process, _LOCAL_SECONDS)
        while line := lines.until(b"\0"):
            about, path = line[:-1].split(b"\t", 1)
            mode, _kind, object_id, size = about.decode().split()
            yield Entry(path, mode, object_id, int(size) if size.isdigit() else None)
        _finish(process, "ls-tree")


class Blobs:
    """Reads the contents of objects, one after the other, from one process of git."""

    def __init__(self, repository: Path) -> None:
        self._repository = repository
        self._begin()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def each(self, object_ids: Iterable[str]) -> Iterator[bytes | None]:
        """Content of each blob in turn, None of one that is missing, damaged or no blob.

        Git works on the next ones meanwhile. Raises GitError where it gives no answer.
        """
        coming = iter(object_ids)
        asked: deque[str] = deque()
        while True:
            for object_id in islice(coming, _AHEAD - len(asked)):
                asked.append(check_commit(object_id))
                self._ask(object_id)
            if not asked:
                return
            try:
                content = self._answer()
            except _EndedError:  # at a damaged object git gives up
                content = None
                self._end()
                self._begin()
                for object_id in islice(asked, 1, None):
                    self._ask(object_id)
            asked.popleft()
            yield content

    def read(self, object_id: str) -> bytes:
        """Content of the blob ``object_id``. Raises GitError where it is missing or damaged."""
        content = next(self.each([object_id]))
        if content is None:
            raise GitError(f"{object_id} must be a blob that is there and whole, got none")
        return content

    def _begin(self) -> None:
        self._process = _start(self._repository, "cat-file", "--batch")
        assert self._process.stderr is not None
        self._process.stderr.close()
        self._pipe = _Pipe(self._process, _LOCAL_SECONDS)

    def _end(self) -> None:
        self._process.kill()
        self._process.__exit__(None, None, None)

    def _ask(self, object_id: str) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # the answer will say so
            os.write(self._process.stdin.fileno(), f"{object_id}\n".encode())

    def _answer(self) -> bytes | None:
        head = self._pipe.until(b"\n").decode("utf-8", "replace").split()
        if not head:
            raise _EndedError("git ended between two objects")
        if len(head) != 3:
            return None  # missing
        content = self._pipe.exactly(int(head[2]) + 1)[:-1]
        return content if head[1] == "blob" else None


def read_path(repository: Path, commit: str, path: str) -> bytes:
    """Content of ``path`` in ``commit``. Raises GitError."""
    check_commit(commit)
    if "\0" in path:
        raise GitError(f"path must be without NUL, got {path!r}")
    return _ask(repository, "cat-file", "blob", f"{commit}:{path}")


def fetch(
    url: str,
    folder: Path,
    revision: str | None,
    *,
    protocols: Sequence[str],
    max_file_bytes: int,
    max_bytes: int,
    timeout_seconds: float,
) -> str:
    """Fetch ``revision`` of ``url`` into the bare repository ``folder``; return its commit.

    One commit deep, without its history, and without files over ``max_file_bytes`` where the
    server can leave them out. A commit fetched once stays. Raises GitError, also where a pack
    would be larger than ``max_bytes`` or the transfer takes longer than ``timeout_seconds``.
    """
    check_name("url", url)
    name = check_name("revision", revision or "HEAD")
    with _alone(folder):
        return _fetch(url, folder, name, protocols, max_file_bytes, max_bytes, timeout_seconds)


def _fetch(
    url: str,
    folder: Path,
    name: str,
    protocols: Sequence[str],
    max_file_bytes: int,
    max_bytes: int,
    timeout_seconds: float,
) -> str:
    _ask(None, "init", "--quiet", "--bare", "--template=", str(folder))
    _ask(folder, "config", "remote.origin.url", url)
    if not _COMMIT.fullmatch(name) or not _has(folder, name):
        asked = (
            *("fetch", "--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules"),
            *(
                "--no-write-fetch-head",
                "--no-auto-maintenance",
                f"--filter=blob:limit={max_file_bytes}",
            ),
            *("origin", f"+{name}:refs/tarn/new"),
        )
        try:
            _ask(
                folder,
                *asked,
                protocols=protocols,
                timeout_seconds=timeout_seconds,
                max_bytes=max_bytes,
            )
        finally:
            # Left as git leaves it, whatever reads the clone would fetch what was left out.
            _ask(folder, "config", "--remove-section", "remote.origin")
        name = "refs/tarn/new"
    commit = resolve(folder, name)
    _ask(folder, "update-ref", f"refs/tarn/{commit}", commit)
    return commit


def check_name(place: str, name: str) -> str:
    """``name``, if git cannot take it for an option or for several. Raises Refusal."""
    if not name or name.startswith("-") or re.search(r"[\x00-\x20\x7f]", name):
        raise Refusal(
            f"{place} must be a name without spaces that does not begin with '-', got {name!r}"
        )
    if place == "revision" and re.search(r"[:^~?*\[\\]|\.\.|@\{", name):
        raise Refusal(f"revision must be a branch, a tag or a commit, got {name!r}")
    return name


def check_commit(object_id: str) -> str:
    """``object_id``, if it is one of git's. Raises GitError."""
    if not _COMMIT.fullmatch(object_id):
        raise GitError(f"an object of git must be named by 40 or 64 digits, got {object_id!r}")
    return object_id


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the clone ``folder`` alone, without what an interrupted fetch left in it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "tarn.lock-holder").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # a killed process holds none
        for left in (*folder.rglob("*.lock"), *folder.glob("objects/pack/tmp_*")):
            left.unlink(missing_ok=True)
        yield


def _objects(folder: Path) -> Path | None:
    pointer = folder / ".git"  # of a worktree: a file that says where
    if pointer.is_file():
        return pointer
    for candidate in (pointer, folder):
        if (candidate / "HEAD").is_file() and (candidate / "objects").is_dir():
            return candidate
    return None


def _has(repository: Path, commit: str) -> bool:
    try:
        resolve(repository, commit)
    except GitError:
        return False
    return True


def _ask(
    repository: Path | None,
    *arguments: str,
    protocols: Sequence[str] = (),
    timeout_seconds: float = _LOCAL_SECONDS,
    max_bytes: int | None = None,
) -> bytes:
    """What git prints. Raises GitError with git's first line of complaint."""
    process = _start(repository, *arguments, protocols=protocols, max_bytes=max_bytes)
    with process:
        try:
            output, complaint = process.communicate(timeout=timeout_seconds)
        except subprocess.TimeoutExpired:
            _kill(process)
            raise GitError(f"git {arguments[0]} took over {timeout_seconds:g} s") from None
    if process.returncode:
        raise GitError(f"git {arguments[0]}: {_first_line(complaint) or process.returncode}")
    return output


def _start(
    repository: Path | None,
    *arguments: str,
    protocols: Sequence[str] = (),
    max_bytes: int | None = None,
) -> subprocess.Popen[bytes]:
    program = shutil.which("git")
    if program is None:
        raise Refusal("git must be installed for sources of kind repositories, got none on PATH")
    command = [program, "--no-pager", "--no-replace-objects", "--literal-pathspecs"]
    if repository is not None:
        command.append(f"--git-dir={repository}")
    for setting, value in _SETTINGS.items():
        command += ["-c", f"{setting}={value}"]
    command += arguments
    if (
        max_bytes is not None
    ):  # the shell's unit is 512 bytes; a limit is inherited by what git starts
        command = [
            "/bin/sh",
            "-c",
            'ulimit -f "$0" && exec "$@"',
            str(max_bytes // 512 + 1),
            *command,
        ]
    return subprocess.Popen(
        command,
        env=_environment(protocols),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # what git starts ends with it, and no terminal is asked
    )


def _environment(protocols: Sequence[str]) -> dict[str, str]:
    """The machine's, such as its proxies, without any setting of git's but ours."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return kept | {
        "HOME": "/nonexistent",  # no .netrc
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_GRAFT_FILE": "/dev/null",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "/bin/false",
        "SSH_ASKPASS": "/bin/false",
        "GIT_SSH_COMMAND": "ssh -oBatchMode=yes",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_PROTOCOL_FROM_USER": "0",
        "GIT_ALLOW_PROTOCOL": ":".join(protocols) or "none",
    }


class _Pipe:
    """Reads a process's output with a limit on how long it may be silent."""

    def __init__(self, process: subprocess.Popen[bytes], timeout_seconds: float) -> None:
        assert process.stdout is not None
        self._process = process
        self._file = process.stdout.fileno()
        self._timeout_seconds = timeout_seconds
        self._poll = select.poll()
        self._poll.register(self._file, select.POLLIN | select.POLLHUP)
        self._held = bytearray()

    def until(self, end: bytes) -> bytes:
        """Bytes up to and with ``end``; none where the output ends first."""
        seen = 0
        while (found := self._held.find(end, seen)) < 0:
            seen = len(self._held)
            if not self._more():
                return b""
        return self._take(found + len(end))

    def exactly(self, num_bytes: int) -> bytes:
        while len(self._held) < num_bytes:
            if not self._more():
                raise _EndedError("git ended in the middle of an object")
        return self._take(num_bytes)

    def _take(self, num_bytes: int) -> bytes:
        taken = bytes(self._held[:num_bytes])
        del self._held[:num_bytes]
        return taken

    def _more(self) -> bool:
        if not self._poll.poll(self._timeout_seconds * 1000):
            _kill(self._process)
            raise GitError(f"git was silent for {self._timeout_seconds:g} s")
        chunk = os.read(self._file, _CHUNK)
        self._held += chunk
        return bool(chunk)


def _finish(process: subprocess.Popen[bytes], what: str) -> None:
    _, complaint = process.communicate(timeout=_LOCAL_SECONDS)
    if process.returncode:
        raise GitError(f"git {what}: {_first_line(complaint) or process.returncode}")


def _first_line(complaint: bytes) -> str:
    lines = complaint.decode("utf-8", "replace").strip().splitlines()
    return lines[0] if lines else ""


def _kill(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, 9)
    except ProcessLookupError:
        process.kill()
