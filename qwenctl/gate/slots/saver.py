"""Save slots to the disk and restore them. A failure is logged and costs nothing but time."""

import asyncio
import logging
import shutil
from dataclasses import replace
from pathlib import Path

from qwenctl.engine.api import ERRORS, ServerApi
from qwenctl.engine.slot import Slot
from qwenctl.gate.slots import rules
from qwenctl.gate.slots.rules import SlotHistory, SlotLimits
from qwenctl.gate.slots.store import SavedSlot, SlotStore
from qwenctl.gate.upstream import UpstreamState

log = logging.getLogger(__name__)
MAX_LOSSES = 2
"""A file is removed when so many children went away while they restored it."""

FREE_WITHIN_S, FREE_LOOK_S = 6.0, 1.5
"""How long a slot may stay busy after its request was broken off, and how often that is looked at.

The server looks for the end of a plain request's connection once it has had no result of any kind for 1 s,
so a look each second would keep it from noticing. Source: llama-server b11434, HTTP_POLLING_SECONDS.
"""


class SlotSaver:
    """Saves the slots of a child in ``folder``, which is the child's ``--slot-save-path``.

    The child needs ``LLAMA_SERVER_SLOTS_DEBUG=1``: the text of a slot is read from the slot itself, because
    then it is right for every API that made it. Only the length and the digest of a text are kept.
    """

    def __init__(self, folder: Path, limits: SlotLimits) -> None:
        self._store, self._limits = SlotStore(folder), limits
        self._histories: dict[int, SlotHistory] = {}
        self._losses: dict[str, int] = {}
        self._api: tuple[UpstreamState, ServerApi] | None = None

    def limit(self, limits: SlotLimits) -> None:
        """Use other limits from now on."""
        self._limits = limits

    async def close(self) -> None:
        """Close the connections to the child."""
        if self._api is not None:
            await self._api[1].close()
            self._api = None

    async def restore(self, state: UpstreamState) -> None:
        """Bring saved slots into a fresh child; remove those that the child refuses."""
        self._histories.clear()  # a fresh child holds nothing but what is restored now
        saved = self._store.read(state.slots_fingerprint)
        if not saved or state.address is None:
            return
        api = await self._api_of(state)
        for each in saved:
            try:
                tokens = await api.restore_slot(each.slot, each.file)
                self._histories[each.slot] = each.history
                log.info("slot=%d tokens=%d restored", each.slot, tokens)
            except ERRORS as error:
                log.warning("cannot restore slot %d: %s", each.slot, error)
                self._losses[each.file] = self._losses.get(each.file, 0) + 1
                refused = isinstance(error, ValueError)  # else the child went away while it restored the slot
                if refused or self._losses[each.file] >= MAX_LOSSES:
                    self._remove(state.slots_fingerprint, each)

    async def look(self, state: UpstreamState) -> None:
        """See what the slots hold after an answer: this shows which kind of client each slot serves."""
        try:
            api = await self._api_of(state)
            for slot in () if await api.is_asleep() else await api.slots():
                self._observe(slot)
        except ERRORS as error:
            log.info("cannot look at the slots: %s", error)

    async def save(self, state: UpstreamState, *, stopping: bool) -> None:
        """Save every slot that is worth it. Each failure is logged, and the next slot tried."""
        try:
            api = await self._api_of(state)
            if await api.is_asleep():
                return  # its slots went with its model
            slots = await (_free_slots(api) if stopping else api.slots())
        except ERRORS as error:
            log.warning("cannot save slots: %s", error)
            return
        for slot in slots:
            history = self._observe(slot)
            if history is None or not rules.is_worth_saving(
                slot.tokens, history, self._limits.min_tokens, stopping=stopping
            ):
                continue
            try:
                await self._save(api, slot, history, state.slots_fingerprint)
            except ERRORS as error:
                log.warning("cannot save slot %d: %s", slot.number, error)

    def _remove(self, fingerprint: str, saved: SavedSlot) -> None:
        others = tuple(each for each in self._store.read(fingerprint) if each != saved)
        self._store.write(fingerprint, others)

    def _observe(self, slot: Slot) -> SlotHistory | None:
        if slot.busy or not slot.text:
            return None
        history = rules.observe(slot.text, self._histories.get(slot.number))
        self._histories[slot.number] = history
        return history

    async def _save(self, api: ServerApi, slot: Slot, history: SlotHistory, fingerprint: str) -> None:
        """Roll the slot back if it must be, save it beside the old file, then remove the old file."""
        saved = self._store.read(fingerprint)
        others = tuple(each for each in saved if each.slot != slot.number)
        old = next((each for each in saved if each.slot == slot.number), None)
        free = shutil.disk_usage(self._store.folder).free
        allowed = rules.allowed_bytes(self._limits.max_bytes, free, sum(each.bytes for each in others))
        need = self._limits.bytes_fixed + slot.tokens * self._limits.bytes_per_token
        if need > allowed:
            log.warning("cannot save slot %d: it takes %d bytes, %d are allowed", slot.number, need, allowed)
            return
        text = rules.roll_back_to(slot.text, history)
        if text is not None and await api.count_tokens(text) > slot.tokens:
            text = None  # its client left before the prompt was processed: to roll would process the rest
        if text is not None:
            # noted before the roll: if a request cuts in, the slot may hold this text all the same
            history = self._histories[slot.number] = replace(history, rolled=rules.mark(text))
            await api.roll(slot.number, text)
        self._losses.clear()  # a new file is tried again from the start
        name = f"slot-{slot.number}-{'b' if old is not None and old.file.endswith('a.bin') else 'a'}.bin"
        tokens, size = await api.save_slot(slot.number, name)
        if size > allowed or tokens == 0:
            (self._store.folder / name).unlink(missing_ok=True)
            log.warning("cannot keep slot %d: it took %d bytes, %d are allowed", slot.number, size, allowed)
            return
        rolled = text is not None or rules.is_rolled(slot.text, history)
        history = replace(history, saved=history.rolled if rolled else history.turn, saved_tokens=tokens)
        self._histories[slot.number] = history
        self._store.write(fingerprint, (*others, SavedSlot(slot.number, name, tokens, size, history)))
        log.info("slot=%d tokens=%d bytes=%d saved", slot.number, tokens, size)

    async def _api_of(self, state: UpstreamState) -> ServerApi:
        """Return the calls to this child."""
        if self._api is not None and self._api[0].child == state.child:
            return self._api[1]
        await self.close()
        if state.address is None:
            raise ValueError("no child is ready")
        self._api = (state, ServerApi(state.address))
        return self._api[1]


async def _free_slots(api: ServerApi) -> tuple[Slot, ...]:
    """Return the slots once none is busy any more, or as they are after a few seconds."""
    loop = asyncio.get_running_loop()
    until = loop.time() + FREE_WITHIN_S
    while True:
        slots = await api.slots()
        if loop.time() >= until or not any(slot.busy for slot in slots):
            return slots
        await asyncio.sleep(FREE_LOOK_S)
