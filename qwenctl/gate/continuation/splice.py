"""Join the next server's part of an answer to what the client has. Pure: no I/O.

``FORMATS`` is the one table of the APIs whose streams can be continued.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from qwenctl.gate.continuation import chat_stream, messages_stream, responses_stream, text_stream
from qwenctl.gate.continuation.seam import Seam
from qwenctl.gate.continuation.sent_answer import Event, SentText, read_events, write_event

DONE = b"data: [DONE]"


@dataclass(frozen=True, slots=True)
class StreamFormat:
    """What is known of the streams of one API.

    ``limits``: the fields of a request that limit the tokens of its answer. ``count_path``: where the server
    counts the tokens of such a request; None: the prompt is counted as a text. ``echoes``: some servers
    repeat the text so far. ``piece``: what an event looks like that is nothing but a piece of text.
    Source: llama-server b11434, tools/server/server.cpp, and measured.
    """

    kind: str
    note: Callable[[SentText, Event], None]
    go_on: Callable[[dict[str, Any], str, str], dict[str, Any]]
    splice: Callable[[Seam, Event], list[Event]]
    limits: tuple[str, ...]
    count_path: str | None
    echoes: bool = False
    piece: re.Pattern[bytes] | None = None


TOKEN_LIMITS = ("n_predict", "max_completion_tokens", "max_tokens")
CHAT = StreamFormat(
    "chat",
    chat_stream.note,
    chat_stream.go_on,
    chat_stream.splice,
    TOKEN_LIMITS,
    "/v1/chat/completions/input_tokens",
    piece=chat_stream.PIECE,
)
TEXT = StreamFormat(
    "text", text_stream.note_text, text_stream.go_on, text_stream.splice_text, TOKEN_LIMITS, None
)
NATIVE = StreamFormat(
    "native", text_stream.note_native, text_stream.go_on, text_stream.splice_native, TOKEN_LIMITS, None
)
MESSAGES = StreamFormat(
    "messages",
    messages_stream.note,
    messages_stream.go_on,
    messages_stream.splice,
    ("max_tokens",),
    "/v1/messages/count_tokens",
    echoes=True,
    piece=messages_stream.PIECE,
)
RESPONSES = StreamFormat(
    "responses",
    responses_stream.note,
    responses_stream.go_on,
    responses_stream.splice,
    ("max_output_tokens", *TOKEN_LIMITS),
    "/v1/responses/input_tokens",
)
FORMATS = {
    "/v1/chat/completions": CHAT,
    "/chat/completions": CHAT,
    "/v1/completions": TEXT,
    "/completion": NATIVE,
    "/completions": NATIVE,
    "/v1/messages": MESSAGES,
    "/v1/responses": RESPONSES,
    "/responses": RESPONSES,
}


def with_rest(
    form: StreamFormat, asked: dict[str, Any], body: dict[str, Any], tokens: int
) -> tuple[dict[str, Any], bool]:
    """Return the request with the limit that is left after ``tokens``, and whether none is left.

    A server can't be asked for no token, so it is then asked for one that nobody is sent.
    """
    limits = {name: asked[name] for name in form.limits if isinstance(asked.get(name), int)}
    if form is MESSAGES:
        limits.setdefault("max_tokens", messages_stream.DEFAULT_MAX_TOKENS)
    limits = {name: limit for name, limit in limits.items() if limit >= 0}
    used_up = any(limit <= tokens for limit in limits.values())
    return body | {name: max(limit - tokens, 1) for name, limit in limits.items()}, used_up


class Splicer:
    """Turns the events of the next server's part into those of the whole answer."""

    def __init__(self, form: StreamFormat, seam: Seam) -> None:
        self._form, self._seam = form, seam

    def feed(self, events: bytes) -> bytes:
        """Return what the client is sent for some whole events. Comments are passed on."""
        out: list[bytes] = []
        for block in events.replace(b"\r\n", b"\n").split(b"\n\n"):
            if block.startswith((b":", DONE)):
                out.append(block + b"\n\n")
                continue
            for event in read_events(block):
                out += (write_event(each) for each in self._form.splice(self._seam, event))
        return b"".join(out)
