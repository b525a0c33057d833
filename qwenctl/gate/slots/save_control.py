"""Decide when slots are saved and restored: whether at all, never beside a request, always before a stop."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from qwenctl.gate.slots.rules import SlotLimits
from qwenctl.gate.upstream import UpstreamState

log = logging.getLogger(__name__)

RESTORE_TIMEOUT_S = 180.0
"""Restoring ends then, finished or not. 8 GiB (``warm_max_bytes``) take 80 s on a disk of 100 MB/s."""


class SlotKeeper(Protocol):
    """What saves the slots of a child and restores them. None of the calls raises."""

    def limit(self, limits: SlotLimits) -> None:
        """Use other limits from now on."""

    async def restore(self, state: UpstreamState) -> None:
        """Bring saved slots into a fresh child."""

    async def save(self, state: UpstreamState, *, stopping: bool) -> None:
        """Save the slots that are worth it."""

    async def look(self, state: UpstreamState) -> None:
        """See what the slots hold, after an answer."""

    async def close(self) -> None:
        """Close the connections to the child."""


MakeKeeper = Callable[[Path, SlotLimits], SlotKeeper]


class SaveControl:
    """Saves and restores slots while ``configure`` says so; does nothing otherwise."""

    def __init__(self, folder: Path, make_keeper: MakeKeeper) -> None:
        self._folder, self._make = folder, make_keeper
        self._keeper: SlotKeeper | None = None
        self._saving: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()

    def configure(self, limits: SlotLimits, *, warm: bool) -> None:
        """Save and restore slots from now on, or no more. To switch it off ends a save under way."""
        if warm and self._keeper is not None:
            self._keeper.limit(limits)
        elif warm:
            self._keeper = self._make(self._folder, limits)
        elif self._keeper is not None:
            self.give_way()
            task = asyncio.get_running_loop().create_task(self._keeper.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
            self._keeper = None

    async def restore(self, state: UpstreamState) -> None:
        """Bring saved slots into a fresh child. It takes at most ``RESTORE_TIMEOUT_S``."""
        if self._keeper is None:
            return
        try:
            async with asyncio.timeout(RESTORE_TIMEOUT_S):
                await self._keeper.restore(state)
        except TimeoutError:
            log.warning("child=%d slots not restored within %g s", state.child, RESTORE_TIMEOUT_S)

    async def look(self, state: UpstreamState) -> None:
        """See what the slots hold, after an answer."""
        if self._keeper is not None:
            self._looking = asyncio.create_task(self._keeper.look(state))
            await asyncio.wait({self._looking})

    async def save_idle(self, state: UpstreamState) -> None:
        """Save the slots of an idle child. Returns early if a request comes (``give_way``)."""
        if self._keeper is not None:
            self._saving = asyncio.create_task(self._keeper.save(state, stopping=False))
            await asyncio.wait({self._saving})

    def give_way(self) -> None:
        """End a save of an idle child: a request is about to be sent."""
        if self._saving is not None and not self._saving.done():
            self._saving.cancel()

    async def finish(self) -> None:
        """Wait for a look and a save under way. A server that is told to stop in the middle of one hangs.

        It waits for its connections to end, and answers none of them any more. Source: llama-server b11434
        and b11549, seen.
        """
        under_way = {task for task in (self._looking, self._saving) if task is not None}
        if under_way:
            await asyncio.wait(under_way)

    async def save_before_stop(self, state: UpstreamState) -> None:
        """Save the slots of a child that is about to stop."""
        if self._keeper is not None:
            await self._keeper.save(state, stopping=True)

    async def close(self) -> None:
        """End a look and a save under way, and close the connections to the child."""
        self.give_way()
        if self._looking is not None:
            self._looking.cancel()
        await self.finish()
        if self._keeper is not None:
            await self._keeper.close()
        if self._closing:
            await asyncio.wait(self._closing)
