"""The requests that are at a child now: how many, at which child, and the sessions that carry them."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import aiohttp

from qwenctl.engine.address import Address
from qwenctl.engine.api import base_url, session
from qwenctl.gate.upstream import UpstreamState


@dataclass(slots=True)
class ChildLoad:
    """The requests at one child. ``at_loss``: how many they were when its connections broke, if they did."""

    requests: int = 0
    at_loss: int | None = None


class InFlight:
    """Counts requests at children. ``news`` is set when the first one is sent and the last one is done.

    ``on_count`` is called each time the number changes. ``last_use`` is when the model was used last, a time
    of the loop's clock.
    """

    def __init__(self, news: asyncio.Event, on_count: Callable[[], None] = lambda: None) -> None:
        self.count = 0
        self.last_use = asyncio.get_running_loop().time()
        self._news, self._on_count = news, on_count
        self._loads: dict[int, ChildLoad] = {}
        self._empty = asyncio.Event()
        self._empty.set()
        self._sessions: dict[Address, aiohttp.ClientSession] = {}

    def used(self) -> None:
        """Note that the model is used now."""
        self.last_use = asyncio.get_running_loop().time()

    @contextlib.contextmanager
    def at(self, child: int) -> Iterator[ChildLoad]:
        """Count one request at this child for as long as the block runs."""
        load = self._loads.setdefault(child, ChildLoad())
        load.requests += 1
        self.count += 1
        self._on_count()
        if self.count == 1:
            self._empty.clear()
            self._news.set()
        try:
            yield load
        finally:
            load.requests -= 1
            self.count -= 1
            self._on_count()
            if not load.requests:
                self._loads.pop(child, None)
            if not self.count:
                self._empty.set()
                self._news.set()

    async def wait_empty(self, timeout_s: float) -> bool:
        """Wait until no request is at a child; return whether that came in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._empty.wait()
        return self.count == 0

    def session(self, state: UpstreamState) -> tuple[aiohttp.ClientSession, str]:
        """Return the session for this child's address, and the start of its URLs."""
        address = state.address
        if address is None:
            raise RuntimeError("a request was sent to a child without an address")
        if address not in self._sessions:
            self._sessions[address] = session(address)
        return self._sessions[address], base_url(address)

    async def close_sessions(self) -> None:
        """Close the sessions. Requests that still connect, or wait for a head, see their child as lost."""
        sessions = tuple(self._sessions.values())
        self._sessions.clear()
        for each in sessions:
            await each.close()
