"""Send one request to one child and pass its answer on. The result says when the child was lost."""

import asyncio
from enum import Enum, auto

import aiohttp
from aiohttp import web
from yarl import URL

from qwenctl.gate import headers
from qwenctl.gate.api_format import ApiFormat, is_complete, is_loading
from qwenctl.gate.request_body import pieces
from qwenctl.gate.response import ResponseWriter
from qwenctl.gate.sse_split import EventSplitter, skip_comments

UPSTREAM_ERRORS = (aiohttp.ClientError, OSError, asyncio.TimeoutError)
AT_ONCE_BYTES = 65_536
"""An answer up to this size is handed to the client's connection in one piece."""
CONNECT_ERRORS = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)


class ChildLost(Enum):
    """The child was lost, before (WAITING) or after (CUT) part of the answer was sent to the client.

    UNREACHED: it accepted no connection, so nothing of the request reached it. A server that was told to stop
    does so while it finishes its answers.
    """

    UNREACHED = auto()
    WAITING = auto()
    CUT = auto()


class UpstreamRequest:
    """One request as it is sent to a child. It can be sent again to the next child.

    ``to_the_byte``: its client counts the bytes of the stream, so comments of the child are passed on, too.
    """

    __slots__ = ("_upstream", "body", "method", "pairs", "target", "to_the_byte")

    def __init__(
        self,
        method: str,
        target: str,
        pairs: headers.Pairs,
        body: bytearray,
        *,
        to_the_byte: bool = False,
    ) -> None:
        self.method, self.target, self.pairs, self.body = method, target, pairs, body
        self.to_the_byte = to_the_byte
        self._upstream: aiohttp.ClientResponse | None = None

    def answered(self, upstream: aiohttp.ClientResponse | None) -> None:
        """Remember the answer that is being read now."""
        self._upstream = upstream

    def break_off(self) -> None:
        """Cut the connection to the child. The reader of the answer then sees the child as lost."""
        connection = self._upstream.connection if self._upstream is not None else None
        if connection is not None and connection.transport is not None:
            connection.transport.abort()


async def forward(
    client: aiohttp.ClientSession, base: str, sent: UpstreamRequest, answer: ResponseWriter, keep_bytes: int
) -> web.StreamResponse | ChildLost:
    """Send the request and pass the answer on; return ``ChildLost`` if the child did not finish it.

    Plain answers up to ``keep_bytes`` are kept until they are whole.
    """
    pairs = list(sent.pairs)
    if sent.body or sent.method not in ("GET", "HEAD", "OPTIONS", "DELETE"):
        pairs.append(("Content-Length", str(len(sent.body))))
    try:
        upstream = await client.request(
            sent.method,
            URL(base + sent.target, encoded=True),
            headers=pairs,
            data=pieces(sent.body) if sent.body else None,
            allow_redirects=False,
        )
    except CONNECT_ERRORS:
        return ChildLost.UNREACHED
    except UPSTREAM_ERRORS:
        return ChildLost.WAITING
    sent.answered(upstream)
    try:
        if upstream.content_type == "text/event-stream" and "Content-Encoding" not in upstream.headers:
            return await _events(upstream, answer, to_the_byte=sent.to_the_byte)
        return await _plain(upstream, answer, keep_bytes, head=sent.method == "HEAD")
    finally:
        sent.answered(None)
        upstream.close()


async def _events(
    upstream: aiohttp.ClientResponse, answer: ResponseWriter, *, to_the_byte: bool
) -> web.StreamResponse | ChildLost:
    """Pass events on, whole ones only. The head waits for the first event, but not in an unknown API."""
    splitter, last, first = EventSplitter(), b"", b""
    if answer.api_format is ApiFormat.OTHER:  # comments may be all that it says for a long time
        await answer.begin(upstream.status, upstream.reason, _head(upstream))
    while data := await _read(upstream):
        events = splitter.feed(data)
        if not answer.begun:
            first += events
            events = skip_comments(first)
            if not events:
                continue
            events = first if to_the_byte else events
            await answer.begin(upstream.status, upstream.reason, _head(upstream))
        if events:
            last = events
            await answer.write(events)
    if not answer.begun:
        return ChildLost.WAITING
    if data is not None and splitter.rest:
        last = splitter.rest
        await answer.write(last)
    whole = is_complete(answer.api_format, last) if data is not None else _had_ended(answer, last)
    return await answer.end() if whole else ChildLost.CUT


async def _read(upstream: aiohttp.ClientResponse) -> bytes | None:
    """Return what has come, nothing at the end, and None if the connection broke."""
    try:
        return await upstream.content.readany()
    except UPSTREAM_ERRORS:
        return None


async def _plain(
    upstream: aiohttp.ClientResponse, answer: ResponseWriter, keep_bytes: int, *, head: bool
) -> web.StreamResponse | ChildLost:
    """Keep an answer until it is whole. A longer one than ``keep_bytes`` is passed on as it comes."""
    if head:
        return await answer.whole(upstream.status, upstream.reason, _head(upstream), b"")
    kept: list[bytes] = []
    size = 0
    while True:
        try:
            data = await upstream.content.readany()
        except UPSTREAM_ERRORS:
            return ChildLost.CUT if answer.begun else ChildLost.WAITING
        if not data:
            break
        if answer.begun:
            await answer.write(data)
            continue
        kept.append(data)
        size += len(data)
        if size > keep_bytes:
            await _pass_on(upstream, answer, kept)
            kept.clear()
    if answer.begun:
        return await answer.end()
    if is_loading(upstream.status, b"".join(kept)):
        return ChildLost.UNREACHED
    if size > AT_ONCE_BYTES and answer.response is None:
        await _pass_on(upstream, answer, kept)
        return await answer.end()
    return await answer.whole(upstream.status, upstream.reason, _head(upstream), b"".join(kept))


async def _pass_on(upstream: aiohttp.ClientResponse, answer: ResponseWriter, kept: list[bytes]) -> None:
    """Send the kept pieces one by one, so that a client which takes no more of them is noticed."""
    await answer.begin(upstream.status, upstream.reason, _head(upstream))
    for piece in kept:
        await answer.write(piece)


def _had_ended(answer: ResponseWriter, last: bytes) -> bool:
    """Return whether the connection broke only after the last event."""
    return last != b"" and answer.api_format.name != "OTHER" and is_complete(answer.api_format, last)


def _head(upstream: aiohttp.ClientResponse) -> headers.Pairs:
    return headers.to_client(upstream.headers.items())
