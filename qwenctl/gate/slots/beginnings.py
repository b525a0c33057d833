"""Keep the beginnings that conversations share, and try what the engine can, while nobody uses the model.

Both take a slot for a while. What it held is saved before, and brought back after.
"""

import logging
from dataclasses import replace

from qwenctl.engine.api import ERRORS, ServerApi
from qwenctl.engine.slot import Slot
from qwenctl.gate.slots import rules
from qwenctl.gate.slots.conversations import KnownConversation
from qwenctl.gate.slots.restore_record import KEPT_SHARE, SaveWay, cached_tokens, prompt_speed
from qwenctl.gate.slots.shared_text import (
    SharedBeginning,
    common_tokens,
    find_beginnings,
    is_covered,
    longest_part,
    next_cut,
)
from qwenctl.gate.slots.slot_files import SlotFiles
from qwenctl.gate.slots.snapshots import Snapshot
from qwenctl.gate.slots.text_chain import BLOCK_CHARS, chain_of
from qwenctl.gate.upstream import UpstreamState

log = logging.getLogger(__name__)
TRIAL_CHARS, TRIAL_TOKENS, TRIAL_ANSWER = 4096, 512, 8
TRIAL_FILE = "slot-trial.bin"
MAX_TRIED = 64
STEP_S = 10.0
"""A beginning is saved after so many seconds of reading, then ever more seldom."""


class BeginningMaker:
    """Makes the beginnings that are due in a time of idleness, and tries each only until it is made."""

    def __init__(self, files: SlotFiles) -> None:
        self._files = files
        self._tokens = 1  # of the text that is in hand
        self._made: list[str] = []  # digests of beginnings that were made, or can't be

    async def run(self, state: UpstreamState) -> None:
        """Do what is due. It may be cancelled at any time: then the slot's owner is in its file."""
        try:
            api = await self._files.api_of(state)
            if await api.is_asleep():
                return
            slots = await api.slots()
            self._files.book.join(slots)
            if any(slot.busy for slot in slots):
                return
            for slot in slots:
                await self._serve(api, slot)
        except ERRORS as error:
            log.warning("cannot keep a shared beginning: %s", error)

    async def _serve(self, api: ServerApi, slot: Slot) -> None:
        """Do what is due with what one slot holds. Its text is in hand only as long as this runs."""
        files, one = self._files, self._files.owner(slot)
        if one is None or one.request is None:
            return
        if files.shelf.record.goes_back is None and await self._is_saved(api, slot, one):
            await self._borrow(api, slot, one, [])
        found = self._wanted(slot, one)
        if found and await self._is_saved(api, slot, one):
            await self._borrow(api, slot, one, found)

    def _wanted(self, slot: Slot, one: KnownConversation) -> list[SharedBeginning]:
        """Return the beginnings of a slot's text that are worth a snapshot and have none yet."""
        files = self._files
        if not files.shelf.record.takes(SaveWay.BEGINNING):
            return []
        others = tuple(
            each for each in files.book.conversations.values() if each is not one and each.depth is None
        )
        made = tuple(each for each in files.shelf.snapshots if each.way is SaveWay.BEGINNING)
        min_chars = files.limits.min_tokens * len(slot.text) // max(slot.tokens, 1)
        return [
            found
            for found in find_beginnings(slot.text, one, others, min_chars)
            if found.chars >= min_chars
            and not is_covered(found.chars, one.text, made)
            and chain_of(slot.text[: found.chars]).digest not in self._made
        ]

    async def _is_saved(self, api: ServerApi, slot: Slot, one: KnownConversation) -> bool:
        """Save what the slot holds, unless that was done; return whether it may be borrowed."""
        history = one.history
        if history is None or slot.tokens < rules.STOPPING_MIN_TOKENS:
            return False
        if rules.unsaved_tokens(slot.tokens, history) == 0:
            return one.snapshot is not None
        return await self._files.save_slot(api, slot, one)

    async def _borrow(
        self, api: ServerApi, slot: Slot, one: KnownConversation, wanted: list[SharedBeginning]
    ) -> None:
        """Use a slot, then bring back what it held. Nothing wanted: try what the engine can."""
        files, text, snapshot = self._files, slot.text, one.snapshot
        if not wanted:
            files.book.put(None, slot.number, slot.task)
            await self._try(api, slot.number, text)
        for found in wanted:
            self._tokens = max(slot.tokens, 1)
            chain = chain_of(text[: found.chars])
            files.book.begin_part(slot.number, chain, found.request, found.depth)
            await self._make(api, slot.number, text, found)
        last = next((each for each in await api.slots() if each.number == slot.number), slot)
        if snapshot is not None:
            await files.restore_slot(api, last, snapshot, one)

    async def _try(self, api: ServerApi, number: int, text: str) -> None:
        """See whether this engine can go back to before an answer in a slot that was restored.

        It reads 776 tokens for that, once for each engine, model and set of flags.
        """
        files, tokens = self._files, (await api.tokenize(text[:TRIAL_CHARS]))[:TRIAL_TOKENS]
        await api.read_prompt(number, tokens, generate=TRIAL_ANSWER)
        try:
            await api.save_slot(number, TRIAL_FILE)
            await api.restore_slot(number, TRIAL_FILE)
        finally:
            (files.shelf.folder / TRIAL_FILE).unlink(missing_ok=True)
        cached = cached_tokens(await api.read_prompt(number, tokens)) or 0
        half = cached_tokens(await api.read_prompt(number, tokens[: len(tokens) // 2])) or 0
        goes_back, cuts = cached >= KEPT_SHARE * len(tokens), half >= KEPT_SHARE * (len(tokens) // 2)
        log.info("a restored slot goes back=%s to any place=%s", goes_back, cuts)
        files.shelf.judge(files.shelf.record.tried(goes_back=goes_back, cuts=cuts))

    async def _make(self, api: ServerApi, number: int, text: str, found: SharedBeginning) -> None:
        """Read a beginning and save it: in steps, so that an interruption does not cost all of it."""
        files, chain, done_chars = self._files, chain_of(text[: found.chars]), 0
        made = tuple(each for each in files.shelf.snapshots if each.way is SaveWay.BEGINNING)
        part = longest_part(chain, made)
        cuts = files.shelf.record.cuts
        if part is not None and not cuts:
            await api.restore_slot(number, part.file)
            done_chars = part.text.chars
        while done_chars < found.chars:
            step_chars = max(
                int(files.speeds.prompt_tokens_s * STEP_S) * len(text) // self._tokens, BLOCK_CHARS
            )
            chars = found.chars if cuts else next_cut(text, found.chars, done_chars, step_chars)
            part = await self._read(
                api, number, text, SharedBeginning(chars, found.request, found.depth), part
            )
            if part is None:
                log.warning("cannot keep a shared beginning of %d characters: there is no room for it", chars)
                break
            done_chars = chars
        self._made = [*self._made, chain.digest][-MAX_TRIED:]

    async def _read(
        self, api: ServerApi, number: int, text: str, found: SharedBeginning, part: Snapshot | None
    ) -> Snapshot | None:
        """Read a beginning in a slot, and save it in place of a part of it."""
        files, begins = self._files, text[: found.chars]
        around = text[: found.chars + BLOCK_CHARS]
        tokens = common_tokens(await api.tokenize(around), await api.tokenize(begins))
        log.info("reading a shared beginning up to token %d", len(tokens))
        if (speed := prompt_speed(await api.read_prompt(number, tokens))) is not None:
            files.speeds = replace(files.speeds, prompt_tokens_s=speed)
        snapshot = Snapshot(
            file=files.shelf.new_file(),
            way=SaveWay.BEGINNING,
            tokens=len(tokens),
            prompt_tokens=len(tokens),
            bytes=0,
            used=files.book.tick(),
            text=chain_of(begins),
            request=found.request,
            depth=found.depth,
        )
        instead = part if part is not None and part.depth == found.depth else None
        return await files.write_file(api, number, snapshot, instead)
