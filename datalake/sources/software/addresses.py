"""Addresses of repositories: one spelling for each, however it is fetched, and what opts out.

``git+https://host/path`` is how SPDX writes a place to download from (SPDX 2.3, 7.7), here without
a revision, so that the address outlives every commit.
"""

import hashlib
import re
from pathlib import Path
from urllib.parse import urlsplit

from datalake.config import Refusal
from datalake.path_patterns import matches
from datalake.sources.software import git

_SCP = re.compile(r"(?:[^@/\s]+@)?(?P<host>[^:/\s]+):(?P<path>[^:\s][^\s]*)")
_PORTS = {"https": 443, "http": 80, "ssh": 22, "git": 9418}
# Their owners and names are the same in any case (purl specification, types github, bitbucket).
_ANY_CASE = ("github.com", "bitbucket.org")


def address_of(url: str, said: str | None = None, where: str = "repository") -> str:
    """Canonical address: ``git+https://host/path`` however the repository is fetched.

    Host in lower case, no user, no usual port, no ``.git``. ``said`` is the address that the
    recipe gives; a local repository or archive has that of its place without one. Raises Refusal
    where ``url`` or ``said`` is none.
    """
    if said is not None:
        parts = urlsplit(said.removeprefix("git+"))
        if not parts.scheme or not (parts.netloc or parts.path) or parts.query or parts.fragment:
            rule = "an absolute address without query and fragment"
            raise Refusal(f"{where}.address must be {rule}, got {said!r}")
        return _canonical(said)
    if not is_remote(url):
        path = Path(url).absolute()
        prefix = "git+" if git.is_repository(path) else ""
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


def bare(address: str) -> str:
    """``address`` without scheme: ``github.com/owner/name``."""
    return address.removeprefix("git+").partition("://")[2].rstrip("/")


def _entry(entry: str) -> str:
    if "://" in entry or _SCP.fullmatch(entry):
        return bare(_canonical(entry)).lstrip("/")
    return entry.strip("/").removesuffix(".git")


def is_remote(url: str) -> bool:
    """Whether ``url`` is to be fetched, rather than a path of this machine."""
    return "://" in url or (_SCP.fullmatch(url) is not None and not Path(url).exists())


def folder_name(address: str) -> str:
    """Name of a clone's folder: readable, and different for different addresses."""
    readable = re.sub(r"[^a-z0-9.]+", "-", bare(address).lower()).strip("-.")[-80:]
    return f"{readable}-{hashlib.blake2b(address.encode(), digest_size=6).hexdigest()}.git"


class OptOuts:
    """Repositories, owners, hosts and paths that may not be taken.

    An entry is ``github.com/owner``, ``github.com/owner/name``, a path or a pattern below it, or
    the URL of a repository. Case does not count.
    """

    def __init__(self, entries: tuple[str, ...]) -> None:
        said = (entry.partition("#")[0].strip().lower() for entry in entries)
        self.entries = tuple("/" + _entry(entry) for entry in said if entry)

    def within(self, address: str) -> "OptOuts":
        """Those that may cover a file of the repository at ``address``: few of many."""
        top = f"/{bare(address).lower().lstrip('/')}/"
        found = OptOuts(())
        found.entries = tuple(
            e for e in self.entries if e.startswith(top) or re.search(r"[*?\[]", e)
        )
        return found

    def cover(self, address: str, path: str = "") -> bool:
        """Whether the repository at ``address``, or the file ``path`` in it, is opted out."""
        name = bare(address).lower().lstrip("/") + (f"/{path.lower()}" if path else "")
        return any(matches(entry, name, below=True) for entry in self.entries)
