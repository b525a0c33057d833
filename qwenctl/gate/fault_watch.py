"""Count the answers which say that the child cannot compute, and have it asked for a token in time."""

import asyncio
from collections.abc import Awaitable, Callable

from qwenctl.gate.server_faults import BROKEN, FaultRow, Heard

Examine = Callable[[int, str], Awaitable[bool]]
"""Ask the child of that number for a token; return whether it is being ended, since it cannot compute."""


class FaultWatch:
    """What the answers of the present child say about it. One question is on its way at a time.

    ``gone`` waits until a child takes no more requests, or for a moment; it returns whether it does not.
    """

    def __init__(self, examine: Examine, gone: Callable[[int], Awaitable[bool]]) -> None:
        self._examine, self._gone = examine, gone
        self._row = FaultRow()
        self._look: asyncio.Task[bool] | None = None

    def note(self, child: int, heard: Heard) -> None:
        """Note what an answer of this child says. After a second fault the child is asked for a token."""
        loop = asyncio.get_running_loop()
        self._row = self._row.after(child, heard)
        if self._look is None and self._row.suspicious(child, loop.time()):
            self._look = loop.create_task(self._ask(child, heard))

    async def is_ended(self, child: int) -> bool:
        """Return whether this child is being ended because it cannot compute, once that is known."""
        if self._look is None or child != self._row.child:
            return False
        return await asyncio.shield(self._look)

    async def close(self) -> None:
        """Ask no more."""
        if self._look is not None:
            self._look.cancel()
            await asyncio.wait([self._look])

    async def _ask(self, child: int, heard: Heard) -> bool:
        try:
            if heard == BROKEN and await self._gone(child):
                return False  # it has ended, and that is why
            ended = await self._examine(child, heard.text)
        finally:
            self._look = None
        if self._row.child == child:  # a newer child was not looked at
            self._row = self._row.looked(asyncio.get_running_loop().time())
        return ended
