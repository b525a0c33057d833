"""Decide when slots are saved and restored: whether at all, never beside a request, always before a stop."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Protocol

from qwenctl.gate.slots.preparer import NOTHING_RESTORED, PreparedRequest, WarmCounts
from qwenctl.gate.slots.request_digests import ParsedRequest, parse_request
from qwenctl.gate.slots.restore_record import AnswerEdges
from qwenctl.gate.slots.rules import SlotLimits
from qwenctl.gate.upstream import UpstreamState
from qwenctl.gate.upstream_request import UpstreamRequest

log = logging.getLogger(__name__)

SLOT_PATHS = frozenset(
    """
    /completion /completions /v1/completions /chat/completions /v1/chat/completions /v1/messages
    /responses /v1/responses /infill
    """.split()
)
"""Requests for these paths take a slot and keep it. Source: routes of llama-server b11434."""
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

    async def prepare(self, state: UpstreamState, asked: ParsedRequest | None) -> PreparedRequest:
        """Bring the conversation of a request into a slot. One request at a time; it may be cancelled."""

    def finished(self, prepared: PreparedRequest, answer: bytes) -> None:
        """Take the edges of the answer to a request that was prepared."""

    async def prepare_beginnings(self, state: UpstreamState) -> None:
        """Keep the beginning that conversations share. It may be cancelled."""

    @property
    def counts(self) -> WarmCounts:
        """What became of what was restored."""

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
        self._beginning: asyncio.Task[None] | None = None
        self._preparing: set[asyncio.Task[PreparedRequest]] = set()
        self._one_at_a_time = asyncio.Lock()
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

    @contextlib.asynccontextmanager
    async def turn(self, path: str, sent: UpstreamRequest, state: UpstreamState) -> AsyncIterator[bool]:
        """Prepare the slots for a request, which flows meanwhile. False: the child leaves, so it may not.

        Requests are prepared one after the other, in the order they came.
        """
        keeper = self._keeper
        if keeper is None or path not in SLOT_PATHS or sent.method != "POST":
            yield True
            return
        preparing = asyncio.create_task(self._prepare(keeper, state, path, sent.body))
        self._preparing.add(preparing)
        try:
            await asyncio.wait({preparing})
        finally:
            preparing.cancel()
            self._preparing.discard(preparing)
        if preparing.cancelled():
            yield False
            return
        if (error := preparing.exception()) is not None:  # a bug costs time, but no request
            log.error("cannot prepare the slots for a request", exc_info=error)
            yield True
            return
        prepared = preparing.result()
        sent.edges = AnswerEdges() if prepared.promise is not None else None
        pin = b"" if prepared.pin is None else b'"id_slot":%d,' % prepared.pin
        at = sent.body.find(b"{") + 1
        sent.body[at:at] = pin
        try:
            yield True
        finally:
            del sent.body[at : at + len(pin)]  # the next child has other slots
            keeper.finished(prepared, sent.edges.read() if sent.edges is not None else b"")
            sent.edges = None

    async def _prepare(
        self, keeper: SlotKeeper, state: UpstreamState, path: str, body: bytearray
    ) -> PreparedRequest:
        asked = parse_request(path, body)
        async with self._one_at_a_time:
            return await keeper.prepare(state, asked)

    def dismiss(self) -> None:
        """Send back the requests that wait for a slot: the child is about to leave."""
        for task in self._preparing:
            task.cancel()

    @property
    def counts(self) -> WarmCounts:
        """What became of what was restored."""
        return NOTHING_RESTORED if self._keeper is None else self._keeper.counts

    async def look(self, state: UpstreamState) -> None:
        """See what the slots hold, after an answer."""
        if self._keeper is not None:
            self._looking = asyncio.create_task(self._keeper.look(state))
            await asyncio.wait({self._looking})

    async def save_idle(self, state: UpstreamState) -> None:
        """Save the slots of an idle child. Returns early if a request comes (``give_way``)."""
        if (keeper := self._keeper) is None:
            return
        self._saving = asyncio.create_task(self._alone(partial(keeper.save, state, stopping=False)))
        await asyncio.wait({self._saving})
        if not self._saving.cancelled() and self._keeper is keeper:
            self._beginning = asyncio.create_task(self._alone(partial(keeper.prepare_beginnings, state)))
            await asyncio.wait({self._beginning})

    async def _alone(self, work: Callable[[], Coroutine[None, None, None]]) -> None:
        async with self._one_at_a_time:
            await work()

    def give_way(self) -> None:
        """End a save of an idle child: a request is about to be sent."""
        for task in (self._saving, self._beginning):
            if task is not None and not task.done():
                task.cancel()

    async def finish(self) -> None:
        """Wait for a look and a save under way. A server that is told to stop in the middle of one hangs.

        It waits for its connections to end, and answers none of them any more. Source: llama-server b11434
        and b11549, seen. A shared beginning, which may take minutes, is given up.
        """
        if self._beginning is not None:
            self._beginning.cancel()
        tasks = (self._looking, self._saving, self._beginning, *self._preparing)
        under_way = {task for task in tasks if task is not None}
        if under_way:
            await asyncio.wait(under_way)

    async def save_before_stop(self, state: UpstreamState) -> None:
        """Save the slots of a child that is about to stop."""
        if self._keeper is not None:
            await self._keeper.save(state, stopping=True)

    async def close(self) -> None:
        """End a look and a save under way, and close the connections to the child."""
        self.give_way()
        self.dismiss()
        if self._looking is not None:
            self._looking.cancel()
        await self.finish()
        if self._keeper is not None:
            await self._keeper.close()
        if self._closing:
            await asyncio.wait(self._closing)
