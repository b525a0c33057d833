"""Decide what is done with the slots before a request flows. Pure: no I/O.

llama-server chooses a slot itself: the idle one that begins most like the request, else the one that was
used least recently. What the chosen slot held is lost then, but for a copy in the server's own cache
(``--cache-ram``), which may forget it at any time and ends with the process. Source: b11434,
get_available_slot.
"""

from dataclasses import dataclass

SIMILAR_SHARE = 0.1
"""The server prefers a slot that has so much of a request. Source: b11434, --slot-prompt-similarity."""


@dataclass(frozen=True, slots=True)
class SlotView:
    """A slot and what is known of it. ``owner``: the conversation that it holds, if that is worth saving.

    ``similar``: the share of the request with which its text begins. ``used``: higher, the later.
    """

    number: int
    busy: bool = False
    tokens: int = 0
    owner: int | None = None
    used: int = 0
    similar: float = 0.0


@dataclass(frozen=True, slots=True)
class SlotChoice:
    """``into``: the slot to restore a snapshot into. ``displaced``: the slot whose conversation is lost.

    ``waits``: nothing can be said before a slot is free.
    """

    into: int | None = None
    displaced: int | None = None
    waits: bool = False


def choose_slot(
    slots: tuple[SlotView, ...], owner: int | None, *, has_snapshot: bool, pinnable: bool
) -> SlotChoice:
    """Return what a request does to the slots. The first of these that applies:

    1. its conversation is in a slot: the server will find it, and nothing is lost;
    2. all slots are busy: it waits, if it has a snapshot or displaces what can be saved only before it flows;
    3. it has a snapshot: that goes into an empty slot, or else into the one that was used least recently. A
       request that cannot name its slot must find it: of two slots that begin alike the server takes the
       first, so a similar slot of a lower number is taken instead;
    4. the server's own choice takes a slot from its conversation.
    """  # noqa: D415 - an ordered list follows
    if owner is not None and any(slot.owner == owner for slot in slots):
        return SlotChoice()
    idle = [slot for slot in slots if not slot.busy]
    if not idle:
        return SlotChoice(
            waits=bool(slots) and (has_snapshot or any(slot.owner is not None for slot in slots))
        )
    last = min(idle, key=lambda slot: (slot.tokens > 0, slot.used, slot.number))
    likely = max(idle, key=lambda slot: (slot.similar, -slot.number))
    if has_snapshot:
        alike = [slot for slot in idle if slot.similar > SIMILAR_SHARE and slot.number < last.number]
        into = alike[0] if alike and not pinnable else last
        return SlotChoice(into.number, into.number if into.owner is not None else None)
    taken = likely if likely.similar > SIMILAR_SHARE else last
    return SlotChoice(None, taken.number if taken.owner is not None else None)
