"""Run the service manager's own programs. The one place of this folder that starts processes."""

import subprocess
from collections.abc import Callable, Sequence
from typing import NamedTuple

from qwenctl.errors import ControlError
from qwenctl.files import reason

TIMEOUT_S = 180.0
"""Longer than the units' own TimeoutStopSec."""


class Ran(NamedTuple):
    """How a program ended and what it printed."""

    code: int
    out: str
    err: str


Run = Callable[[Sequence[str]], Ran]


def run(words: Sequence[str]) -> Ran:
    """Run a program to its end.

    Raises:
        ControlError: there is no such program here, or it does not end.
    """
    try:
        done = subprocess.run(
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
            hint="this system has another service manager; see docs/service.md",
        ) from error
    except OSError as error:
        raise ControlError(f"cannot run {words[0]}: {reason(error)}") from error
    except subprocess.TimeoutExpired as error:
        raise ControlError(f"cannot run {' '.join(words)}: no end within {TIMEOUT_S:.0f} s") from error
    return Ran(done.returncode, done.stdout.strip(), done.stderr.strip())


def start(words: Sequence[str]) -> None:
    """Start a program that ends by itself and whose end interests nobody.

    Raises:
        ControlError: it cannot be started.
    """
    try:
        subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
    except OSError as error:
        raise ControlError(f"cannot run {words[0]}: {reason(error)}") from error
