"""Streams of ``/v1/responses``: what they say, how one is continued, and how its parts join. Pure: no I/O.

Source: OpenAI API reference, responses streaming; llama-server b11434, tools/server/server-task.cpp.
"""

from typing import Any

from qwenctl.gate.continuation.seam import Seam, join_timings, join_usage
from qwenctl.gate.continuation.sent_answer import Event, SentText

USAGE = ("input_tokens", "output_tokens", "total_tokens", "input_tokens_details")
ITEMS = ("reasoning", "message")


def note(sent: SentText, event: Event) -> None:
    """Note what an event says. ``blocks``: the name of each item, by its kind."""
    data = event[1]
    kind = str(data.get("type"))
    if kind == "response.created" and isinstance(data.get("response"), dict):
        sent.role = True
        sent.names = {"response": data["response"].get("id")}
    elif kind == "response.output_item.added" and isinstance(data.get("item"), dict):
        item = data["item"]
        sent.other = sent.other or item.get("type") not in ITEMS
        sent.blocks[str(item.get("type"))] = [item.get("id"), False]
    elif kind == "response.content_part.added":
        for block in sent.blocks.values():
            block[1] = block[1] or block[0] == data.get("item_id")
    elif kind == "response.output_text.delta":
        sent.add(data.get("delta"))
    elif kind == "response.reasoning_text.delta":
        sent.add(None, data.get("delta"))
    elif kind in ("response.completed", "response.incomplete", "response.failed"):
        sent.ended = True
    elif kind.endswith(".delta"):
        sent.other = True


def go_on(asked: dict[str, Any], content: str, reasoning: str) -> dict[str, Any]:
    """Return the request that asks the next server to go on after the text so far."""
    turns = asked["input"]
    items: list[dict[str, Any]] = (
        [{"role": "user", "content": turns}] if isinstance(turns, str) else list(turns)
    )
    if reasoning:
        text = [{"type": "reasoning_text", "text": reasoning}]
        items.append({"type": "reasoning", "summary": [], "content": text, "encrypted_content": ""})
    if content:
        text = [{"type": "output_text", "text": content}]
        items.append({"type": "message", "role": "assistant", "content": text})
    part: str | bool = ("content" if content else "reasoning_content") if reasoning else True
    return asked | {
        "input": items,
        "continue_final_message": part,
        "add_generation_prompt": False,
        "echo": False,
    }


def splice(seam: Seam, event: Event) -> list[Event]:
    """Return the events of the whole answer for an event of its next part.

    The last events say the whole text again, so ``seam.content`` and ``seam.reasoning`` grow with the answer.
    """
    name, data = event
    kind = str(data.get("type"))
    match kind:
        case "response.created" | "response.in_progress":
            _rename(seam, data)
            return [] if seam.role else [event]
        case "response.output_item.added" | "response.content_part.added":
            return _opened(seam, event)
        case "response.output_text.delta" | "response.reasoning_text.delta":
            return _delta(seam, name, data, "message" if "output" in kind else "reasoning")
        case "response.output_text.done":
            return [(name, _named(seam, data, "message") | {"text": seam.content})]
        case "response.content_part.done":
            if isinstance(data.get("part"), dict):
                data["part"]["text"] = seam.content
            return [(name, _named(seam, data, "message"))]
        case "response.output_item.done":
            _whole_item(seam, data.get("item"))
        case _ if isinstance(data.get("response"), dict):
            _whole_response(seam, data)
        case _:
            pass
    return [event]


def _opened(seam: Seam, event: Event) -> list[Event]:
    """Pass on the start of an item, or of its text, unless the client has seen it."""
    name, data = event
    item = data.get("item")
    if isinstance(item, dict):
        key = str(item.get("type"))
        if seam.mute or (key in seam.blocks and key in ITEMS):
            return []
        seam.blocks[key] = [item.get("id"), False]
        return [event]
    block = seam.blocks.get("message")
    if seam.mute or block is None or block[1]:
        return []
    block[1] = True
    return [(name, data | {"item_id": block[0]})]


def _delta(seam: Seam, name: str, data: dict[str, Any], key: str) -> list[Event]:
    text = data.get("delta")
    text = text if isinstance(text, str) else ""
    if key == "message":
        new = seam.new_content(text)
        seam.content += new
    else:
        new = seam.new_reasoning(text)
        seam.reasoning += new
    data.pop("timings", None)
    return [(name, _named(seam, data, key) | {"delta": new})] if new else []


def _named(seam: Seam, data: dict[str, Any], key: str) -> dict[str, Any]:
    """Give an item the name under which the client knows it."""
    block = seam.blocks.get(key)
    return data | {"item_id": block[0]} if block is not None else data


def _whole_item(seam: Seam, item: object) -> None:
    """Give a finished item its name and its whole text."""
    if not isinstance(item, dict):
        return
    key = str(item.get("type"))
    block = seam.blocks.get(key)
    if key in ITEMS and block is not None:
        item["id"] = block[0]
        parts = item.get("content")
        for part in parts if isinstance(parts, list) else []:
            if isinstance(part, dict):
                part["text"] = seam.content if key == "message" else seam.reasoning


def _whole_response(seam: Seam, data: dict[str, Any]) -> None:
    """Give the whole answer its name, its items and its counts."""
    answer = data["response"]
    _rename(seam, data)
    output = answer.get("output")
    items = output if isinstance(output, list) else []
    for item in items:
        _whole_item(seam, item)
    if seam.reasoning and "reasoning" in seam.blocks:
        told = any(isinstance(item, dict) and item.get("type") == "reasoning" for item in items)
        if not told:
            text = [{"type": "reasoning_text", "text": seam.reasoning}]
            item = {"type": "reasoning", "id": seam.blocks["reasoning"][0], "summary": [], "content": text}
            answer["output"] = [item | {"encrypted_content": ""}, *items]
    if isinstance(answer.get("usage"), dict):
        answer["usage"] = join_usage(answer["usage"], seam, USAGE)
    if isinstance(data.get("timings"), dict):
        data["timings"] = join_timings(data["timings"], seam)


def _rename(seam: Seam, data: dict[str, Any]) -> None:
    answer = data.get("response")
    if seam.names.get("response") and isinstance(answer, dict):
        answer["id"] = seam.names["response"]
