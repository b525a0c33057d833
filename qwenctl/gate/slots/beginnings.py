"""Keep the beginnings that conversations share, and try what the engine can, while nobody uses the model.

Both take a slot for a while. What it held is saved before, and brought back after.
"""

import logging
from dataclasses import dataclass, field, replace

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


@dataclass(frozen=True, slots=True)
class TextInHand:
    """A text whose beginnings are wanted, the shortest first. ``tokens``: about so many are in all of it."""

    text: str = field(repr=False)
    tokens: int
    wanted: tuple[SharedBeginning, ...]
    fingerprint: str


class BeginningMaker:
    """Makes the beginnings that are due in a time of idleness, and tries each only until it is made."""

    def __init__(self, files: SlotFiles) -> None:
        self._files = files
        self._tokens = 1  # of the text that is in hand
        self._made: list[str] = []  # digests of beginnings that were made, or can't be
        self._aside: TextInHand | None = None

    def put_aside(self, slot: Slot) -> None:
        """Remember the beginnings of a text that another conversation is about to displace.

        A client may send a short request after its long one, which is in no slot then when the server is
        idle. Of several the longest is kept, up to its last beginning, in memory only and until it is made.
        """
        one = self._files.owner(slot)
        if one is None or one.request is None or one.depth is not None:
            return
        hand = self._in_hand(slot, one)
        if hand.wanted and (self._aside is None or hand.wanted[-1].chars >= self._aside.wanted[-1].chars):
            until = hand.wanted[-1].chars + BLOCK_CHARS
            tokens = hand.tokens * min(until, len(hand.text)) // len(hand.text)
            self._aside = replace(hand, text=hand.text[:until], tokens=max(tokens, 1))

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
            await self._borrow(api, slot, one, None)
        hand = self._in_hand(slot, one)
        if hand.wanted and await self._is_saved(api, slot, one):
            await self._borrow(api, slot, one, hand)
        aside = self._aside
        if aside is not None and aside.fingerprint != files.shelf.fingerprint:
            self._aside = None
        elif aside is not None and await self._is_saved(api, slot, one):
            await self._borrow(api, slot, one, replace(aside, wanted=self._due(aside.text, aside.wanted)))
            self._aside = None

    def _in_hand(self, slot: Slot, one: KnownConversation) -> TextInHand:
        """Return the text of a slot, and those of its beginnings that are worth a snapshot and have none."""
        files, wanted = self._files, tuple[SharedBeginning, ...]()
        if files.shelf.record.takes(SaveWay.BEGINNING):
            others = tuple(
                each for each in files.book.conversations.values() if each is not one and each.depth is None
            )
            min_chars = files.limits.min_tokens * len(slot.text) // max(slot.tokens, 1)
            found = find_beginnings(slot.text, one, others, min_chars)
            wanted = self._due(slot.text, tuple(each for each in found if each.chars >= min_chars))
        return TextInHand(slot.text, max(slot.tokens, 1), wanted, files.shelf.fingerprint)

    def _due(self, text: str, wanted: tuple[SharedBeginning, ...]) -> tuple[SharedBeginning, ...]:
        """Return those of a text's beginnings that have no snapshot yet."""
        made = tuple(each for each in self._files.shelf.snapshots if each.way is SaveWay.BEGINNING)
        chain = chain_of(text)
        return tuple(
            each
            for each in wanted
            if not is_covered(each.chars, chain, made)
            and chain_of(text[: each.chars]).digest not in self._made
        )

    async def _is_saved(self, api: ServerApi, slot: Slot, one: KnownConversation) -> bool:
        """Save what the slot holds, unless that was done; return whether it may be borrowed."""
        history = one.history
        if history is None or slot.tokens < rules.STOPPING_MIN_TOKENS:
            return False
        if rules.unsaved_tokens(slot.tokens, history) == 0:
            return one.snapshot is not None
        return await self._files.save_slot(api, slot, one)

    async def _borrow(
        self, api: ServerApi, slot: Slot, one: KnownConversation, hand: TextInHand | None
    ) -> None:
        """Use a slot, then bring back what it held. Nothing in hand: try what the engine can."""
        files, snapshot = self._files, one.snapshot
        if hand is None:
            files.book.put(None, slot.number, slot.task)
            await self._try(api, slot.number, slot.text)
        else:
            self._tokens = hand.tokens
            for found in hand.wanted:
                chain = chain_of(hand.text[: found.chars])
                files.book.begin_part(slot.number, chain, found.request, found.depth)
                await self._make(api, slot.number, hand.text, found)
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
