"""Answers that outlive their client: a stream whose request names its conversation is kept for a while.

The pages of llama-server ask so (``X-Conversation-Id``), and take the stream up again after a reload, at the
byte where they left it (``GET /v1/stream``). The gate does this itself, because then such an answer is one
as any other: it is use of the model, it goes on at the next child, and a child that is told to stop does not
hang over it. Source of the routes and their answers: llama-server b11434, tools/server/server-stream.cpp.
"""

import asyncio
import json
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from aiohttp import web
from aiohttp.web_request import BaseRequest

from qwenctl.gate.api_format import ApiFormat
from qwenctl.gate.headers import Pairs
from qwenctl.gate.passed_connection import PassedStream
from qwenctl.gate.response import ResponseWriter

CONVERSATION_HEADER = "X-Conversation-Id"
STREAM_PATH, LOOKUP_PATH = "/v1/stream", "/v1/streams/lookup"
KEEP_S = 300.0
MOST_BYTES = 4_194_304
"""A finished stream is kept so long, and of a long one the last bytes. Source: as above."""
STEP_BYTES = 65_536


class KeptStream:
    """The bytes of one answer. ``plain``: the answer is no stream."""

    def __init__(self, conversation: str) -> None:
        self.conversation = conversation
        self.started_at, self.completed_at = int(time.time()), 0
        self.head: tuple[int, str | None, Pairs] | None = None
        self.plain: web.Response | None = None
        self.dropped, self.charged = 0, 0
        self.task: asyncio.Task[None] | None = None
        self._bytes = bytearray()
        self._news = asyncio.Event()

    @property
    def total_bytes(self) -> int:
        """All bytes that the answer has had so far."""
        return self.dropped + len(self._bytes)

    @property
    def content(self) -> str:
        """The bytes that are kept, in hexadecimal digits."""
        return self._bytes.hex()

    @property
    def done(self) -> bool:
        """Whether the answer has ended."""
        return self.completed_at > 0

    def add(self, data: bytes, most_bytes: int) -> None:
        """Add bytes. Of more than ``most_bytes`` the first ones are dropped."""
        self._bytes += data
        if (over := len(self._bytes) - most_bytes) > 0:
            del self._bytes[:over]
            self.dropped += over
        self.tell()

    def finish(self) -> None:
        """Note that the answer has ended."""
        self.completed_at = self.completed_at or int(time.time())
        self.tell()

    def tell(self) -> None:
        """Wake the readers."""
        self._news.set()
        self._news = asyncio.Event()

    async def begun(self) -> None:
        """Wait until there is a head, a plain answer, or an end without one."""
        while self.head is None and self.plain is None and not self.done:
            await self._news.wait()

    async def read(self, at: int) -> bytes | None:
        """Return the bytes from ``at`` on, once there are some. Empty: the end. None: they are dropped."""
        while at >= self.total_bytes and not self.done:
            await self._news.wait()
        if at < self.dropped:
            return None
        return bytes(self._bytes[at - self.dropped :])


class KeptWriter(ResponseWriter):
    """Writes an answer into a kept stream instead of to a client."""

    __slots__ = ("_keep", "_stream")

    def __init__(
        self,
        request: BaseRequest,
        api_format: ApiFormat,
        stream: KeptStream,
        keep: Callable[[KeptStream, bytes], None],
    ) -> None:
        super().__init__(request, api_format, [])
        self._stream, self._keep = stream, keep

    async def whole(self, status: int, reason: str | None, headers: Pairs, body: bytes) -> web.StreamResponse:
        """Keep a whole answer."""
        return self._plain(await super().whole(status, reason, headers, body))

    async def fail(
        self, status: int, code: str, message: str, hint: str | None = None, headers: Pairs | None = None
    ) -> web.StreamResponse:
        """Keep an error."""
        return self._plain(await super().fail(status, code, message, hint, headers))

    async def end(self) -> web.StreamResponse:
        """Note the end."""
        self._stream.finish()
        return self.response or web.Response(status=502)

    def cut(self) -> web.StreamResponse:
        """Note the end: nobody is connected here."""
        self._stream.finish()
        return self.response or web.Response(status=502)

    def abort_if_stalled(self, before: float) -> bool:
        """Return False: nobody reads here."""
        del before
        return False

    async def _send(self, response: web.StreamResponse, data: bytes) -> None:
        del response
        self._keep(self._stream, data)

    async def _head(self, status: int, reason: str | None, headers: Pairs) -> None:
        self.status = status
        self.response = web.StreamResponse(status=status, reason=reason, headers=dict(headers))
        self._stream.head = (status, reason, headers)
        self._stream.tell()

    def _plain(self, answer: web.StreamResponse) -> web.StreamResponse:
        if isinstance(answer, web.Response):
            self._stream.plain = answer
            self._stream.finish()
        return answer


class KeptStreams:
    """The kept streams of a gate, by conversation. ``afford`` and ``give`` are the gate's memory budget."""

    def __init__(self, afford: Callable[[int], bool], give: Callable[[int], None]) -> None:
        self._afford, self._give = afford, give
        self._streams: dict[str, KeptStream] = {}

    def begin(
        self, conversation: str, produce: Callable[[KeptStream], Coroutine[Any, Any, None]]
    ) -> KeptStream:
        """Start an answer that goes on without its client. An earlier one of the conversation is ended."""
        self.end(conversation)
        stream = self._streams[conversation] = KeptStream(conversation)
        stream.task = asyncio.get_running_loop().create_task(produce(stream))
        stream.task.add_done_callback(lambda _: self._over(stream))
        return stream

    def end(self, conversation: str) -> None:
        """End the answer of a conversation, and forget it."""
        if (stream := self._streams.get(conversation)) is not None:
            self._forget(stream)
            if stream.task is not None:
                stream.task.cancel()

    def keep(self, stream: KeptStream, data: bytes) -> None:
        """Keep bytes of a stream. Without memory for them finished streams go, then its own first bytes."""
        want = min(stream.total_bytes - stream.dropped + len(data), MOST_BYTES)
        while want > stream.charged:
            if self._afford(STEP_BYTES):
                stream.charged += STEP_BYTES
                continue
            oldest = next((each for each in self._streams.values() if each.done and each.charged), None)
            if oldest is None:
                break
            self._forget(oldest)
        stream.add(data, max(min(stream.charged, MOST_BYTES), STEP_BYTES))

    def finished(self) -> tuple[PassedStream, ...]:
        """Return the streams that have ended, for the gate of another program."""
        found = []
        for each in self._streams.values():
            if each.done and each.head is not None:
                status, reason, headers = each.head
                started, ended = each.started_at, each.completed_at
                pairs = tuple(headers)
                found.append(
                    PassedStream(
                        each.conversation, started, ended, status, reason, pairs, each.dropped, each.content
                    )
                )
        return tuple(found)

    def resume(self, passed: Iterable[PassedStream]) -> None:
        """Keep the streams of another program's gate for a while, as far as there is memory for them."""
        for each in passed:
            stream = self._streams[each.conversation] = KeptStream(each.conversation)
            stream.head = (each.status, each.reason, list(each.headers))
            stream.started_at, stream.dropped = each.started_at, each.dropped
            self.keep(stream, bytes.fromhex(each.content))
            stream.completed_at = each.completed_at
            self._over(stream)

    async def close(self) -> None:
        """End everything."""
        tasks = [stream.task for stream in self._streams.values() if stream.task is not None]
        for conversation in tuple(self._streams):
            self.end(conversation)
        if tasks:
            await asyncio.wait(tasks)

    async def answer(
        self, request: BaseRequest, path: str, body: bytes, writer: ResponseWriter
    ) -> web.StreamResponse | None:
        """Answer a request about kept streams; None if it is another one."""
        if path == LOOKUP_PATH and request.method == "POST":
            return await self._lookup(body, writer)
        if path != STREAM_PATH or request.method not in ("GET", "DELETE"):
            return None
        conversation = request.query.get("conv_id", "")
        if not conversation:
            return await writer.fail(400, "invalid_request_error", "Missing conversation id in path")
        if request.method == "DELETE":
            self.end(conversation)
            return await writer.whole(204, None, [], b"")
        stream, start = self._streams.get(conversation), request.query.get("from", "") or "0"
        if stream is None:
            return await writer.fail(404, "not_found_error", "Stream not found or expired")
        if not start.isdecimal():
            return await writer.fail(400, "invalid_request_error", "Invalid 'from' offset")
        if int(start) < stream.dropped:
            return await writer.fail(400, "invalid_request_error", "Stream offset lost, please restart")
        return await follow(stream, int(start), writer)

    async def _lookup(self, body: bytes, writer: ResponseWriter) -> web.StreamResponse:
        """Tell which of the asked conversations are kept, also those of each model (``NAME::MODEL``)."""
        try:
            asked = json.loads(body)
        except ValueError as error:
            return await writer.fail(400, "invalid_request_error", f"invalid body: {error}")
        names = asked.get("conversation_ids") if isinstance(asked, dict) else None
        names = [name for name in names if isinstance(name, str) and name] if isinstance(names, list) else []
        found = [
            {
                "conversation_id": stream.conversation,
                "is_done": stream.done,
                "total_bytes": stream.total_bytes,
                "started_at": stream.started_at,
                "completed_at": stream.completed_at,
            }
            for name in names
            for stream in self._streams.values()
            if stream.conversation == name or stream.conversation.startswith(f"{name}::")
        ]
        head = [("Content-Type", "application/json; charset=utf-8")]
        return await writer.whole(200, None, head, json.dumps(found).encode())

    def _over(self, stream: KeptStream) -> None:
        """Keep a finished stream for a while. One that is no stream is not kept."""
        stream.finish()
        if stream.head is None:
            self._forget(stream)
        else:
            asyncio.get_running_loop().call_later(KEEP_S, self._forget, stream)

    def _forget(self, stream: KeptStream) -> None:
        if self._streams.get(stream.conversation) is stream:
            del self._streams[stream.conversation]
            self._give(stream.charged)
            stream.charged = 0


async def follow(stream: KeptStream, start: int, writer: ResponseWriter) -> web.StreamResponse:
    """Send a kept stream from a byte on, until it ends."""
    await stream.begun()
    if stream.plain is not None:
        plain = stream.plain
        head = [(name, value) for name, value in plain.headers.items() if name.lower() != "content-length"]
        return await writer.whole(plain.status, plain.reason, head, bytes(plain.body or b""))  # type: ignore[arg-type]
    if stream.head is None:
        return await writer.fail(404, "not_found_error", "Stream not found or expired")
    await writer.begin(*stream.head)
    while data := await stream.read(start):
        await writer.write(data)
        start += len(data)
    return writer.cut() if data is None else await writer.end()
