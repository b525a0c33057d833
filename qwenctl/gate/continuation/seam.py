"""Where two servers' parts of one answer meet: what is new, and what the counts add up to. Pure: no I/O."""

from dataclasses import dataclass, field
from typing import Any

SURE_ECHO_CHARS = 24
"""A first piece of so many characters that repeats the text so far is no chance."""


@dataclass(slots=True)
class EchoFilter:
    """Leaves out the text so far where the next server repeats it before it goes on.

    llama-server b11434 repeats it for Anthropic messages, in the first piece; b11549 does not. A first piece
    counts as a repetition if it is the whole text so far, or a long beginning of it. ``expected``: this kind
    of request is known to be answered so. Otherwise a short text may be said twice by chance, and is kept.

    A repetition comes in one piece with the first new text (b11434: 150 of 150 tried). So a first piece that
    is the short text so far and nothing else is kept back: if more follows, it was said twice; if not, there
    was nothing new.
    """

    sent: str
    expected: bool
    _at: int = 0
    _begun: bool = False
    _kept: str = ""

    def new(self, text: str) -> str:
        """Return what is new of a piece."""
        if not self._begun and text:
            self._begun = True
            shorter = min(len(text), len(self.sent))
            repeats = text[:shorter] == self.sent[:shorter] and shorter > 0
            sure = shorter >= SURE_ECHO_CHARS or (self.expected and shorter == len(self.sent))
            if not (repeats and sure):
                self._at = len(self.sent)
            elif text == self.sent and shorter < SURE_ECHO_CHARS:
                self._kept, self._at = text, len(self.sent)
                return ""
        elif text:
            text, self._kept = self._kept + text, ""
        same = 0
        while self._at < len(self.sent) and same < len(text) and text[same] == self.sent[self._at]:
            same, self._at = same + 1, self._at + 1
        if same < len(text):
            self._at = len(self.sent)
        return text[same:]


@dataclass(slots=True)
class Seam:
    """One continuation. ``content`` and ``reasoning``: the text so far. ``names``: what the answer is called.

    ``answer_tokens``: the tokens of the text so far, ``answer_ms`` the time in which they came;
    ``prompt_ms``: the time in which the first server read the prompt, 0: not known.
    ``prompt_tokens``: those of the client's own request; None: not known. ``mute``: the answer has reached
    its limit of tokens, so only its end is wanted. ``keys``: the parts of the answer by the next server's
    numbers. ``blocks``: the parts that the client knows.
    """

    content: str
    reasoning: str
    names: dict[str, Any]
    blocks: dict[str, Any]
    role: bool
    answer_tokens: int
    answer_ms: float = 0.0
    prompt_ms: float = 0.0
    prompt_tokens: int | None = None
    mute: bool = False
    echo_expected: bool = False
    keys: dict[Any, str] = field(default_factory=dict)
    content_echo: EchoFilter = field(init=False)
    reasoning_echo: EchoFilter = field(init=False)

    def __post_init__(self) -> None:
        """Expect the text so far at the start of the next part."""
        self.content_echo = EchoFilter(self.content, self.echo_expected)
        self.reasoning_echo = EchoFilter(self.reasoning, self.echo_expected)

    def new_content(self, text: str) -> str:
        """Return what is new of a piece of content."""
        return "" if self.mute else self.content_echo.new(text)

    def new_reasoning(self, text: str) -> str:
        """Return what is new of a piece of reasoning."""
        return "" if self.mute else self.reasoning_echo.new(text)

    def answered(self, tokens: object) -> int:
        """Return the tokens of the whole answer, if the next server counts so many of its own part."""
        own = tokens if isinstance(tokens, int) and not self.mute else 0
        return self.answer_tokens + own

    def prompted(self, tokens: object) -> int:
        """Return the tokens of the client's request. The next server counts the text so far to them."""
        if self.prompt_tokens is not None:
            return self.prompt_tokens
        return max(tokens - self.answer_tokens, 0) if isinstance(tokens, int) else 0


def join_usage(usage: dict[str, Any], seam: Seam, names: tuple[str, str, str, str]) -> dict[str, Any]:
    """Return the counts of the whole answer. ``names``: those of prompt, answer, total, and cache details."""
    prompt, answer, total, details = names
    prompted, answered = seam.prompted(usage.get(prompt)), seam.answered(usage.get(answer))
    joined = usage | {prompt: prompted, answer: answered, total: prompted + answered}
    cached = usage.get(details)
    if isinstance(cached, dict) and isinstance(cached.get("cached_tokens"), int):
        joined[details] = cached | {"cached_tokens": min(cached["cached_tokens"], prompted)}
    return joined


def join_timings(timings: dict[str, Any], seam: Seam) -> dict[str, Any]:
    """Return the timings of the whole answer, in the form of llama-server.

    The text so far was answer, so it is no part of the prompt.
    """
    cached, read = timings.get("cache_n"), timings.get("prompt_n")
    joined = dict(timings)
    if isinstance(cached, int) and isinstance(read, int):
        prompted = seam.prompted(cached + read)
        joined["cache_n"] = min(cached, prompted)
        joined["prompt_n"] = prompted - joined["cache_n"]
    if isinstance(timings.get("prompt_ms"), int | float):
        joined["prompt_ms"] = seam.prompt_ms + timings["prompt_ms"]
    joined["predicted_n"] = seam.answered(timings.get("predicted_n"))
    own_ms = timings.get("predicted_ms")
    joined["predicted_ms"] = seam.answer_ms + (own_ms if isinstance(own_ms, int | float) else 0.0)
    for part in ("prompt", "predicted"):
        count, took_ms = joined.get(f"{part}_n"), joined.get(f"{part}_ms")
        if isinstance(count, int) and isinstance(took_ms, int | float) and count and took_ms:
            joined[f"{part}_per_token_ms"] = took_ms / count
            joined[f"{part}_per_second"] = 1000 * count / took_ms
    return joined
