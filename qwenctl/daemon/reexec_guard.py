"""The guard of a re-execution: a process that starts the old program again if the new one never gets ready.

It holds the same open files as the daemon, so that no client is refused meanwhile, and the folder stays
locked. A service manager does the same work, so under one there is no guard.
"""

import contextlib
import os
import select
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from qwenctl.daemon.new_program import HELD_SIGNALS

READY = b"r"
READY_WITHIN_S = 60.0
"""A program that has not got ready by then is killed. Its preflight took less than a third of it."""
GONE_WITHIN_S = 10.0
MOST_FILES = 1 << 20
NAME, COMM = "qwenctl-guard", Path("/proc/self/comm")
"""The guard has the daemon's command line, so it gets a name of its own. Source: proc(5)."""


def stand_guard(
    command: Sequence[str],
    variables: Mapping[str, str],
    files: Iterable[int],
    timeout_s: float = READY_WITHIN_S,
) -> int:
    """Start a guard. Return the open file that tells it what comes; see ``dismiss``.

    ``command`` is what it executes if this process ends untold, with these open files. Call it in the thread
    that executes the new program.

    Raises:
        OSError: there is no process or no descriptor left.
    """
    reading, writing = os.pipe()
    daemon = os.getpid()
    end = os.pidfd_open(daemon) if sys.platform == "linux" else -1
    kept = {*files, reading} | ({end} if end >= 0 else set())
    try:
        child = os.fork()
    except OSError:
        os.close(writing)
        raise
    finally:
        if os.getpid() == daemon:
            os.close(reading)
            if end >= 0:
                os.close(end)
    if child == 0:
        try:
            if os.fork() == 0:  # so that the daemon has no child that it does not know
                _close_others(kept)
                _guard(reading, end, daemon, timeout_s)
                _become(command, os.environ | variables, kept - {reading, end})
        finally:
            os._exit(1)
    os.waitpid(child, 0)
    return writing


def dismiss(writing: int) -> None:
    """Tell the guard that all is well: the new program is ready, or was not executed."""
    with contextlib.suppress(OSError):  # it has gone
        os.write(writing, READY)
    with contextlib.suppress(OSError):
        os.close(writing)


def _guard(reading: int, end: int, daemon: int, timeout_s: float) -> None:
    """Return once the daemon has ended untold; do not return if all is well."""
    os.setsid()
    with contextlib.suppress(OSError):  # there is no such file but on Linux
        COMM.write_text(NAME)
    if select.select([reading], [], [], timeout_s)[0] and os.read(reading, 1) == READY:
        os._exit(0)
    with contextlib.suppress(OSError):  # it has ended
        if end >= 0:
            signal.pidfd_send_signal(end, signal.SIGKILL)
        else:
            os.kill(daemon, signal.SIGKILL)
    if end >= 0:
        select.select([end], [], [], GONE_WITHIN_S)


def _close_others(kept: set[int]) -> None:
    """Close what is not needed: a copy of the pipe's other end would keep its end from being seen."""
    first = 3
    for each in sorted(each for each in kept if each >= first):
        os.closerange(first, each)
        first = each + 1
    os.closerange(first, MOST_FILES)


def _become(command: Sequence[str], environment: Mapping[str, str], files: Iterable[int]) -> NoReturn:
    for each in files:
        os.set_inheritable(each, True)
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD_SIGNALS)
    os.execve(command[0], list(command), environment)  # noqa: S606 - that is the purpose
