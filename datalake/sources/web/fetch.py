"""The one owner of HTTP: bounded in time and bytes, and never led into a private network.

An address is checked after its name was resolved and the connection goes to the address that was
checked, so neither a redirect nor a name server that changes its mind leads to a loopback,
link-local or private address (server-side request forgery, CWE-918). A redirect is a new address
and passes the same door.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from datalake.config import Config
from datalake.sources.web import content_coding
from datalake.sources.web.urls import canonical, host_of

PRODUCT = "Tarn"  # our product token in robots.txt (RFC 9309, 2.2.1)

_ACCEPT = "text/html,application/xhtml+xml;q=0.9,*/*;q=0.1"
_CODINGS = "gzip, deflate"
_REDIRECTS = (301, 302, 303, 307, 308)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # IPv4 inside IPv6, RFC 6052

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Headers = tuple[tuple[str, str], ...]


class Limits(Config):
    """What one exchange may cost at most."""

    max_bytes: int = 5 << 20  # of a body; Common Crawl cuts pages there since 2025
    timeout_seconds: float = 30.0  # from connecting to the last byte; browsers give up at 30-60 s
    max_redirects: int = 5  # RFC 9309, 2.3.1.2, asks for at least five


class FetchError(Exception):
    """Why there is no response. ``reason`` is a short name that can be counted."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


@dataclass(frozen=True, kw_only=True, slots=True)
class Response:
    """One exchange. ``body`` is decoded; ``truncated`` says why it is not the whole body."""

    url: str
    status: int
    phrase: str
    headers: Headers
    body: bytes
    truncated: str | None
    request_headers: Headers
    fetched_at: datetime

    def header(self, name: str) -> str | None:
        """The first header called ``name``, whatever its case."""
        return next((v for k, v in self.headers if k.lower() == name.lower()), None)

    @property
    def media_type(self) -> str:
        """Declared media type without parameters, in lower case; empty if none is declared."""
        return (self.header("Content-Type") or "").split(";")[0].strip().lower()

    @property
    def redirect(self) -> str | None:
        """Where a redirect leads, as a canonical address; None if this is no redirect to one."""
        location = self.header("Location")
        if self.status not in _REDIRECTS or location is None:
            return None
        try:
            return canonical(location, self.url)
        except ValueError:
            return None


@dataclass
class Client:
    """Fetches pages. Use as ``async with Client(...) as client``.

    ``allow`` names hosts (``host`` or ``host:port``) that may have a private address. ``connect``
    sends a canonical host to another address and port: a local server on a free port keeps one
    name. ``contact`` tells a site's owner whom to write to.
    """

    limits: Limits = field(default_factory=Limits)
    allow: Collection[str] = ()
    connect: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    contact: str | None = None

    async def open(self) -> None:
        """Begin; ``close`` ends it. Both inside one event loop."""
        agent = f"{PRODUCT}/0.1" + (f" (+{self.contact})" if self.contact else "")
        self._session = aiohttp.ClientSession(
            # No cache: it would answer in place of the check.
            connector=aiohttp.TCPConnector(resolver=_CheckedResolver(self), use_dns_cache=False),
            timeout=aiohttp.ClientTimeout(total=None),  # ours covers decoding too
            headers={"User-Agent": agent, "Accept": _ACCEPT, "Accept-Encoding": _CODINGS},
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,  # a proxy would resolve names behind our back
        )

    async def close(self) -> None:
        await self._session.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def fetch(self, url: str, max_bytes: int | None = None) -> Response:
        """The response at the end of at most ``max_redirects`` redirects. Raises FetchError."""
        for _ in range(self.limits.max_redirects + 1):
            response = await self.get(url, max_bytes=max_bytes)
            if response.status not in _REDIRECTS:
                return response
            if response.redirect is None:
                raise FetchError("bad redirect", str(response.header("Location")))
            url = response.redirect
        raise FetchError("redirects", f"more than {self.limits.max_redirects}")

    async def get(
        self,
        url: str,
        media_types: Collection[str] | None = None,
        max_bytes: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """One exchange, redirects not followed, with ``headers`` besides our own.

        The body is read for status 2xx only, and only if its media type is undeclared or among
        ``media_types``; otherwise it stays on the wire. A body over the limit is cut and says so.
        Raises FetchError.
        """
        host, port = host_of(url)
        if _literal(host) and not self.allows(host, port):
            _refuse_private(host, host)
        try:
            async with asyncio.timeout(self.limits.timeout_seconds):
                limit = max_bytes or self.limits.max_bytes
                return await self._exchange(url, media_types, limit, headers)
        except FetchError:
            raise
        except TimeoutError as error:
            raise FetchError("timeout", f"{self.limits.timeout_seconds:g} s") from error
        except aiohttp.ClientConnectorDNSError as error:
            raise FetchError("no such host", host) from error
        except aiohttp.ClientConnectorError as error:
            raise FetchError("no connection", str(error.os_error or error)) from error
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientPayloadError) as error:
            raise FetchError("disconnect", str(error)) from error
        except content_coding.CodingError as error:
            raise FetchError("content coding", str(error)) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise FetchError("protocol", f"{type(error).__name__} {error}") from error

    def allows(self, host: str, port: int) -> bool:
        """Whether ``host`` may have an address that is not public."""
        return host in self.allow or f"{host}:{port}" in self.allow

    async def _exchange(
        self,
        url: str,
        media_types: Collection[str] | None,
        max_bytes: int,
        headers: Mapping[str, str] | None,
    ) -> Response:
        target = URL(url, encoded=True)
        async with self._session.get(target, headers=headers, allow_redirects=False) as answer:
            media_type = (answer.headers.get("Content-Type") or "").split(";")[0].strip().lower()
            wanted = media_types is None or not media_type or media_type in media_types
            body, cut = b"", False
            if wanted and 200 <= answer.status < 300:
                body, cut = await _read(answer.content, max_bytes)
                coding = answer.headers.get("Content-Encoding", "")
                if coding and not cut:
                    body, cut = content_coding.decode(body, coding, max_bytes)
                elif coding:
                    raise FetchError("too large", f"more than {max_bytes} bytes compressed")
            return Response(
                url=url,
                status=answer.status,
                phrase=answer.reason or "",
                headers=tuple((_text(k), _text(v)) for k, v in answer.raw_headers),
                body=body,
                truncated="length" if cut else None,
                request_headers=tuple(answer.request_info.headers.items()),
                fetched_at=datetime.now(UTC),
            )


class _CheckedResolver(AbstractResolver):
    """Resolves names to addresses that may be connected to, and to no others."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._resolver = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        if (target := self._client.connect.get(f"{host}:{port}")) is not None:
            return [_result(host, *target)]
        found = await self._resolver.resolve(host, port, family)
        if not self._client.allows(host, port):
            for result in found:
                _refuse_private(host, result["host"])
        return found

    async def close(self) -> None:
        await self._resolver.close()


def is_public(address: str) -> bool:
    """Whether ``address`` lies in the public internet, also after an IPv4 in it is unwrapped."""
    ip: Address = ipaddress.ip_address(address.split("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        ip = inner or ip
    return ip.is_global and not ip.is_multicast


def _refuse_private(host: str, address: str) -> None:
    if not is_public(address):
        raise FetchError("private address", f"{host} is {address}")


def _literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _result(host: str, address: str, port: int) -> ResolveResult:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return ResolveResult(
        hostname=host, host=address, port=port, family=family, proto=0, flags=socket.AI_NUMERICHOST
    )


async def _read(stream: aiohttp.StreamReader, max_bytes: int) -> tuple[bytes, bool]:
    """At most ``max_bytes`` of a body, and whether there was more."""
    chunks, num_bytes = [], 0
    async for chunk in stream.iter_any():
        chunks.append(chunk)
        num_bytes += len(chunk)
        if num_bytes > max_bytes:
            break
    return b"".join(chunks)[:max_bytes], num_bytes > max_bytes


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
