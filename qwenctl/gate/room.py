"""Where requests wait for the child. Knows how it stands; lets them go on in the order they came."""

import asyncio
import contextlib
from collections import deque

from qwenctl.gate.standing import Place, Standing, place

CRASHES_KEPT = 32


class Room:
    """``enter`` returns when there is a child to talk to, or nobody to wait for."""

    def __init__(self, standing: Standing) -> None:
        self.standing = standing
        self.opened = 0
        self.draining = False
        self.closing = False
        self.held = 0
        self._crashed: deque[int] = deque(maxlen=CRASHES_KEPT)
        self._waiting: dict[asyncio.Future[None], None] = {}

    def place(self) -> Place:
        """Return where a request goes now."""
        return place(self.standing, self.opened, draining=self.draining, closing=self.closing)

    def update(self, standing: Standing | None = None) -> None:
        """Take the news, if any, and let everyone who waits look again."""
        if standing is not None:
            self.standing = standing
            if standing.crashed is not None and standing.crashed not in self._crashed:
                self._crashed.append(standing.crashed)
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)

    def crashed(self, child: int) -> bool:
        """Return whether this child ended through a fault of its own."""
        return child in self._crashed

    async def enter(self, deadline: float) -> Place:
        """Wait until a request may go on or has to give up.

        Raises:
            TimeoutError: neither came before ``deadline``, a time of the loop's clock.
        """
        if (now := self.place()) is not Place.HOLD:
            return now
        self.held += 1
        try:
            async with asyncio.timeout_at(deadline):
                while (now := self.place()) is Place.HOLD:
                    await self._news()
                return now
        finally:
            self.held -= 1

    async def moved_on(self, child: int, within_s: float) -> bool:
        """Wait until this child is known to be gone; return False if it lives on."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self.standing.child == child and self.standing.phase == "ready":
                    await self._news()
                return True
        return False

    async def _news(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiting[waiter] = None
        try:
            await waiter
        finally:
            del self._waiting[waiter]
