"""Run an engine's program within bounds: of time, of output, and of what is left afterwards.

The program may be a script that starts others. All of them are one process group, which is ended in every
case; what they print goes to a file, so that nobody who holds a pipe open can keep us waiting.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, BinaryIO

from qwenctl.engine.environment import environment
from qwenctl.engine.lifeline import Lifeline
from qwenctl.engine.usability import Attempt

OUTPUT_BYTES = 4 << 20
"""More than any answer: ``--help`` of b11434 has 50 KB."""
SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 0.001, 0.05


class EngineProcess:
    """A program of an engine that runs in a group of its own. ``attempt`` says what it showed so far."""

    def __init__(
        self, process: subprocess.Popen[bytes], lifeline: Lifeline, stdout: BinaryIO, stderr: BinaryIO
    ) -> None:
        self._process, self._lifeline, self._stdout, self._stderr = process, lifeline, stdout, stderr

    def ended(self) -> bool:
        """Return whether the program has ended. What it started may still run.

        Where the system allows, it is not reaped yet, so that its id is still that of its group.
        """
        if self._process.returncode is None and hasattr(os, "waitid"):
            flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
            return os.waitid(os.P_PID, self._process.pid, flags) is not None
        return self._process.poll() is not None  # macOS before Python 3.13

    def wait(self, timeout_s: float) -> bool:
        """Wait for the end of the program. Return whether it has ended."""
        end, pause_s = time.monotonic() + timeout_s, SHORTEST_PAUSE_S
        while not (ended := self.ended()) and (left_s := end - time.monotonic()) > 0:
            time.sleep(min(pause_s, left_s))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        return ended

    def attempt(self) -> Attempt:
        """Return what it showed: its exit code, None while it runs, and what it printed."""
        if self.ended():
            self.end()
        code = self._process.returncode
        return Attempt(code, _content(self._stdout), _content(self._stderr), timed_out=code is None)

    def end(self) -> None:
        """End the program and all that it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._lifeline.cut()


def begin(
    command: Sequence[str | Path],
    stdout: int | IO[bytes],
    stderr: int | IO[bytes],
    variables: Mapping[str, str],
    folder: Path | None = None,
    system: str = sys.platform,
) -> tuple[subprocess.Popen[bytes], Lifeline]:
    """Start a program in a process group of its own that does not outlive this process.

    Raises:
        OSError: it cannot be started.
        ValueError: the command has a NUL.
    """
    lifeline = Lifeline.new(system)
    with contextlib.ExitStack() as unless_it_starts:
        unless_it_starts.callback(lifeline.cut)
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            bufsize=0,
            env=variables,
            cwd=folder,
            process_group=0,
            umask=0o077,
            preexec_fn=lifeline.prepare,  # noqa: PLW1509 - it makes system calls only, and takes no lock
        )
        unless_it_starts.pop_all()
    lifeline.begun()
    return process, lifeline


@contextlib.contextmanager
def started(command: Sequence[str | Path], folder: Path | None = None) -> Iterator[EngineProcess]:
    """Start a program. At the end of the block its group is ended, whatever happened.

    Raises:
        OSError: it cannot be started.
    """
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        process, lifeline = begin(command, stdout, stderr, environment(), folder)
        running = EngineProcess(process, lifeline, stdout, stderr)
        try:
            yield running
        finally:
            running.end()


def run(command: Sequence[str | Path], timeout_s: float) -> Attempt:
    """Run a program to its end, or for ``timeout_s``. Nothing that it started is left."""
    try:
        with started(command) as running:
            running.wait(timeout_s)
            return running.attempt()
    except OSError as error:
        return Attempt(errno=error.errno, stderr=error.strerror or str(error))


def _content(file: BinaryIO) -> str:
    return os.pread(file.fileno(), OUTPUT_BYTES, 0).decode("utf-8", "replace")
