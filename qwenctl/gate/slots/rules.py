"""Decide which slots are saved, and which text they hold when they are. Pure: no I/O, and no text is kept.

A recurrent state can't go back token by token. So it matters which text a slot holds when it is saved. For a
client that sends the answers back word for word, the slot is saved with the last answer. For a client that
drops the reasoning, the slot is rolled back to before the last answer, then saved. The second request of a
client shows which of the two it is.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from qwenctl.gate.slots.text_chain import TextMark

ANSWER_START = "<|im_start|>assistant"
"""Where an answer begins. Source: the ChatML template of the Qwen models."""
STOPPING_MIN_TOKENS = 256
"""Fewer tokens than this are processed again faster than they are read from the disk."""
USUAL_PROMPT_SPEED, USUAL_DISK_SPEED = 400.0, 500e6
"""Tokens and bytes a second, until they are measured. Decisions, between a laptop's and a workstation's."""
NOT_IN_FINGERPRINT = frozenset(
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
        "--ctx-checkpoints",
        "--swa-checkpoints",
        "-ctxcp",
        "-lv",
        "--reasoning",
        "--reasoning-budget",
        "--chat-template-kwargs",
        "--fit",
    }
)
"""Flags with one value that do not change the content of a saved slot. All others may, to be safe."""


@dataclass(frozen=True, slots=True)
class SlotLimits:
    """Which slots may be saved. ``bytes_per_token`` and ``bytes_fixed``: what a slot takes, by the plan."""

    min_tokens: int = 4096
    max_bytes: int = 8_589_934_592
    bytes_per_token: int = 0
    bytes_fixed: int = 0


@dataclass(frozen=True, slots=True)
class Speeds:
    """How fast this server reads a prompt and how fast files are written, as measured last."""

    prompt_tokens_s: float = USUAL_PROMPT_SPEED
    disk_bytes_s: float = USUAL_DISK_SPEED

    def is_faster_from_disk(self, tokens: int, size: int) -> bool:
        """Return whether to move a file of ``size`` bytes takes less time than to read ``tokens`` anew."""
        return tokens > 0 and tokens / self.prompt_tokens_s > size / self.disk_bytes_s


@dataclass(frozen=True, slots=True)
class SlotHistory:
    """What is known of a slot.

    ``turn``: the text after the client's last turn. ``faithful``: that text continued the text of the turn
    before, word for word. ``rolled``: the text that the gate rolled the slot back to since. ``saved``: the
    text in the file.
    """

    turn: TextMark
    faithful: bool
    rolled: TextMark | None = None
    saved: TextMark | None = None
    saved_tokens: int = 0


def mark(text: str) -> TextMark:
    """Return what is kept of a text."""
    return TextMark(len(text), hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest())


def continues(text: str, earlier: TextMark | None) -> bool:
    """Return whether ``text`` begins with an earlier text, word for word."""
    return earlier is not None and len(text) >= earlier.chars and mark(text[: earlier.chars]) == earlier


def observe(text: str, before: SlotHistory | None) -> SlotHistory:
    """Return what is known of a slot that holds ``text`` now. A roll back by the gate is no client's turn."""
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


def is_rolled(text: str, history: SlotHistory) -> bool:
    """Return whether the slot holds the text that the gate rolled it back to.

    Such a slot shows one token more than that text, which the server has sampled and never used.
    """
    rolled = history.rolled
    return rolled is not None and continues(text, rolled) and ANSWER_START not in text[rolled.chars :]


def roll_back_to(text: str, history: SlotHistory, *, goes_back: bool = False) -> str | None:
    """Return the text to roll a slot back to before it is saved; None: save the slot as it is.

    ``goes_back``: the engine can go back to the last message within a slot that was restored.
    """
    if goes_back or history.faithful or is_rolled(text, history):
        return None
    at = text.rfind(ANSWER_START)
    return text[:at] if at > 0 else None


def unsaved_tokens(tokens: int, history: SlotHistory) -> int:
    """Return how many of a slot's tokens are in no file."""
    if history.saved is not None and history.saved in (history.turn, history.rolled):
        return 0
    return max(tokens - history.saved_tokens, 0)


def is_worth_saving(tokens: int, history: SlotHistory, min_tokens: int, *, stopping: bool) -> bool:
    """Return whether a slot holds enough tokens that are not saved yet."""
    unsaved = unsaved_tokens(tokens, history)
    return unsaved > 0 and (tokens >= STOPPING_MIN_TOKENS if stopping else unsaved >= min_tokens)


def is_worth_keeping(tokens: int, history: SlotHistory, size: int, speeds: Speeds) -> bool:
    """Return whether a slot is saved before another conversation takes it, which waits meanwhile."""
    unsaved = unsaved_tokens(tokens, history)
    return tokens >= STOPPING_MIN_TOKENS and speeds.is_faster_from_disk(unsaved, size)


def allowed_bytes(max_bytes: int, free_bytes: int, others_bytes: int) -> int:
    """Return how large a new file may be.

    All files together may take ``max_bytes``, and a tenth of the free disk. ``others_bytes``: the other
    files.
    """
    return max(min(max_bytes, (free_bytes + others_bytes) // 10) - others_bytes, 0)


def fingerprint(argv: Iterable[str], model: tuple[str, int, int]) -> str:
    """Return what a saved slot must match: the model's path, size and time, and flags that change a slot."""
    words, kept, skip = list(argv)[1:], [repr(model)], False
    for word in words:
        if skip:
            skip = False
        elif word in NOT_IN_FINGERPRINT:
            skip = True
        else:
            kept.append(word)
    return hashlib.sha256("\0".join(kept).encode("utf-8", "surrogateescape")).hexdigest()
