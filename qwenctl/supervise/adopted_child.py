"""Take over a running server that an earlier program of this process has started.

``exec`` replaces the program and keeps the process: its children stay its own, and their pipes stay open.
"""

import os
from collections.abc import Callable
from typing import IO

import psutil

from qwenctl.engine.lifeline import Lifeline
from qwenctl.launch.spec import LaunchSpec
from qwenctl.supervise.child import ChildProcess, LogSoFar
from qwenctl.supervise.evidence import devices_of
from qwenctl.supervise.identity import Identity, identify, same


class AdoptedProcess:
    """A child of this process that no ``Popen`` knows."""

    def __init__(self, pid: int, pipe: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stdout: IO[bytes] | None = os.fdopen(pipe, "rb", 0)

    def wait(self) -> int:
        """Wait for its end, and return its exit code; that of a signal is negative."""
        if self.returncode is None:
            try:
                _, status = os.waitpid(self.pid, 0)
                self.returncode = os.waitstatus_to_exitcode(status)
            except ChildProcessError:  # somebody else has waited for it, so nobody knows how it ended
                self.returncode = 0
        return self.returncode


def is_our_child(who: Identity) -> bool:
    """Return whether this process is a child of ours: it runs, or it has ended and nobody has waited for it.

    Nobody else can have its pid until then.
    """
    if hasattr(os, "waitid"):
        try:
            os.waitid(os.P_PID, who.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False
        now = identify(who.pid)
        return now is None or same(who, now)
    try:  # macOS before Python 3.13
        return psutil.Process(who.pid).ppid() == os.getpid()
    except psutil.Error:
        return False


def adopt(
    who: Identity,
    pipe: int,
    spec: LaunchSpec,
    heard: LogSoFar,
    on_output: Callable[[bytes], None],
    lifeline: int | None = None,
) -> ChildProcess:
    """Take over a child that ``is_our_child``; ``pipe`` is the open file with its output.

    ``lifeline`` is the open file that lets it end with us.

    Raises:
        OSError: the pipe is not open, or no descriptor is left to watch it by.
    """
    line = Lifeline(lifeline)
    try:
        os.set_inheritable(pipe, False)
        process = AdoptedProcess(who.pid, pipe)
        return ChildProcess(process, on_output, lambda: None, devices_of(spec.argv), heard, line)
    except OSError:
        line.cut()
        raise
