"""Streams of ``/v1/chat/completions``: what they say, how one is continued, how its parts join. Pure: no I/O.

Source: OpenAI API reference, chat streaming; llama-server b11434, tools/server/server-task.cpp.
"""

import re
from typing import Any

from qwenctl.gate.continuation.seam import Seam, join_timings, join_usage
from qwenctl.gate.continuation.sent_answer import Event, SentText

NAMES = ("id", "created", "model", "system_fingerprint")
USAGE = ("prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details")


TOKEN_TIMINGS = b'"timings_per_token":true,'
UNASKED, BEFORE_THE_END = b',"timings":{', b'"finish_reason":null'
PIECE = re.compile(
    rb'data: \{"choices":\[\{"finish_reason":null,"index":0,'
    rb'"delta":\{"(content|reasoning_content)":("[^"\\]*(?:\\.[^"\\]*)*")\}\}\]'
)
"""An event that is nothing but a piece of text, in the form of llama-server b11434 and b11549."""


def ask_for_counts(body: bytearray) -> bool:
    """Make the server tell the count of tokens with each event; return whether the client did not ask so.

    Under a schema a token may leave no text, as the blanks before the JSON do, so the pieces of text can't be
    counted. Other streams are spared: each event would be twice as long.
    """
    if not body.startswith(b"{") or b'"stream"' not in body or b'"timings_per_token"' in body:
        return False
    if b'"response_format"' not in body and b'"json_schema"' not in body:
        return False
    body[1:1] = TOKEN_TIMINGS
    return True


def without_counts(events: bytes) -> bytes:
    """Return events without the counts that the client did not ask for. Those of the last event stay."""
    if events.find(b"\n\n") == len(events) - 2:
        return _without_counts(events)
    return b"\n\n".join(_without_counts(event) for event in events.split(b"\n\n"))


def _without_counts(event: bytes) -> bytes:
    """Return one event without its counts: quotes in a text are escaped, so no text looks like them."""
    at = event.rfind(UNASKED)
    if at < 0 or BEFORE_THE_END not in event:
        return event
    return event[:at] + event[event.find(b"}", at) + 1 :]


def note(sent: SentText, event: Event) -> None:
    """Note what an event says."""
    data = event[1]
    if not sent.names:
        sent.names = {name: data[name] for name in NAMES if name in data}
    sent.add_timings(data.get("timings"))
    for choice in _choices(data):
        delta = choice.get("delta")
        if isinstance(delta, dict):
            sent.role = sent.role or "role" in delta
            sent.add(delta.get("content"), delta.get("reasoning_content"))
            text_only = {"role", "content", "reasoning_content"}
            sent.other = sent.other or any(delta[name] for name in set(delta) - text_only)
        sent.ended = sent.ended or choice.get("finish_reason") is not None


def go_on(asked: dict[str, Any], content: str, reasoning: str) -> dict[str, Any]:
    """Return the request that asks the next server to go on after the text so far."""
    message: dict[str, Any] = {"role": "assistant", "content": content}
    if reasoning:
        message["reasoning_content"] = reasoning
    part: str | bool = ("content" if content else "reasoning_content") if reasoning else True
    return asked | {
        "messages": [*asked["messages"], message],
        "continue_final_message": part,
        "add_generation_prompt": False,
        "echo": False,
    }


def splice(seam: Seam, event: Event) -> list[Event]:
    """Return the events of the whole answer for an event of its next part."""
    name, data = event
    if "error" in data:
        return [event]
    told = False
    for choice in _choices(data):
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            continue
        if seam.role:
            delta.pop("role", None)
        seam.role = seam.role or "role" in delta
        for field, new in (("content", seam.new_content), ("reasoning_content", seam.new_reasoning)):
            if isinstance(delta.get(field), str):
                delta[field] = new(delta[field])
            if not delta.get(field) and "role" not in delta:
                delta.pop(field, None)
        told = told or bool(delta) or choice.get("finish_reason") is not None
    if isinstance(data.get("usage"), dict):
        data["usage"], told = join_usage(data["usage"], seam, USAGE), True
    if isinstance(data.get("timings"), dict):
        data["timings"] = join_timings(data["timings"], seam)
    data.pop("prompt_progress", None)
    return [(name, data | seam.names)] if told else []


def _choices(data: dict[str, Any]) -> list[dict[str, Any]]:
    choices = data.get("choices")
    return [each for each in choices if isinstance(each, dict)] if isinstance(choices, list) else []
