"""Write slots to files and bring them back, one at a time; know what each slot holds."""

import logging
import time
from dataclasses import replace
from pathlib import Path

from qwenctl.engine.api import ERRORS, ServerApi
from qwenctl.engine.slot import Slot
from qwenctl.gate.slots import rules
from qwenctl.gate.slots.conversations import ConversationBook, KnownConversation
from qwenctl.gate.slots.restore_record import SaveWay
from qwenctl.gate.slots.rules import SlotLimits, Speeds
from qwenctl.gate.slots.shelf import SnapshotShelf
from qwenctl.gate.slots.snapshots import Snapshot
from qwenctl.gate.slots.store import SnapshotStore
from qwenctl.gate.upstream import UpstreamState

log = logging.getLogger(__name__)
MEASURED_BYTES = 16_777_216
"""A smaller file says nothing about the speed of the disk."""


class SlotFiles:
    """The slots of one child at a time, and their files in ``folder``, its ``--slot-save-path``."""

    def __init__(self, folder: Path, limits: SlotLimits) -> None:
        self.limits, self.speeds = limits, Speeds()
        self.book, self.shelf = ConversationBook(), SnapshotShelf(SnapshotStore(folder))
        self._api: tuple[UpstreamState, ServerApi] | None = None

    async def api_of(self, state: UpstreamState) -> ServerApi:
        """Return the calls to this child. What was saved for it is read, unless that was done."""
        if self.shelf.fingerprint != state.slots_fingerprint:
            self.open(state)
        if self._api is not None and self._api[0].child == state.child:
            return self._api[1]
        await self.close()
        if state.address is None:
            raise ValueError("no child is ready")
        self._api = (state, ServerApi(state.address))
        return self._api[1]

    def open(self, state: UpstreamState) -> None:
        """Read what was saved for a child, which holds nothing of it yet."""
        self.shelf.open(state.slots_fingerprint)
        self.book.begin_with(self.shelf.snapshots)

    async def close(self) -> None:
        """Close the connections to the child."""
        if self._api is not None:
            await self._api[1].close()
            self._api = None

    def size_of(self, tokens: int) -> int:
        """Return how many bytes a slot of so many tokens takes, by the plan."""
        return self.limits.bytes_fixed + tokens * self.limits.bytes_per_token

    def owner(self, slot: Slot) -> KnownConversation | None:
        """Return the conversation of a slot that shows what it holds, so that it can be saved."""
        one = self.book.in_slot(slot.number)
        shown = one is not None and one.history is not None and not self.book.is_unused(slot)
        return one if shown and not slot.busy and slot.text else None

    async def save_slot(self, api: ServerApi, slot: Slot, one: KnownConversation) -> bool:
        """Save a conversation, rolled back first if it must be. Return whether it is saved; never raises."""
        history = one.history
        if history is None:
            return False
        try:
            return await self._save(api, slot, one, history)
        except ERRORS as error:
            log.warning("cannot save slot %d: %s", slot.number, error)
            return False

    async def restore_slot(
        self, api: ServerApi, slot: Slot, snapshot: Snapshot, one: KnownConversation | None
    ) -> bool:
        """Bring a snapshot into a slot; return whether it is there. It is removed if the child refuses it."""
        self.book.put(None, slot.number, slot.task)  # whatever comes of it, what the slot held is gone
        try:
            tokens = await api.restore_slot(slot.number, snapshot.file)
        except ERRORS as error:
            log.warning("cannot restore slot %d: %s", slot.number, error)
            refused = isinstance(error, ValueError)  # else the child went away while it restored the slot
            if self.shelf.lost(snapshot, refused=refused) and one is not None:
                one.snapshot = None
            return False
        self.book.put(one, slot.number, slot.task)
        self.shelf.used(snapshot, self.book.tick())
        log.info("slot=%d tokens=%d restored way=%s", slot.number, tokens, snapshot.way)
        return True

    async def write_file(
        self, api: ServerApi, number: int, snapshot: Snapshot, instead: Snapshot | None = None
    ) -> Snapshot | None:
        """Save a slot as this snapshot, whose size is not known yet; return it as it is kept, if it is."""
        need, limit = self.size_of(snapshot.tokens), self.limits.max_bytes
        if not self.shelf.make_room(need, limit, snapshot, instead):
            log.warning("cannot save slot %d: it takes %d bytes, more than are allowed", number, need)
            return None
        since = time.monotonic()
        tokens, size = await api.save_slot(number, snapshot.file)
        took_s = time.monotonic() - since
        if size >= MEASURED_BYTES and took_s > 0:
            self.speeds = replace(self.speeds, disk_bytes_s=size / took_s)
        if tokens == 0 or not self.shelf.make_room(size, limit, snapshot, instead):
            (self.shelf.folder / snapshot.file).unlink(missing_ok=True)
            log.warning("cannot keep slot %d: it took %d bytes, more than are allowed", number, size)
            return None
        prompt_tokens = min(snapshot.prompt_tokens, tokens)
        kept = replace(snapshot, tokens=tokens, prompt_tokens=prompt_tokens, bytes=size)
        if kept.history is not None:
            kept = replace(kept, history=replace(kept.history, saved_tokens=tokens))
        self.shelf.put(kept, instead)
        log.info("slot=%d tokens=%d bytes=%d saved way=%s", number, tokens, size, kept.way)
        return kept

    async def _save(
        self, api: ServerApi, slot: Slot, one: KnownConversation, history: rules.SlotHistory
    ) -> bool:
        record = self.shelf.record
        faithful = history.faithful and record.takes(SaveWay.WORD_FOR_WORD)
        goes_back = record.goes_back is True and record.takes(SaveWay.AS_IT_IS)
        text = rules.roll_back_to(slot.text, replace(history, faithful=faithful), goes_back=goes_back)
        if text is not None and len(await api.tokenize(text)) > slot.tokens:
            text = None  # its client left before the prompt was processed: to roll would process the rest
        if text is not None:
            # noted before the roll: if a request cuts in, the slot may hold this text all the same
            history = one.history = replace(history, rolled=rules.mark(text))
            await api.read_prompt(slot.number, text)
        rolled = text is not None or rules.is_rolled(slot.text, history)
        way = SaveWay.WORD_FOR_WORD if faithful else SaveWay.AS_IT_IS
        if rolled:
            way = SaveWay.ROLLED_BACK
        told = replace(history, saved=history.rolled if rolled else history.turn)
        snapshot = Snapshot(
            file=self.shelf.new_file(),
            way=way,
            tokens=slot.tokens,
            prompt_tokens=max(slot.tokens - slot.answer_tokens, 0),
            bytes=0,
            used=one.used,
            text=one.text,
            history=told,
            request=one.request,
        )
        kept = await self.write_file(api, slot.number, snapshot, one.snapshot)
        if kept is None:
            return False
        one.history, one.snapshot = kept.history, kept
        return True
