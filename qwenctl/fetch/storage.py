"""Judge a storage's answers about one file: may these bytes be written, must the link be renewed, is it over?

Moves no byte and waits for nothing. It counts contradictions (another size, another ETag, a fresh link that
is refused), because a storage that contradicts the hub too often is not believed any more.
"""

from http import HTTPStatus

import aiohttp

from qwenctl.errors import FetchError
from qwenctl.fetch.answers import EXPIRED, PASSING, PassingError, content_range, server_wait_s
from qwenctl.fetch.download_url import DownloadUrl, DownloadUrls
from qwenctl.fetch.request import RemoteFile

STRIKES = 3
"""Contradictions of a storage before it is not believed any more."""


class RangesIgnored(Exception):  # noqa: N818 - not a failure: the other way of getting the file
    """The storage sends the whole file, whatever range it is asked for."""


class Storage:
    """What one file's storage has answered so far. All connections of a transfer share it."""

    def __init__(self, links: DownloadUrls, file: RemoteFile) -> None:
        self._links = links
        self._file = file
        self._etag: str | None = None
        self._etag_helps = True
        self._strikes = 0
        self._etag_changes = 0

    async def link(self) -> DownloadUrl:
        """Return where to ask. Raises what ``DownloadUrls.get`` raises."""
        return await self._links.get()

    def range_headers(self, link: DownloadUrl, start: int, end: int) -> dict[str, str]:
        """Return the headers of a request for ``start`` to ``end`` (exclusive)."""
        headers = link.headers | {"range": f"bytes={start}-{end - 1}"}
        return headers if self._etag is None else headers | {"if-range": self._etag}

    def accept_part(self, response: aiohttp.ClientResponse, link: DownloadUrl, start: int, end: int) -> int:
        """Return where the answer's bytes end, or raise what it means instead.

        In this order: 1. A refusal. 2. Another ETag than before. 3. The whole file: ranges are ignored. 4. A
        part, which must be of the right place and size.
        """
        self._accept_status(response, link)
        etag = response.headers.get("etag")
        if self._etag is not None and etag is not None and etag != self._etag:
            self._note_change(etag, link)
        if response.status == HTTPStatus.OK:
            raise RangesIgnored
        part = content_range(response.headers.get("content-range"))
        if part is None or part.start != start or part.end > end:
            raise self.strike(link, f"it answers with another range: {response.headers.get('content-range')}")
        if part.total not in (None, self._file.bytes):
            raise self.strike(
                link, f"it has {part.total} bytes, {self._links.source.lister} lists {self._file.bytes}"
            )
        if self._etag is None and self._etag_helps and etag is not None and not etag.startswith("W/"):
            self._etag = etag
        return part.end

    def accept_whole(self, response: aiohttp.ClientResponse, link: DownloadUrl) -> None:
        """Return if the answer is the whole file, or raise what it means instead."""
        self._accept_status(response, link)
        length = response.headers.get("content-length", str(self._file.bytes))
        if length != str(self._file.bytes) or response.status != HTTPStatus.OK:
            raise self.strike(
                link, f"it has {length} bytes, {self._links.source.lister} lists {self._file.bytes}"
            )

    def strike(self, link: DownloadUrl, cause: str) -> FetchError:
        """Count a contradiction and return its error; the next attempt asks the hub for a fresh link."""
        self._links.expire(link)
        self._strikes += 1
        message = f"cannot fetch {self._file.name} from {link.url.host}: {cause}"
        return FetchError(message) if self._strikes > STRIKES else PassingError(message, 0)

    def _accept_status(self, response: aiohttp.ClientResponse, link: DownloadUrl) -> None:
        status, lister = response.status, self._links.source.lister
        if status in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
            return
        if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise self.strike(
                link,
                f"it has no byte {self._file.bytes - 1}, {lister} lists {self._file.bytes} bytes",
            )
        if link.signed and status in EXPIRED:
            raise self.strike(link, f"it answers {status} to a link of {lister}")
        if status in PASSING:
            raise PassingError(
                f"cannot fetch {self._file.name}: the storage answers {status}",
                server_wait_s(response.headers),
            )
        raise self._links.source.refusal(self._file.name, status, response.headers)

    def _note_change(self, etag: str, link: DownloadUrl) -> None:
        """Adopt another ETag: the commit is pinned, the fresh link is checked, the hash decides in the end.

        A storage whose machines each have an ETag of their own is asked without one after a few changes.
        """
        self._links.expire(link)
        self._etag_changes += 1
        self._etag_helps = self._etag_changes <= STRIKES
        self._etag = etag if self._etag_helps and not etag.startswith("W/") else None
        raise PassingError(f"cannot fetch {self._file.name}: its ETag changed", 0)
