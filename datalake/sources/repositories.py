"""Source code of git repositories, local and remote, and of archives of source.

A record is a file at a commit. Its address is the repository's and its path, whatever the commit,
so a file of the next commit is the same document with another content, and git's names of contents
say without reading which files are as they were. Files that nobody wrote for the project are
flagged; what is no source code is left out and counted.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal
from urllib.parse import quote, urlsplit

from pydantic import Field

from datalake.config import Config, Refusal
from datalake.licence_files import MAX_BYTES, LicenceFiles, is_own, of_file, speaks_of_licences
from datalake.licences import Finding
from datalake.path_patterns import matches
from datalake.sources import git
from datalake.sources.archives import Bounds, members, read_member, safe_path
from datalake.sources.report import Report
from datalake.sources.source import (
    Event,
    Piece,
    Place,
    Record,
    Refresh,
    SourceConfig,
    Unchanged,
)
from datalake.transforms.code_flags import Attributes, flags_of
from datalake.transforms.code_language import language_of

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_MAX_POINTER = 1024  # bytes (specification of Git LFS)
_MAX_CONTEXT = 64 << 20  # bytes of files that speak of licences or attributes, held in memory
_SCP = re.compile(r"(?:[^@/\s]+@)?(?P<host>[^:/\s]+):(?P<path>[^:\s][^\s]*)")
_PORTS = {"https": 443, "http": 80, "ssh": 22, "git": 9418}
# Their owners and names are the same in any case (purl specification, types github, bitbucket).
_ANY_CASE = ("github.com", "bitbucket.org")

Protocol = Literal["https", "ssh", "git", "http", "file"]


class RepositoryConfig(Config):
    """One repository, or one archive of source."""

    url: str  # path of a repository or an archive, or URL of a repository
    # Canonical address where ``url`` is none, such as that of which a local folder is a clone.
    address: str | None = None
    revision: str | None = None  # branch, tag or commit, None for HEAD; of an archive, its version
    licence: str | None = None  # SPDX expression, where one holds for what says nothing itself


class RepositoriesConfig(SourceConfig):
    """Source code of git repositories and of archives of source, by commit."""

    table: ClassVar[str] = "raw/code"
    complete: ClassVar[bool] = True

    kind: Literal["repositories"] = "repositories"
    repositories: tuple[RepositoryConfig, ...] = Field(min_length=1)
    extensions: tuple[str, ...] | None = None  # without the dot; None takes every text
    languages: tuple[str, ...] | None = None  # as ``code_language`` names them
    max_file_bytes: int = Field(1 << 20, gt=0)  # Chen et al. 2021, arXiv:2107.03374, 3.1
    max_files: int = Field(500_000, gt=0)  # of one repository; Chromium has about 450,000
    # Encrypted and authenticated; what else may be spoken, the recipe says.
    protocols: tuple[Protocol, ...] = ("https",)
    # One commit of the largest public repositories packs to about 1.5 GiB (Chromium).
    max_repository_bytes: int = Field(4 << 30, gt=0)
    timeout_seconds: float = Field(1800.0, gt=0)  # for that much at 2.5 MB/s
    # What may not be taken: ``github.com/owner``, ``github.com/owner/name``, paths in it, patterns.
    opt_out: tuple[str, ...] = ()
    opt_out_file: str | None = None  # the same, one a line; ``#`` begins a comment
    # Patterns as in gitignore, for what the rules and .gitattributes do not know.
    generated: tuple[str, ...] = ()
    vendored: tuple[str, ...] = ()
    bounds: Bounds = Bounds()  # of archives

    def watched(self) -> str:
        """Commits of local repositories, sizes and times of archives, and the opt-out list."""
        found = [_state(repository) for repository in self.repositories]
        return hashlib.sha256("\n".join([*found, *self._opted_out]).encode()).hexdigest()

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
                name=_bare(address), uri=address, num_bytes=size, detail={"number": number}
            )
        taken = [piece for piece in found.values() if not self._is_opted_out(piece.uri)]
        refresh.report.skip("repository opted out", len(found) - len(taken))
        return taken

    def read(self, piece: Piece, refresh: Refresh) -> Iterator[Event]:
        """Files of one repository; those whose content an earlier snapshot holds, unread."""
        repository = self.repositories[piece.detail["number"]]
        path = Path(repository.url)
        if _is_remote(repository.url):
            folder = refresh.folder("repositories") / _folder_name(piece.uri)
            commit = git.fetch(
                repository.url,
                folder,
                repository.revision,
                protocols=self.protocols,
                max_file_bytes=self.max_file_bytes,
                max_bytes=self.max_repository_bytes,
                timeout_seconds=self.timeout_seconds,
            )
            yield from _of_commit(_Reading(self, refresh, piece, commit), folder, commit)
        elif (local := git.git_folder(path)) is not None:
            commit = git.resolve(local, repository.revision)
            yield from _of_commit(_Reading(self, refresh, piece, commit), local.absolute(), commit)
        else:
            yield from _of_archive(_Reading(self, refresh, piece, repository.revision), path)

    @classmethod
    def read_again(cls, place: Place) -> bytes:
        """The file's bytes. Raises OSError where its repository or archive is gone or changed."""
        path = Path(place.archive)
        if path.is_file() and path.name != ".git":
            return read_member(place.archive, place.member)
        commit, _, name = place.member.partition(":")
        if not path.exists():
            raise FileNotFoundError(f"{path} must be a repository, got nothing")
        return git.read_path(path, commit, name)

    def _check(self, number: int, repository: RepositoryConfig) -> tuple[str, int]:
        """Address of a repository and the size of its archive, 0 if it is none."""
        where, url = f"repositories[{number}]", repository.url
        if repository.revision is not None:
            git.check_name("revision", repository.revision)
        address, size = address_of(repository, where), 0
        if _is_remote(url):
            protocol = urlsplit(url).scheme.lower() if "://" in url else "ssh"
            if protocol not in self.protocols:
                rule = f"of a protocol in {', '.join(self.protocols)}"
                raise Refusal(f"{where}.url must be {rule}, got {url!r}")
        elif git.git_folder(Path(url)) is None:
            if not Path(url).is_file():  # else an unmounted disk would delete all its records
                raise Refusal(f"{where}.url must be a repository or an archive, got {url!r}")
            size = Path(url).stat().st_size
        return address, size

    @cached_property
    def _opted_out(self) -> tuple[str, ...]:
        lines = list(self.opt_out)
        if self.opt_out_file is not None:
            try:
                lines += Path(self.opt_out_file).read_text("utf-8").splitlines()
            except OSError as error:
                rule = "a file that can be read"
                raise Refusal(
                    f"opt_out_file must be {rule}, got {self.opt_out_file!r}: {error.strerror}"
                ) from None
        entries = (line.partition("#")[0].strip().lower() for line in lines)
        return tuple("/" + _bare_of_entry(entry) for entry in entries if entry)

    def _is_opted_out(self, address: str, path: str = "") -> bool:
        name = _bare(address).lower().lstrip("/") + (f"/{path.lower()}" if path else "")
        return any(matches(entry, name, below=True) for entry in self._opted_out)


def address_of(repository: RepositoryConfig, where: str = "repository") -> str:
    """Canonical address: ``git+https://host/path`` however the repository is fetched.

    Host in lower case, no user, no usual port, no ``.git``. Local repositories and archives have
    theirs from the recipe, else that of their place. Raises Refusal where ``url`` is not one.
    """
    url, said = repository.url, repository.address
    if said is not None:
        parts = urlsplit(said.removeprefix("git+"))
        if not parts.scheme or not (parts.netloc or parts.path) or parts.query or parts.fragment:
            rule = "an absolute address without query and fragment"
            raise Refusal(f"{where}.address must be {rule}, got {said!r}")
        return _canonical(said)
    if not _is_remote(url):
        path = Path(url).absolute()
        prefix = "git+" if git.git_folder(path) is not None else ""
        return prefix + path.as_uri()
    git.check_name(f"{where}.url", url)
    if "::" in url or urlsplit(url).password is not None:
        raise Refusal(f"{where}.url must be without a password and a remote helper, got one")
    return _canonical(url)


def _canonical(url: str) -> str:
    if (scp := _SCP.fullmatch(url)) and "://" not in url:
        url = f"ssh://{scp['host']}/{scp['path'].lstrip('/')}"
    parts = urlsplit(url.removeprefix("git+"))
    if parts.scheme not in _PORTS:  # file, or what a recipe gave
        return f"git+{parts.geturl().rstrip('/')}"
    host = (parts.hostname or "").lower()
    if parts.port not in (None, _PORTS[parts.scheme]):
        host += f":{parts.port}"
    path = parts.path.strip("/").removesuffix(".git")
    return f"git+https://{host}/{path.lower() if host in _ANY_CASE else path}"


def _bare(address: str) -> str:
    """``address`` without scheme: ``github.com/owner/name``."""
    return address.removeprefix("git+").partition("://")[2].rstrip("/")


def _bare_of_entry(entry: str) -> str:
    if "://" in entry or _SCP.fullmatch(entry):
        return _bare(_canonical(entry)).lstrip("/")
    return entry.strip("/").removesuffix(".git")


def _is_remote(url: str) -> bool:
    return "://" in url or (_SCP.fullmatch(url) is not None and not Path(url).exists())


def _folder_name(address: str) -> str:
    """Name of the clone's folder: readable, and different for different addresses."""
    readable = re.sub(r"[^a-z0-9.]+", "-", _bare(address).lower()).strip("-.")[-80:]
    return f"{readable}-{hashlib.blake2b(address.encode(), digest_size=6).hexdigest()}.git"


def _state(repository: RepositoryConfig) -> str:
    if _is_remote(repository.url):
        return repository.url  # asking the server is the refresh's
    path = Path(repository.url)
    try:
        if (local := git.git_folder(path)) is not None:
            return f"{path} {git.resolve(local, repository.revision)}"
        about = path.stat()
    except OSError:
        return f"{path} missing"
    return f"{path} {about.st_size} {about.st_mtime_ns}"


@dataclass(frozen=True, slots=True)
class _Held:
    """What an earlier snapshot says of a file."""

    blob_id: str | None
    licence: str | None
    evidence: str | None
    generated: bool | None
    vendored: bool | None


class _Reading:
    """One reading of one repository: what turns files into records, wherever they come from."""

    def __init__(
        self, config: RepositoriesConfig, refresh: Refresh, piece: Piece, revision: str | None
    ) -> None:
        self.config = config
        self.report = refresh.report
        self.address = piece.uri
        self.revision = revision
        self.licences = LicenceFiles(())
        self.attributes = Attributes(())
        self._repository = config.repositories[piece.detail["number"]]
        self._refresh = refresh
        self._suffixes = tuple(f".{e.lower()}" for e in config.extensions or ())
        self._now = datetime.now(UTC)

    def uri(self, path: str) -> str:
        return f"{self.address}#{quote(path)}"

    def learn(self, files: list[tuple[str, bytes]]) -> None:
        """Take in the files that speak of others."""
        attributes = [(p, b) for p, b in files if p.rpartition("/")[2] == Attributes.FILE]
        self.attributes = Attributes(attributes)
        if not self.attributes.complete:
            self.report.damage(f"{self.address}: too many attributes, the last are not believed")
        self.licences = LicenceFiles((p, b) for p, b in files if speaks_of_licences(p))

    def wants(self, path: str, num_bytes: int | None) -> bool:
        """Whether a file is worth reading; counts it where it is not."""
        reason = None
        if self._suffixes and not path.lower().endswith(self._suffixes):
            reason = "other extension"
        elif self.config._is_opted_out(self.address, path):
            reason = "opted out"
        elif num_bytes == 0:
            reason = "empty"
        elif num_bytes is not None and num_bytes > self.config.max_file_bytes:
            reason = "larger than max_file_bytes"
        if reason is not None:
            self.report.skip(reason)
        return reason is None

    def is_unchanged(self, path: str, blob_id: str) -> bool:
        """Whether an earlier snapshot holds this very content, and all that is said of it."""
        held = self._held.get(self.uri(path))
        if held is None or held.blob_id != blob_id:
            return False
        wanted = self.config.languages
        if wanted is not None and language_of(path) not in wanted:
            return False
        said = self.attributes.of(path)
        if said.get("generated", held.generated) != held.generated:
            return False
        if said.get("vendored", held.vendored) != held.vendored:
            return False
        around = self._around(path)
        return is_own(held.evidence) or held.licence == (around and around.licence)

    def record(self, path: str, payload: bytes, blob_id: str, place: Place) -> Record | None:
        """The record of a file, None where it is no source code; counts it either way."""
        if (reason := self._is_no_code(path, payload)) is not None:
            self.report.skip(reason)
            return None
        flags = flags_of(path, payload, self.attributes)
        self.report.keep(len(payload))
        return Record(
            uri=self.uri(path),
            payload=payload,
            place=place,
            fetched_at=self._now,
            licence=of_file(payload) or self._around(path),
            own={
                "project": _bare(self.address),
                "revision": self.revision,
                "path": path,
                "blob_id": blob_id,
                "generated": flags.generated or _any(self.config.generated, path),
                "vendored": flags.vendored or _any(self.config.vendored, path),
                "minified": flags.minified,
            },
        )

    def _around(self, path: str) -> Finding | None:
        """Licence of a file that says nothing itself."""
        if (found := self.licences.of_folder(path)) is not None:
            return found
        licence = self._repository.licence or self.config.licence
        return Finding(licence, "recipe", 1.0) if licence else None

    def _is_no_code(self, path: str, payload: bytes) -> str | None:
        if not payload:
            return "empty"
        if len(payload) > self.config.max_file_bytes:
            return "larger than max_file_bytes"
        if payload.startswith(_LFS_POINTER) and len(payload) < _MAX_POINTER:
            return "LFS pointer"
        if _is_binary(payload):
            return "binary"
        wanted = self.config.languages
        text = payload[:20_000].decode("utf-8", "replace")
        if wanted is not None and language_of(path, text) not in wanted:
            return "other language"
        return None

    @cached_property
    def _held(self) -> dict[str, _Held]:
        names = ("blob_id", "licence", "licence_evidence", "generated", "vendored")
        rows = self._refresh.previous.rows(["uri", *names])
        begin = f"{self.address}#"
        columns: list[list[Any]] = [rows[name].to_pylist() for name in ("uri", *names)]
        return {
            uri: _Held(*row) for uri, *row in zip(*columns, strict=True) if uri.startswith(begin)
        }


def _of_commit(reading: _Reading, repository: Path, commit: str) -> Iterator[Event]:
    """Events of the files of ``commit``."""
    entries = _entries(reading, repository, commit)
    with git.Blobs(repository) as blobs:
        reading.learn(_context(reading.report, entries, blobs))
        for path, entry in entries.items():
            if not reading.wants(path, entry.num_bytes):
                continue
            if reading.is_unchanged(path, entry.object_id):
                yield Unchanged(reading.uri(path))
                continue
            place = Place(
                archive=str(repository), member=f"{commit}:{path}", length=entry.num_bytes or 0
            )
            payload = blobs.read(entry.object_id)
            if (record := reading.record(path, payload, entry.object_id, place)) is not None:
                yield record


def _entries(reading: _Reading, repository: Path, commit: str) -> dict[str, git.Entry]:
    """Files of ``commit`` by path, without what is no file of its own."""
    report, found = reading.report, dict[str, git.Entry]()
    for number, entry in enumerate(git.tree(repository, commit)):
        if number >= reading.config.max_files:
            report.cut = f"max_files {reading.config.max_files}, in {reading.address}"
            break
        try:
            path = entry.path.decode()
        except UnicodeDecodeError:
            report.skip("name is not UTF-8")
            continue
        if entry.is_submodule:
            report.skip("submodule")
        elif entry.is_link:
            report.skip("symbolic link")
        elif safe_path(path) != path:
            report.skip("unsafe path")
        elif path in found:
            report.skip("path twice in a commit")
        elif entry.num_bytes is None:  # left out when fetching
            report.skip("larger than max_file_bytes")
        else:
            found[path] = entry
    return found


def _context(
    report: Report, entries: dict[str, git.Entry], blobs: git.Blobs
) -> list[tuple[str, bytes]]:
    """Payloads of the files that speak of others."""
    found, num_bytes = [], 0
    for path, entry in entries.items():
        size = entry.num_bytes or 0
        if not _speaks(path) or size > MAX_BYTES:
            continue
        num_bytes += size
        if num_bytes > _MAX_CONTEXT:
            report.damage(f"{path} and licence files after it are not read: over 64 MiB")
            break
        found.append((path, blobs.read(entry.object_id)))
    return found


def _of_archive(reading: _Reading, path: Path) -> Iterator[Event]:
    """Events of the members of the archive at ``path``.

    It is read twice: a licence may come after the files that it holds for. A folder that holds
    all is no part of the addresses, for it usually names the version.
    """
    top = _learn_from_archive(reading, path)

    def wanted(member: str) -> bool:
        return reading.wants(member[len(top) :], None)  # its size is known when it is read

    with path.open("rb") as file:
        for member in members(
            file, str(path), reading.config.bounds, reading.report, nested=False, wanted=wanted
        ):
            name = member.path[len(top) :]
            blob_id = _blob_id(member.payload)
            if reading.is_unchanged(name, blob_id):
                yield Unchanged(reading.uri(name))
                continue
            place = Place(
                archive=str(path.absolute()),
                member=member.path,
                offset=member.offset,
                length=member.length,
            )
            if (record := reading.record(name, member.payload, blob_id, place)) is not None:
                yield record


def _learn_from_archive(reading: _Reading, path: Path) -> str:
    """Take in what speaks of others; return the folder that holds all: ``name-1.0/`` or none."""
    names: list[str] = []

    def wanted(member: str) -> bool:
        names.append(member)
        return _speaks(member) or _speaks(member.partition("/")[2])

    quiet = Report(reading.report.name, say=lambda line: None)  # the second time counts
    with path.open("rb") as file:
        files = [
            (member.path, member.payload)
            for member in members(
                file, str(path), reading.config.bounds, quiet, nested=False, wanted=wanted
            )
            if len(member.payload) <= MAX_BYTES
        ]
    tops = {name.partition("/")[0] + "/" if "/" in name else "" for name in names}
    top = tops.pop() if len(tops) == 1 else ""
    kept, num_bytes = [], 0
    for name, payload in files:
        num_bytes += len(payload)
        if num_bytes <= _MAX_CONTEXT:
            kept.append((name[len(top) :], payload))
    reading.learn(kept)
    return top


def _speaks(path: str) -> bool:
    return path.rpartition("/")[2] == Attributes.FILE or speaks_of_licences(path)


def _any(patterns: tuple[str, ...], path: str) -> bool:
    return any(matches(pattern, path, below=True) for pattern in patterns)


def _is_binary(payload: bytes) -> bool:
    from datalake.transforms.code_text import DecodingError, decode_source

    if b"\0" not in payload:
        try:
            payload.decode()
        except UnicodeDecodeError:
            pass
        else:
            return False
    try:
        decode_source(payload)
    except DecodingError:
        return True
    return False


def _blob_id(payload: bytes) -> str:
    """The name that git gives a content."""
    return hashlib.sha1(b"blob %d\0" % len(payload) + payload).hexdigest()
