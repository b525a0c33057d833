"""One address where the gate listens: its sockets, its HTTP server, its rules and its keys."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable

from aiohttp import web
from aiohttp.web_request import BaseRequest
from multidict import CIMultiDict

from qwenctl.engine.address import Address
from qwenctl.gate import guard
from qwenctl.gate.access_log import AccessRecord, line
from qwenctl.gate.api_format import error_body, format_of
from qwenctl.gate.api_keys import KeyRing
from qwenctl.gate.client_connection import ClientConnection
from qwenctl.gate.headers import SERVER, Pairs
from qwenctl.gate.listening_sockets import BACKLOG, accept_waiting, bind, refuse_handshakes
from qwenctl.gate.options import GateLimits
from qwenctl.gate.proxy import access_log

HANDSHAKE_S = 0.02
"""So long a handshake that has begun may take. A client that begins another one then loses a second."""
SHUTDOWN_S = 2.0
Serve = Callable[[BaseRequest, str, str | None, bool], Awaitable[web.StreamResponse]]
"""Answers a request: the request, its path, its origin, whether its keys are passed on."""


class HttpListener:
    """Accepts connections at one address and asks the guard about each request.

    ``rules`` and ``keys`` may be replaced at any time; the next request is judged by the new ones. While
    ``last_answers`` is true each connection gets one more answer and is then closed. One that sends no
    request is closed after ``keepalive_s``. A listener that was closed keeps the rules and keys it had.
    """

    def __init__(
        self, address: Address, rules: guard.Rules, keys: KeyRing, limits: GateLimits, serve: Serve
    ) -> None:
        self.address, self.rules, self.keys = address, rules, keys
        self.own_sockets: tuple[socket.socket, ...] = ()
        self.last_answers = False
        self._serve = serve
        # a client that leaves ends its request at once
        self._http = web.Server(self._handle, handler_cancellation=True)
        self._connection_options = {
            "access_log": None,
            "auto_decompress": False,
            "keepalive_timeout": limits.keepalive_s,
            "max_line_size": limits.head_bytes,
            "max_field_size": limits.head_bytes,
            "lingering_time": 2.0,
        }
        self._passed: socket.socket | None = None
        self._servers: list[asyncio.Server] = []
        self._accepting: set[asyncio.Task[object]] = set()

    async def listen(self, sockets: tuple[socket.socket, ...]) -> None:
        """Accept connections from sockets of ours, which listen already."""
        self.own_sockets = sockets
        self.last_answers = False
        for each in sockets:
            await self._accept_from(each)

    async def listen_passed(self, passed: socket.socket) -> None:
        """Accept connections from a socket of the service manager, which outlives this process."""
        self._passed = passed
        await self._accept_from(passed)

    def leave(self) -> bool:
        """Accept no more from a passed socket, whose queue waits for the next daemon. Return if it is one."""
        if self._passed is None:
            return False
        self.last_answers = True
        asyncio.get_running_loop().remove_reader(self._passed)
        return True

    async def stop_accepting(self, *, handed_over: bool) -> None:
        """Close the sockets. Connections go on, each until its present answer, or the next one, is sent.

        ``handed_over``: another socket of ours listens on the same port by now. What waits in the queues of
        the old sockets is accepted, so that no client is refused.
        """
        self.last_answers = True
        loop = asyncio.get_running_loop()
        if handed_over and self.own_sockets:
            for each in self.own_sockets:
                refuse_handshakes(each)
            await asyncio.sleep(HANDSHAKE_S)
        for each in self.own_sockets:
            loop.remove_reader(each)
        await asyncio.sleep(0)  # connections that were accepted just now become transports of their server
        for each in self.own_sockets:
            for connection in accept_waiting(each):
                task: asyncio.Task[object] = loop.create_task(
                    loop.connect_accepted_socket(self._connection, connection)
                )
                self._accepting.add(task)
                task.add_done_callback(self._accepting.discard)
        for server in self._servers:
            server.close()
        self._servers.clear()
        self.own_sockets, self._passed = (), None

    def pause_accepting(self) -> None:
        """Let who connects wait in the queues of the sockets, until ``resume_accepting``."""
        loop = asyncio.get_running_loop()
        for each in self.sockets:
            loop.remove_reader(each)

    async def resume_accepting(self) -> None:
        """Accept connections again. A server of asyncio begins only once, so it gets the socket anew."""
        own = tuple(each.dup() for each in self.own_sockets)
        passed = None if self._passed is None else self._passed.dup()
        servers, self._servers = self._servers, []
        for server in servers:
            server.close()
        self.own_sockets, self._passed = own, passed
        for each in self.sockets:
            await self._accept_from(each)

    async def take(self, connection: socket.socket, first: bytes) -> None:
        """Serve a client that another program accepted; ``first`` is what it has read of a request."""
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.connect_accepted_socket(lambda: self._connection(first), connection)

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """The sockets that listen: ours, or the service manager's."""
        return self.own_sockets if self._passed is None else (*self.own_sockets, self._passed)

    @property
    def connections(self) -> list[ClientConnection]:
        """The clients that are connected."""
        return [each for each in self._http.connections if isinstance(each, ClientConnection)]

    @property
    def accepting(self) -> bool:
        """Whether a client that was accepted is not connected yet."""
        return bool(self._accepting)

    @property
    def connected(self) -> bool:
        """Whether a client is connected."""
        return bool(self._accepting or self._http.connections)

    def close_unused(self, used: Iterable[object]) -> None:
        """Close the connections that carry no request: their next request is for the next daemon."""
        busy = set(used)
        for connection in self._http.connections:
            if connection not in busy:
                connection.force_close()

    async def stop(self) -> None:
        """Close the sockets and the connections."""
        await self.stop_accepting(handed_over=False)
        self._http.pre_shutdown()
        await self._http.shutdown(SHUTDOWN_S)

    async def _accept_from(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        self._servers.append(await loop.create_server(self._connection, sock=listening, backlog=BACKLOG))

    def _connection(self, first: bytes = b"") -> ClientConnection:
        return ClientConnection(self._http, first, **self._connection_options)

    async def _handle(self, request: BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        if not isinstance(connection, ClientConnection):
            raise TypeError("a connection that this listener did not make")
        connection.serving = request
        try:
            return await self._judge(request)
        finally:
            connection.serving = None

    async def _judge(self, request: BaseRequest) -> web.StreamResponse:
        get = request.headers.get
        key = self.keys.check(get("Authorization"), get("X-Api-Key"))
        question = guard.GuardQuestion(
            method=request.method,
            target=request.raw_path,
            hosts=tuple(request.headers.getall("Host", ())),
            origin=get("Origin"),
            site=get("Sec-Fetch-Site"),
            mode=get("Sec-Fetch-Mode"),
            upgrade=get("Upgrade"),
            asked_method=get("Access-Control-Request-Method"),
            key=key,
        )
        match guard.judge(question, self.rules):
            case guard.Enter(path=path, origin=origin):
                return self._last(await self._serve(request, path, origin, not self.keys.required))
            case guard.Preflight(origin=origin):
                private = get("Access-Control-Request-Private-Network") == "true"
                asked = get("Access-Control-Request-Headers")
                pairs = list(guard.preflight(origin, asked, private=private))
                return self._last(_answer(request, 200, pairs, b"", "preflight"))
            case guard.Deny() as deny:
                return _denied(request, deny, question.origin)

    def _last(self, response: web.StreamResponse) -> web.StreamResponse:
        """Let the connection end with this answer, if it has had its last request."""
        if self.last_answers:
            response.force_close()
        return response


async def bind_beside(
    address: Address, listeners: Iterable[HttpListener], *, can_overlap: bool
) -> tuple[socket.socket, ...]:
    """Bind beside our sockets on the same port. Where the system can't, they close first.

    Then a client that connects between the two is refused. If the new address can't be had, the old ones
    are opened again.

    Raises:
        OSError: as ``bind``.
    """
    neighbours = [each for each in listeners if each.address.port == address.port and each.own_sockets]
    if can_overlap or not neighbours:
        return await bind(address, [sock for each in neighbours for sock in each.own_sockets])
    for each in neighbours:
        await each.stop_accepting(handed_over=False)
    try:
        return await bind(address)
    except OSError:
        for each in neighbours:
            await each.listen(await bind(each.address))
        raise


def _denied(request: BaseRequest, deny: guard.Deny, origin: str | None) -> web.Response:
    path = request.raw_path.partition("?")[0]
    body = error_body(format_of(path), deny.status, deny.code, deny.message, deny.hint)
    pairs = [("Content-Type", "application/json")]
    if deny.status == 401:
        pairs.append(("WWW-Authenticate", "Bearer"))
        pairs += guard.cors(origin) if origin else ()
    response = _answer(request, deny.status, pairs, body, f"denied_{deny.code}")
    response.force_close()  # whatever else this client meant to send is not read
    return response


def _answer(request: BaseRequest, status: int, pairs: Pairs, body: bytes, outcome: str) -> web.Response:
    """Answer without the child, and note it in the access log."""
    record = AccessRecord(
        request.remote or "local", request.method, request.raw_path, status, 0, 0, 0, len(body), 0, 0, outcome
    )
    access_log.info("%s", line(record))
    return web.Response(status=status, headers=CIMultiDict((*SERVER.items(), *pairs)), body=body)
