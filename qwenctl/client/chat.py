"""A conversation: its messages, and the next question. Uses an Api; prints nothing.

An answer that is stopped or breaks off stays in the conversation as far as it came, so that it can go on.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from qwenctl.client.answer import Answer, Piece, Table
from qwenctl.client.openai_api import Api
from qwenctl.errors import ClientError

Thinking = Literal["show", "hide", "off"]
GO_ON = "Your answer was cut off. Go on exactly where it ends, without repeating anything."


@dataclass(frozen=True, slots=True)
class Turn:
    """One answer. ``broken`` is the error that cut it off; ``stopped``: the person stopped it."""

    answer: Answer
    stopped: bool = False
    broken: ClientError | None = None


class Conversation:
    """The messages so far. ``thinking`` "off" asks the model not to think."""

    def __init__(self, thinking: Thinking, system: str | None = None) -> None:
        self.thinking = thinking
        self.messages: list[Table] = [{"role": "system", "content": system}] if system else []

    def ask(self, api: Api, question: str, on_piece: Callable[[Piece], None]) -> Turn:
        """Ask a question and return the turn. Ctrl-C stops only the answer.

        A question that got no answer at all is removed from the conversation, so that it can be asked again.
        """
        self.messages.append({"role": "user", "content": question})
        answer, stopped, broken = Answer(), False, None
        try:
            with api.stream(self._body()) as stream:
                try:
                    for piece in stream:
                        on_piece(piece)
                finally:
                    answer = stream.answer
        except KeyboardInterrupt:
            stopped = True
        except ClientError as error:
            broken = error
        if answer.text or answer.reasoning or answer.finish:
            self.messages.append(_message(answer))
        else:
            self.messages.pop()
        return Turn(answer, stopped, broken)

    def go_on(self, api: Api, on_piece: Callable[[Piece], None]) -> Turn:
        """Ask for the rest of an answer that was cut off."""
        return self.ask(api, GO_ON, on_piece)

    def forget(self) -> None:
        """Begin a new conversation. The system message stays."""
        self.messages = [message for message in self.messages if message["role"] == "system"]

    def _body(self) -> Table:
        off: Table = {"chat_template_kwargs": {"enable_thinking": False}} if self.thinking == "off" else {}
        return {"messages": self.messages, **off}


def _message(answer: Answer) -> Table:
    """Return the answer as a message, with its thinking: the server's cache has both."""
    message: dict[str, object] = {"role": "assistant", "content": answer.text}
    if answer.reasoning:
        message["reasoning_content"] = answer.reasoning
    return message


def speed_of(answer: Answer) -> str:
    """Return the speed of an answer in one line; an empty one where it is unknown."""
    server = answer.timings.generated_tokens_per_s if answer.timings else None
    speed = server if server is not None else answer.client_tokens_per_s
    parts = [
        f"{answer.generated_tokens} tokens" if answer.generated_tokens else "",
        f"{speed:.1f} tokens/s" if speed else "",
        f"first after {answer.first_s:.2f} s" if answer.first_s is not None else "",
        "cut off at the token limit" if answer.finish == "length" else "",
    ]
    return ", ".join(part for part in parts if part)
