"""Streams of ``/v1/completions`` and of llama-server's own ``/completion``: what they say, how parts join.

The text so far is put at the end of the prompt. Pure: no I/O. Source: OpenAI API reference, completions;
llama-server b11434, tools/server/server-task.cpp.
"""

from typing import Any

from qwenctl.gate.continuation.chat_stream import NAMES, USAGE
from qwenctl.gate.continuation.seam import Seam, join_timings, join_usage
from qwenctl.gate.continuation.sent_answer import Event, SentText


def note_text(sent: SentText, event: Event) -> None:
    """Note what an event of ``/v1/completions`` says."""
    data = event[1]
    if not sent.names:
        sent.names = {name: data[name] for name in NAMES if name in data}
    choices = data.get("choices")
    for choice in choices if isinstance(choices, list) else []:
        if isinstance(choice, dict):
            sent.add(choice.get("text"))
            sent.ended = sent.ended or choice.get("finish_reason") is not None


def note_native(sent: SentText, event: Event) -> None:
    """Note what an event of ``/completion`` says. It tells the number of tokens itself."""
    data = event[1]
    sent.add(data.get("content"))
    if isinstance(data.get("tokens_predicted"), int):
        sent.tokens = data["tokens_predicted"]
    if isinstance(data.get("tokens_evaluated"), int):
        sent.prompt_tokens = data["tokens_evaluated"]
    sent.ended = sent.ended or data.get("stop") is True


def go_on(asked: dict[str, Any], content: str, reasoning: str) -> dict[str, Any]:
    """Return the request that asks the next server to go on after the text so far."""
    del reasoning  # there is none in these answers
    prompt = asked["prompt"]
    longer = prompt + content if isinstance(prompt, str) else [*prompt, content]
    return asked | {"prompt": longer if content else prompt}


def splice_text(seam: Seam, event: Event) -> list[Event]:
    """Return the events of the whole answer for an event of its next part."""
    name, data = event
    if "error" in data:
        return [event]
    told = isinstance(data.get("usage"), dict)
    choices = data.get("choices")
    for choice in choices if isinstance(choices, list) else []:
        if isinstance(choice, dict) and isinstance(choice.get("text"), str):
            choice["text"] = seam.new_content(choice["text"])
            told = told or bool(choice["text"]) or choice.get("finish_reason") is not None
    if isinstance(data.get("usage"), dict):
        data["usage"] = join_usage(data["usage"], seam, USAGE)
    if isinstance(data.get("timings"), dict):
        data["timings"] = join_timings(data["timings"], seam)
    data.pop("prompt_progress", None)
    return [(name, data | seam.names)] if told else []


def splice_native(seam: Seam, event: Event) -> list[Event]:
    """Return the events of the whole answer for an event of its next part."""
    name, data = event
    if "error" in data:
        return [event]
    if isinstance(data.get("content"), str):
        data["content"] = seam.new_content(data["content"])
    if "tokens_predicted" in data:
        data["tokens_predicted"] = seam.answered(data["tokens_predicted"])
    if "tokens_evaluated" in data:
        data["tokens_evaluated"] = seam.prompted(data["tokens_evaluated"])
    if isinstance(data.get("prompt"), str) and seam.content:
        data["prompt"] = data["prompt"].removesuffix(seam.content)
    settings = data.get("generation_settings")
    if isinstance(settings, dict):
        for limit in ("n_predict", "max_tokens"):
            if isinstance(settings.get(limit), int) and settings[limit] >= 0:
                settings[limit] = (0 if seam.mute else settings[limit]) + seam.answer_tokens
    if isinstance(data.get("timings"), dict):
        data["timings"] = join_timings(data["timings"], seam)
    data.pop("prompt_progress", None)
    told = data.get("content") or data.get("stop") is True
    return [(name, data)] if told else []
