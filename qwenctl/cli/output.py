"""Print what a command returns: data on stdout, talk on stderr, one envelope with ``--json``."""

import json
import os
import sys
from pathlib import Path
from typing import NamedTuple, TextIO

from qwenctl.errors import ExitCode, QwenctlError

CONTAINER_FILES, CONTAINER = ("/.dockerenv", "/run/.containerenv"), "container"


class Result(NamedTuple):
    """The result of a command: ``data`` for ``--json``, ``text`` for people, and the exit code."""

    data: object
    text: str = ""
    exit_code: ExitCode = ExitCode.OK


class Session:
    """One run of the command line: the global options, and how to talk to the person."""

    def __init__(self) -> None:
        self.json = False
        self.quiet = False
        self.verbose = False
        self.config: str | None = None
        self.profile: str | None = None

    def say(self, text: str) -> None:
        """Print a message for a person on stderr; nothing with ``--quiet`` and ``--json``."""
        if not self.quiet and not self.json:
            talk(text)

    @property
    def drawing(self) -> bool:
        """Whether bars and colours may be drawn on stderr."""
        return not self.quiet and not self.json and colourful(sys.stderr)


def data(text: str, end: str = "\n") -> None:
    """Print data on stdout, at once."""
    print(text, end=end, flush=True)  # noqa: T201 - the one place where data is printed


def talk(text: str, end: str = "\n") -> None:
    """Print a message on stderr, at once."""
    print(text, end=end, file=sys.stderr, flush=True)  # noqa: T201 - the one place where messages are printed


def colourful(stream: TextIO) -> bool:
    """Return whether this stream is a terminal, and ``NO_COLOR`` is not set."""
    return stream.isatty() and "NO_COLOR" not in os.environ


def can_ask(session: Session) -> bool:
    """Return whether somebody can answer a question: there is a terminal, and it is no machine's.

    Source: ``CI`` is set by every common CI; Docker and Podman make a file in the root of a container;
    ``container`` is set by systemd-nspawn, Podman and LXC.
    """
    if session.json or session.quiet or os.environ.get("CI") or os.environ.get(CONTAINER):
        return False
    if any(Path(name).exists() for name in CONTAINER_FILES):
        return False
    return sys.stdin.isatty() and sys.stderr.isatty()


def show(session: Session, command: str, result: Result) -> None:
    """Print a result."""
    if session.json:
        ok = result.exit_code == ExitCode.OK
        _envelope(command, result.data, None if ok else {"code": result.exit_code.name.lower()}, ok=ok)
    elif result.text:
        data(result.text)


def complain(session: Session, command: str, error: QwenctlError) -> None:
    """Print an error: one line and a hint, or the envelope."""
    if session.json:
        details = {"code": error.code, "message": error.message, "hint": error.hint}
        _envelope(command, error.data, details, ok=False)
        return
    talk(error.message)
    if error.hint:
        talk(f"hint: {error.hint}")


def _envelope(command: str, content: object, error: object, *, ok: bool) -> None:
    envelope = {"schema": 1, "command": command, "ok": ok, "data": content, "error": error}
    data(json.dumps(envelope, ensure_ascii=False))
