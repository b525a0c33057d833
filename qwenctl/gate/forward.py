"""Send one request to one child and pass its answer on. The result says when the child was lost."""

import asyncio

import aiohttp
from aiohttp import web
from yarl import URL

from qwenctl.gate import headers
from qwenctl.gate.api_format import ApiFormat, is_complete, is_loading
from qwenctl.gate.continuation.chat_stream import without_counts
from qwenctl.gate.continuation.splice import Splicer
from qwenctl.gate.request_body import pieces
from qwenctl.gate.response import ResponseWriter
from qwenctl.gate.server_faults import BROKEN, GOOD, OTHER, AnswerKind, heard_events, heard_whole
from qwenctl.gate.sse_split import EventSplitter, skip_comments
from qwenctl.gate.upstream_request import ChildLost, FaultAnswer, UpstreamRequest

UPSTREAM_ERRORS = (aiohttp.ClientError, OSError, asyncio.TimeoutError)
REFUSAL_BYTES = 65_536
"""So much is read of the answer of a child that gives no rest."""
AT_ONCE_BYTES = 65_536
"""An answer up to this size is handed to the client's connection in one piece."""
CONNECT_ERRORS = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)


async def forward(
    client: aiohttp.ClientSession, base: str, sent: UpstreamRequest, answer: ResponseWriter, keep_bytes: int
) -> web.StreamResponse | FaultAnswer | ChildLost:
    """Send the request and pass the answer on; return ``ChildLost`` if the child did not finish it.

    Plain answers up to ``keep_bytes`` are kept until they are whole.
    """
    upstream = await _request(client, base, sent, sent.body)
    if isinstance(upstream, ChildLost):
        return upstream
    try:
        if upstream.content_type == "text/event-stream" and "Content-Encoding" not in upstream.headers:
            return await _events(upstream, sent, answer)
        return await _plain(upstream, sent, answer, keep_bytes)
    finally:
        sent.answered(None)
        upstream.close()


async def forward_rest(
    client: aiohttp.ClientSession,
    base: str,
    sent: UpstreamRequest,
    answer: ResponseWriter,
    body: bytes,
    splicer: Splicer,
) -> web.StreamResponse | ChildLost | None:
    """Ask for the rest of an answer that has begun, and join it to what the client has.

    None: the child gives no such answer. Nothing has been sent to the client then.
    """
    upstream = await _request(client, base, sent, bytearray(body))
    if isinstance(upstream, ChildLost):
        return upstream
    try:
        if upstream.status != 200 or upstream.content_type != "text/event-stream":
            return await _no_rest(upstream, sent)
        splitter, last = EventSplitter(), b""
        while data := await _read(upstream, sent):
            if not (events := splitter.feed(data)):
                continue
            last = events
            if (fault := _late_fault(sent, events)) is not None:
                await _write_events(sent, answer, splicer.feed(fault))
                return ChildLost.CUT
            await _write_events(sent, answer, splicer.feed(events))
        whole = is_complete(answer.api_format, last) if data is not None else _had_ended(answer, last)
        sent.heard = heard_events(last) if whole else BROKEN
        return await answer.end() if whole else ChildLost.CUT
    except UPSTREAM_ERRORS:
        sent.heard = BROKEN
        return ChildLost.CUT
    finally:
        sent.answered(None)
        upstream.close()


async def _no_rest(upstream: aiohttp.ClientResponse, sent: UpstreamRequest) -> ChildLost | None:
    """Return what it means that a child gives no rest: it still loads, it can't compute, or it refuses."""
    said = await upstream.content.read(REFUSAL_BYTES)
    if is_loading(upstream.status, said):
        return ChildLost.UNREACHED
    if sent.judged:
        sent.heard = heard_whole(upstream.status, upstream.content_type, said)
    return ChildLost.CUT if sent.heard.kind is AnswerKind.FAULT else None


async def _request(
    client: aiohttp.ClientSession, base: str, sent: UpstreamRequest, body: bytearray
) -> aiohttp.ClientResponse | ChildLost:
    """Send a request; return the head of its answer."""
    sent.heard, sent.withheld = OTHER, b""
    pairs = list(sent.pairs)
    if body or sent.method not in ("GET", "HEAD", "OPTIONS", "DELETE"):
        pairs.append(("Content-Length", str(len(body))))
    try:
        upstream = await client.request(
            sent.method,
            URL(base + sent.target, encoded=True),
            headers=pairs,
            data=pieces(body) if body else None,
            allow_redirects=False,
        )
    except CONNECT_ERRORS:
        return ChildLost.UNREACHED
    except UPSTREAM_ERRORS:
        sent.heard = BROKEN
        return ChildLost.WAITING
    sent.answered(upstream)
    return upstream


async def _write_events(sent: UpstreamRequest, answer: ResponseWriter, events: bytes) -> None:
    """Send events, and keep in mind what was sent."""
    if events:
        await answer.write(without_counts(events) if sent.counted else events)
        if sent.record is not None:
            sent.record.feed(events, answer.wrote_at)


def _late_fault(sent: UpstreamRequest, events: bytes) -> bytes | None:
    """Return the events before one that says that the child can't compute; None if there is no such event."""
    if sent.record is None or not sent.judged or b'"error"' not in events:
        return None
    heard = heard_events(events)
    if heard.kind is not AnswerKind.FAULT:
        return None
    before, end, _ = events[: events.find(b'"error"')].rpartition(b"\n\n")
    sent.heard, sent.withheld = heard, events[len(before + end) :]
    return before + end


async def _events(
    upstream: aiohttp.ClientResponse, sent: UpstreamRequest, answer: ResponseWriter
) -> web.StreamResponse | FaultAnswer | ChildLost:
    """Pass events on, whole ones only. The head waits for the first event, but not in an unknown API."""
    splitter, last, first = EventSplitter(), b"", b""
    if answer.api_format is ApiFormat.OTHER:  # comments may be all that it says for a long time
        await answer.begin(upstream.status, upstream.reason, _head(upstream))
    while data := await _read(upstream, sent):
        events = splitter.feed(data)
        if not answer.begun:
            first += events
            events = skip_comments(first)
            if not events:
                continue
            if (fault := _first_fault(upstream, sent, events)) is not None:
                return fault
            await answer.begin(upstream.status, upstream.reason, _head(upstream))
        if events:
            last = events
            if (before := _late_fault(sent, events)) is not None:
                await _write_events(sent, answer, before)
                return ChildLost.CUT
            await _write_events(sent, answer, events)
    if not answer.begun:
        sent.heard = BROKEN
        return ChildLost.WAITING
    if data is not None and splitter.rest:
        last = splitter.rest
        await _write_events(sent, answer, last)
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


async def _read(upstream: aiohttp.ClientResponse, sent: UpstreamRequest) -> bytes | None:
    """Return what has come, nothing at the end, and None if the connection broke."""
    try:
        data = await upstream.content.readany()
    except UPSTREAM_ERRORS:
        return None
    if sent.edges is not None:
        sent.edges.add(data)
    return data


async def _plain(  # noqa: C901 - one branch a way to end
    upstream: aiohttp.ClientResponse, sent: UpstreamRequest, answer: ResponseWriter, keep_bytes: int
) -> web.StreamResponse | FaultAnswer | ChildLost:
    """Keep an answer until it is whole. A longer one than ``keep_bytes`` is passed on as it comes."""
    if sent.method == "HEAD":
        return await answer.whole(upstream.status, upstream.reason, _head(upstream), b"")
    kept: list[bytes] = []
    size = 0
    while True:
        data = await _read(upstream, sent)
        if data is None:
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
