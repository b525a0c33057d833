"""Prepare the slots for a request before it flows, and see by its answer whether that was of use."""

import asyncio
import contextlib
import logging
from dataclasses import dataclass, replace

from qwenctl.engine.api import ERRORS, ServerApi
from qwenctl.engine.slot import Slot
from qwenctl.gate.slots import rules
from qwenctl.gate.slots.beginnings import BeginningMaker
from qwenctl.gate.slots.conversations import KnownConversation, SentRequest
from qwenctl.gate.slots.placement import SlotChoice, SlotView, choose_slot
from qwenctl.gate.slots.request_digests import ParsedRequest, is_longer, reaches
from qwenctl.gate.slots.restore_record import SaveWay, cached_tokens, prompt_speed
from qwenctl.gate.slots.slot_files import SlotFiles
from qwenctl.gate.slots.snapshots import Snapshot, promised_tokens
from qwenctl.gate.upstream import UpstreamState

log = logging.getLogger(__name__)
CHARS_PER_TOKEN = 4
"""Of English and code, about. Source: usual for tokenizers of 100,000 words and more."""
LANDS_WITHIN_S, LAND_LOOK_S = 0.5, 0.01
"""How long a request that was sent may take until a slot shows it, and how often that is looked at."""
BUSY_LOOK_S = 1.5
"""How often busy slots are looked at if no answer ends. More often, the server would not notice clients that
leave. Source: llama-server b11434, HTTP_POLLING_SECONDS.
"""


@dataclass(frozen=True, slots=True)
class WarmCounts:
    """What became of what was restored. ``restored``: tokens promised; ``reused``: found by the answers.

    ``misses``: answers that found less than 90 % of what was promised.
    """

    restored: int = 0
    reused: int = 0
    misses: int = 0


NOTHING_RESTORED = WarmCounts()


@dataclass(frozen=True, slots=True)
class TokenPromise:
    """So many tokens of a snapshot are to be found by the next answer."""

    way: SaveWay
    tokens: int
    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class PreparedRequest:
    """A request that may flow now. ``pin``: the slot that it is to name."""

    sent: SentRequest
    pin: int | None = None
    promise: TokenPromise | None = None


class RequestPreparer:
    """Prepares one request at a time: its caller sees to that. Preparing one may be cancelled."""

    def __init__(self, files: SlotFiles, beginnings: BeginningMaker) -> None:
        self.counts, self._beginnings = NOTHING_RESTORED, beginnings
        self._files, self._book = files, files.book
        self._freed = asyncio.Event()

    async def prepare(self, state: UpstreamState, asked: ParsedRequest | None) -> PreparedRequest:
        """Bring the conversation of a request into a slot, and save what it displaces. Never raises."""
        book, files = self._book, self._files
        if files.shelf.fingerprint != state.slots_fingerprint:
            files.open(state)
        book.keep_files(files.shelf.files)
        known = book.match(asked) if asked is not None else None
        if known is not None and book.is_last_use(known):
            return self._send(asked, known)
        part = book.live_part(asked) if asked is not None and known is None else None
        promise = self._promise(asked, known) if part is None else None  # the slot holds as much, or more
        if promise is None and not book.has_large(rules.STOPPING_MIN_TOKENS):
            return self._send(asked, known)
        try:
            api = await self._files.api_of(state)
            slots, choice = await self._choose(api, asked, known or part, restores=promise is not None)
            for slot in slots:
                if slot.number == choice.displaced:
                    self._beginnings.put_aside(slot)
                    await self._keep(api, slot)
            for slot in slots:
                if slot.number == choice.into and promise is not None:
                    return await self._restored(api, slot, asked, known, promise)
        except ERRORS as error:
            log.warning("cannot bring a conversation into a slot: %s", error)
        return self._send(asked, known)

    def finished(self, prepared: PreparedRequest, answer: bytes) -> None:
        """Take the edges of the answer to a request: they show whether what was promised was found."""
        prepared.sent.done = True
        self._freed.set()
        files, promise = self._files, prepared.promise
        if (speed := prompt_speed(answer)) is not None:
            files.speeds = replace(files.speeds, prompt_tokens_s=speed)
        cached = cached_tokens(answer)
        if promise is None or cached is None:
            return
        before = files.shelf.record
        after = before.judged(promise.way, promise.tokens, cached)
        missed = after.misses != before.misses
        self.counts = WarmCounts(
            self.counts.restored + promise.tokens,
            self.counts.reused + min(cached, promise.tokens),
            self.counts.misses + missed,
        )
        level, word = (logging.WARNING, "miss") if missed else (logging.INFO, "hit")
        log.log(level, "warm %s way=%s promised=%d cached=%d", word, promise.way, promise.tokens, cached)
        files.shelf.judge(after)
        if missed and promise.way is SaveWay.BEGINNING:
            files.shelf.remove(promise.snapshot)

    def _promise(self, asked: ParsedRequest | None, known: KnownConversation | None) -> TokenPromise | None:
        """Return the snapshot from which a request reads least anew, if restoring it is worth the time."""
        if asked is None or asked.pinned:
            return None
        shelf, found = self._files.shelf, []
        if known is not None and known.snapshot is not None and known.request is not None:
            longer = is_longer(asked, known.request)
            found.append((known.snapshot, promised_tokens(known.snapshot, shelf.record, longer=longer)))
        found += [
            (each, promised_tokens(each, shelf.record, longer=True))
            for each in shelf.snapshots
            if each.request is not None
            and each.depth is not None
            and reaches(asked.digests, each.request, each.depth)
        ]
        speeds = self._files.speeds
        promises = [
            TokenPromise(each.way, tokens, each)
            for each, tokens in found
            if tokens >= rules.STOPPING_MIN_TOKENS and speeds.is_faster_from_disk(tokens, each.bytes)
        ]
        return max(promises, key=lambda promise: promise.tokens, default=None)

    async def _choose(
        self, api: ServerApi, asked: ParsedRequest | None, known: KnownConversation | None, *, restores: bool
    ) -> tuple[tuple[Slot, ...], SlotChoice]:
        """Return the slots and what happens to them.

        While all are busy, a request waits here instead of in the server's queue, and those after it wait
        behind it. What was sent before must show in a slot first; a request that neither restores nor
        displaces anything does not wait for that.
        """
        now = asyncio.get_running_loop().time
        owner = known.number if known is not None else None
        pinnable = asked is not None and asked.pinnable
        while True:
            self._freed.clear()
            slots = await api.slots()
            self._book.join(slots)
            views = tuple(self._view(slot, asked, owner) for slot in slots)
            choice = choose_slot(views, owner, has_snapshot=restores, pinnable=pinnable)
            if choice.waits:
                await self._wait_for_answer()
                continue
            on_way = [
                each for each in self._book.sent if not each.landed and now() < each.at + LANDS_WITHIN_S
            ]
            if not on_way or (choice == SlotChoice() and not any(each.restored for each in on_way)):
                return slots, choice
            await asyncio.sleep(LAND_LOOK_S)

    async def _wait_for_answer(self) -> None:
        """Wait until an answer has ended, or the time has come to look again."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BUSY_LOOK_S):
                await self._freed.wait()

    def _view(self, slot: Slot, asked: ParsedRequest | None, owner: int | None) -> SlotView:
        one = self._book.in_slot(slot.number)
        if one is None:
            return SlotView(slot.number, slot.busy, slot.tokens)
        tokens = max(slot.tokens, one.tokens if self._book.is_unused(slot) else 0)
        if slot.busy:
            tokens = max(tokens, len(slot.text) // CHARS_PER_TOKEN)  # the rest of its prompt is being read
        own = one.number == owner or tokens >= rules.STOPPING_MIN_TOKENS
        similar = self._book.similar(asked, one)
        return SlotView(slot.number, slot.busy, tokens, one.number if own else None, one.used, similar)

    async def _keep(self, api: ServerApi, slot: Slot) -> None:
        """Save what is about to be displaced, if that takes less time than to read it anew."""
        files = self._files
        one = files.owner(slot)
        if one is None or one.history is None:
            return
        if rules.is_worth_keeping(slot.tokens, one.history, files.size_of(slot.tokens), files.speeds):
            await files.save_slot(api, slot, one)

    async def _restored(
        self,
        api: ServerApi,
        slot: Slot,
        asked: ParsedRequest | None,
        known: KnownConversation | None,
        promise: TokenPromise,
    ) -> PreparedRequest:
        begun = promise.way is SaveWay.BEGINNING
        if not await self._files.restore_slot(api, slot, promise.snapshot, None if begun else known):
            return self._send(asked, known)
        pinnable = asked is not None and asked.pinnable
        prepared = self._send(asked, known, slot.number, promise if begun else None)
        prepared.sent.restored = True
        prepared.sent.conversation.slot = slot.number
        return prepared if pinnable else replace(prepared, pin=None)

    def _send(
        self,
        asked: ParsedRequest | None,
        known: KnownConversation | None,
        slot: int | None = None,
        promise: TokenPromise | None = None,
    ) -> PreparedRequest:
        """Note that the request is sent. A conversation that was restored makes its promise once."""
        if known is not None and known.restored is not None and asked is not None:
            if known.request is not None and not asked.pinned:
                longer = is_longer(asked, known.request)
                tokens = promised_tokens(known.restored, self._files.shelf.record, longer=longer)
                promise = TokenPromise(known.restored.way, tokens, known.restored) if tokens else None
            known.restored = None
        now = asyncio.get_running_loop().time()
        pinned = slot if asked is not None and asked.pinnable else None
        return PreparedRequest(self._book.send(asked, known, pinned, now), slot, promise)
