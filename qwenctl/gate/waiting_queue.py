"""Where requests wait for the child. Knows how it stands; lets them go on in the order they came."""

import asyncio
import contextlib
from collections import deque

from qwenctl.gate.upstream import Admission, UpstreamState, admission

CRASHES_KEPT = 32
RELEASE_GAP_S = 0.005
"""Between one held request and the next: the server's threads would shuffle a crowd."""


class WaitingQueue:
    """``enter`` returns when there is a child to talk to, or nobody to wait for."""

    def __init__(self, standing: UpstreamState) -> None:
        self.standing = standing
        self.opened = 0
        self.draining = False
        self.closing = False
        self.held = 0
        self._crashed: deque[int] = deque(maxlen=CRASHES_KEPT)
        self._queue: dict[asyncio.Future[None], None] = {}  # held requests, the first come first
        self._watching: dict[asyncio.Future[None], None] = {}
        self._releasing: asyncio.TimerHandle | None = None

    def place(self) -> Admission:
        """Return where a request goes now."""
        return admission(self.standing, self.opened, draining=self.draining, closing=self.closing)

    def update(self, standing: UpstreamState | None = None) -> None:
        """Take the news, if any, and let those look again whom it concerns."""
        if standing is not None:
            self.standing = standing
            if standing.crashed is not None and standing.crashed not in self._crashed:
                self._crashed.append(standing.crashed)
        _wake(self._watching)
        match self.place():
            case Admission.GO if self._releasing is None:
                self._release()
            case Admission.REFUSE:
                _wake(self._queue)
            case _:
                pass

    def crashed(self, child: int) -> bool:
        """Return whether this child ended through a fault of its own."""
        return child in self._crashed

    async def enter(self, deadline: float) -> Admission:
        """Wait until a request may go on or has to give up.

        Raises:
            TimeoutError: neither came before ``deadline``, a time of the loop's clock.
        """
        if (now := self.place()) is Admission.REFUSE or (now is Admission.GO and not self._queue):
            return now
        self.held += 1
        try:
            async with asyncio.timeout_at(deadline):
                while True:
                    await _turn(self._queue)
                    if (now := self.place()) is not Admission.HOLD:
                        return now
        finally:
            self.held -= 1

    async def moved_on(self, child: int, within_s: float) -> bool:
        """Wait until this child is known to be gone; return False if it lives on."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self._has(child):
                    await _turn(self._watching)
                return True
        return False

    def _has(self, child: int) -> bool:
        return self.standing.child == child and self.standing.phase == "ready" and not self.draining

    def _release(self) -> None:
        """Let the first go, and the next a moment later."""
        self._releasing = None
        if self._queue and self.place() is Admission.GO:
            first = next(iter(self._queue))
            del self._queue[first]
            if not first.done():
                first.set_result(None)
            self._releasing = asyncio.get_running_loop().call_later(RELEASE_GAP_S, self._release)


def _wake(waiters: dict[asyncio.Future[None], None]) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)


async def _turn(waiters: dict[asyncio.Future[None], None]) -> None:
    """Wait to be woken."""
    waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    waiters[waiter] = None
    try:
        await waiter
    finally:
        waiters.pop(waiter, None)
