"""Find the storage's address of a file, and find it again when it has expired."""

import asyncio
from dataclasses import dataclass, field

import httpx

from qwenctl import __version__
from qwenctl.errors import FetchError
from qwenctl.fetch.hub import Hub, status_error
from qwenctl.fetch.request import RemoteFile
from qwenctl.fetch.retry import asked_s

HOPS = 8


@dataclass(frozen=True, slots=True)
class Link:
    """Where the bytes are. ``signed``: a storage's own address, good for a while and without our token."""

    url: httpx.URL
    signed: bool
    headers: dict[str, str] = field(repr=False)


class Links:
    """The current link of one file. Many connections use it; one of them renews it."""

    def __init__(self, client: httpx.AsyncClient, hub: Hub, repo: str, commit: str, file: RemoteFile) -> None:
        self._client = client
        self._hub = hub
        self._file = file
        self._shown = f"{file.name} of {repo}"
        self._start = httpx.URL(hub.url(repo, commit, file.name))
        self._link: Link | None = None
        self._renewing = asyncio.Lock()

    async def get(self) -> Link:
        """Return the link, asking the hub for one if there is none.

        Raises:
            FetchError: the hub refuses, or it now has another file there; a PassingError may pass.
            httpx.TransportError: it can't be reached.
        """
        async with self._renewing:
            if self._link is None:
                self._link = await self._find()
            return self._link

    def expire(self, link: Link) -> None:
        """Give up a link that no longer works, unless another connection has done so already."""
        if self._link is link:
            self._link = None

    async def _find(self) -> Link:
        url = self._start
        for _ in range(HOPS):
            ours = _same_place(url, self._start)
            if not ours:
                return Link(url, signed=True, headers=headers(None))
            response = await self._client.head(url, headers=headers(self._hub.token))
            self._check_identity(response)
            if response.is_redirect:
                url = url.join(response.headers["location"])
                continue
            if response.is_success:
                return Link(url, signed=False, headers=headers(self._hub.token))
            raise status_error(
                self._shown,
                response.status_code,
                asked_s(response.headers.get("retry-after"), response.headers.get("ratelimit")),
                response.headers.get("x-error-code", ""),
            )
        raise FetchError(f"cannot read {self._shown}: more than {HOPS} redirects")

    def _check_identity(self, response: httpx.Response) -> None:
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


def headers(token: str | None) -> dict[str, str]:
    """Return what every request for bytes says. No compression: offsets must mean the same on both sides."""
    sent = {"user-agent": f"qwenctl/{__version__}", "accept-encoding": "identity"}
    return sent | ({"authorization": f"Bearer {token}"} if token else {})


def _same_place(url: httpx.URL, other: httpx.URL) -> bool:
    return (url.scheme, url.host, url.port) == (other.scheme, other.host, other.port)
