"""Read a stream of an API as a strict client does: its text, and what is wrong with its form. Pure: no I/O.

The forms are those that llama-server b11434 and b11549 send, measured, and those of the APIs' references.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

Event = tuple[str, str]
"""The name of an event, which may be empty, and its data."""


@dataclass(slots=True)
class Reading:
    """What a client has read. ``failed``: an error event came; ``ended``: the stream came to its end."""

    text: str = ""
    reasoning: str = ""
    ended: bool = False
    failed: bool = False
    finish: str = ""
    tokens: int | None = None
    prompt_tokens: int | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def whole(self) -> str:
        """Reasoning and answer in one, so that one comparison sees both."""
        return f"{self.reasoning}\0{self.text}"

    def once(self, what: str, count: int) -> None:
        """Note a problem if something did not come exactly once."""
        if count != 1:
            self.problems.append(f"{what} came {count} times")

    def check(self, what: str, right: bool) -> None:  # noqa: FBT001 - reads as a sentence
        """Note a problem unless this is right."""
        if not right:
            self.problems.append(what)


def parse(stream: str) -> list[Event]:
    """Return the events of a stream. Comments are left out."""
    events = []
    for block in stream.split("\n\n"):
        lines = [line.partition(": ") for line in block.split("\n") if line and not line.startswith(":")]
        data = "\n".join(value for name, _, value in lines if name == "data")
        if data:
            events.append((next((value for name, _, value in lines if name == "event"), ""), data))
    return events


def read(api: str, events: Iterable[Event]) -> Reading:
    """Read the events of a stream of this API."""
    reading, told = Reading(), []
    for name, data in events:
        content: Any = "[DONE]" if data == "[DONE]" else json.loads(data)
        if name == "error" or (isinstance(content, dict) and (content.get("error") or _failed(content))):
            reading.failed = True
        else:
            told.append((name, content))
    READERS[api](reading, told)
    if reading.failed:
        reading.ended = False
    return reading


def _failed(content: dict[str, Any]) -> bool:
    return content.get("type") in ("error", "response.failed")


def _openai(reading: Reading, told: list[tuple[str, Any]], *, chat: bool) -> None:
    """Chat and completions: one id, one role, one finish reason and nothing of the answer after it."""
    chunks = [content for _, content in told if isinstance(content, dict)]
    finishes, roles = 0, 0
    for chunk in chunks:
        for choice in chunk["choices"]:
            reading.check("an index is not 0", choice["index"] == 0)
            delta = choice["delta"] if chat else {"content": choice["text"]}
            text, reasoning = delta.get("content") or "", delta.get("reasoning_content") or ""
            reading.check("text after the finish reason", not finishes or not (text or reasoning))
            reading.check("reasoning after the answer has begun", not (reading.text and reasoning))
            reading.text += text
            reading.reasoning += reasoning
            roles += "role" in delta
            if choice["finish_reason"] is not None:
                finishes += 1
                reading.finish = choice["finish_reason"]
    for key in ("id", "model", "object"):
        values = {chunk.get(key) for chunk in chunks}
        reading.check(f"{len(values)} values of {key}", len(values) <= 1)
    if chunks and chat:
        reading.once("the role", roles)
    _openai_end(reading, told, finishes)


def _openai_end(reading: Reading, told: list[tuple[str, Any]], finishes: int) -> None:
    reading.ended = bool(told) and told[-1][1] == "[DONE]"
    usages = [content["usage"] for _, content in told if isinstance(content, dict) and content.get("usage")]
    timings = [
        content["timings"] for _, content in told if isinstance(content, dict) and "timings" in content
    ]
    if reading.ended:
        reading.once("the finish reason", finishes)
        reading.once("[DONE]", sum(content == "[DONE]" for _, content in told))
        reading.once("usage", len(usages))
    if usages:
        usage = usages[-1]
        reading.tokens, reading.prompt_tokens = usage["completion_tokens"], usage["prompt_tokens"]
        total = usage["prompt_tokens"] + usage["completion_tokens"]
        reading.check("total_tokens is no sum", usage["total_tokens"] == total)
        if timings:
            reading.check("timings and usage differ", timings[-1]["predicted_n"] == reading.tokens)


def _chat(reading: Reading, told: list[tuple[str, Any]]) -> None:
    _openai(reading, told, chat=True)


def _completions(reading: Reading, told: list[tuple[str, Any]]) -> None:
    _openai(reading, told, chat=False)


def _native(reading: Reading, told: list[tuple[str, Any]]) -> None:
    """Native: counts that never fall, and one last event."""
    counted, stops, prompts = 0, 0, set()
    for _, content in told:
        reading.check("an index is not 0", content["index"] == 0)
        reading.check("an event after the last one", not stops)
        reading.check("tokens_predicted falls", content["tokens_predicted"] >= counted)
        counted = content["tokens_predicted"]
        prompts.add(content["tokens_evaluated"])
        reading.text += content["content"]
        if content["stop"]:
            stops += 1
            reading.tokens, reading.prompt_tokens = counted, content["tokens_evaluated"]
            reading.finish = content["stop_type"]
            reading.check("timings and tokens differ", content["timings"]["predicted_n"] == counted)
    reading.check(f"{len(prompts)} values of tokens_evaluated", len(prompts) <= 1)
    reading.ended = stops == 1
    reading.check(f"the last event came {stops} times", stops <= 1)


def _messages(reading: Reading, told: list[tuple[str, Any]]) -> None:
    """Anthropic: blocks one after the other, each delta in the open block of its kind."""
    kinds = [content["type"] for _, content in told]
    opened: list[str] = []
    is_open = False
    for name, content in told:
        reading.check("an event's name is not its type", name == content["type"])
        kind, index = content["type"], content.get("index")
        if kind == "content_block_start":
            reading.check("a block opens at a wrong index", index == len(opened) and not is_open)
            opened.append(content["content_block"]["type"])
            is_open = True
        elif kind == "content_block_delta":
            reading.check("a delta outside its block", is_open and index == len(opened) - 1)
            delta = content["delta"]
            of = {"text_delta": "text"}.get(delta["type"], "thinking")
            reading.check(f"a {delta['type']} in a block of another kind", bool(opened) and opened[-1] == of)
            reading.text += delta.get("text", "")
            reading.reasoning += delta.get("thinking", "")
        elif kind == "content_block_stop":
            reading.check("a block closes at a wrong index", is_open and index == len(opened) - 1)
            is_open = False
        elif kind == "message_start":
            usage = content["message"]["usage"]
            reading.prompt_tokens = usage["input_tokens"] + usage.get("cache_read_input_tokens", 0)
        elif kind == "message_delta":
            reading.finish, reading.tokens = (
                content["delta"]["stop_reason"],
                content["usage"]["output_tokens"],
            )
    reading.ended = kinds[-1:] == ["message_stop"]
    reading.check(f"blocks {opened}", opened in ([], ["text"], ["thinking"], ["thinking", "text"]))
    if kinds:
        reading.check("it does not begin with message_start", kinds[0] == "message_start")
        reading.once("message_start", kinds.count("message_start"))
    if reading.ended:
        reading.check("a block is open at the end", not is_open)
        reading.once("message_delta", kinds.count("message_delta"))
        reading.once("message_stop", kinds.count("message_stop"))


def _responses(reading: Reading, told: list[tuple[str, Any]]) -> None:  # noqa: C901 - a branch a kind
    """Responses: each delta in its item, and the texts at the end are the sums of the deltas."""
    kinds = [content["type"] for _, content in told]
    items: list[str] = []
    for name, content in told:
        kind = content["type"]
        reading.check("an event's name is not its type", name == kind)
        if kind == "response.output_item.added":
            items.append(content["item"]["id"])
        elif kind == "response.output_text.delta":
            reading.text += content["delta"]
        elif kind == "response.reasoning_text.delta":
            reading.reasoning += content["delta"]
        elif kind == "response.output_text.done":
            reading.check("the text at the end is another", content["text"] == reading.text)
        elif kind == "response.reasoning_text.done":
            reading.check("the reasoning at the end is another", content["text"] == reading.reasoning)
        elif kind in ("response.completed", "response.incomplete"):
            _responses_end(reading, content["response"])
        if kind.endswith(".delta"):
            reading.check("a delta outside its item", items[-1:] == [content["item_id"]])
    reading.ended = kinds[-1:] in (["response.completed"], ["response.incomplete"])
    for kind in ("response.created", "response.in_progress"):
        if kinds:
            reading.once(kind, kinds.count(kind))
    if reading.ended:
        for kind in ("response.output_text.done", kinds[-1]):
            reading.once(kind, kinds.count(kind))
        ids = {content["response"]["id"] for _, content in told if "response" in content}
        reading.check(f"{len(ids)} values of id", len(ids) == 1)
        done = [
            content["item"]["id"] for _, content in told if content["type"] == "response.output_item.done"
        ]
        reading.check("other items end than began", sorted(done) == sorted(items))


def _responses_end(reading: Reading, response: dict[str, Any]) -> None:
    usage = response["usage"]
    reading.finish = response["status"]
    reading.tokens, reading.prompt_tokens = usage["output_tokens"], usage["input_tokens"]
    reading.check("total_tokens is no sum", usage["total_tokens"] == reading.tokens + reading.prompt_tokens)
    texts = [
        part["text"] for item in response["output"] if item["type"] == "message" for part in item["content"]
    ]
    reading.check("the last event has another text", "".join(texts) == reading.text)


READERS: dict[str, Callable[[Reading, list[tuple[str, Any]]], None]] = {
    "chat": _chat,
    "messages": _messages,
    "completions": _completions,
    "native": _native,
    "responses": _responses,
}


def repeated_at(seam: int, text: str, most: int = 200) -> str:
    """Return the end of what stood before the seam if the text after it begins with the same.

    A text that goes round in circles anyway, and has said this before, is not repeated by the seam.
    """
    before, after = text[:seam], text[seam:]
    sizes = range(min(most, len(before), len(after)), 0, -1)
    again = next((after[:size] for size in sizes if before.endswith(after[:size])), "")
    return "" if again and before.find(again) < len(before) - len(again) else again
