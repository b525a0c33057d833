"""``qwenctl chat``: a conversation on a terminal, or one question in a pipe."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from qwenctl.cli.group import common
from qwenctl.cli.output import Result, Session, colourful, data, talk
from qwenctl.cli.target import endpoint, target
from qwenctl.errors import SettingsError

if TYPE_CHECKING:
    from qwenctl.client.answer import Piece
    from qwenctl.client.chat import Conversation, Thinking, Turn
    from qwenctl.client.openai_api import Api

HELP = """Ctrl-C stops an answer. Ctrl-D ends the chat. A line that ends in \\ continues on the next line.
A line \"\"\" begins a text of many lines; another \"\"\" ends it. /new begins a new conversation.
/go asks for the rest of an answer that was cut off. /help shows this text."""
PROMPT, MORE, BLOCK = "> ", "| ", '"""'
DIM, PLAIN = "\x1b[2m", "\x1b[0m"


@click.command("chat", epilog='Example: qwenctl chat "Summarize this" < notes.txt')
@common
@endpoint
@click.argument("question", required=False)
@click.option(
    "--thinking",
    type=click.Choice(["show", "hide", "off"]),
    default="show",
    help="Show the model's thinking on stderr (default), hide it, or turn it off.",
)
@click.option("--system", metavar="TEXT", help="Instructions for the model (the system message).")
@click.pass_obj
def command(
    session: Session,
    /,
    url: str | None,
    api_key_file: Path | None,
    question: str | None,
    thinking: "Thinking",
    system: str | None,
) -> Result:
    """Chat with the model. With a QUESTION, or in a pipe, print one answer on stdout."""
    from qwenctl.client.chat import Conversation, speed_of

    piped = not sys.stdin.isatty()
    prompt = _joined(question, sys.stdin.read() if piped else "")
    if not prompt and piped:
        raise SettingsError(
            "cannot chat: no question, and nothing on stdin", hint='qwenctl chat "a question"'
        )
    where = target(session, url, api_key_file)
    conversation = Conversation(thinking, system)
    with where.api() as api:
        if not prompt:
            _talk(session, api, conversation)
            return Result({"messages": conversation.messages})
        printer = _Printer(session, thinking)
        turn = conversation.ask(api, prompt, printer)
        printer.end()
    if turn.broken is not None:
        turn.broken.data = {"answer": turn.answer.text, "reasoning": turn.answer.reasoning}
        raise turn.broken
    if turn.stopped:
        raise KeyboardInterrupt
    session.say(speed_of(turn.answer))
    answer = turn.answer
    timings = answer.timings
    return Result(
        {
            "answer": answer.text,
            "reasoning": answer.reasoning,
            "finish": answer.finish,
            "prompt_tokens": answer.prompt_tokens,
            "generated_tokens": answer.generated_tokens,
            "first_token_s": answer.first_s,
            "tokens_per_s": timings.generated_tokens_per_s if timings else answer.client_tokens_per_s,
        }
    )


class _Printer:
    """Print an answer while it arrives: its text on stdout, its thinking dimmed on stderr."""

    def __init__(self, session: Session, thinking: "Thinking") -> None:
        self._silent = session.json
        self._thinking = thinking == "show" and not session.quiet and not session.json
        self._dim = colourful(sys.stderr)
        self._was_thinking = False
        self._at_start = True

    def __call__(self, piece: "Piece") -> None:
        """Print the piece that one event added to the answer."""
        if piece.reasoning and self._thinking:
            text = f"{DIM}{piece.reasoning}{PLAIN}" if self._dim else piece.reasoning
            talk(text, end="")
            self._was_thinking = True
        if piece.text and not self._silent:
            if self._was_thinking:
                talk("\n")
                self._was_thinking = False
            data(piece.text, end="")
            self._at_start = piece.text.endswith("\n")

    def end(self) -> None:
        """End the line."""
        if self._was_thinking:
            talk("")
        if not self._at_start and not self._silent:
            data("")


def _talk(session: Session, api: "Api", conversation: "Conversation") -> None:
    """Read questions and print answers, until Ctrl-D."""
    import readline  # noqa: F401 - gives input() its history and its editing

    if session.json:
        raise SettingsError(
            "cannot chat with --json without a question", hint='qwenctl chat --json "a question"'
        )
    session.say(HELP)
    while (question := _read()) is not None:
        match question.strip():
            case "":
                continue
            case "/new":
                conversation.forget()
                session.say("a new conversation")
            case "/help":
                session.say(HELP)
            case "/go":
                _answer(session, api, conversation, None)
            case _:
                _answer(session, api, conversation, question)


def _answer(session: Session, api: "Api", conversation: "Conversation", question: str | None) -> None:
    from qwenctl.client.chat import speed_of

    printer = _Printer(session, conversation.thinking)
    turn: Turn = (
        conversation.go_on(api, printer) if question is None else conversation.ask(api, question, printer)
    )
    printer.end()
    if turn.broken is not None:
        began = bool(turn.answer.text or turn.answer.reasoning)
        session.say(turn.broken.message)
        session.say("/go asks for the rest" if began else "no answer arrived; ask again")
    elif turn.stopped:
        session.say("stopped; /go asks for the rest")
    else:
        session.say(speed_of(turn.answer))


def _read() -> str | None:
    """Return the person's question; None at Ctrl-D. Ctrl-C discards the lines typed so far."""
    lines: list[str] = []
    inside = False
    while True:
        try:
            line = input(MORE if lines or inside else PROMPT)
        except EOFError:
            talk("")
            return None
        except KeyboardInterrupt:
            talk("")
            lines, inside = [], False
            continue
        if line.strip() == BLOCK:
            if inside:
                return "\n".join(lines)
            inside = True
        elif inside:
            lines.append(line)
        elif line.endswith("\\"):
            lines.append(line.removesuffix("\\"))
        else:
            return "\n".join([*lines, line])


def _joined(question: str | None, stdin_text: str) -> str:
    return "\n\n".join(part.strip() for part in (question or "", stdin_text) if part.strip())
