"""Run the service manager's programs. The only module of this folder that starts processes."""

import contextlib
import subprocess
from collections.abc import Callable, Sequence
from typing import NamedTuple

from qwenctl.errors import ControlError
from qwenctl.files import reason

TIMEOUT_S = 180.0
"""Longer than the units' own TimeoutStopSec."""


class Ran(NamedTuple):
    """A program's exit code and output."""

    code: int
    out: str
    err: str


Run = Callable[[Sequence[str]], Ran]


def run(words: Sequence[str]) -> Ran:
    """Run a program and wait for its end.

    Raises:
        ControlError: there is no such program, or it does not end in time.
    """
    try:
        result = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError as error:
        raise ControlError(
            f"cannot run {words[0]}: not found",
            hint="this system seems to have another service manager; see docs/service.md",
        ) from error
    except OSError as error:
        raise ControlError(f"cannot run {words[0]}: {reason(error)}") from error
    except subprocess.TimeoutExpired as error:
        raise ControlError(
            f"cannot run {' '.join(words)}: it did not end within {TIMEOUT_S:.0f} s"
        ) from error
    return Ran(result.returncode, result.stdout.strip(), result.stderr.strip())


class Held:
    """A program that reads a pipe of ours to its end: it ends with ``release``, and with this process."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    def release(self, wait_s: float = 0.0) -> None:
        """Let it end, and wait that long for it at most."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(wait_s)

    def ended(self) -> bool:
        """Return whether it has ended."""
        return self._process.poll() is not None


def hold(words: Sequence[str]) -> Held:
    """Start a program that reads its input to its end. It has no terminal to ask anything on.

    Raises:
        ControlError: the program cannot be started.
    """
    try:
        process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        raise ControlError(f"cannot run {words[0]}: {reason(error)}") from error
    return Held(process)
