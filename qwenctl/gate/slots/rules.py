"""Decide which slots are saved, and where they stand when they are. Pure: no I/O, and no text is kept.

A recurrent state can't go back token by token, so it matters where a slot stands when it is saved: after
the answer for a client that sends its answers back word for word, before it for one that drops the
reasoning. Which kind a client is shows when its next request comes.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

TURN = "<|im_start|>assistant"
"""Where an answer begins. Source: the ChatML template of the Qwen models."""
STOPPING_MIN_TOKENS = 256
"""Less than this is processed again faster than it is read from the disk."""
HARMLESS = frozenset(
    {
        "--host",
        "--port",
        "--alias",
        "--temp",
        "--top-p",
        "--top-k",
        "--min-p",
        "--presence-penalty",
        "--repeat-penalty",
        "--api-key-file",
        "--slot-save-path",
        "--cache-ram",
        "-ctxcp",
        "-lv",
        "--reasoning",
        "--reasoning-budget",
        "--chat-template-kwargs",
        "--fit",
    }
)
"""Flags with one value that do not change what a saved slot looks like. All others do, to be safe."""


@dataclass(frozen=True, slots=True)
class TextMark:
    """A text that was seen in a slot, without the text."""

    chars: int
    digest: str


@dataclass(frozen=True, slots=True)
class SlotHistory:
    """What is known of a slot.

    ``turn``: what it held after the client's last turn; ``faithful``: that continued the turn before word for
    word; ``rolled``: where we meant to take it back to since; ``saved``: what the file holds.
    """

    turn: TextMark
    faithful: bool
    rolled: TextMark | None = None
    saved: TextMark | None = None
    saved_tokens: int = 0


def mark(text: str) -> TextMark:
    """Return what to remember of a text."""
    return TextMark(len(text), hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest())


def continues(text: str, earlier: TextMark | None) -> bool:
    """Return whether ``text`` begins with an earlier one, word for word."""
    return earlier is not None and len(text) >= earlier.chars and mark(text[: earlier.chars]) == earlier


def see(text: str, before: SlotHistory | None) -> SlotHistory:
    """Return what is known of a slot that holds ``text`` now. Our own rolling is no turn of a client's."""
    now = mark(text)
    if before is None:
        return SlotHistory(now, faithful=False)
    if now == before.turn or is_rolled(text, before):
        return before
    kept = continues(text, before.saved)
    return SlotHistory(
        now,
        faithful=continues(text, before.turn),
        saved=before.saved if kept else None,
        saved_tokens=before.saved_tokens if kept else 0,
    )


def is_rolled(text: str, seen: SlotHistory) -> bool:
    """Return whether the slot stands where we rolled it to. It shows one token more, which it never used."""
    return seen.rolled is not None and continues(text, seen.rolled) and TURN not in text[seen.rolled.chars :]


def cut(text: str, seen: SlotHistory) -> str | None:
    """Return the text to roll a slot back to before it is saved; None: save it as it is."""
    if seen.faithful or is_rolled(text, seen):
        return None
    at = text.rfind(TURN)
    return text[:at] if at > 0 else None


def is_worth_saving(tokens: int, seen: SlotHistory, min_tokens: int, *, stopping: bool) -> bool:
    """Return whether a slot holds enough that was not saved yet."""
    if seen.saved is not None and seen.saved in (seen.turn, seen.rolled):
        return False
    if stopping:
        return tokens >= STOPPING_MIN_TOKENS
    return tokens - seen.saved_tokens >= min_tokens


def room_bytes(max_bytes: int, free_bytes: int, others_bytes: int) -> int:
    """Return how large a new file may be: the limit, and a tenth of the free disk, less what is there."""
    return max(min(max_bytes, (free_bytes + others_bytes) // 10) - others_bytes, 0)


def fingerprint(argv: Iterable[str], model: tuple[str, int, int]) -> str:
    """Return what a saved slot must match: the model's path, size and time, and the flags that shape it."""
    words, kept, skip = list(argv)[1:], [repr(model)], False
    for word in words:
        if skip:
            skip = False
        elif word in HARMLESS:
            skip = True
        else:
            kept.append(word)
    return hashlib.sha256("\0".join(kept).encode("utf-8", "surrogateescape")).hexdigest()
