"""Find the beginning that conversations share, in the text of a slot that is in hand. Pure: no I/O.

A recurrent state cannot go back to any place. So a snapshot that is to serve the next session must end
exactly where that session may begin to differ.
"""

from dataclasses import dataclass

from qwenctl.gate.slots.conversations import KnownConversation
from qwenctl.gate.slots.request_digests import RequestDigests, SharedDepth, shared_depth, stable_chars
from qwenctl.gate.slots.snapshots import Snapshot
from qwenctl.gate.slots.text_chain import BLOCK_CHARS, TextChain, agreed_blocks, agreed_chars

MUCH_LONGER = 1.1
"""A beginning is made beside another one only if it is longer by so much."""


@dataclass(frozen=True, slots=True)
class SharedBeginning:
    """The first ``chars`` of a slot's text, and how far a request must agree with ``request`` to share it."""

    chars: int
    request: RequestDigests
    depth: SharedDepth


def find_beginnings(
    text: str, one: KnownConversation, others: tuple[KnownConversation, ...], min_chars: int
) -> list[SharedBeginning]:
    """Return the beginnings of a conversation's text that are worth keeping, the longest first.

    If other conversations begin alike: as far as the texts were seen to agree. Else the tools and the system
    text, up to the first word that is likely to be another one in the next session.
    """
    if one.request is None:
        return []
    seen = [
        SharedBeginning(at_line(text, chars), one.request, shared_depth(one.request, other.request))
        for other in others
        if other.request is not None and not _is_same(one.request, other.request)
        if (chars := agreed_blocks(one.text, other.text) * BLOCK_CHARS) >= min_chars
    ]
    if seen:
        return sorted(seen, key=lambda each: -each.chars)
    first = text.find(one.first) if one.first else -1
    if first <= 0 or not (one.request.system.chars or one.request.tools.chars):
        return []
    return [SharedBeginning(at_line(text, stable_chars(text[:first])), one.request, one.stable)]


def at_line(text: str, chars: int) -> int:
    """Return the end of the last line before ``chars``, if there is one within a block; else ``chars``.

    The tokens of a line rarely depend on what follows it, those in the middle of a word do.
    """
    at = text.rfind("\n", max(chars - BLOCK_CHARS, 0), chars)
    return chars if at < 0 else at + 1


def is_covered(chars: int, text: TextChain, made: tuple[Snapshot, ...]) -> bool:
    """Return whether a beginning of a text has a snapshot already, or nearly so."""
    return any(
        agreed_chars(each.text, text) + BLOCK_CHARS > each.text.chars
        and each.text.chars * MUCH_LONGER >= chars
        for each in made
    )


def longest_part(text: TextChain, made: tuple[Snapshot, ...]) -> Snapshot | None:
    """Return the longest snapshot that holds the beginning of a text and nothing else."""
    parts = [
        each
        for each in made
        if each.text.blocks and agreed_chars(each.text, text) + BLOCK_CHARS > each.text.chars
    ]
    return max(parts, key=lambda each: each.text.chars, default=None)


def next_cut(text: str, chars: int, done_chars: int, step_chars: int) -> int:
    """Return how far a beginning of ``chars`` is read before it is saved, with ``done_chars`` saved already.

    An interruption then costs no more than the time for ``step_chars``, or for half of what was saved, so
    that all files together are no more than three times as long as the last.
    """
    cut = max(done_chars + step_chars, done_chars * 3 // 2)
    return chars if cut + step_chars // 2 >= chars else at_line(text, cut)


def common_tokens(whole: list[int], part: list[int]) -> list[int]:
    """Return the tokens with which both begin: those of a part that do not depend on what follows it."""
    count = next((at for at, (one, two) in enumerate(zip(whole, part, strict=False)) if one != two), None)
    return part[: min(len(whole), len(part))] if count is None else part[:count]


def _is_same(one: RequestDigests, other: RequestDigests) -> bool:
    """Return whether two requests are of one conversation: all messages of one begin the other's."""
    if one.tools.end != other.tools.end or one.system.end != other.system.end:
        return False
    return one.messages.end in (*other.ends, other.messages.end) or other.messages.end in one.ends
