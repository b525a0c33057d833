"""Keep prompts over a restart: save slots to the disk, bring them back. Its failures cost nothing else."""

import logging
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from qwenctl.engine.api import ERRORS, ServerApi
from qwenctl.engine.slot import Slot
from qwenctl.gate.slots import rules
from qwenctl.gate.slots.store import SavedSlot, SlotStore
from qwenctl.gate.upstream import UpstreamState

log = logging.getLogger(__name__)
LOSSES = 2
"""So often may a child go away while a file is brought back, before the file is blamed."""


@dataclass(frozen=True, slots=True)
class SlotLimits:
    """What may be kept. ``bytes_per_token`` and ``bytes_fixed``: what a slot takes, by the plan."""

    min_tokens: int = 4096
    max_bytes: int = 8_589_934_592
    bytes_per_token: int = 0
    bytes_fixed: int = 0


class SlotSaver:
    """Saved slots in ``folder``, which is ours alone (0700) and the child's ``--slot-save-path``.

    The child needs ``LLAMA_SERVER_SLOTS_DEBUG=1``: the text comes from the slot itself, whatever route
    made it. Nothing of it is kept here but its length and digest.
    """

    def __init__(self, folder: Path, limits: SlotLimits) -> None:
        self._shelf, self._limits = SlotStore(folder), limits
        self._seen: dict[int, rules.SlotHistory] = {}
        self._lost: dict[str, int] = {}
        self._slots: tuple[UpstreamState, ServerApi] | None = None

    def limit(self, *, bytes_per_token: int, bytes_fixed: int) -> None:
        """Take what a slot needs by the plan that is served from now on."""
        self._limits = replace(self._limits, bytes_per_token=bytes_per_token, bytes_fixed=bytes_fixed)

    async def close(self) -> None:
        """Close what talks to the child."""
        if self._slots is not None:
            await self._slots[1].close()
            self._slots = None

    async def restore(self, standing: UpstreamState) -> None:
        """Bring saved slots into a fresh child; remove them if they don't fit it."""
        self._seen.clear()  # it holds nothing but what is brought back now
        kept = self._shelf.read(standing.shape)
        if not kept:
            return
        slots = await self._of(standing)
        for each in kept:
            try:
                tokens = await slots.restore_slot(each.slot, each.file)
                self._seen[each.slot] = each.seen
                log.info("slot=%d tokens=%d restored", each.slot, tokens)
            except ERRORS as error:
                log.warning("cannot restore slot %d: %s", each.slot, error)
                self._lost[each.file] = self._lost.get(each.file, 0) + 1
                refused = isinstance(error, ValueError)  # else the child went away under it
                if refused or self._lost[each.file] >= LOSSES:
                    self._drop(standing.shape, each)

    async def look(self, standing: UpstreamState) -> None:
        """See what the slots hold after an answer, and so which kind of client they serve."""
        try:
            slots = await self._of(standing)
            for slot in await slots.slots():
                self._see(slot)
        except ERRORS as error:
            log.info("cannot look at the slots: %s", error)

    async def save(self, standing: UpstreamState, *, stopping: bool) -> None:
        """Save every slot that is worth it; each failure is logged, and the next slot tried."""
        try:
            slots = await self._of(standing)
            held = await slots.slots()
        except ERRORS as error:
            log.warning("cannot save slots: %s", error)
            return
        for slot in held:
            seen = self._see(slot)
            if seen is None or not rules.is_worth_saving(
                slot.tokens, seen, self._limits.min_tokens, stopping=stopping
            ):
                continue
            try:
                await self._save(slots, slot, seen, standing.shape)
            except ERRORS as error:
                log.warning("cannot save slot %d: %s", slot.number, error)

    def _drop(self, shape: str, lost: SavedSlot) -> None:
        self._shelf.write(shape, tuple(each for each in self._shelf.read(shape) if each != lost))

    def _see(self, slot: Slot) -> rules.SlotHistory | None:
        if slot.busy or not slot.text:
            return None
        seen = rules.see(slot.text, self._seen.get(slot.number))
        self._seen[slot.number] = seen
        return seen

    async def _save(self, slots: ServerApi, slot: Slot, seen: rules.SlotHistory, shape: str) -> None:
        """Roll the slot back if need be, save it beside the old file, then let go of the old one."""
        kept = self._shelf.read(shape)
        others = tuple(each for each in kept if each.slot != slot.number)
        old = next((each for each in kept if each.slot == slot.number), None)
        free = shutil.disk_usage(self._shelf.folder).free
        room = rules.room_bytes(self._limits.max_bytes, free, sum(each.bytes for each in others))
        need = self._limits.bytes_fixed + slot.tokens * self._limits.bytes_per_token
        if need > room:
            log.warning("cannot save slot %d: it takes %d bytes, %d are allowed", slot.number, need, room)
            return
        text = rules.cut(slot.text, seen)
        if text is not None and await slots.count_tokens(text) > slot.tokens:
            text = None  # its client left before all was read: the rolling would read the rest
        if text is not None:
            # noted before: if a request cuts in, the slot may be found there all the same
            seen = self._seen[slot.number] = replace(seen, rolled=rules.mark(text))
            await slots.roll(slot.number, text)
        self._lost.clear()  # a new file has a new chance
        name = f"slot-{slot.number}-{'b' if old is not None and old.file.endswith('a.bin') else 'a'}.bin"
        tokens, size = await slots.save_slot(slot.number, name)
        if size > room or tokens == 0:
            (self._shelf.folder / name).unlink(missing_ok=True)
            log.warning("cannot keep slot %d: it took %d bytes, %d are allowed", slot.number, size, room)
            return
        stands = seen.turn if text is None and not rules.is_rolled(slot.text, seen) else seen.rolled
        seen = self._seen[slot.number] = replace(seen, saved=stands, saved_tokens=tokens)
        self._shelf.write(shape, (*others, SavedSlot(slot.number, name, tokens, size, seen)))
        log.info("slot=%d tokens=%d bytes=%d saved", slot.number, tokens, size)

    async def _of(self, standing: UpstreamState) -> ServerApi:
        """Return the calls to this child."""
        if self._slots is not None and self._slots[0].child == standing.child:
            return self._slots[1]
        await self.close()
        if standing.address is None:
            raise ValueError("no child is ready")
        self._slots = (standing, ServerApi(standing.address))
        return self._slots[1]
