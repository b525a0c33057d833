"""The answer of a chat endpoint, complete or partial. Pure: no I/O.

Reads what OpenAI's API and llama-server send. A field that is missing or has the wrong type is left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

Table = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Timings:
    """Times by the server's clock. ``prompt_tokens`` leaves out the tokens that came from its cache.

    Source: llama.cpp, tools/server/README.md, ``timings``.
    """

    cached_tokens: int
    prompt_tokens: int
    prompt_s: float
    generated_tokens: int
    generation_s: float
    drafted_tokens: int = 0
    accepted_tokens: int = 0

    @property
    def prompt_tokens_per_s(self) -> float | None:
        """Prompt speed."""
        return self.prompt_tokens / self.prompt_s if self.prompt_s > 0 else None

    @property
    def generated_tokens_per_s(self) -> float | None:
        """Generation speed. The first token belongs to the prompt's time, so it is not counted."""
        return (self.generated_tokens - 1) / self.generation_s if self.generation_s > 0 else None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One tool call of the model. ``arguments`` is JSON text."""

    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Piece:
    """The part of an answer that one event added."""

    text: str = ""
    reasoning: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer so far. ``finish`` is None while the answer is not complete.

    ``first_s`` and ``last_s`` are the times of the first and the last piece of text: seconds since the
    request was sent, by the client's clock.
    """

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish: str | None = None
    model: str | None = None
    role: str | None = None
    prompt_tokens: int | None = None
    generated_tokens: int | None = None
    timings: Timings | None = None
    first_s: float | None = None
    last_s: float | None = None
    events: int = field(default=0, compare=False)

    @property
    def message(self) -> dict[str, object]:
        """The answer as a message for the next request."""
        message: dict[str, object] = {"role": "assistant", "content": self.text}
        if self.reasoning:
            message["reasoning_content"] = self.reasoning
        if self.tool_calls:
            message["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for call in self.tool_calls
            ]
        return message

    @property
    def client_tokens_per_s(self) -> float | None:
        """Generation speed by the client's clock: the tokens after the first one, over the time after it."""
        if self.first_s is None or self.last_s is None or not self.generated_tokens:
            return None
        duration_s = self.last_s - self.first_s
        return (self.generated_tokens - 1) / duration_s if duration_s > 0 else None


def table(value: object) -> Table:
    """Return ``value`` if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def rows(value: object) -> list[object]:
    """Return ``value`` if it is a JSON array, else an empty one."""
    return value if isinstance(value, list) else []


def text(value: object) -> str:
    """Return ``value`` if it is a string, else an empty one."""
    return value if isinstance(value, str) else ""


def number(value: object) -> float | None:
    """Return ``value`` if it is a number."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def whole(body: Table) -> Answer:
    """Return the answer of a request that did not stream."""
    choice = table((rows(body.get("choices")) or [None])[0])
    return _with_message(_with_counts(Answer(), body), choice, table(choice.get("message")))[0]


def grow(answer: Answer, event: Table, now_s: float) -> tuple[Answer, Piece]:
    """Return the answer with one more event of its stream, and what the event added."""
    answer = replace(_with_counts(answer, event), events=answer.events + 1)
    choice = table((rows(event.get("choices")) or [None])[0])
    answer, piece = _with_message(answer, choice, table(choice.get("delta")))
    if piece.text or piece.reasoning or rows(table(choice.get("delta")).get("tool_calls")):
        answer = replace(answer, last_s=now_s, first_s=now_s if answer.first_s is None else answer.first_s)
    return answer, piece


def _with_message(answer: Answer, choice: Table, message: Table) -> tuple[Answer, Piece]:
    piece = Piece(text(message.get("content")), text(message.get("reasoning_content")))
    calls = list(answer.tool_calls)
    for place, entry in enumerate(rows(message.get("tool_calls"))):
        index = number(table(entry).get("index"))
        _add_call(calls, place if index is None else int(index), table(entry))
    return (
        replace(
            answer,
            text=answer.text + piece.text,
            reasoning=answer.reasoning + piece.reasoning,
            tool_calls=tuple(calls),
            finish=text(choice.get("finish_reason")) or answer.finish,
            role=text(message.get("role")) or answer.role,
        ),
        piece,
    )


def _add_call(calls: list[ToolCall], index: int, entry: Table) -> None:
    if not 0 <= index <= len(calls):
        return  # the numbers have a gap: no such call can be made
    if index == len(calls):
        calls.append(ToolCall())
    function, call = table(entry.get("function")), calls[index]
    calls[index] = ToolCall(
        text(entry.get("id")) or call.id,
        call.name + text(function.get("name")),
        call.arguments + text(function.get("arguments")),
    )


def _with_counts(answer: Answer, body: Table) -> Answer:
    usage = table(body.get("usage"))
    prompt, generated = number(usage.get("prompt_tokens")), number(usage.get("completion_tokens"))
    return replace(
        answer,
        model=text(body.get("model")) or answer.model,
        prompt_tokens=answer.prompt_tokens if prompt is None else int(prompt),
        generated_tokens=answer.generated_tokens if generated is None else int(generated),
        timings=_timings(table(body.get("timings"))) or answer.timings,
    )


def _timings(timings: Table) -> Timings | None:
    names = ("cache_n", "prompt_n", "prompt_ms", "predicted_n", "predicted_ms", "draft_n", "draft_n_accepted")
    values = [number(timings.get(name)) for name in names]
    cached, prompt, prompt_ms, generated, generated_ms, drafted, accepted = (value or 0.0 for value in values)
    if values[1] is None or values[3] is None:
        return None
    return Timings(
        int(cached),
        int(prompt),
        prompt_ms / 1000,
        int(generated),
        generated_ms / 1000,
        int(drafted),
        int(accepted),
    )
