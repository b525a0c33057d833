"""Start one llama-server, read what it prints, wait for its end. Decides nothing.

Spawn from the main thread: Linux sends the parent-death signal when the spawning *thread* ends.
"""

import asyncio
import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Protocol

from qwenctl.engine.environment import environment
from qwenctl.engine.lifeline import Lifeline
from qwenctl.engine.process import begin
from qwenctl.engine.usability import signal_of
from qwenctl.launch.spec import LaunchSpec
from qwenctl.supervise.evidence import ExitContext, devices_of
from qwenctl.supervise.exit_watch import ExitWatch
from qwenctl.supervise.exits import SIGKILL, Ending, classify
from qwenctl.supervise.jetsam import PressureWatch, ended_for_memory
from qwenctl.supervise.log_lines import LogWatch
from qwenctl.supervise.logfile import Tail
from qwenctl.supervise.oomkills import oom_kills

CHUNK_BYTES, PIPE_BYTES = 1 << 16, 1 << 20
OPENED = b" listening on "
"""What the server prints once it takes requests. Regular probes find a server with another text.

Source: llama-server b11434.
"""
LOG_CHARACTERS = 65_536
"""So much of a log is told to the next program. A hundred lines, which an ending shows, are less."""
F_SETPIPE_SZ = 1031
"""Source: linux/fcntl.h."""


@dataclass(frozen=True, slots=True)
class LogSoFar:
    """What the log of a child has shown, the end of that log, and how often memory had run out before it."""

    serving: bool
    echoed: bool
    known: bool
    said: str
    oom_kills: int


class OwnProcess(Protocol):
    """A process whose parent we are. ``returncode`` is None until ``wait`` has taken note of its end."""

    pid: int
    returncode: int | None
    stdout: IO[bytes] | None

    def wait(self) -> int:
        """Wait for its end, and return its exit code; that of a signal is negative."""


class ChildProcess:
    """A running server. ``on_output`` gets what it prints; ``on_open`` is called once it takes requests.

    ``heard`` is what an earlier program of this process knew of it. ``lifeline`` lets it end with us.
    """

    def __init__(
        self,
        process: OwnProcess,
        on_output: Callable[[bytes], None],
        on_open: Callable[[], None],
        devices: tuple[str, ...] | None = None,
        heard: LogSoFar | None = None,
        lifeline: Lifeline | None = None,
    ) -> None:
        self.pid, self._lifeline = process.pid, lifeline or Lifeline()
        self._devices, self._watch, self._tail = devices, LogWatch(), Tail()
        self._process, self._on_output, self._on_open = process, on_output, on_open
        self._opened, self._oom_kills = False, oom_kills()
        self._began_at, self._killed = time.time(), False
        if heard is not None:
            self._watch.resume(serving=heard.serving, echoed=heard.echoed, known=heard.known)
            self._tail.feed(heard.said.encode("utf-8", "surrogateescape"))
            self._opened, self._oom_kills = True, heard.oom_kills
        self._pipe = process.stdout.fileno() if process.stdout else -1
        self._end = ExitWatch(process.pid)
        os.set_blocking(self._pipe, False)
        if sys.platform == "linux":
            with contextlib.suppress(OSError):  # the user's share of pipe memory is used up
                fcntl.fcntl(self._pipe, F_SETPIPE_SZ, PIPE_BYTES)
        asyncio.get_running_loop().add_reader(self._pipe, self._read)

    async def wait(self) -> Ending:
        """Wait until it is gone, end what is left of its process group, and return how it ended.

        The group is ended while the dead leader still holds its id: no stranger can have it.
        """
        pressure = PressureWatch() if sys.platform == "darwin" else None
        try:
            await self._end.wait()
            killed_by_us = self._killed
            self.signal(signal.SIGKILL)  # stragglers hold the log and the port
            code = self._process.wait()
            self._read()
        finally:
            self._end.close()
            if pressure is not None:
                pressure.close()
            asyncio.get_running_loop().remove_reader(self._pipe)
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._lifeline.cut()
        tail = self._tail.lines()
        oom_killed = oom_kills() > self._oom_kills
        if pressure is not None and signal_of(code) == SIGKILL and not killed_by_us:
            oom_killed = await asyncio.to_thread(
                ended_for_memory,
                self.pid,
                self._began_at,
                spoke=bool(tail),
                was_short=pressure.was_short(),
            )
        return classify(code, tail, oom_killed=oom_killed, context=self.context)

    @property
    def context(self) -> ExitContext:
        """What its log shows so far, which says whose words the end of the log has."""
        watch = self._watch
        return ExitContext(watch.serving, watch.echoed, watch.known, self._devices, sys.platform)

    @property
    def pipe(self) -> int:
        """The open file that its output is read from."""
        return self._pipe

    @property
    def lifeline(self) -> int | None:
        """The open file whose end would end it, where there is one."""
        return self._lifeline.file

    @property
    def log_so_far(self) -> LogSoFar:
        """What a later program of this process has to know of it."""
        watch = self._watch
        return LogSoFar(
            watch.serving, watch.echoed, watch.known, self.said()[-LOG_CHARACTERS:], self._oom_kills
        )

    def said(self) -> str:
        """Return the end of what it has printed so far."""
        return self._tail.text()

    def signal(self, number: signal.Signals) -> None:
        """Signal the child's process group. After ``wait`` nothing is sent, because its id may be reused."""
        self._killed = self._killed or number == signal.SIGKILL
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    def _read(self) -> None:
        """Read what it printed. While it runs, one chunk a call, so that the loop can do other work."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._pipe, CHUNK_BYTES):
                self._tail.feed(data)
                self._watch.feed(data)
                self._on_output(data)
                if not self._opened and OPENED in data:
                    self._opened = True
                    self._on_open()
                if self._process.returncode is None:
                    return
            asyncio.get_running_loop().remove_reader(self._pipe)  # it closed its output


def spawn(
    spec: LaunchSpec, on_output: Callable[[bytes], None], on_open: Callable[[], None] = lambda: None
) -> ChildProcess:
    """Start the server in a process group of its own, with a cleaned environment.

    Raises:
        OSError: it cannot be started.
    """
    if spec.address.socket is not None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(spec.address.socket)  # noqa: PTH108 - a dead socket file makes the next bind fail
    variables = environment() | dict(spec.environment)
    process, lifeline = begin(spec.argv, subprocess.PIPE, subprocess.STDOUT, variables)
    try:
        return ChildProcess(process, on_output, on_open, devices_of(spec.argv), lifeline=lifeline)
    except OSError:  # no descriptor is left to watch it by
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        lifeline.cut()
        raise
