"""One spelling for every web address, so that one page is one document.

Follows the syntax-based normalisation of RFC 3986, section 6.2.2, plus the scheme-based one for
``http`` and ``https``. The query is left in its order: servers may read it either way.
"""

import re
from urllib.parse import quote, urljoin, urlsplit

MAX_LENGTH = 2083  # longer ones are traps or data, not addresses: what browsers long agreed on

_DEFAULT_PORTS = {"http": 80, "https": 443}
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_KEPT = "%!$&'()*+,;=:@/?[]-._~"  # stays as it is; anything else is escaped
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_BARE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_IGNORED = re.compile(r"[\t\r\n]")  # browsers take them out wherever they stand


def canonical(link: str, base: str | None = None) -> str | None:
    """The one spelling of ``link``, resolved against ``base``; None if it is not a web address.

    Without fragment, default port, dot segments or credentials. Raises ValueError where ``link``
    cannot be read as an address at all, such as one with half a bracket.
    """
    link = _IGNORED.sub("", link).strip(" \x00\x0b\x0c")
    parts = urlsplit(urljoin(base, link) if base else link)
    scheme = parts.scheme.lower()
    if scheme not in _DEFAULT_PORTS:
        return None
    if not parts.hostname:
        raise ValueError("no host")
    if parts.username or parts.password:
        return None  # an address that carries a password is not a public page
    url = f"{scheme}://{_authority(parts.hostname, parts.port, scheme)}{_path(parts.path)}"
    if parts.query:
        url += "?" + _escapes(parts.query)
    if len(url) > MAX_LENGTH:
        raise ValueError(f"longer than {MAX_LENGTH} characters")
    return url


def host_of(url: str) -> tuple[str, int]:
    """Host and port that ``url`` names, the port also where it is the scheme's default."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or _DEFAULT_PORTS[parts.scheme]


def origin_of(url: str) -> str:
    """Scheme and authority of a canonical ``url``: what one robots.txt speaks for."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _authority(host: str, port: int | None, scheme: str) -> str:
    if ":" in host:
        host = f"[{host}]"
    else:
        host = host.encode("idna").decode().lower() if not host.isascii() else host.lower()
    if not re.fullmatch(r"[a-z0-9._\-\[\]:]+", host):
        raise ValueError(f"no host is called {host!r}")
    return host if port in (None, _DEFAULT_PORTS[scheme]) else f"{host}:{port}"


def _path(path: str) -> str:
    """``path`` escaped and without dot segments (RFC 3986, 5.2.4)."""
    kept: list[str] = []
    segments = _escapes(path).split("/")[1:]
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments and segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)


def _escapes(text: str) -> str:
    """Escapes in upper case, none where none is needed, one wherever one is needed."""

    def spell(escape: re.Match[str]) -> str:
        character = chr(int(escape[1], 16))
        return character if character in _UNRESERVED else escape[0].upper()

    text = _BARE_PERCENT.sub("%25", text)
    return quote(_ESCAPE.sub(spell, text), safe=_KEPT, errors="surrogatepass")
