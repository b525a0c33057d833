"""What is kept of each snapshot, and which make room for a new one. Pure: no I/O."""

from dataclasses import dataclass, field

from qwenctl.gate.slots.request_digests import RequestDigests, SharedDepth
from qwenctl.gate.slots.restore_record import RestoreRecord, SaveWay
from qwenctl.gate.slots.rules import SlotHistory
from qwenctl.gate.slots.text_chain import TextChain

VERSION = 2
MAX_SNAPSHOTS = 64
"""More are not kept: their list is read and written as a whole."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One file: a conversation, or a beginning that several share. Digests only, no text.

    ``tokens`` are in the file, ``prompt_tokens`` of them before the last answer. ``used``: a number that is
    higher the later it was used. ``request`` is the last request of the conversation, or one that begins
    alike, and ``depth`` how far others must agree with it. ``text`` is what the file holds.
    """

    file: str
    way: SaveWay
    tokens: int
    prompt_tokens: int
    bytes: int
    used: int
    text: TextChain
    history: SlotHistory | None = None
    request: RequestDigests | None = None
    depth: SharedDepth | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """What was saved for one fingerprint (``slots.rules.fingerprint``), and what its engine did."""

    fingerprint: str
    snapshots: tuple[Snapshot, ...] = ()
    record: RestoreRecord = field(default_factory=RestoreRecord)
    version: int = VERSION


def room_for(
    snapshots: tuple[Snapshot, ...], need: int, max_bytes: int, free_bytes: int
) -> tuple[Snapshot, ...] | None:
    """Return the snapshots that may stay beside a new file of ``need`` bytes; None: it is too large.

    The least recently used go first. All files together may take ``max_bytes``, and a tenth of what the disk
    would have free without them.
    """
    kept = sorted(snapshots, key=lambda each: each.used)
    limit = min(max_bytes, (free_bytes + sum(each.bytes for each in kept)) // 10)
    if need > limit:
        return None
    while kept and (need + sum(each.bytes for each in kept) > limit or len(kept) >= MAX_SNAPSHOTS):
        kept.pop(0)
    return tuple(kept)


def promised_tokens(snapshot: Snapshot, record: RestoreRecord, *, longer: bool) -> int:
    """Return how many tokens of a snapshot the next request will find; 0: it is of no use to this engine.

    ``longer``: the request has something new after the last answer.
    """
    if not record.takes(snapshot.way):
        return 0
    match snapshot.way:
        case SaveWay.AS_IT_IS:
            return (
                0
                if record.goes_back is False and snapshot.prompt_tokens < snapshot.tokens
                else snapshot.prompt_tokens
            )
        case SaveWay.WORD_FOR_WORD:
            return snapshot.tokens if longer else 0
        case SaveWay.ROLLED_BACK | SaveWay.BEGINNING:
            return snapshot.tokens
