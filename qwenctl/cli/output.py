"""What a command prints: data on stdout, talk on stderr, one envelope with ``--json``."""

import json
import os
import sys
from typing import NamedTuple, TextIO

from qwenctl.errors import ExitCode, QwenctlError


class Result(NamedTuple):
    """What a command found or did: ``data`` for ``--json``, ``text`` for people, and the exit code."""

    data: object
    text: str = ""
    exit_code: ExitCode = ExitCode.OK


class Session:
    """One run of the command line: the global options, and where its words go."""

    def __init__(self) -> None:
        self.json = False
        self.quiet = False
        self.verbose = False
        self.config: str | None = None
        self.profile: str | None = None

    def say(self, text: str) -> None:
        """Tell a person something that is no data."""
        if not self.quiet and not self.json:
            print(text, file=sys.stderr)  # noqa: T201 - this is where talk is printed

    @property
    def drawing(self) -> bool:
        """Whether bars and colours may be drawn on stderr."""
        return not self.quiet and not self.json and colourful(sys.stderr)


def colourful(stream: TextIO) -> bool:
    """Return whether a person looks at this stream and minds no colours."""
    return stream.isatty() and "NO_COLOR" not in os.environ


def show(session: Session, command: str, result: Result) -> None:
    """Print a result."""
    if session.json:
        ok = result.exit_code == ExitCode.OK
        _envelope(command, result.data, None if ok else {"code": result.exit_code.name.lower()}, ok=ok)
    elif result.text:
        print(result.text)  # noqa: T201 - this is where data is printed


def complain(session: Session, command: str, error: QwenctlError) -> None:
    """Print an error: one line and a hint, or the envelope."""
    if session.json:
        told = {"code": error.code, "message": error.message, "hint": error.hint}
        _envelope(command, error.data, told, ok=False)
        return
    print(error.message, file=sys.stderr)  # noqa: T201 - this is where errors are printed
    if error.hint:
        print(f"hint: {error.hint}", file=sys.stderr)  # noqa: T201 - likewise


def _envelope(command: str, data: object, error: object, *, ok: bool) -> None:
    envelope = {"schema": 1, "command": command, "ok": ok, "data": data, "error": error}
    print(json.dumps(envelope, ensure_ascii=False))  # noqa: T201 - this is where data is printed
