"""A client's connection: what aiohttp does, but for clients that send no more, and for what is no HTTP.

A client that sends no more may have gone, or it may wait for its answer. TCP tells the two apart only once
something is sent to the client: one that has gone answers with a reset. aiohttp takes both for gone.
"""

import asyncio
import select
import socket

from aiohttp import EMPTY_PAYLOAD, StreamReader, web
from aiohttp.web_request import BaseRequest

from qwenctl.gate.api_format import ApiFormat, error_body
from qwenctl.gate.headers import SERVER
from qwenctl.gate.passed_connection import BodySeen, RequestBoundary

PROBE = b"HTTP/1.1 100 Continue\r\n\r\n"
"""An interim answer, which a client of HTTP/1.1 has to skip. Source: RFC 9110, 15.2."""
BEGINS_WITHIN_S = 0.02
"""A request that came together with the end of its connection is handled within this time."""
LOOK_FIRST_S, LOOK_LAST_S = 0.05, 1.0


class ClientConnection(web.RequestHandler):
    """One connection of a client. ``serving`` is the request that is being answered, if there is one.

    ``first`` is what another program has read of a request before it passed the connection on.
    """

    __slots__ = ("_body", "_first", "_framed", "_held", "_watching", "boundary", "serving")

    def __init__(self, manager: web.Server, first: bytes = b"", **options: object) -> None:
        super().__init__(manager, loop=asyncio.get_running_loop(), **options)  # type: ignore[arg-type]
        self.serving: BaseRequest | None = None
        self.boundary = RequestBoundary()
        self._watching: asyncio.Task[None] | None = None
        self._first, self._held = first, False
        self._body: StreamReader = EMPTY_PAYLOAD
        self._framed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with what another program has read."""
        super().connection_made(transport)
        if self._first:
            self.data_received(self._first)

    def data_received(self, data: bytes) -> None:
        """Follow where requests begin and end."""
        heads = self._request_count
        super().data_received(data)
        if self._request_count != heads and self._messages:
            message, self._body = self._messages[-1]
            self._framed = bool(getattr(message, "chunked", False))
        seen = BodySeen(self._body.total_bytes, self._body.is_eof(), self._framed)
        self.boundary.note(data, self._request_count - heads, seen)
        if self._held:
            self.hold()

    def hold(self) -> None:
        """Read no further request, so that this one's successor stays in the kernel until ``release``."""
        self._held = True
        if isinstance(self.transport, asyncio.Transport) and self._body.is_eof():
            self.transport.pause_reading()

    def release(self) -> None:
        """Read again."""
        self._held = False
        if isinstance(self.transport, asyncio.Transport) and not (
            self._reading_paused or self._buffer_paused
        ):
            self.transport.resume_reading()

    @property
    def closing(self) -> bool:
        """Whether it is about to be closed, so that it gets no further request."""
        transport = self.transport
        return self._force_close or not isinstance(transport, asyncio.Transport) or transport.is_closing()

    @property
    def descriptor(self) -> int:
        """The number of its open file."""
        connection = self.transport.get_extra_info("socket") if self.transport is not None else None
        return -1 if connection is None else int(connection.fileno())

    @property
    def at_rest(self) -> bool:
        """Whether no request is under way and every answer has left this process."""
        waits = self._waiter is not None and not self._waiter.done() and not self._messages
        transport = self.transport
        sent = isinstance(transport, asyncio.Transport) and not transport.get_write_buffer_size()
        return waits and sent and self.boundary.rest is not None

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep the connection open for the answer, if one is due."""
        self._watching = asyncio.get_running_loop().create_task(self._watch())
        return True

    def connection_lost(self, exc: BaseException | None) -> None:
        """End the watch, too."""
        if self._watching is not None:
            self._watching.cancel()
        super().connection_lost(exc)

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no request in the shape of the API. Only a fault of ours is logged."""
        if status >= 500:
            return super().handle_error(request, status, exc, message)
        said = " ".join((message or "it is no HTTP").split())
        body = error_body(ApiFormat.OPENAI, status, "malformed", f"cannot read the request: {said}")
        answer = web.Response(status=status, body=body, content_type="application/json", headers=SERVER)
        answer.force_close()
        return answer

    async def _watch(self) -> None:
        """Close the connection after its answer, or as soon as the client is known to have gone."""
        await asyncio.sleep(BEGINS_WITHIN_S)
        transport, request = self.transport, self.serving
        if not isinstance(transport, asyncio.Transport):
            return
        if request is None:
            transport.close()  # an answer that was given is still sent
            return
        if not request.content.is_eof():
            transport.abort()  # the rest of its body will never come
            return
        self.close()  # after the answer
        if request.version >= (1, 1) and not request.writer.output_size:
            transport.write(PROBE)
        look_s = LOOK_FIRST_S
        while not transport.is_closing():
            await asyncio.sleep(look_s)
            look_s = min(2 * look_s, LOOK_LAST_S)
            if is_reset(transport.get_extra_info("socket")):
                transport.abort()


def is_reset(connection: socket.socket) -> bool:
    """Return whether the other side refuses what is sent to it."""
    if connection.fileno() < 0:
        return True
    looked = select.poll()
    looked.register(connection, 0)  # errors and hang-ups are always told
    return bool(looked.poll(0))
