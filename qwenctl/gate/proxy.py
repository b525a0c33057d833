"""Bring one request to an answer: hold it, send it, send it again when its child is lost."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp
from aiohttp import web
from aiohttp.web_request import BaseRequest

from qwenctl.engine.address import Address
from qwenctl.engine.api import base_url, session
from qwenctl.gate import forward, headers, unavailable
from qwenctl.gate.access_log import AccessRecord, line
from qwenctl.gate.api_format import format_of, wants_stream
from qwenctl.gate.guard import Deny, cors
from qwenctl.gate.limits import GateLimits
from qwenctl.gate.replay import AfterLoss, Loss, after_loss, retry_after_s
from qwenctl.gate.request_body import BodyBudget, read_body
from qwenctl.gate.response import WRITE_ERRORS, ResponseWriter
from qwenctl.gate.upstream import OBSERVING, Admission, UpstreamState, is_use
from qwenctl.gate.waiting_queue import WaitingQueue

access_log = logging.getLogger("qwenctl.gate.access_log")


@dataclass(slots=True)
class ChildLoad:
    """Requests aboard one child; ``broken``: how many there were when it went down."""

    aboard: int = 0
    broken: int | None = None


class Exchange:
    """One request and what became of it so far."""

    def __init__(self, request: BaseRequest, path: str, answer: ResponseWriter, now: float) -> None:
        self.request, self.path, self.answer, self.arrived = request, path, answer, now
        self.use = is_use(request.method, path)
        self.body = bytearray()
        self.budgeted = 0
        self.deadline: float | None = None  # set when it first has to wait for a child
        self.held_s = 0.0
        self.sent = 0
        self.letter: forward.UpstreamRequest | None = None
        self.crashes_alone = 0
        self.tries_on_child = 0
        self.outcome = "gone"  # until something better is known: its client left


class Proxy:
    """All requests under way.

    ``wake`` is called when one comes while the child is idle, ``busy`` before one is sent that uses the
    model, ``turned`` when the first one is sent and when the last one is answered.
    """

    def __init__(
        self,
        room: WaitingQueue,
        limits: GateLimits,
        wake: Callable[[], None],
        turned: Callable[[], None],
        busy: Callable[[], None],
    ) -> None:
        self.exchanges: set[Exchange] = set()
        self.bytes_through = 0
        self.in_flight = 0
        self.used_at = asyncio.get_running_loop().time()
        self._room, self._limits, self._wake, self._turned, self._busy = room, limits, wake, turned, busy
        self._budget = BodyBudget(limits.max_held_bytes)
        self._flights: dict[int, ChildLoad] = {}
        self._empty = asyncio.Event()
        self._empty.set()
        self._clients: dict[Address, aiohttp.ClientSession] = {}

    async def serve(
        self, request: BaseRequest, path: str, origin: str | None, *, keep_keys: bool
    ) -> web.StreamResponse:
        """Answer a request that may come in."""
        loop = asyncio.get_running_loop()
        answer = ResponseWriter(request, format_of(path), list(cors(origin)) if origin else [])
        exchange = Exchange(request, path, answer, loop.time())
        self.exchanges.add(exchange)
        try:
            return await self._run(exchange, keep_keys=keep_keys)
        except WRITE_ERRORS:
            return answer.cut()  # the client has gone
        finally:
            answer.stop_waiting()
            self.exchanges.discard(exchange)
            if exchange.use:
                self.used_at = loop.time()
            self._log(exchange, loop.time())
            self.bytes_through += answer.bytes_out
            self._budget.give(exchange.budgeted)

    async def empty(self, timeout_s: float) -> bool:
        """Wait until nothing is in flight; return whether it came to that."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._empty.wait()
        return self.in_flight == 0

    async def let_go(self) -> None:
        """Break off what is in flight: a child that is told to stop would finish it first, however long.

        What has begun ends with its error event; the rest goes to the next child.
        """
        for exchange in self.exchanges:
            if exchange.letter is not None:
                exchange.letter.break_off()
        await asyncio.sleep(0)  # let their readers hear of it before the session forgets them
        await self.close()  # ends those that still connect or wait for a head
        await self.empty(self._limits.moved_on_s)

    async def close(self) -> None:
        """Close what talks to the child."""
        clients = tuple(self._clients.values())
        self._clients.clear()
        for client in clients:
            await client.close()

    async def _run(self, exchange: Exchange, *, keep_keys: bool) -> web.StreamResponse:
        request, answer, limits = exchange.request, exchange.answer, self._limits
        if self._room.place() is not Admission.GO and exchange.path in OBSERVING:
            return await self._observe(exchange)
        if self._room.place() is Admission.HOLD and self._room.held >= limits.max_held:
            return await self._refuse_held(exchange)
        body = await read_body(request, limits, self._budget)
        if isinstance(body, Deny):
            exchange.outcome = body.code
            after = [("Retry-After", "5")] if body.status == 503 else []
            too_much = await answer.fail(body.status, body.code, body.message, body.hint, after)
            too_much.force_close()  # the rest of the body is not wanted
            return too_much
        exchange.body, exchange.budgeted = body, len(body)
        answer.promise(limits.sign_after_s, limits.sign_every_s, lambda: wants_stream(bytes(exchange.body)))
        pairs = headers.to_child(request.headers.items(), keep_keys=keep_keys)
        sent = exchange.letter = forward.UpstreamRequest(request.method, request.raw_path, pairs, body)
        while True:
            if (refused := await self._enter(exchange)) is not None:
                return refused
            standing = self._room.standing
            done = await self._send(exchange, sent, standing)
            if isinstance(done, web.StreamResponse):
                exchange.outcome = "complete"
                return done
            if (ended := await self._after_loss(exchange, standing.child, done)) is not None:
                return ended

    async def _enter(self, exchange: Exchange) -> web.StreamResponse | None:
        """Wait for a child; return an answer if there is none to be had."""
        room, limits = self._room, self._limits
        loop = asyncio.get_running_loop()
        now = room.place()
        if now is Admission.HOLD or (now is Admission.GO and room.held):
            if exchange.sent == 0 and room.held >= limits.max_held:
                return await self._refuse_held(exchange)
            if room.standing.phase == "idle":
                self._wake()
            since = loop.time()
            exchange.deadline = exchange.deadline or since + limits.hold_timeout_s
            try:
                now = await room.enter(exchange.deadline)
            except TimeoutError:
                return await self._unavailable(exchange, "held_too_long")
            finally:
                exchange.held_s += loop.time() - since
        return None if now is Admission.GO else await self._unavailable(exchange, "refused")

    async def _send(
        self, exchange: Exchange, sent: forward.UpstreamRequest, standing: UpstreamState
    ) -> web.StreamResponse | forward.ChildLost:
        flight = self._flights.setdefault(standing.child, ChildLoad())
        flight.aboard += 1
        if exchange.use:
            self._busy()
        self.in_flight += 1
        if self.in_flight == 1:
            self._empty.clear()
            self._turned()
        exchange.sent += 1
        try:
            client, base = self._session(standing)
            done = await forward.forward(client, base, sent, exchange.answer, self._limits.answer_bytes)
            if isinstance(done, forward.ChildLost) and flight.broken is None:
                flight.broken = flight.aboard
            return done
        finally:
            self.in_flight -= 1
            flight.aboard -= 1
            if not flight.aboard and standing.child != self._room.standing.child:
                self._flights.pop(standing.child, None)
            if exchange.use:
                self.used_at = asyncio.get_running_loop().time()
            if not self.in_flight:
                self._empty.set()
                self._turned()

    async def _after_loss(
        self, exchange: Exchange, child: int, lost: forward.ChildLost
    ) -> web.StreamResponse | None:
        """Return the answer of a request that can't be sent again; None if it can."""
        answer, loop, flight = (
            exchange.answer,
            asyncio.get_running_loop(),
            self._flights.get(child, ChildLoad()),
        )
        if lost is forward.ChildLost.WAITING:
            if await self._room.moved_on(child, self._limits.moved_on_s):
                exchange.tries_on_child = 0
                exchange.crashes_alone += flight.broken == 1 and self._room.crashed(child)
                exchange.deadline = exchange.deadline or loop.time() + self._limits.hold_timeout_s
            else:
                flight.broken = None
                exchange.tries_on_child += 1
        deadline = exchange.deadline or loop.time() + 1.0
        begun = lost is forward.ChildLost.CUT
        match after_loss(Loss(begun, exchange.crashes_alone, exchange.tries_on_child, loop.time(), deadline)):
            case AfterLoss.REPLAY:
                return None
            case AfterLoss.GIVE_UP_LATE:
                return await self._unavailable(exchange, "held_too_long")
            case AfterLoss.GIVE_UP_POISON:
                exchange.outcome = "poison"
                said = "cannot answer: the model server crashed twice under this request alone"
                return await answer.fail(500, "crashed", said, "it is not sent again")
            case AfterLoss.GIVE_UP_BROKEN:
                exchange.outcome = "broken"
                return await answer.fail(
                    502, "broken", "cannot answer: the model server closes the connection"
                )
            case AfterLoss.GIVE_UP_CUT:
                exchange.outcome = "cut"
                if answer.response is not None and answer.response.content_type == "text/event-stream":
                    return await answer.fail(
                        500, "server_restarted", "the model server went away in the middle of this answer"
                    )
                return answer.cut()

    async def _observe(self, exchange: Exchange) -> web.StreamResponse:
        """Answer for the child while it is away."""
        standing, answer = self._room.standing, exchange.answer
        exchange.outcome = "by_gate"
        head = [("Content-Type", "application/json")]
        if exchange.path.endswith("models"):
            return await answer.whole(200, None, head, unavailable.models(standing))
        if exchange.path.endswith("health"):
            status, body = unavailable.health(standing)
            return await answer.whole(status, None, head, body)
        return await self._unavailable(exchange, "by_gate")

    async def _refuse_held(self, exchange: Exchange) -> web.StreamResponse:
        return await self._unavailable(exchange, "full", "too many requests wait already")

    async def _unavailable(
        self, exchange: Exchange, outcome: str, hint: str | None = None
    ) -> web.StreamResponse:
        standing = self._room.standing
        exchange.outcome = outcome
        after = [("Retry-After", str(retry_after_s(standing.phase)))]
        code = "failed" if standing.phase == "failed" else "unavailable"
        return await exchange.answer.fail(
            503, code, unavailable.sentence(standing), hint or standing.hint, after
        )

    def _session(self, standing: UpstreamState) -> tuple[aiohttp.ClientSession, str]:
        """Return the session for this child's address and the start of its URLs."""
        address = standing.address
        if address is None:
            raise RuntimeError("a request was sent to a child without an address")
        if address not in self._clients:
            self._clients[address] = session(address)
        return self._clients[address], base_url(address)

    def _log(self, exchange: Exchange, now: float) -> None:
        if not access_log.isEnabledFor(logging.INFO):
            return
        request, answer = exchange.request, exchange.answer
        access_log.info(
            "%s",
            line(
                AccessRecord(
                    client=request.remote or "local",
                    method=request.method,
                    target=request.raw_path,
                    status=answer.status,
                    took_s=now - exchange.arrived,
                    held_s=exchange.held_s,
                    bytes_in=exchange.budgeted,
                    bytes_out=answer.bytes_out,
                    replays=max(exchange.sent - 1, 0),
                    outcome=exchange.outcome,
                )
            ),
        )
