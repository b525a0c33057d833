"""Write one answer to the client: head, events, comments while it waits, and a clean end."""

import asyncio
import contextlib
from collections.abc import Callable

from aiohttp import web
from aiohttp.web_request import BaseRequest
from multidict import CIMultiDict

from qwenctl.gate.api_format import ApiFormat, error_body, error_event, passed_on_error
from qwenctl.gate.headers import SERVER, Pairs

COMMENT = b": waiting\n\n"
STREAM_HEAD = [
    ("Content-Type", "text/event-stream"),
    ("Cache-Control", "no-cache"),
    ("X-Accel-Buffering", "no"),
]
WRITE_ERRORS = (ConnectionError,)


class ResponseWriter:
    """One answer. ``begun``: part of it was sent to the client, so the request can't be sent again."""

    __slots__ = (
        "_comment_task",
        "_comment_timer",
        "_cors",
        "_lock",
        "_paused",
        "_request",
        "api_format",
        "begun",
        "bytes_out",
        "response",
        "status",
        "writing",
        "wrote_at",
    )

    def __init__(self, request: BaseRequest, api_format: ApiFormat, cors: Pairs) -> None:
        self.api_format = api_format
        self.begun = False
        self.writing = False
        self.wrote_at = 0.0
        self.bytes_out = 0
        self.status = 0
        self.response: web.StreamResponse | None = None
        self._request, self._cors = request, cors
        self._lock, self._paused = asyncio.Lock(), False
        self._comment_timer: asyncio.TimerHandle | None = None
        self._comment_task: asyncio.Task[None] | None = None

    def comment_while_waiting(self, after_s: float, every_s: float, wanted: Callable[[], bool]) -> None:
        """Send a head and comments while a stream waits. ``wanted`` says whether a stream was asked for."""
        loop = asyncio.get_running_loop()

        def due() -> None:
            if self._may_comment and (self.response is not None or wanted()):
                self._comment_task = loop.create_task(self._comment())
                self._comment_timer = loop.call_later(every_s, due)

        self._comment_timer = loop.call_later(after_s, due)

    @property
    def _may_comment(self) -> bool:
        return not self.begun or self._paused

    def pause(self, after_s: float, every_s: float) -> None:
        """Send comments again: the answer has begun, and waits for a server that goes on."""
        self._paused = True
        self.comment_while_waiting(after_s, every_s, lambda: True)

    async def resume(self, comment: bytes) -> None:
        """Say that the answer goes on. No other comment is sent from now on."""
        self.stop_waiting()
        async with self._lock:
            self._paused = False
            if self.response is not None:
                await self._send(self.response, comment)

    async def begin(self, status: int, reason: str | None, headers: Pairs) -> None:
        """Send the child's head, unless the gate has sent a head of its own."""
        self.stop_waiting()
        async with self._lock:
            self.begun = True
            if self.response is None:
                await self._head(status, reason, headers)

    async def write(self, data: bytes) -> None:
        """Send part of the answer; wait while the client does not read."""
        response = self.response
        if response is None:
            return
        self.wrote_at = asyncio.get_running_loop().time()
        self.writing = True
        await self._send(response, data)
        self.writing = False
        self.bytes_out += len(data)

    async def whole(self, status: int, reason: str | None, headers: Pairs, body: bytes) -> web.StreamResponse:
        """Send a whole answer. After the head of a stream, an error becomes the last event of that stream."""
        self.stop_waiting()
        async with self._lock:
            self.begun = True
            if self.response is None:
                self.status, self.bytes_out = status, len(body)
                kept = CIMultiDict(
                    (name, value)
                    for name, value in (*headers, *self._cors)
                    if self._request.method == "HEAD" or name.lower() != "content-length"
                )
                return web.Response(status=status, reason=reason, headers=_named(kept), body=body)
        await self.write(body if status == 200 else passed_on_error(self.api_format, status, body))
        return await self.end()

    async def fail(
        self, status: int, code: str, message: str, hint: str | None = None, headers: Pairs | None = None
    ) -> web.StreamResponse:
        """Send an error in the format of the API: as a body, or as the last event of a stream."""
        self.stop_waiting()
        async with self._lock:
            if self.response is None:
                self.begun, self.status = True, status
                pairs = [("Content-Type", "application/json"), *(headers or ()), *self._cors]
                body = error_body(self.api_format, status, code, message, hint)
                return web.Response(status=status, headers=_named(CIMultiDict(pairs)), body=body)
        await self.write(error_event(self.api_format, status, code, message))
        return await self.end()

    async def end(self) -> web.StreamResponse:
        """End a stream properly."""
        response = self.response
        if response is None:
            raise RuntimeError("an answer ended before it began")
        await response.write_eof()
        return response

    def cut(self) -> web.StreamResponse:
        """Close the connection in the middle of the answer. An answer of a known length can only end so."""
        if (transport := self._request.transport) is not None:
            transport.abort()
        return self.response or web.Response(status=502)

    def stop_waiting(self) -> None:
        """Send no more comments."""
        if self._comment_timer is not None:
            self._comment_timer.cancel()
            self._comment_timer = None

    def abort_if_stalled(self, before: float) -> bool:
        """Disconnect a client that has taken nothing since ``before``."""
        if self.writing and self.wrote_at < before and self._request.transport is not None:
            self._request.transport.abort()
            return True
        return False

    async def _send(self, response: web.StreamResponse, data: bytes) -> None:
        await response.write(data)

    async def _comment(self) -> None:
        async with self._lock:
            if not self._may_comment:
                return
            with contextlib.suppress(*WRITE_ERRORS):  # the client has gone; its handler is being cancelled
                if self.response is None:
                    await self._head(200, None, STREAM_HEAD)
                if self.response is not None:
                    await self._send(self.response, COMMENT)  # not counted: it is no progress of the child

    async def _head(self, status: int, reason: str | None, headers: Pairs) -> None:
        self.status = status
        pairs = _named(CIMultiDict((*headers, *self._cors)))
        response = web.StreamResponse(status=status, reason=reason, headers=pairs)
        if "Content-Length" not in pairs and self._request.version >= (1, 1):
            response.enable_chunked_encoding()
        await response.prepare(self._request)
        self.response = response


def _named(pairs: CIMultiDict[str]) -> CIMultiDict[str]:
    """Add the gate's name where the child has not named itself."""
    for name, value in SERVER.items():
        pairs.setdefault(name, value)
    return pairs
