"""Bring the gate to rest, so that its sockets and its clients can be passed on to another program.

Nothing is refused and no answer is cut. Who connects waits in the queue of the listening socket, and what a
client sends next waits in its connection. Answers under way go on to their end.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterable

from qwenctl.gate.idle_loop import IdleLoop
from qwenctl.gate.listener import HttpListener
from qwenctl.gate.passed_connection import PassedAddress, PassedConnection, PassedStream
from qwenctl.gate.proxy import Proxy
from qwenctl.gate.slots.save_control import SaveControl
from qwenctl.gate.waiting_queue import WaitingQueue


class Quiescence:
    """The rest of one gate. ``begin`` it, wait while it is ``busy``, then pass the gate on, or ``end`` it."""

    def __init__(
        self,
        listeners: Callable[[], Iterable[HttpListener]],
        queue: WaitingQueue,
        proxy: Proxy,
        slots: SaveControl,
        idle_loop: IdleLoop,
    ) -> None:
        """``listeners`` returns those that accept connections, and those whose last clients still run."""
        self._listeners, self._queue, self._proxy = listeners, queue, proxy
        self._slots, self._idle_loop = slots, idle_loop
        self._begun = False

    async def begin(self) -> None:
        """Accept nothing more, read no further request, save and unload nothing; until ``end``."""
        self._begun = True
        await self._idle_loop.stop()
        self._slots.give_way()
        for listener in self._listeners():
            listener.pause_accepting()
        await asyncio.sleep(0)  # connections that were accepted just now become transports
        self._hold()

    async def finish(self) -> None:
        """Wait for what is said to the child about its slots."""
        await self._slots.finish()

    def busy(self) -> int:
        """Return how many requests are under way, and hold every connection that carries none."""
        self._hold()
        connections = [each for listener in self._listeners() for each in listener.connections]
        open_now = [each for each in connections if each.connected and not each.closing]
        accepting = sum(listener.accepting for listener in self._listeners())
        carried = sum(not each.at_rest for each in open_now) + accepting
        return max(carried, self._queue.held, self._proxy.in_flight.count, len(self._proxy.exchanges))

    async def end(self) -> None:
        """Go on as before."""
        self._begun = False
        for listener in self._listeners():
            for each in listener.connections:
                each.release()
            if not listener.last_answers:
                await listener.resume_accepting()
        self._idle_loop.start()

    def passed(self) -> tuple[PassedAddress, ...]:
        """Return what is passed on. Clients of an address that was left are not: their time has come."""
        return tuple(
            PassedAddress(
                listener.address,
                tuple(each.fileno() for each in listener.own_sockets),
                tuple(
                    PassedConnection(each.descriptor, (each.boundary.rest or b"").hex())
                    for each in listener.connections
                    if each.connected and not each.closing
                ),
            )
            for listener in self._listeners()
            if not listener.last_answers
        )

    @property
    def streams(self) -> tuple[PassedStream, ...]:
        """The finished answers that are kept for their conversations."""
        return self._proxy.kept.finished()

    @property
    def continued(self) -> int:
        """How many answers a later child went on with."""
        return self._proxy.continued

    def resume(self, streams: Iterable[PassedStream], continued: int) -> None:
        """Keep the finished answers of another program's gate, and go on with its count."""
        self._proxy.kept.resume(streams)
        self._proxy.continued += continued

    async def take_over(self, passed: PassedAddress) -> int:
        """Serve the clients of another program's gate at an address that is open. Return how many."""
        taken = 0
        for listener in self._listeners():
            if listener.address != passed.address or listener.last_answers:
                continue
            for each in passed.connections:
                with contextlib.suppress(OSError):  # it has gone
                    connection = socket.socket(fileno=each.descriptor)
                    connection.set_inheritable(False)
                    await listener.take(connection, bytes.fromhex(each.first))
                    taken += 1
        return taken

    def _hold(self) -> None:
        """Read no further request, if the rest has begun."""
        if not self._begun:
            return
        for listener in self._listeners():
            for each in listener.connections:
                each.hold()
