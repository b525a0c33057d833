"""An answer of a chat endpoint, whole or as far as it has come. Pure: no I/O.

Reads what OpenAI's API and llama-server send; a field that is missing or of another type counts as not said.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

Table = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Timings:
    """The server's own clock. Tokens of the prompt that came from its cache are not in ``prompt_tokens``.

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
        """Speed of reading."""
        return self.prompt_tokens / self.prompt_s if self.prompt_s > 0 else None

    @property
    def generated_tokens_per_s(self) -> float | None:
        """Speed of writing. The first token belongs to the prompt's time, so it is not counted."""
        return (self.generated_tokens - 1) / self.generation_s if self.generation_s > 0 else None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call the model wants made. ``arguments`` is JSON text."""

    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Piece:
    """What one event added."""

    text: str = ""
    reasoning: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What has arrived. ``finish`` is None while the answer is not complete.

    Times are seconds since the request was sent, by the client's clock; ``first_s`` is that of the first
    piece of text, ``last_s`` that of the last.
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
        """The answer as a message of the conversation to come."""
        told: dict[str, object] = {"role": "assistant", "content": self.text}
        if self.reasoning:
            told["reasoning_content"] = self.reasoning
        if self.tool_calls:
            told["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for call in self.tool_calls
            ]
        return told

    @property
    def client_tokens_per_s(self) -> float | None:
        """Speed of writing by the client's clock: tokens after the first, over the time after it."""
        if self.first_s is None or self.last_s is None or not self.generated_tokens:
            return None
        took = self.last_s - self.first_s
        return (self.generated_tokens - 1) / took if took > 0 else None


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
    return _grown(_said(Answer(), body), choice, table(choice.get("message")))[0]


def grow(answer: Answer, event: Table, now_s: float) -> tuple[Answer, Piece]:
    """Return the answer with one more event of its stream, and what the event added."""
    answer = replace(_said(answer, event), events=answer.events + 1)
    choice = table((rows(event.get("choices")) or [None])[0])
    answer, piece = _grown(answer, choice, table(choice.get("delta")))
    if piece.text or piece.reasoning or rows(table(choice.get("delta")).get("tool_calls")):
        answer = replace(answer, last_s=now_s, first_s=now_s if answer.first_s is None else answer.first_s)
    return answer, piece


def _grown(answer: Answer, choice: Table, said: Table) -> tuple[Answer, Piece]:
    piece = Piece(text(said.get("content")), text(said.get("reasoning_content")))
    calls = list(answer.tool_calls)
    for place, entry in enumerate(rows(said.get("tool_calls"))):
        index = number(table(entry).get("index"))
        _add_call(calls, place if index is None else int(index), table(entry))
    return (
        replace(
            answer,
            text=answer.text + piece.text,
            reasoning=answer.reasoning + piece.reasoning,
            tool_calls=tuple(calls),
            finish=text(choice.get("finish_reason")) or answer.finish,
            role=text(said.get("role")) or answer.role,
        ),
        piece,
    )


def _add_call(calls: list[ToolCall], index: int, entry: Table) -> None:
    if not 0 <= index <= len(calls):
        return  # a hole in the numbering: not a call anyone could make
    if index == len(calls):
        calls.append(ToolCall())
    function, call = table(entry.get("function")), calls[index]
    calls[index] = ToolCall(
        text(entry.get("id")) or call.id,
        call.name + text(function.get("name")),
        call.arguments + text(function.get("arguments")),
    )


def _said(answer: Answer, body: Table) -> Answer:
    usage = table(body.get("usage"))
    prompt, generated = number(usage.get("prompt_tokens")), number(usage.get("completion_tokens"))
    return replace(
        answer,
        model=text(body.get("model")) or answer.model,
        prompt_tokens=answer.prompt_tokens if prompt is None else int(prompt),
        generated_tokens=answer.generated_tokens if generated is None else int(generated),
        timings=_timings(table(body.get("timings"))) or answer.timings,
    )


def _timings(said: Table) -> Timings | None:
    names = ("cache_n", "prompt_n", "prompt_ms", "predicted_n", "predicted_ms", "draft_n", "draft_n_accepted")
    values = [number(said.get(name)) for name in names]
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
