"""Find the beginning that conversations share, in the text of a slot that is in hand. Pure: no I/O.

A recurrent state cannot go back to any place. So a snapshot that is to serve the next session must end
exactly where that session may begin to differ.
"""

from dataclasses import dataclass

from qwenctl.gate.slots.conversations import KnownConversation
from qwenctl.gate.slots.request_digests import (
    SURELY_OTHER,
    RequestDigests,
    SharedDepth,
    shared_depth,
    volatile_places,
)
from qwenctl.gate.slots.snapshots import Snapshot
from qwenctl.gate.slots.text_chain import BLOCK_CHARS, TextChain, agreed_blocks, agreed_chars

LONGER = 1.03
"""A beginning is made beside another one only if it is longer by so much: no session reads more anew.

A block and a line are lost besides, so that it stays below a twentieth of 10,000 tokens.
"""
MAX_GUESSES = 4
"""Beginnings made of one session's text. Each is a file; those that no session begins with go first."""


@dataclass(frozen=True, slots=True)
class SharedBeginning:
    """The first ``chars`` of a slot's text, and how far a request must agree with ``request`` to share it."""

    chars: int
    request: RequestDigests
    depth: SharedDepth


def find_beginnings(
    text: str, one: KnownConversation, others: tuple[KnownConversation, ...], min_chars: int
) -> list[SharedBeginning]:
    """Return the beginnings of a conversation's text that are worth keeping, the shortest first.

    If other conversations begin alike: as far as the texts were seen to agree with one of them. Else guesses,
    because nobody knows which of the words that may change will (``guess_beginnings``).
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
        return [max(seen, key=lambda each: each.chars)]
    return guess_beginnings(text, one, one.request, min_chars)


def guess_beginnings(
    text: str, one: KnownConversation, request: RequestDigests, min_chars: int
) -> list[SharedBeginning]:
    """Return the beginnings that another session is likely to share, by the text of one; the shortest first.

    The tools and the system text, up to the first word that is likely to be another one; up to each such
    word of the system text; and the whole of them, which a session in the same folder shares. What follows
    a word that is another in every session is not read in vain. Where the text
    shows other words than the request, it is not known which part of the request they stand in.
    """
    first = text.find(one.first) if one.first else -1
    if first <= 0 or not (request.system.chars or request.tools.chars):
        return []
    start, stable = text[:first], one.stable
    places = volatile_places(start)
    count = len(stable.words)
    last, front = places[len(places) - count :], places[:count]
    fitting = [part for part in (last, front) if _words(part) == stable.words]
    own = fitting[0] if len(fitting) == 1 or (fitting and last == front) else []
    cuts = [(places[0][0] if places else first, stable.first)]
    cuts += [(at, depth) for (at, _), depth in zip(own, stable.before, strict=False)]
    cuts.append((first, stable.whole))
    until = next((at for at, word in places if word == SURELY_OTHER), first)
    kept: list[SharedBeginning] = []
    for at, depth in cuts:
        if at > until:
            break
        chars = at_line(start, at)
        if chars >= max(min_chars, 1) and (not kept or chars > kept[-1].chars * LONGER):
            kept.append(SharedBeginning(chars, request, depth))
    return kept if len(kept) <= MAX_GUESSES else [kept[0], *kept[1 - MAX_GUESSES :]]


def at_line(text: str, chars: int) -> int:
    """Return the end of the last line before ``chars``, if there is one within a block; else ``chars``.

    The tokens of a line rarely depend on what follows it, those in the middle of a word do.
    """
    at = text.rfind("\n", max(chars - BLOCK_CHARS, 0), chars)
    return chars if at < 0 else at + 1


def is_covered(chars: int, text: TextChain, made: tuple[Snapshot, ...]) -> bool:
    """Return whether a beginning of a text has a snapshot already, or nearly so."""
    return any(
        agreed_chars(each.text, text) + BLOCK_CHARS > each.text.chars and each.text.chars * LONGER >= chars
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


def _words(places: list[tuple[int, str]]) -> tuple[str, ...]:
    return tuple(word for _, word in places)


def _is_same(one: RequestDigests, other: RequestDigests) -> bool:
    """Return whether two requests are of one conversation: all messages of one begin the other's."""
    if one.tools.end != other.tools.end or one.system.end != other.system.end:
        return False
    return one.messages.end in (*other.ends, other.messages.end) or other.messages.end in one.ends
