"""What a client has been sent of one stream: its text, its names, what is no text. Pure: no I/O.

Events are kept as they are until there are ``RAW_BYTES`` of them, and are read then: a stream of 100,000
tokens is 25 MB of events and 400 kB of text. Most streams end before anything is read.
"""

import json
import re
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

RAW_BYTES = 16_384
"""So many bytes of events are kept unread."""
CHARGE_BYTES = 65_536
"""The budget is asked for at least so many bytes at a time."""
Event = tuple[str, dict[str, Any]]
"""The name of an event, empty where it has none, and its data."""


@dataclass(slots=True)
class SentText:
    """What the events of a stream said so far.

    ``lengths``: the characters of each piece of content and of reasoning. A piece is whole tokens.
    ``tokens``, ``prompt_tokens``, ``answer_ms``, ``prompt_ms``: what the stream itself tells, else 0.
    ``names``: the fields of the first event that name the answer (``id``, ``created``, ``model``); the next
    server would name it anew. ``blocks``: the parts of the answer, by kind. ``role``: the client knows who
    speaks. ``other``: part of the answer is no text, so it can't be given back to a server. ``ended``: the
    server said that it was done.
    """

    content: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    lengths: "tuple[array[int], array[int]]" = field(default_factory=lambda: (array("I"), array("I")))
    tokens: int = 0
    prompt_tokens: int = 0
    answer_ms: float = 0.0
    prompt_ms: float = 0.0
    names: dict[str, Any] = field(default_factory=dict)
    blocks: dict[str, Any] = field(default_factory=dict)
    role: bool = False
    other: bool = False
    ended: bool = False

    def add(self, content: object, reasoning: object = None) -> None:
        """Add the text of one event."""
        for kept, lengths, text in (
            (self.content, self.lengths[0], content),
            (self.reasoning, self.lengths[1], reasoning),
        ):
            if isinstance(text, str) and text:
                kept.append(text)
                lengths.append(len(text))

    def add_timings(self, timings: object) -> None:
        """Take the counts and times of an event, in the form of llama-server."""
        if isinstance(timings, dict):
            self.tokens = timings.get("predicted_n", self.tokens)
            self.prompt_tokens = timings.get("cache_n", 0) + timings.get("prompt_n", 0)
            self.answer_ms = timings.get("predicted_ms", self.answer_ms)
            self.prompt_ms = timings.get("prompt_ms", self.prompt_ms)

    @property
    def pieces(self) -> int:
        """The events that carried text. The answer has at least so many tokens."""
        return len(self.lengths[0]) + len(self.lengths[1])

    def each_piece(self) -> list[str]:
        """Return the pieces of content, then those of reasoning."""
        found = []
        for kept, lengths in ((self.content, self.lengths[0]), (self.reasoning, self.lengths[1])):
            text, at = "".join(kept), 0
            for length in lengths:
                found.append(text[at : at + length])
                at += length
        return found


class SentAnswer:
    """The record of one stream. ``note`` reads one event of its API into a ``SentText``.

    ``piece`` matches an event that is nothing but a piece of text: its first group is ``content`` or
    ``text``, or names reasoning; its second is the text as JSON. It is read in a tenth of the time.

    ``afford`` takes bytes from the budget of the gate, and says whether it had so many left. ``charged``: how
    many were taken, to be given back. ``lost``: the record is not kept, because the budget is used up.
    ``begun_at`` and ``last_at`` are times of the loop's clock.
    """

    __slots__ = (
        "_afford",
        "_note",
        "_piece",
        "_raw",
        "_spent_ms",
        "_text",
        "begun_at",
        "charged",
        "last_at",
        "lost",
    )

    def __init__(
        self,
        note: Callable[[SentText, Event], None],
        afford: Callable[[int], bool],
        piece: re.Pattern[bytes] | None = None,
    ) -> None:
        self._note, self._afford, self._piece = note, afford, piece
        self.charged = 0
        self._text = SentText()
        self._raw = bytearray()
        self._spent_ms = 0.0
        self.begun_at = self.last_at = 0.0
        self.lost = False

    def feed(self, events: bytes, now: float) -> None:
        """Take whole events that were sent to the client."""
        if self.lost:
            return
        self.begun_at = self.begun_at or now
        self.last_at = now
        self._raw += events
        if len(self._raw) > RAW_BYTES:
            self._read()

    def take_ms(self) -> float:
        """Return the milliseconds in which the text so far came, waiting for a server left out."""
        self._spent_ms += 1000 * (self.last_at - self.begun_at)
        self.begun_at = self.last_at = 0.0
        return self._spent_ms

    def text(self) -> SentText:
        """Return what the events said so far. Content and reasoning are joined, one string each."""
        self._read()
        return self._text

    def _read(self) -> None:
        raw = bytes(self._raw)
        raw = (raw.replace(b"\r\n", b"\n") if b"\r" in raw else raw).rstrip(b"\n")
        first, _, last = raw.rpartition(b"\n\n")  # the last one tells the counts of all
        if not self._read_pieces(first):
            last = raw
        for event in read_events(last):
            self._note(self._text, event)
        self._raw.clear()
        for kept in (self._text.content, self._text.reasoning):
            kept[:] = ["".join(kept)]
        size = (
            RAW_BYTES
            + 4 * self._text.pieces
            + sum(_size(kept[0]) for kept in (self._text.content, self._text.reasoning))
        )
        if size > self.charged:
            more = max(size - self.charged, CHARGE_BYTES)
            if self._afford(more):
                self.charged += more
            else:
                self.lost, self._text = True, SentText()

    def _read_pieces(self, events: bytes) -> bool:
        """Read events that are all pieces of text, one kind; return False if they may say something else."""
        sent = self._text
        if self._piece is None or not sent.names:
            return False
        found = self._piece.findall(events)
        kinds = {kind for kind, _ in found}
        if len(found) != events.count(b"\n\n") + 1 or len(kinds) != 1:
            return False
        pieces = [
            json.loads(text) if b"\\" in text else text[1:-1].decode("utf-8", "replace") for _, text in found
        ]
        is_content = kinds <= {b"content", b"text"}
        (sent.content if is_content else sent.reasoning).append("".join(pieces))
        sent.lengths[0 if is_content else 1].extend(map(len, filter(None, pieces)))
        return True


def read_events(events: bytes) -> Iterator[Event]:
    """Yield the events with a table as data. Comments and ``[DONE]`` are none; what is no JSON is skipped."""
    if b"\r" in events:
        events = events.replace(b"\r\n", b"\n")
    name = ""
    for line in events.split(b"\n"):
        if line.startswith(b"data:"):
            data = _table(line[5:])
            if data is not None:
                yield name, data
        elif line.startswith(b"event:"):
            name = line[6:].strip().decode("utf-8", "replace")
        elif not line:
            name = ""


def write_event(event: Event) -> bytes:
    """Return an event as it is sent, in the form of llama-server."""
    name, data = event
    head = f"event: {name}\n" if name else ""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return f"{head}data: {text}\n\n".encode("utf-8", "replace")


def _table(data: bytes) -> dict[str, Any] | None:
    try:
        content = json.loads(data)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def _size(text: str) -> int:
    """Return the bytes that Python keeps for a text: 1, 2 or 4 a character, by its widest character."""
    return len(text) if text.isascii() else text.__sizeof__()
