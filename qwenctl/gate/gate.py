"""Put the gate together: its addresses, the guard, the queue of held requests, the way to the child.

The gate lives as long as the daemon. It is told states, not changes, and its options are values that are
replaced while it runs.
"""

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from aiohttp import web
from aiohttp.web_request import BaseRequest

from qwenctl.engine.address import Address
from qwenctl.gate import guard
from qwenctl.gate.api_keys import KeyRing, key_path
from qwenctl.gate.idle_loop import IdleLoop
from qwenctl.gate.in_flight import InFlight
from qwenctl.gate.listener import HttpListener, bind_beside
from qwenctl.gate.listening_sockets import CAN_OVERLAP
from qwenctl.gate.options import GateOptions
from qwenctl.gate.proxy import Proxy
from qwenctl.gate.quiesce import Quiescence
from qwenctl.gate.slots.preparer import NOTHING_RESTORED, WarmCounts
from qwenctl.gate.slots.save_control import MakeKeeper, SaveControl
from qwenctl.gate.slots.saver import SlotSaver
from qwenctl.gate.upstream import UpstreamState
from qwenctl.gate.waiting_queue import WaitingQueue

LAST_REQUEST_S = 0.25
"""A client that connected before the gate left its socket has so long to send its request."""


class ChildDemand(Protocol):
    """What the gate asks of the daemon. The first two return at once; their answer comes through ``tell``."""

    def demand(self, held: bool) -> None:  # noqa: FBT001 - a level has one argument: itself
        """Say whether requests are held (True), so that an idle child must start, or none (False).

        It is called when that changes, and with each ``Gate.tell`` while requests are held.
        """

    def unload(self) -> None:
        """Stop the child, phase idle: nobody has used it for ``idle_unload_s``."""

    async def examine(self, child: int, fault: str) -> bool:
        """Ask a child whose answers say ``fault`` for a token; return whether it is ended as it gave none."""


@dataclass(frozen=True, slots=True)
class GateStats:
    """What the supervisor and the status want to know.

    ``bytes_through`` (of answers that were computed), ``answered`` (such answers that were whole) and
    ``left`` (requests whose client left before any of the answer came) only grow, as does ``continued``
    (streams that had begun and that a later child finished). ``blocked``: answers whose client does not read.
    ``idle_since``: the loop's time since which nothing uses the model; None while it is used.
    """

    held: int
    in_flight: int
    bytes_through: int
    blocked: int
    answered: int
    left: int
    idle_since: float | None
    continued: int = 0
    warm: WarmCounts = NOTHING_RESTORED


class Gate:
    """The gate. Make it in the running loop, ``open`` an address, ``tell`` it every state of the child.

    Before a wanted stop of the child, ``await drain(timeout_s)``. The next state ``ready`` ends the draining,
    whether it is another child's or the stop was called off. ``stop`` ends the gate for good.
    """

    def __init__(
        self,
        daemon: ChildDemand,
        given_keys: tuple[str, ...],
        slots_folder: Path,
        options: GateOptions,
        *,
        make_keeper: MakeKeeper = SlotSaver,
        can_overlap: bool = CAN_OVERLAP,
        on_count: Callable[[], None] = lambda: None,
    ) -> None:
        """Make a gate that listens nowhere yet. ``given_keys`` are valid beside those of the key file.

        ``on_count`` is called each time ``held`` or ``in_flight`` of ``stats`` changes.
        """
        self._news = news = asyncio.Event()
        self._daemon, self._given_keys, self._can_overlap = daemon, given_keys, can_overlap
        self._queue = WaitingQueue(UpstreamState("down"), daemon.demand, on_count)
        self._slots = SaveControl(slots_folder, make_keeper)
        self._in_flight = InFlight(news, on_count)
        self._proxy = Proxy(self._queue, self._in_flight, options.limits, self._slots, daemon.examine)
        self._idle_loop = IdleLoop(self._queue, self._proxy, self._slots, daemon.unload, news)
        self._served = UpstreamState("down")  # the last ready state: where that child listens
        self._listeners: dict[Address, HttpListener] = {}
        self._closed: list[HttpListener] = []  # they accept no more, and some client is still connected
        self._leaving = False
        self._opening = asyncio.Lock()  # one change of addresses at a time
        self.quiescence = Quiescence(
            lambda: (*self._listeners.values(), *self._closed),
            self._queue,
            self._proxy,
            self._slots,
            self._idle_loop,
        )
        self._apply(options)

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Where the gate listens."""
        return tuple(self._listeners)

    async def open(
        self,
        address: Address,
        options: GateOptions,
        sock: socket.socket | None = None,
        sockets: tuple[socket.socket, ...] = (),
    ) -> None:
        """Listen at ``address``: on ``sock``, which the service manager passed, or on ``sockets`` of our own.

        Without either the address is bound. ``options`` hold from then on.

        An address that is open already gets the rules and keys of ``options``; nothing else happens there.

        Raises:
            OSError: the address is taken, or not this machine's.
            SettingsError: it would be open to the network without a key, or the keys can't be used.
        """
        async with self._opening:
            listener = self._listeners.get(address)
            keys = self._keys_for(address, options, listener)
            if listener is None:
                listener = HttpListener(address, options.rules, keys, options.limits, self._serve)
                if sock is not None:
                    await listener.listen_passed(sock)
                else:
                    beside = self._listeners.values()
                    bound = sockets or await bind_beside(address, beside, can_overlap=self._can_overlap)
                    await listener.listen(bound)
                self._listeners[address] = listener
            listener.rules, listener.keys = options.rules, keys
            self._apply(options)
            self._idle_loop.start()

    async def close(self, address: Address) -> None:
        """Accept no more connections at ``address``. Its answers in flight go on to their end.

        Each connection is closed after its present answer, or after the next one if it waits for a request.
        """
        async with self._opening:
            if (listener := self._listeners.pop(address, None)) is not None:
                handed_over = any(each.port == address.port for each in self._listeners)
                await listener.stop_accepting(handed_over=handed_over)
                self._closed = [each for each in (*self._closed, listener) if each.connected]

    def configure(self, options: GateOptions) -> None:
        """Use other options from now on, at every address. Nothing restarts and no answer is cut.

        Raises:
            SettingsError: an address would be open to the network without a key, or the keys can't be used.
                Then all old options stay.
        """
        keys = {
            address: self._keys_for(address, options, listener)
            for address, listener in self._listeners.items()
        }
        for address, listener in self._listeners.items():
            listener.rules, listener.keys = options.rules, keys[address]
        self._apply(options)

    def tell(self, state: UpstreamState) -> None:
        """Take the state of the child."""
        queue, before = self._queue, self._queue.state
        if self._leaving and not queue.draining and state.phase == "draining":
            return  # clients that connected before ``leave`` still reach the child, until ``drain`` is called
        if state.phase == "ready":
            self._served = state
            queue.draining = False
            if (before.phase, before.child) != (state.phase, state.child):
                self._in_flight.used()  # the time of idleness begins now, whatever woke the child
        queue.update(state)
        if queue.held:
            self._daemon.demand(True)
        self._news.set()

    async def restore(self) -> None:
        """Bring saved slots into the child of phase ``restoring``. Bounded in time; never raises."""
        if self._queue.state.phase == "restoring":
            await self._slots.restore(self._queue.state)

    async def drain(self, timeout_s: float) -> bool:
        """Hold new requests, let those in flight finish, save the slots. Return whether all finished.

        Requests that have not finished by then are broken off, so that the child can stop at once.
        """
        if self._leaving:
            await asyncio.sleep(LAST_REQUEST_S)
        self._queue.draining = True
        if self._leaving:
            used = [exchange.request.protocol for exchange in self._proxy.exchanges]
            for listener in self._listeners.values():
                listener.close_unused(used)
        self._slots.dismiss()
        done = await self._in_flight.wait_empty(timeout_s)
        if not self._queue.draining:
            return done  # the stop was called off
        if not done:
            await self._proxy.break_off()
        await self._slots.finish()
        state = self._queue.state
        if state.phase in ("ready", "draining") and state.child == self._served.child:
            await self._slots.save_before_stop(self._served)
        return done

    def leave(self) -> None:
        """Accept no more from passed sockets. Who connects now waits there for the next daemon.

        Clients that connected before are served until ``drain``, each connection once more.
        """
        for listener in self._listeners.values():
            self._leaving = listener.leave() or self._leaving

    async def stop(self) -> None:
        """Refuse what is held, end what is in flight, close every address."""
        self._queue.closing = True
        self._queue.update()
        await self._idle_loop.stop()
        async with self._opening:
            listeners = (*self._listeners.values(), *self._closed)
            self._listeners, self._closed = {}, []
            for listener in listeners:
                await listener.stop()
        await self._in_flight.close_sessions()
        await self._proxy.close()
        await self._slots.close()

    def stats(self) -> GateStats:
        """Return how much goes through."""
        return GateStats(
            held=self._queue.held,
            in_flight=self._in_flight.count,
            bytes_through=self._proxy.bytes_through,
            blocked=sum(
                each.answer.writing for each in self._proxy.exchanges if each.upstream_request is not None
            ),
            answered=self._proxy.answered,
            left=self._proxy.left,
            idle_since=self._proxy.idle_since,
            warm=self._slots.counts,
            continued=self._proxy.continued,
        )

    async def owner(self, request: BaseRequest) -> web.StreamResponse:
        """Answer a request of the control socket: its owner may use every path, the slots included."""
        return await self._proxy.serve(request, request.path, None, keep_keys=True)

    async def _serve(
        self,
        request: BaseRequest,
        path: str,
        origin: str | None,
        keep_keys: bool,  # noqa: FBT001 - called by the listener only
    ) -> web.StreamResponse:
        return await self._proxy.serve(request, path, origin, keep_keys=keep_keys)

    def _apply(self, options: GateOptions) -> None:
        """Use what ``options`` say about the whole gate."""
        self._proxy.configure(options.limits)
        self._slots.configure(options.slot_limits, warm=options.warm)
        self._idle_loop.configure(options)

    def _keys_for(self, address: Address, options: GateOptions, listener: HttpListener | None) -> KeyRing:
        """Return the keys of ``options``, after a check of who could use the model at ``address``."""
        path = key_path(options.key_file)
        if listener is not None and listener.keys.path == path:
            keys = listener.keys  # it reads the file again when that changes
        else:
            keys = KeyRing(path, self._given_keys)
        guard.check_exposure(address.host, has_keys=keys.required, allow_open=options.allow_open)
        return keys
