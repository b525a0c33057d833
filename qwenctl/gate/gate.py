"""Put the gate together: the public port, the guard, the waiting room, the way to the child."""

import asyncio
import contextlib
import logging
import socket
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web
from aiohttp.web_request import BaseRequest
from multidict import CIMultiDict

from qwenctl.gate import guard
from qwenctl.gate.access_log import AccessRecord, line
from qwenctl.gate.api_format import error_body, format_of
from qwenctl.gate.api_keys import KeyRing
from qwenctl.gate.headers import Pairs
from qwenctl.gate.idle_tasks import IdleTasks
from qwenctl.gate.limits import GateLimits
from qwenctl.gate.proxy import Proxy, access_log
from qwenctl.gate.upstream import UpstreamState
from qwenctl.gate.waiting_queue import WaitingQueue

log = logging.getLogger(__name__)

BACKLOG = 1024
"""Connections that may wait to be accepted, as in systemd/qwenctl.socket."""
PARTING_S = 0.25
"""How long those that connected before the gate left may take to say what they want."""


class Daemon(Protocol):
    """What the gate asks of the daemon. Both return at once; the answer comes through ``Gate.tell``."""

    def wake(self) -> None:
        """Start the child: a request came while it was idle. May be called often."""

    def unload(self) -> None:
        """Stop the child, phase idle: nobody has used it for ``idle_unload_s``."""


class SlotKeeper(Protocol):
    """What keeps prompts over a restart; None of the calls raises."""

    async def restore(self, standing: UpstreamState) -> None:
        """Bring saved slots into a fresh child."""

    async def save(self, standing: UpstreamState, *, stopping: bool) -> None:
        """Save what is worth it."""

    async def look(self, standing: UpstreamState) -> None:
        """See what the slots hold, after an answer."""

    async def close(self) -> None:
        """Close what talks to the child."""


@dataclass(frozen=True, slots=True)
class GateOptions:
    """How a gate behaves. ``host`` decides what the guard takes for its own name."""

    host: str
    rules: guard.Rules
    limits: GateLimits
    allow_open: bool = False
    idle_unload_s: float = 0.0
    warm_after_s: float = 5.0


@dataclass(frozen=True, slots=True)
class GateStats:
    """What the supervisor and the status want to know.

    ``bytes_through`` only grows. ``reader_blocked``: some client does not read, which is progress too.
    ``idle_since``: time of the loop's clock since which nothing has used the model; None while it is used.
    """

    held: int
    in_flight: int
    bytes_through: int
    reader_blocked: bool
    idle_since: float | None


class Gate:
    """The front door.

    Make it inside the running loop, ``start`` it, and ``tell`` it each time something changes. Before a
    wanted stop, ``await drain(timeout_s)``; the next child that is told ready ends the draining, or
    ``resume`` does if the stop is called off. ``stop`` closes it for good.
    """

    def __init__(
        self, options: GateOptions, keys: KeyRing, upstream: Daemon, warmth: SlotKeeper | None = None
    ) -> None:
        """Check who could come in.

        Raises:
            SettingsError: it would be open to the network without a key.
        """
        guard.check_exposure(options.host, has_keys=keys.asked, allow_open=options.allow_open)
        self._options, self._keys, self._upstream, self._warmth = options, keys, upstream, warmth
        self._room = WaitingQueue(UpstreamState("down"))
        self._ready = UpstreamState("down")  # as the last child was that got ready: where it listens
        self._chores = IdleTasks(options.idle_unload_s, options.warm_after_s, options.limits.stall_s)
        self._proxy = Proxy(self._room, options.limits, upstream.wake, self._chores.nudge, self._busy)
        self._runner: web.ServerRunner | None = None
        self._sock: socket.socket | None = None
        self._leaving = False
        self._opening: asyncio.Task[None] | None = None
        self._minding: asyncio.Task[None] | None = None
        self._saving: asyncio.Task[None] | None = None

    async def start(self, port: int, sock: socket.socket | None = None) -> None:
        """Listen on ``host:port``, or on a socket that is bound already.

        Raises:
            OSError: the address is taken, or not this machine's.
        """
        limits = self._options.limits
        server = web.Server(
            self._handle,
            handler_cancellation=True,  # a client that leaves ends its request at once
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=limits.keepalive_s,
            max_line_size=limits.head_bytes,
            max_field_size=limits.head_bytes,
            lingering_time=2.0,
        )
        self._runner = web.ServerRunner(server, shutdown_timeout=2.0)
        await self._runner.setup()
        site: web.BaseSite
        if sock is not None:
            site = web.SockSite(self._runner, sock, backlog=BACKLOG)
        else:
            host = self._options.host
            site = web.TCPSite(self._runner, host, port, reuse_address=True, backlog=BACKLOG)
        try:
            await site.start()
        except OSError:
            await self._runner.cleanup()
            self._runner = None
            raise
        self._sock = sock
        self._minding = asyncio.create_task(self._mind())

    def leave(self) -> None:
        """Accept no more from a socket that outlives us: who comes waits in its queue for the next gate.

        Those that came before are served until ``drain``, each connection once.
        """
        if self._sock is not None:
            self._leaving = True
            asyncio.get_running_loop().remove_reader(self._sock)

    async def stop(self) -> None:
        """Refuse what is held, end what is in flight, close the port."""
        self._room.closing = True
        self._room.update()
        for task in (self._minding, self._saving, self._opening):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        await self._proxy.close()
        if self._warmth is not None:
            await self._warmth.close()

    def tell(self, standing: UpstreamState) -> None:
        """Take the news. A child that is ready gets its slots back before anything flows."""
        room, before = self._room, self._room.standing
        if self._leaving and not room.draining and standing.phase == "draining":
            return  # those that came before we left still reach the child, until ``drain`` says otherwise
        if standing.phase == "ready":
            self._ready = standing
        fresh = standing.phase == "ready" and standing.child != room.opened
        if fresh and (before.phase != "ready" or before.child != standing.child or self._opening is None):
            room.draining = False
            if self._opening is not None:
                self._opening.cancel()
            if self._warmth is None:
                self._open(standing.child)
            else:
                self._opening = asyncio.create_task(self._restore(standing, self._warmth))
        room.update(standing)
        self._chores.nudge()

    async def drain(self, timeout_s: float) -> bool:
        """Hold what comes, let what is in flight finish, save the slots. Return whether all finished.

        What has not finished by then is broken off, so that the child can stop at once.
        """
        if self._leaving:
            await asyncio.sleep(PARTING_S)
        self._room.draining = True
        if self._leaving:
            self._close_unused()
        done = await self._proxy.empty(timeout_s)
        if not done:
            await self._proxy.let_go()
        if self._saving is not None:
            await asyncio.wait({self._saving})  # a server that is told to stop in the middle of it hangs
        standing = self._room.standing
        alive = standing.phase in ("ready", "draining") and standing.child == self._ready.child
        if self._warmth is not None and alive:
            await self._warmth.save(self._ready, stopping=True)
        return done

    def resume(self) -> None:
        """Let requests flow again: the stop was called off."""
        self._room.draining = False
        self._room.update()

    def stats(self) -> GateStats:
        """Return how much goes through."""
        proxy = self._proxy
        busy = proxy.in_flight or self._room.held
        return GateStats(
            held=self._room.held,
            in_flight=proxy.in_flight,
            bytes_through=proxy.bytes_through + sum(each.answer.bytes_out for each in proxy.exchanges),
            reader_blocked=any(each.answer.writing for each in proxy.exchanges),
            idle_since=None if busy else proxy.used_at,
        )

    async def owner(self, request: BaseRequest) -> web.StreamResponse:
        """Answer a request of the control socket: everything is open to the owner, slots included."""
        return await self._proxy.serve(request, request.path, None, keep_keys=True)

    async def _handle(self, request: BaseRequest) -> web.StreamResponse:
        get = request.headers.get
        key = self._keys.check(get("Authorization"), get("X-Api-Key"))
        ask = guard.GuardQuestion(
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
        match guard.judge(ask, self._options.rules):
            case guard.Enter(path=path, origin=origin):
                response = await self._proxy.serve(request, path, origin, keep_keys=not self._keys.asked)
                if self._leaving:
                    response.force_close()  # its next request is for the next gate
                return response
            case guard.Preflight(origin=origin):
                private = get("Access-Control-Request-Private-Network") == "true"
                asked = get("Access-Control-Request-Headers")
                pairs = list(guard.preflight(origin, asked, private=private))
                return _plain(request, 204, pairs, b"", "preflight")
            case guard.Deny() as deny:
                path = request.raw_path.partition("?")[0]
                body = error_body(format_of(path), deny.status, deny.code, deny.message, deny.hint)
                pairs = [("Content-Type", "application/json")]
                if deny.status == 401:
                    pairs.append(("WWW-Authenticate", "Bearer"))
                    pairs += guard.cors(ask.origin) if ask.origin else ()
                response = _plain(request, deny.status, pairs, body, f"denied_{deny.code}")
                response.force_close()  # whatever else it meant to send
                return response

    def _close_unused(self) -> None:
        """Close the connections that ask for nothing: what they ask next is for the next gate."""
        used = {exchange.request.protocol for exchange in self._proxy.exchanges}
        server = self._runner.server if self._runner is not None else None
        for connection in server.connections if server is not None else ():
            if connection not in used:
                connection.force_close()

    def _busy(self) -> None:
        """A request is about to be sent: it goes before a save."""
        if self._saving is not None and not self._saving.done():
            self._saving.cancel()

    def _open(self, child: int) -> None:
        """Let requests flow to this child; its idleness begins now, whatever woke it."""
        self._room.opened = child
        self._proxy.used_at = asyncio.get_running_loop().time()

    async def _restore(self, standing: UpstreamState, warmth: SlotKeeper) -> None:
        await warmth.restore(standing)
        self._open(standing.child)
        self._room.update()

    async def _mind(self) -> None:
        """Do what is due while nobody asks: look, save, unload, cut off clients that don't read."""
        loop = asyncio.get_running_loop()
        while True:
            standing, stats = self._room.standing, self.stats()
            free = (
                standing.phase == "ready" and self._room.opened == standing.child and not self._room.draining
            )
            due = self._chores.due(loop.time(), stats.idle_since if free else None, busy=stats.in_flight > 0)
            if due.stall_before is not None:
                for exchange in self._proxy.exchanges:
                    exchange.answer.abort_if_stalled(due.stall_before)
            if due.look and self._warmth is not None:
                await self._warmth.look(standing)
            if due.save and self._warmth is not None:
                self._saving = asyncio.create_task(self._warmth.save(standing, stopping=False))
                await asyncio.wait({self._saving})
            if due.unload:
                self._upstream.unload()
            await self._chores.wait(due.again_at)


def _plain(request: BaseRequest, status: int, pairs: Pairs, body: bytes, outcome: str) -> web.Response:
    """Answer without the child, and say so in the access log."""
    visit = AccessRecord(
        request.remote or "local", request.method, request.raw_path, status, 0, 0, 0, len(body), 0, outcome
    )
    access_log.info("%s", line(visit))
    return web.Response(status=status, headers=CIMultiDict(pairs), body=body)
