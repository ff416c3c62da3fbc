"""Source code of git repositories, local and remote, and of archives of source.

A record is a file at a commit. Its address is the repository's and its path, whatever the commit,
so a file of the next commit is the same document with another content, and git's names of contents
say without reading which files are as they were. Files that nobody wrote for the project are
flagged; what is no source code is left out and counted.
"""

import hashlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field

from datalake.config import Config, Refusal
from datalake.sources.archives.members import read_member
from datalake.sources.software import git
from datalake.sources.software.addresses import OptOuts, address_of, bare, folder_name, is_remote
from datalake.sources.software.repository_files import CodeConfig, Reading, of_archive, of_commit
from datalake.sources.source import Event, Piece, Place, Refresh

_UNKNOWN_BYTES = 32 << 20  # assumed of a repository not fetched yet: worth a task of its own

Protocol = Literal["https", "ssh", "git", "http", "file"]


class RepositoryConfig(Config):
    """One repository, or one archive of source."""

    url: str  # path of a repository or an archive, or URL of a repository
    # Canonical address where ``url`` is none, such as that of which a local folder is a clone.
    address: str | None = None
    revision: str | None = None  # branch, tag or commit, None for HEAD; of an archive, its version
    licence: str | None = None  # SPDX expression, where one holds for what says nothing itself


class RepositoriesConfig(CodeConfig):
    """Source code of git repositories and of archives of source, by commit."""

    table: ClassVar[str] = "raw/code"
    complete: ClassVar[bool] = True

    kind: Literal["repositories"] = "repositories"
    repositories: tuple[RepositoryConfig, ...] = Field(min_length=1)
    # Encrypted and authenticated; what else may be spoken, the recipe says.
    protocols: tuple[Protocol, ...] = ("https",)
    # One commit of the largest public repositories packs to about 1.5 GiB (Chromium).
    max_repository_bytes: int = Field(4 << 30, gt=0)
    timeout_seconds: float = Field(1800.0, gt=0)  # for that much at 2.5 MB/s
    # What may not be taken: ``github.com/owner``, ``github.com/owner/name``, paths in it, patterns.
    opt_out: tuple[str, ...] = ()
    opt_out_file: str | None = None  # the same, one a line; ``#`` begins a comment

    def watched(self) -> str:
        """Commits of local repositories, sizes and times of archives, and the opt-out list."""
        found = [_state(repository) for repository in self.repositories]
        return hashlib.sha256("\n".join([*found, *self._opt_outs.entries]).encode()).hexdigest()

    def pieces(self, refresh: Refresh) -> list[Piece]:
        """One piece a repository, without those that are opted out.

        Raises Refusal for a place that is not there, a protocol that is not allowed, or an address
        given twice.
        """
        found: dict[str, Piece] = {}
        for number, repository in enumerate(self.repositories):
            address, size = self._check(number, repository)
            if address in found:
                rule = "an address that no other repository has"
                raise Refusal(f"repositories[{number}] must have {rule}, got {address!r}")
            found[address] = Piece(
                name=bare(address), uri=address, num_bytes=size, detail={"number": number}
            )
        taken = [piece for piece in found.values() if not self._opt_outs.cover(piece.uri)]
        refresh.report.skip("repository opted out", len(found) - len(taken))
        return taken

    def read(self, piece: Piece, refresh: Refresh) -> Iterator[Event]:
        """Files of one repository; those whose content an earlier snapshot holds, unread."""
        repository = self.repositories[piece.detail["number"]]
        folder = Path(repository.url)
        if is_remote(repository.url):
            folder = refresh.folder("repositories") / folder_name(piece.uri)
            commit = self._fetch(repository, folder)
            reading = self._reading(piece, refresh, commit)
            yield from of_commit(reading, folder, commit, is_fetched=True)
        elif git.is_repository(folder):
            commit = git.resolve(git.objects_of(folder), repository.revision)
            reading = self._reading(piece, refresh, commit)
            yield from of_commit(reading, folder, commit, is_fetched=False)
        else:
            yield from of_archive(self._reading(piece, refresh, repository.revision), folder)

    @classmethod
    def read_again(cls, place: Place) -> bytes:
        """The file's bytes. Raises OSError where its repository or archive is gone or changed."""
        path = Path(place.archive)
        if path.is_file():
            return read_member(place.archive, place.member)
        commit, _, name = place.member.partition(":")
        return git.read_path(git.objects_of(path), commit, name)

    def _fetch(self, repository: RepositoryConfig, folder: Path) -> str:
        return git.fetch(
            repository.url,
            folder,
            repository.revision,
            protocols=self.protocols,
            max_file_bytes=self.max_file_bytes,
            max_bytes=self.max_repository_bytes,
            timeout_seconds=self.timeout_seconds,
        )

    def _reading(self, piece: Piece, refresh: Refresh, revision: str | None) -> Reading:
        licence = self.repositories[piece.detail["number"]].licence or self.licence
        return Reading(
            self,
            refresh,
            piece.uri,
            revision=revision,
            licence=licence,
            opt_outs=self._opt_outs,
        )

    def _check(self, number: int, repository: RepositoryConfig) -> tuple[str, int]:
        """Address of a repository and about how large it is."""
        where, url = f"repositories[{number}]", repository.url
        if repository.revision is not None:
            git.check_name("revision", repository.revision)
        address = address_of(url, repository.address, where)
        if is_remote(url):
            protocol = urlsplit(url).scheme.lower() if "://" in url else "ssh"
            if protocol not in self.protocols:
                rule = f"of a protocol in {', '.join(self.protocols)}"
                raise Refusal(f"{where}.url must be {rule}, got {url!r}")
            return address, _UNKNOWN_BYTES
        if git.is_repository(Path(url)):
            try:
                return address, git.num_bytes(git.objects_of(Path(url)))
            except git.GitError:
                return address, _UNKNOWN_BYTES  # reading it will say what is wrong
        if not Path(url).is_file():  # else an unmounted disk would delete all its records
            raise Refusal(f"{where}.url must be a repository or an archive, got {url!r}")
        return address, Path(url).stat().st_size

    @cached_property
    def _opt_outs(self) -> OptOuts:
        lines: list[str] = []
        if self.opt_out_file is not None:
            try:
                lines = Path(self.opt_out_file).read_text("utf-8").splitlines()
            except OSError as error:
                rule = f"a file that can be read ({error.strerror})"
                raise Refusal(f"opt_out_file must be {rule}, got {self.opt_out_file!r}") from None
        return OptOuts((*self.opt_out, *lines))


def _state(repository: RepositoryConfig) -> str:
    if is_remote(repository.url):
        return repository.url  # asking the server is the refresh's
    path = Path(repository.url)
    try:
        if git.is_repository(path):
            return f"{path} {git.resolve(git.objects_of(path), repository.revision)}"
        about = path.stat()
    except OSError:
        return f"{path} missing"
    return f"{path} {about.st_size} {about.st_mtime_ns}"
