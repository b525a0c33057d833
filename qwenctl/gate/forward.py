"""Send one request to one child and pass its answer on. The result says when the child was lost."""

import asyncio
from dataclasses import dataclass
from enum import Enum, auto

import aiohttp
from aiohttp import web
from yarl import URL

from qwenctl.gate import headers
from qwenctl.gate.api_format import ApiFormat, is_complete, is_loading
from qwenctl.gate.request_body import pieces
from qwenctl.gate.response import ResponseWriter
from qwenctl.gate.server_faults import BROKEN, GOOD, OTHER, AnswerKind, heard_events, heard_whole
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


@dataclass(frozen=True, slots=True)
class FaultAnswer:
    """An answer which says that the child could not compute. Nothing of it has been sent to the client."""

    status: int
    reason: str | None
    head: headers.Pairs
    body: bytes
    stream: bool

    async def pass_on(self, answer: ResponseWriter) -> web.StreamResponse:
        """Send it to the client after all."""
        if not self.stream:
            return await answer.whole(self.status, self.reason, self.head, self.body)
        await answer.begin(self.status, self.reason, self.head)
        await answer.write(self.body)
        return await answer.end()


class UpstreamRequest:
    """One request as it is sent to a child. It can be sent again to the next child.

    ``to_the_byte``: its client counts the bytes of the stream, so comments of the child are passed on, too.
    ``judged``: what its answer says about the child is of interest. ``heard`` is what the last answer said.
    """

    __slots__ = ("_upstream", "body", "heard", "judged", "method", "pairs", "target", "to_the_byte")

    def __init__(
        self,
        method: str,
        target: str,
        pairs: headers.Pairs,
        body: bytearray,
        *,
        to_the_byte: bool = False,
        judged: bool = False,
    ) -> None:
        self.method, self.target, self.pairs, self.body = method, target, pairs, body
        self.to_the_byte, self.judged, self.heard = to_the_byte, judged, OTHER
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
) -> web.StreamResponse | FaultAnswer | ChildLost:
    """Send the request and pass the answer on; return ``ChildLost`` if the child did not finish it.

    Plain answers up to ``keep_bytes`` are kept until they are whole.
    """
    sent.heard = OTHER
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
        sent.heard = BROKEN
        return ChildLost.WAITING
    sent.answered(upstream)
    try:
        if upstream.content_type == "text/event-stream" and "Content-Encoding" not in upstream.headers:
            return await _events(upstream, sent, answer)
        return await _plain(upstream, sent, answer, keep_bytes)
    finally:
        sent.answered(None)
        upstream.close()


async def _events(
    upstream: aiohttp.ClientResponse, sent: UpstreamRequest, answer: ResponseWriter
) -> web.StreamResponse | FaultAnswer | ChildLost:
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
            if (fault := _first_fault(upstream, sent, events)) is not None:
                return fault
            events = first if sent.to_the_byte else events
            await answer.begin(upstream.status, upstream.reason, _head(upstream))
        if events:
            last = events
            await answer.write(events)
    if not answer.begun:
        sent.heard = BROKEN
        return ChildLost.WAITING
    if data is not None and splitter.rest:
        last = splitter.rest
        await answer.write(last)
    whole = is_complete(answer.api_format, last) if data is not None else _had_ended(answer, last)
    sent.heard = heard_events(last) if whole else BROKEN
    return await answer.end() if whole else ChildLost.CUT


def _first_fault(
    upstream: aiohttp.ClientResponse, sent: UpstreamRequest, events: bytes
) -> FaultAnswer | None:
    """Return the answer if its first events say that the child cannot compute."""
    heard = heard_events(events) if sent.judged else OTHER
    if heard.kind is not AnswerKind.FAULT:
        return None
    sent.heard = heard
    return FaultAnswer(upstream.status, upstream.reason, _head(upstream), events, stream=True)


async def _read(upstream: aiohttp.ClientResponse) -> bytes | None:
    """Return what has come, nothing at the end, and None if the connection broke."""
    try:
        return await upstream.content.readany()
    except UPSTREAM_ERRORS:
        return None


async def _plain(  # noqa: C901 - one branch a way to end
    upstream: aiohttp.ClientResponse, sent: UpstreamRequest, answer: ResponseWriter, keep_bytes: int
) -> web.StreamResponse | FaultAnswer | ChildLost:
    """Keep an answer until it is whole. A longer one than ``keep_bytes`` is passed on as it comes."""
    if sent.method == "HEAD":
        return await answer.whole(upstream.status, upstream.reason, _head(upstream), b"")
    kept: list[bytes] = []
    size = 0
    while True:
        try:
            data = await upstream.content.readany()
        except UPSTREAM_ERRORS:
            sent.heard = BROKEN
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
        sent.heard = GOOD if upstream.status == 200 else OTHER
        return await answer.end()
    body = b"".join(kept)
    if is_loading(upstream.status, body):
        return ChildLost.UNREACHED
    if sent.judged and "Content-Encoding" not in upstream.headers:
        sent.heard = heard_whole(upstream.status, upstream.content_type, body)
    if sent.heard == BROKEN:
        return ChildLost.WAITING
    if sent.heard.kind is AnswerKind.FAULT:
        return FaultAnswer(upstream.status, upstream.reason, _head(upstream), body, stream=False)
    return await _all_at_once(upstream, answer, kept, body)


async def _all_at_once(
    upstream: aiohttp.ClientResponse, answer: ResponseWriter, kept: list[bytes], body: bytes
) -> web.StreamResponse:
    """Send a whole answer: in one piece, or a large one in the pieces in which it came."""
    if len(body) > AT_ONCE_BYTES and answer.response is None:
        await _pass_on(upstream, answer, kept)
        return await answer.end()
    return await answer.whole(upstream.status, upstream.reason, _head(upstream), body)


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
