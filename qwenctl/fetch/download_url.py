"""Find the storage's address of a file, and find it again when it has expired."""

import asyncio
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from qwenctl import __version__
from qwenctl.errors import FetchError
from qwenctl.fetch.answers import refusal
from qwenctl.fetch.clock import RetryPolicy, in_thread
from qwenctl.fetch.hub import Hub
from qwenctl.fetch.request import RemoteFile

AddressInfo = tuple[int, int, tuple[str, int] | tuple[str, int, int, int]]
"""Family, protocol and address of a host, of what ``getaddrinfo`` returns."""

HOPS = 8
READ_BYTES = 2**19  # aiohttp stops reading at twice that; four connections stay far below 100 MB


@dataclass(frozen=True, slots=True)
class DownloadUrl:
    """Where the bytes are. ``signed``: a storage's own address, good for a while and without our token."""

    url: URL
    signed: bool
    headers: dict[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class FileSource:
    """Who offers a file: its first address, what the file is called in errors, and how a refusal is put.

    The token is sent to the first address' origin alone, never to where it sends on to.
    """

    url: str
    shown: str
    token: str | None = field(default=None, repr=False)
    lister: str = "the hub"
    refusal: Callable[[str, int, Mapping[str, str]], FetchError] = refusal


def hub_source(hub: Hub, repo: str, commit: str, file: RemoteFile) -> FileSource:
    """Return a file of a repository as its hub offers it."""
    return FileSource(hub.url(repo, commit, file.name), f"{file.name} of {repo}", hub.token)


class DownloadUrls:
    """The current link of one file. All connections share it; one of them renews it when it has expired."""

    def __init__(self, client: aiohttp.ClientSession, source: FileSource, file: RemoteFile) -> None:
        self._client = client
        self.source = source
        self._file = file
        self._shown = source.shown
        self._start = URL(source.url, encoded=True)
        self._link: DownloadUrl | None = None
        self._renewing = asyncio.Lock()

    async def get(self) -> DownloadUrl:
        """Return the link, asking the hub for one if there is none.

        Raises:
            FetchError: the hub refuses, or it now has another file there; a PassingError may pass.
            aiohttp.ClientError: it can't be reached.
        """
        async with self._renewing:
            if self._link is None:
                self._link = await self._find()
            return self._link

    def expire(self, link: DownloadUrl) -> None:
        """Drop a link that no longer works, unless another connection has renewed it already."""
        if self._link is link:
            self._link = None

    async def _find(self) -> DownloadUrl:
        url = self._start
        for _ in range(HOPS):
            if url.origin() != self._start.origin():
                return DownloadUrl(url, signed=True, headers=headers(None))
            request_headers = headers(self.source.token)
            async with self._client.head(url, headers=request_headers, allow_redirects=False) as response:
                self._check_identity(response)
                if 300 <= response.status < 400 and "location" in response.headers:
                    url = redirected(url, response.headers["location"], self._shown)
                    continue
                if response.ok:
                    return DownloadUrl(url, signed=False, headers=request_headers)
                raise self.source.refusal(self._shown, response.status, response.headers)
        raise FetchError(f"cannot read {self._shown}: more than {HOPS} redirects")

    def _check_identity(self, response: aiohttp.ClientResponse) -> None:
        etag = response.headers.get("x-linked-etag", "").removeprefix("W/").strip('"')
        size = response.headers.get("x-linked-size", "")
        if (len(etag) == 64 and etag != self._file.sha256) or (
            size.isdigit() and int(size) != self._file.bytes
        ):
            raise FetchError(
                f"cannot read {self._shown}: the hub now has another file there"
                f" ({size or '?'} bytes, sha256 {etag or '?'})",
                hint="run it again",
            )


def redirected(url: URL, location: str, shown: str) -> URL:
    """Return where a redirect leads.

    Raises:
        FetchError: from an encrypted address to one that is not, or to no address of the web.
    """
    target = url.join(URL(location, encoded=True))
    if target.scheme not in ("http", "https") or target.host is None:
        raise FetchError(f"cannot read {shown}: {url.host} sends on to {str(target)[:200]!r}")
    if url.scheme == "https" and target.scheme != "https":
        raise FetchError(
            f"cannot read {shown}: {url.host} sends on to {target.host} without encryption",
            hint="a login page of the network also does this",
        )
    return target


def connect(policy: RetryPolicy, connections: int) -> aiohttp.ClientSession:
    """Return a client that honours HTTP_PROXY, HTTPS_PROXY, NO_PROXY and SSL_CERT_FILE.

    aiohttp, not httpx, for the bytes: 1 GB over four connections on loopback took 0.1 s of CPU in this
    process instead of 0.86 s, and the loop it runs in is the gate's too. Source: measured, 2 cores, Linux.
    """
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=policy.connect_s, sock_read=policy.stall_s)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections + 1, ssl=_trust(), resolver=Resolver()),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=timeout,
        trust_env=True,
        auto_decompress=False,
        requote_redirect_url=False,
        read_bufsize=READ_BYTES,
    )


class Resolver(AbstractResolver):
    """Look up host names with the system's resolver, in threads that can be left behind.

    aiohttp's own takes the event loop's executor, and the end of the process then waits for a name server
    that does not answer.
    """

    def __init__(self, look_up: Callable[[str, int, int], list[AddressInfo]] | None = None) -> None:
        self._look_up = look_up or _look_up

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of a host. Raises OSError as ``getaddrinfo`` does."""
        addresses = await in_thread(lambda _background: self._look_up(host, port, family))
        return [
            ResolveResult(
                hostname=host,
                host=f"{address[0]}%{address[3]}" if len(address) == 4 and address[3] else address[0],
                port=address[1],
                family=address_family,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address_family, protocol, address in addresses
        ]

    async def close(self) -> None:
        """Nothing is kept open."""


def _look_up(host: str, port: int, family: int) -> list[AddressInfo]:
    infos = socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return [
        (address_family, protocol, address)
        for address_family, _type, protocol, _name, address in infos
        if isinstance(address[0], str)  # not so where this Python was built without IPv6
    ]


def _trust() -> ssl.SSLContext:
    """Return the trusted certificates: SSL_CERT_FILE, else the system's, else those that come with httpx."""
    paths = ssl.get_default_verify_paths()
    if paths.cafile or paths.capath:
        return ssl.create_default_context()
    import httpx  # noqa: PLC0415 - 0.04 s that systems with authorities of their own don't need

    return httpx.create_ssl_context()


def headers(token: str | None) -> dict[str, str]:
    """Return the headers of every request for bytes. Compression would change the offsets, so it is off."""
    fields = {"user-agent": f"qwenctl/{__version__}", "accept-encoding": "identity"}
    return fields | ({"authorization": f"Bearer {token}"} if token else {})
