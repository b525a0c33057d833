"""Streams of ``/v1/messages``: what they say, how one is continued, and how its parts join. Pure: no I/O.

Source: Anthropic Messages streaming; llama-server b11434, tools/server/server-task.cpp. That server ends each
part of an answer (thinking, text) only at the end of the whole answer.
"""

import re
from typing import Any

from qwenctl.gate.continuation.seam import Seam
from qwenctl.gate.continuation.sent_answer import Event, SentText

DEFAULT_MAX_TOKENS = 4096
"""What the server takes where the request names no limit. Source: llama-server b11434, server-chat.cpp."""
KINDS = ("thinking", "text")
PIECE = re.compile(
    rb'event: content_block_delta\ndata: \{"type":"content_block_delta","index":\d+,'
    rb'"delta":\{"type":"(text|thinking)_delta","(?:text|thinking)":("[^"\\]*(?:\\.[^"\\]*)*")\}\}(?=\n|$)'
)
"""An event that is nothing but a piece of text, in the form of llama-server b11434 and b11549."""


def note(sent: SentText, event: Event) -> None:
    """Note what an event says. ``blocks``: the index of each part, and whether it is still open."""
    data = event[1]
    match data.get("type"):
        case "message_start":
            sent.role = True
            sent.names = {"message": data.get("message")}
        case "content_block_start":
            block = data.get("content_block")
            kind = block.get("type") if isinstance(block, dict) else None
            sent.other = sent.other or kind not in KINDS
            sent.blocks[str(kind)] = [data.get("index"), True]
        case "content_block_delta":
            delta = data.get("delta")
            if isinstance(delta, dict):
                sent.add(delta.get("text"), delta.get("thinking"))
                known = {"type", "text", "thinking", "signature"}
                sent.other = sent.other or bool(set(delta) - known)
        case "content_block_stop":
            for block in sent.blocks.values():
                if block[0] == data.get("index"):
                    block[1] = False
        case "message_delta":
            sent.ended = True
        case _:
            pass


def go_on(asked: dict[str, Any], content: str, reasoning: str) -> dict[str, Any]:
    """Return the request that asks the next server to go on after the text so far."""
    blocks: list[dict[str, str]] = []
    if reasoning:
        blocks.append({"type": "thinking", "thinking": reasoning, "signature": ""})
    if content:
        blocks.append({"type": "text", "text": content})
    return asked | {"messages": [*asked["messages"], {"role": "assistant", "content": blocks}]}


def splice(seam: Seam, event: Event) -> list[Event]:
    """Return the events of the whole answer for an event of its next part.

    ``seam.blocks`` follows which parts the client knows. A part has another number in the next server's count
    if the client has seen one that the next server has not.
    """
    name, data = event
    match data.get("type"):
        case "message_start" if seam.role:
            return []
        case "content_block_start":
            key = _key(seam, data)
            if key in seam.blocks or seam.mute:
                return []
            return [(name, data | {"index": _opened(seam, key)})]
        case "content_block_delta":
            return _delta(seam, name, data)
        case "content_block_stop":
            return []  # all parts are closed in order, at the end
        case "message_delta":
            usage = data.get("usage")
            if isinstance(usage, dict):
                data["usage"] = usage | {"output_tokens": seam.answered(usage.get("output_tokens"))}
            return [*_closed(seam), event]
        case _:
            return [event]


def _delta(seam: Seam, name: str, data: dict[str, Any]) -> list[Event]:
    delta = data.get("delta")
    if not isinstance(delta, dict) or seam.mute:
        return []
    match delta.get("type"):
        case "text_delta":
            key, field, new = "text", "text", seam.new_content
        case "thinking_delta":
            key, field, new = "thinking", "thinking", seam.new_reasoning
        case "signature_delta":
            return []  # one is sent when the part is closed
        case _:
            key = seam.keys.get(data.get("index"), "")
            return [(name, data | {"index": seam.blocks[key][0]})] if key in seam.blocks else []
    text = delta.get(field)
    delta[field] = new(text if isinstance(text, str) else "")
    if not delta[field]:
        return []
    opened: list[Event] = []
    if key not in seam.blocks:
        start = {"type": "content_block_start", "index": _opened(seam, key)}
        opened.append(("content_block_start", start | {"content_block": {"type": key, field: ""}}))
    return [*opened, (name, data | {"index": seam.blocks[key][0]})]


def _key(seam: Seam, data: dict[str, Any]) -> str:
    """Return the name of a part: its kind, and its number where there may be several (calls of tools)."""
    block, number = data.get("content_block"), data.get("index")
    kind = str(block.get("type")) if isinstance(block, dict) else ""
    seam.keys[number] = kind if kind in KINDS else f"{kind} {number}"
    return seam.keys[number]


def _opened(seam: Seam, key: str) -> int:
    """Give a new part the next number."""
    number = 1 + max((block[0] for block in seam.blocks.values()), default=-1)
    seam.blocks[key] = [number, True]
    return number


def _closed(seam: Seam) -> list[Event]:
    """Return the ends of the open parts, in their order."""
    ends: list[Event] = []
    for key, block in seam.blocks.items():
        number, is_open = block
        if not is_open:
            continue
        block[1] = False
        if key == "thinking":
            signature = {"type": "signature_delta", "signature": ""}
            told = {"type": "content_block_delta", "index": number, "delta": signature}
            ends.append(("content_block_delta", told))
        ends.append(("content_block_stop", {"type": "content_block_stop", "index": number}))
    return ends
