"""The queue of held requests. It knows the child's state and lets requests go in the order they came."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable

from qwenctl.gate.upstream import Admission, UpstreamState, admission

CRASHES_KEPT = 32
RELEASE_GAP_S = 0.005
"""Time between one held request and the next. Sent at once, the server's threads would mix their order."""


class WaitingQueue:
    """Holds requests until a child can take them, or until none will come.

    ``on_demand`` is called with True when the first request is held, and with False when none is held any
    more; ``on_count`` each time the number of held requests changes.
    """

    def __init__(
        self,
        state: UpstreamState,
        on_demand: Callable[[bool], None],
        on_count: Callable[[], None] = lambda: None,
    ) -> None:
        self.state = state
        self.draining = False
        self.closing = False
        self.held = 0
        self._on_demand, self._on_count = on_demand, on_count
        self._crashed: deque[int] = deque(maxlen=CRASHES_KEPT)
        self._waiting: dict[asyncio.Future[None], None] = {}  # held requests, the first to come first
        self._watching: dict[asyncio.Future[None], None] = {}
        self._releasing: asyncio.TimerHandle | None = None

    def admission(self) -> Admission:
        """Return what happens to a request now."""
        return admission(self.state, draining=self.draining, closing=self.closing)

    def update(self, state: UpstreamState | None = None) -> None:
        """Take a new state, if there is one, and wake the requests that can go on or must give up."""
        if state is not None:
            self.state = state
            if state.crashed is not None and state.crashed not in self._crashed:
                self._crashed.append(state.crashed)
        _wake(self._watching)
        match self.admission():
            case Admission.GO if self._releasing is None:
                self._release()
            case Admission.REFUSE:
                _wake(self._waiting)
            case _:
                pass

    def crashed(self, child: int) -> bool:
        """Return whether this child ended through a fault of its own."""
        return child in self._crashed

    async def enter(self, deadline: float) -> Admission:
        """Wait until a request may go on or has to give up.

        Raises:
            TimeoutError: neither happened before ``deadline``, a time of the loop's clock.
        """
        if (now := self.admission()) is Admission.REFUSE or (now is Admission.GO and not self._waiting):
            return now
        self.held += 1
        self._on_count()
        if self.held == 1:
            self._on_demand(True)
        try:
            async with asyncio.timeout_at(deadline):
                while True:
                    await _wait_in(self._waiting)
                    if (now := self.admission()) is not Admission.HOLD:
                        return now
        finally:
            self.held -= 1
            self._on_count()
            if self.held == 0:
                self._on_demand(False)

    async def child_gone(self, child: int, within_s: float) -> bool:
        """Wait until this child is known to take no more requests; return False if it goes on taking them."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self._serves(child):
                    await _wait_in(self._watching)
                return True
        return False

    def _serves(self, child: int) -> bool:
        return self.state.child == child and self.state.phase == "ready" and not self.draining

    def _release(self) -> None:
        """Let the first request go, and the next one a moment later."""
        self._releasing = None
        if self._waiting and self.admission() is Admission.GO:
            first = next(iter(self._waiting))
            del self._waiting[first]
            if not first.done():
                first.set_result(None)
            self._releasing = asyncio.get_running_loop().call_later(RELEASE_GAP_S, self._release)


def _wake(waiters: dict[asyncio.Future[None], None]) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)


async def _wait_in(waiters: dict[asyncio.Future[None], None]) -> None:
    """Wait until woken."""
    waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    waiters[waiter] = None
    try:
        await waiter
    finally:
        waiters.pop(waiter, None)
