"""What becomes of a request whose child was lost, or could not compute: it is sent again, or answered."""

import asyncio

from aiohttp import web

from qwenctl.gate import gate_answers
from qwenctl.gate.continuation.finish import can_finish
from qwenctl.gate.exchange import Exchange
from qwenctl.gate.fault_watch import FaultWatch
from qwenctl.gate.in_flight import ChildLoad
from qwenctl.gate.options import GateLimits
from qwenctl.gate.replay import Loss, after_loss, is_repeatable
from qwenctl.gate.upstream_request import ChildLost, FaultAnswer
from qwenctl.gate.waiting_queue import WaitingQueue


class Losses:
    """Waits for the news of a child's end, and decides by ``replay`` what follows for one request."""

    def __init__(self, queue: WaitingQueue, faults: FaultWatch) -> None:
        self._queue, self._faults = queue, faults

    async def after_failure(
        self,
        exchange: Exchange,
        child: int,
        load: ChildLoad,
        fault: FaultAnswer | ChildLost,
        limits: GateLimits,
    ) -> web.StreamResponse | None:
        """Return the answer of a request whose child was lost, or could not compute; None to send it again.

        What a child could not compute is sent again to the next one if this one is ended, and once more to
        this one: it may have been a moment's fault. Otherwise the client gets the child's own answer.
        """
        if isinstance(fault, ChildLost):
            return await self._after_loss(exchange, child, load, fault, limits)
        exchange.fault = fault
        if await self._faults.is_ended(child):
            return await self._after_loss(exchange, child, load, ChildLost.WAITING, limits, ended=True)
        load.at_loss = None
        if exchange.faulty_child != child:  # only what computes is judged, and that may be repeated
            exchange.faulty_child = child
            return None
        exchange.outcome = "complete"
        return await fault.pass_on(exchange.answer)

    async def _after_loss(
        self,
        exchange: Exchange,
        child: int,
        load: ChildLoad,
        lost: ChildLost,
        limits: GateLimits,
        *,
        ended: bool = False,
    ) -> web.StreamResponse | None:
        """Return the answer of a request that can't be sent again; None if it can.

        ``ended``: the child is ended because it cannot compute, which counts as a crash of its own.
        """
        queue, loop = self._queue, asyncio.get_running_loop()
        cut = exchange.answer.begun
        if cut and limits.continue_streams and exchange.upstream_request is not None:
            cut = not can_finish(exchange.form, exchange.upstream_request, exchange.answer)
        if exchange.answer.begun and not cut:
            exchange.answer.pause(limits.comment_every_s, limits.comment_every_s)
        if lost is ChildLost.UNREACHED:
            since = loop.time()
            if await queue.child_gone(child, limits.child_gone_s):
                exchange.tries_on_child = 0
            exchange.held_s += loop.time() - since
        elif not cut:
            gone = await queue.child_gone(child, limits.child_gone_s)
            if not gone and await self._faults.is_ended(child):
                gone = ended = await queue.child_gone(child, limits.child_gone_s)
            if gone:
                exchange.tries_on_child = 0
                exchange.crashes_alone += load.at_loss == 1 and (ended or queue.crashed(child))
            else:
                load.at_loss = None
                exchange.tries_on_child += 1
        crashes, tries = exchange.crashes_alone, exchange.tries_on_child
        reached = lost is not ChildLost.UNREACHED
        acted = reached and not is_repeatable(exchange.request.method, exchange.path)
        loss = Loss(cut, crashes, tries, exchange.held_s, limits.hold_timeout_s, acted)
        return await gate_answers.give_up(exchange, queue.state, after_loss(loss))
