"""Keep conversations over the ends of servers. A failure is logged and costs nothing but time."""

import asyncio
import logging
from pathlib import Path

from qwenctl.engine.api import ERRORS, ServerApi
from qwenctl.engine.slot import Slot
from qwenctl.gate.slots import rules
from qwenctl.gate.slots.beginnings import BeginningMaker
from qwenctl.gate.slots.preparer import PreparedRequest, RequestPreparer, WarmCounts
from qwenctl.gate.slots.request_digests import ParsedRequest
from qwenctl.gate.slots.rules import SlotLimits
from qwenctl.gate.slots.slot_files import SlotFiles
from qwenctl.gate.slots.snapshots import promised_tokens
from qwenctl.gate.upstream import UpstreamState

log = logging.getLogger(__name__)

FREE_WITHIN_S, FREE_LOOK_S = 6.0, 1.5
"""How long a slot may stay busy after its request was broken off, and how often that is looked at.

The server looks for the end of a plain request's connection once it has had no result of any kind for 1 s,
so a look each second would keep it from noticing. Source: llama-server b11434, HTTP_POLLING_SECONDS.
"""


class SlotSaver:
    """Saves the conversations of a child in ``folder``, which is the child's ``--slot-save-path``.

    The child needs ``LLAMA_SERVER_SLOTS_DEBUG=1``: the text of a slot is read from the slot itself, because
    then it is right for every API that made it. Only lengths and digests of texts are kept.
    """

    def __init__(self, folder: Path, limits: SlotLimits) -> None:
        self._files = SlotFiles(folder, limits)
        self._beginnings = BeginningMaker(self._files)
        self._preparer = RequestPreparer(self._files, self._beginnings)
        self.parallel = 0

    @property
    def counts(self) -> WarmCounts:
        """What became of what was restored."""
        return self._preparer.counts

    def limit(self, limits: SlotLimits) -> None:
        """Use other limits from now on."""
        self._files.limits = limits

    async def close(self) -> None:
        """Close the connections to the child."""
        await self._files.close()

    async def restore(self, state: UpstreamState) -> None:
        """Bring the conversations that were used last into the slots of a fresh child."""
        files = self._files
        files.open(state)  # a fresh child holds nothing but what is restored now
        record = files.shelf.record
        usable = [
            (one, one.snapshot)
            for one in sorted(files.book.conversations.values(), key=lambda one: -one.used)
            if one.snapshot is not None and promised_tokens(one.snapshot, record, longer=True)
        ]
        try:
            api = await files.api_of(state)
            slots = await api.slots()
        except ERRORS as error:
            log.warning("cannot restore slots: %s", error)
            for _, snapshot in usable[:1]:
                files.shelf.lost(snapshot, refused=False)
            return
        self.parallel = len(slots)
        for slot, (one, snapshot) in zip(slots, usable, strict=False):
            await files.restore_slot(api, slot, snapshot, one)

    async def look(self, state: UpstreamState) -> None:
        """See what the slots hold after an answer: this shows which kind of client each slot serves."""
        try:
            api = await self._files.api_of(state)
            if not await api.is_asleep():
                before, slots = self._files.book.looks, await api.slots()
                if self._files.book.looks == before:  # else a request has looked meanwhile, and knows better
                    self._files.book.join(slots)
        except ERRORS as error:
            log.info("cannot look at the slots: %s", error)

    async def prepare(self, state: UpstreamState, asked: ParsedRequest | None) -> PreparedRequest:
        """Bring the conversation of a request into a slot, and save what it displaces."""
        return await self._preparer.prepare(state, asked)

    def finished(self, prepared: PreparedRequest, answer: bytes) -> None:
        """Take the edges of the answer to a request."""
        self._preparer.finished(prepared, answer)

    async def save(self, state: UpstreamState, *, stopping: bool) -> None:
        """Save every conversation that is worth it. Each failure is logged, and the next one tried."""
        files = self._files
        try:
            api = await files.api_of(state)
            if await api.is_asleep():
                return  # its slots went with its model
            slots = await (_free_slots(api) if stopping else api.slots())
        except ERRORS as error:
            log.warning("cannot save slots: %s", error)
            return
        files.book.join(slots)
        files.book.keep_files(files.shelf.files)
        for slot in slots:
            one = files.owner(slot)
            if one is None or one.history is None:
                continue
            if rules.is_worth_saving(slot.tokens, one.history, files.limits.min_tokens, stopping=stopping):
                await files.save_slot(api, slot, one)

    async def prepare_beginnings(self, state: UpstreamState) -> None:
        """Keep the beginning that conversations share, while nobody uses the model. It may be cancelled."""
        await self._beginnings.run(state)


async def _free_slots(api: ServerApi) -> tuple[Slot, ...]:
    """Return the slots once none is busy any more, or as they are after a few seconds."""
    loop = asyncio.get_running_loop()
    until = loop.time() + FREE_WITHIN_S
    while True:
        slots = await api.slots()
        if loop.time() >= until or not any(slot.busy for slot in slots):
            return slots
        await asyncio.sleep(FREE_LOOK_S)
