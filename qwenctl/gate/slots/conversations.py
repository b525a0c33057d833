"""Know which conversation is in which slot, from requests as they were sent and slots as they look. No I/O.

Answers do not name their slot. So each request is remembered until a slot is seen that shows its text.
"""

from dataclasses import dataclass, field, replace

from qwenctl.engine.slot import Slot
from qwenctl.gate.slots import rules
from qwenctl.gate.slots.request_digests import (
    NOTHING_STABLE,
    ParsedRequest,
    RequestDigests,
    SharedDepth,
    StableDepths,
    continues_request,
    reaches,
    shared_depth,
)
from qwenctl.gate.slots.restore_record import SaveWay
from qwenctl.gate.slots.rules import SlotHistory
from qwenctl.gate.slots.snapshots import Snapshot
from qwenctl.gate.slots.text_chain import BLOCK_CHARS, NO_TEXT, TextChain, agreed_chars, chain_of

MAX_CONVERSATIONS = 256


@dataclass(slots=True)
class KnownConversation:
    """What is known of one conversation. ``request``: its last one; None where that can't be read.

    ``slot``: where it is live. ``text``, ``tokens`` and ``prompt_tokens`` are of that slot when it was seen
    last; ``first`` is the start of its first message. ``restored``: what was brought into its slot, until
    it is asked for. ``depth``: it is no conversation, but a beginning that requests of this depth share,
    of which the slot holds as much as could be read.
    """

    number: int
    used: int
    request: RequestDigests | None = None
    stable: StableDepths = NOTHING_STABLE
    first: str = ""
    history: SlotHistory | None = None
    text: TextChain = NO_TEXT
    tokens: int = 0
    prompt_tokens: int = 0
    slot: int | None = None
    snapshot: Snapshot | None = None
    restored: Snapshot | None = None
    depth: SharedDepth | None = None


@dataclass(slots=True, eq=False)
class SentRequest:
    """A request on its way. ``pinned``: its slot, if that is certain. ``landed``: it was seen in a slot.

    ``restored``: a snapshot was brought into a slot for it.
    """

    conversation: KnownConversation
    probe: str
    pinned: int | None
    at: float
    restored: bool = False
    landed: bool = False
    done: bool = False


@dataclass(slots=True)
class ConversationBook:
    """All conversations that are known, by number, and the requests that were sent since the last look."""

    conversations: dict[int, KnownConversation] = field(default_factory=dict)
    sent: list[SentRequest] = field(default_factory=list)
    looks: int = 0
    _seen: dict[int, tuple[int, int]] = field(
        default_factory=dict
    )  # a slot's task and length at the last look
    _unused: dict[int, int] = field(default_factory=dict)  # a restored slot's task before it was restored
    _numbers: int = 0
    _clock: int = 0

    def tick(self) -> int:
        """Return a number that is higher than all before it."""
        self._clock += 1
        return self._clock

    def begin_with(self, snapshots: tuple[Snapshot, ...]) -> None:
        """Forget everything but these snapshots: a child is fresh, or the daemon is."""
        self._clock = max((self._clock, *(each.used for each in snapshots)))
        self.conversations, self.sent, self._seen, self._unused = {}, [], {}, {}
        for each in snapshots:
            if each.way is not SaveWay.BEGINNING:
                known = self._new(each.used)
                known.request, known.history, known.text = each.request, each.history, each.text
                known.tokens, known.prompt_tokens, known.snapshot = each.tokens, each.prompt_tokens, each

    def match(self, asked: ParsedRequest) -> KnownConversation | None:
        """Return the conversation that a request continues: the longest of several."""
        found = [
            each
            for each in self.conversations.values()
            if each.request is not None and each.depth is None and continues_request(asked, each.request)
        ]
        return max(
            found,
            key=lambda each: each.request.messages.chars if each.request is not None else 0,
            default=None,
        )

    def begin_part(self, number: int, text: TextChain, request: RequestDigests, depth: SharedDepth) -> None:
        """Note that a shared beginning is about to be read in a slot, whose owner is in its file."""
        if (before := self.in_slot(number)) is not None:
            before.slot = None
        part = self._new(self.tick())
        part.slot, part.text, part.request, part.depth = number, text, request, depth

    def live_part(self, asked: ParsedRequest) -> KnownConversation | None:
        """Return a beginning of a request that a slot holds."""
        live = (one for one in self.conversations.values() if one.slot is not None)
        for one in live:
            if one.request is None or one.depth is None:
                continue
            if reaches(asked.digests, one.request, one.depth):
                return one
        return None

    def send(
        self, asked: ParsedRequest | None, known: KnownConversation | None, pinned: int | None, at: float
    ) -> SentRequest:
        """Note that a request is sent now."""
        one = known or self._new(self._clock)
        one.used = self.tick()
        if asked is not None:
            one.request, one.stable, one.first = asked.digests, asked.stable, asked.first
        sent = SentRequest(one, asked.probe if asked is not None else "", pinned, at)
        self.sent.append(sent)
        return sent

    def is_last_use(self, one: KnownConversation) -> bool:
        """Return whether a conversation is live for certain: only it was asked for since the last look."""
        return one.slot is not None and all(each.conversation is one for each in self.sent)

    def in_slot(self, number: int) -> KnownConversation | None:
        """Return the conversation that a slot holds."""
        return next((each for each in self.conversations.values() if each.slot == number), None)

    def put(self, one: KnownConversation | None, number: int, task: int) -> None:
        """Note that a slot was restored, with what; its text stays the old one until it is used."""
        if (before := self.in_slot(number)) is not None:
            before.slot = None
        self._unused[number] = task
        if one is not None:
            one.slot, one.restored = number, one.snapshot

    def is_unused(self, slot: Slot) -> bool:
        """Return whether a slot was restored and not used since. It shows what it held before."""
        return self._unused.get(slot.number) == slot.task

    def join(self, slots: tuple[Slot, ...]) -> None:
        """Take what the slots show: which conversation each holds, and which kind of client that has."""
        self.looks += 1
        for slot in sorted(slots, key=lambda slot: slot.task):
            if not slot.text or self.is_unused(slot):
                continue
            now = (slot.task, len(slot.text))
            if self._seen.get(slot.number) != now:
                self._unused.pop(slot.number, None)
                self._occupy(slot)
                if not slot.busy:
                    self._seen[slot.number] = now
        for each in self.sent:
            if each.done and not each.landed and each.conversation.slot is None:
                each.landed = True  # another took its slot already
        self.sent = [each for each in self.sent if not each.done]
        self._forget()

    def similar(self, asked: ParsedRequest | None, one: KnownConversation) -> float:
        """Return the share of a request that begins like a conversation."""
        if asked is None or one.request is None:
            return 0.0
        new, depth = asked.digests, shared_depth(asked.digests, one.request)
        whole = new.tools.chars + new.system.chars + new.messages.chars
        return (depth.tools + depth.system + depth.messages) * BLOCK_CHARS / max(whole, 1)

    def has_large(self, tokens: int) -> bool:
        """Return whether a slot may hold a conversation of so many tokens, which would be lost to another."""
        return any(
            max(one.tokens, _likely_tokens(one)) >= tokens
            for one in self.conversations.values()
            if one.slot is not None or any(each.conversation is one for each in self.sent)
        )

    def keep_files(self, files: frozenset[str]) -> None:
        """Forget the files that are gone."""
        for one in self.conversations.values():
            if one.snapshot is not None and one.snapshot.file not in files:
                one.snapshot = None
                if one.history is not None:
                    one.history = replace(one.history, saved=None, saved_tokens=0)

    def _occupy(self, slot: Slot) -> None:
        before = self.in_slot(slot.number)
        chain = chain_of(slot.text)
        owner = self._owner(slot, chain, before)
        if before is not None and before is not owner:
            before.slot = None
        owner.slot = slot.number
        if slot.busy or owner.depth is not None:
            owner.tokens = slot.tokens
            return
        owner.history = rules.observe(slot.text, owner.history)
        owner.text = chain
        owner.tokens, owner.prompt_tokens = slot.tokens, max(slot.tokens - slot.answer_tokens, 0)

    def _owner(self, slot: Slot, chain: TextChain, before: KnownConversation | None) -> KnownConversation:
        """Return the conversation of a slot's text: a request that shows in it, or the one before."""
        shown = [each for each in self.sent if self._shows(each, slot)]
        shown.sort(
            key=lambda each: (each.pinned == slot.number, _goes_on(slot, chain, each.conversation), each.at)
        )
        if shown:
            shown[-1].landed = True
            return shown[-1].conversation
        if before is not None and _goes_on(slot, chain, before):
            return before
        for one in self.conversations.values():  # another daemon may have sent its request
            if one.slot is None and one.history is not None and rules.continues(slot.text, one.history.turn):
                return one
        return self._new(self.tick())

    def _shows(self, each: SentRequest, slot: Slot) -> bool:
        if each.pinned is not None:
            return each.pinned == slot.number
        return bool(each.probe) and each.probe in slot.text and each.conversation.first in slot.text

    def _new(self, used: int) -> KnownConversation:
        self._numbers += 1
        self.conversations[self._numbers] = KnownConversation(self._numbers, used)
        return self.conversations[self._numbers]

    def _forget(self) -> None:
        """Forget the oldest conversations that are nowhere any more."""
        kept = {id(each.conversation) for each in self.sent}
        nowhere = sorted(
            (
                each
                for each in self.conversations.values()
                if each.slot is None and each.snapshot is None and id(each) not in kept
            ),
            key=lambda each: each.used,
        )
        for each in nowhere[: max(len(self.conversations) - MAX_CONVERSATIONS, 0)]:
            del self.conversations[each.number]


def _goes_on(slot: Slot, chain: TextChain, one: KnownConversation) -> bool:
    """Return whether a slot's text begins with most of what a conversation was seen to be."""
    if one.depth is not None:
        return agreed_chars(chain, one.text) + BLOCK_CHARS > min(chain.chars, one.text.chars)
    if one.history is None:
        return False
    if rules.is_rolled(slot.text, one.history) or rules.continues(slot.text, one.history.turn):
        return True
    return 2 * agreed_chars(chain, one.text) >= max(one.text.chars, BLOCK_CHARS)


def _likely_tokens(one: KnownConversation) -> int:
    """Return the most tokens that a conversation's last request is likely to be."""
    request = one.request
    return 0 if request is None else request.tools.chars + request.system.chars + request.messages.chars
