"""Bring one request to an answer: hold it, send it, send it again when its child is lost."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from aiohttp import web
from aiohttp.web_request import BaseRequest

from qwenctl.gate import forward, gate_answers, headers
from qwenctl.gate.access_log import line
from qwenctl.gate.api_format import format_of, wants_stream
from qwenctl.gate.continuation.chat_stream import ask_for_counts
from qwenctl.gate.continuation.finish import finish
from qwenctl.gate.continuation.sent_answer import SentAnswer
from qwenctl.gate.continuation.splice import CHAT
from qwenctl.gate.exchange import Exchange
from qwenctl.gate.fault_watch import Examine, FaultWatch
from qwenctl.gate.guard import Deny, cors
from qwenctl.gate.in_flight import ChildLoad, InFlight
from qwenctl.gate.kept_streams import LOOKUP_PATH, STREAM_PATH, KeptStream, KeptStreams, KeptWriter, follow
from qwenctl.gate.losses import Losses
from qwenctl.gate.options import GateLimits
from qwenctl.gate.request_body import BodyBudget, read_body
from qwenctl.gate.response import WRITE_ERRORS, ResponseWriter
from qwenctl.gate.server_faults import GOOD
from qwenctl.gate.slots.save_control import SaveControl
from qwenctl.gate.upstream import OBSERVING_PATHS, Admission, UpstreamState
from qwenctl.gate.upstream_request import ChildLost, FaultAnswer, UpstreamRequest
from qwenctl.gate.waiting_queue import WaitingQueue

access_log = logging.getLogger("qwenctl.gate.access_log")


class Proxy:
    """All requests under way. ``slots`` gives each that uses the model its turn.

    ``examine`` asks a child for a token whose answers say that it cannot compute.
    """

    def __init__(
        self,
        queue: WaitingQueue,
        in_flight: InFlight,
        limits: GateLimits,
        slots: SaveControl,
        examine: Examine,
    ) -> None:
        self.exchanges: set[Exchange] = set()
        self.in_flight = in_flight
        self._queue, self._limits, self._slots = queue, limits, slots
        self._budget = BodyBudget(limits.max_held_bytes)
        self.kept = KeptStreams(self._budget.take, self._budget.give)
        self.continued = 0  # answers that a later child went on with
        self._faults = FaultWatch(examine, lambda child: queue.child_gone(child, self._limits.child_gone_s))
        self._losses = Losses(queue, self._faults)
        self.answered = self.left = 0  # computed answers that were whole, and clients that waited for none
        self._bytes_done = 0  # of answers that are finished

    def configure(self, limits: GateLimits) -> None:
        """Use other limits from now on. A request that is held already keeps the time it may wait."""
        self._limits = limits
        self._budget.max_bytes = limits.max_held_bytes

    @property
    def bytes_through(self) -> int:
        """The bytes of all computed answers so far. Nothing else shows that the server works."""
        return self._bytes_done + sum(each.bytes_computed for each in self.exchanges)

    @property
    def idle_since(self) -> float | None:
        """The time since which nothing uses the model; None while something uses it or waits for it."""
        used = self.in_flight.count or self._queue.held
        return None if used else self.in_flight.last_use

    async def serve(
        self, request: BaseRequest, path: str, origin: str | None, *, keep_keys: bool
    ) -> web.StreamResponse:
        """Answer a request that the guard has let in."""
        answer = ResponseWriter(request, format_of(path), list(cors(origin)) if origin else [])
        exchange = Exchange(request, path, answer, asyncio.get_running_loop().time())
        return await self._answered(exchange, self._run(exchange, keep_keys=keep_keys))

    async def _answered(
        self, exchange: Exchange, answering: Coroutine[Any, Any, web.StreamResponse]
    ) -> web.StreamResponse:
        """Answer a request, and count it."""
        loop, answer = asyncio.get_running_loop(), exchange.answer
        self.exchanges.add(exchange)
        try:
            return await answering
        except WRITE_ERRORS:
            return answer.cut()  # the client has gone
        finally:
            answer.stop_waiting()
            self.exchanges.discard(exchange)
            if exchange.use:
                self.in_flight.used()
            if access_log.isEnabledFor(logging.INFO):
                access_log.info("%s", line(exchange.record(loop.time())))
            self._bytes_done += exchange.bytes_computed
            self._budget.give(exchange.memory_bytes)

    async def break_off(self) -> None:
        """Break off what is in flight. A child that is told to stop would finish it first, however long.

        A stream that has begun ends with its error event. Other requests wait for the next child.
        """
        for exchange in self.exchanges:
            if exchange.upstream_request is not None:
                exchange.upstream_request.break_off()
        await asyncio.sleep(0)  # the readers notice it before the sessions are closed
        await self.in_flight.close_sessions()
        await self.in_flight.wait_empty(self._limits.child_gone_s)

    async def close(self) -> None:
        """Ask no child for a token any more, and end the answers that nobody reads."""
        await self.kept.close()
        await self._faults.close()

    def disconnect_stalled(self, before: float) -> None:
        """Disconnect the clients that have taken nothing since ``before``."""
        for exchange in self.exchanges:
            exchange.answer.abort_if_stalled(before)

    async def _run(self, exchange: Exchange, *, keep_keys: bool) -> web.StreamResponse:
        request, answer, queue = exchange.request, exchange.answer, self._queue
        if queue.admission() is not Admission.GO and exchange.path in OBSERVING_PATHS:
            return await gate_answers.observe(exchange, queue.state)
        if queue.admission() is Admission.HOLD and queue.held >= self._limits.max_held:
            return await gate_answers.refuse_full(exchange, queue.state)
        body = await read_body(request, self._limits, self._budget)
        if isinstance(body, Deny):
            exchange.outcome = body.code
            head = [("Retry-After", "5")] if body.status == 503 else []
            denied = await answer.fail(body.status, body.code, body.message, body.hint, head)
            denied.force_close()  # the rest of the body is not read
            return denied
        exchange.body, exchange.budget_bytes = body, len(body)
        if exchange.path in (STREAM_PATH, LOOKUP_PATH):
            kept = await self.kept.answer(request, exchange.path, bytes(body), answer)
            if kept is not None:
                exchange.outcome, exchange.use = "by_gate", False
                return kept
        if exchange.conversation and wants_stream(bytes(body)):
            stream = self.kept.begin(
                exchange.conversation, lambda stream: self._produce(exchange, stream, keep_keys=keep_keys)
            )
            exchange.outcome = "kept"
            return await follow(stream, 0, answer)
        return await self._to_child(exchange, keep_keys=keep_keys)

    async def _produce(self, asked: Exchange, stream: KeptStream, *, keep_keys: bool) -> None:
        """Bring a request to its answer, whether or not its client stays."""
        answer = KeptWriter(asked.request, asked.answer.api_format, stream, self.kept.keep)
        exchange = Exchange(asked.request, asked.path, answer, asked.arrived)
        exchange.body, exchange.budget_bytes = asked.body, asked.budget_bytes
        asked.owns_body = False
        await self._answered(exchange, self._to_child(exchange, keep_keys=keep_keys))

    async def _to_child(self, exchange: Exchange, *, keep_keys: bool) -> web.StreamResponse:
        """Send a request to one child after the other until it is answered."""
        request, answer, queue = exchange.request, exchange.answer, self._queue
        answer.comment_while_waiting(
            self._limits.comment_after_s,
            self._limits.comment_every_s,
            lambda: wants_stream(bytes(exchange.body)),
        )
        form = exchange.form if self._limits.continue_streams else None
        counted = form is CHAT and ask_for_counts(exchange.body)
        exchange.upstream_request = UpstreamRequest(
            request.method,
            request.raw_path,
            headers.to_child(request.headers.items(), keep_keys=keep_keys),
            exchange.body,
            judged=exchange.computes,
            counted=counted,
            record=SentAnswer(form.note, self._budget.take, form.piece) if form is not None else None,
        )
        while True:
            if queue.admission() is not Admission.GO and exchange.path in OBSERVING_PATHS:
                return await gate_answers.observe(exchange, queue.state)  # it met the end of a child
            if (refused := await self._wait_for_child(exchange)) is not None:
                return refused
            state = queue.state
            done, load = await self._send(exchange, exchange.upstream_request, state)
            if isinstance(done, web.StreamResponse):
                exchange.outcome = "complete"
                return done
            ended = await self._losses.after_failure(exchange, state.child, load, done, self._limits)
            if ended is not None:
                return ended

    async def _wait_for_child(self, exchange: Exchange) -> web.StreamResponse | None:
        """Wait for a child that takes the request; return an answer if there will be none."""
        queue, loop = self._queue, asyncio.get_running_loop()
        now = queue.admission()
        if now is Admission.HOLD or (now is Admission.GO and queue.held):
            if exchange.sent == 0 and queue.held >= self._limits.max_held:
                return await gate_answers.refuse_full(exchange, queue.state)
            since = loop.time()
            try:
                now = await queue.enter(since + self._limits.hold_timeout_s - exchange.held_s)
            except TimeoutError:
                return await gate_answers.refuse(exchange, queue.state, "held_too_long")
            finally:
                exchange.held_s += loop.time() - since
        return None if now is Admission.GO else await gate_answers.refuse(exchange, queue.state, "refused")

    async def _send(
        self, exchange: Exchange, upstream_request: UpstreamRequest, state: UpstreamState
    ) -> tuple[web.StreamResponse | FaultAnswer | ChildLost, ChildLoad]:
        if exchange.use:
            self._slots.give_way()
        exchange.sent += 1
        done: web.StreamResponse | FaultAnswer | ChildLost | None = None
        try:
            with self.in_flight.at(state.child) as load:
                async with self._slots.turn(exchange.path, upstream_request, state) as may_flow:
                    if not may_flow:
                        done = ChildLost.UNREACHED
                        return done, load
                    client, base = self.in_flight.session(state)
                    if exchange.form is not None and exchange.answer.begun:
                        exchange.continued += 1
                        done = await finish(client, base, exchange.form, upstream_request, exchange.answer)
                        self.continued += isinstance(done, web.StreamResponse)
                    else:
                        done = await forward.forward(
                            client, base, upstream_request, exchange.answer, self._limits.answer_bytes
                        )
                reached = not isinstance(done, web.StreamResponse) and done != ChildLost.UNREACHED
                if reached and load.at_loss is None:
                    load.at_loss = load.requests
                return done, load
        finally:
            if exchange.use:
                self.in_flight.used()
            self.answered += exchange.computes and upstream_request.heard == GOOD
            self.left += exchange.computes and done is None and not exchange.answer.begun
            if exchange.computes and not self._queue.draining:
                self._faults.note(state.child, upstream_request.heard)
