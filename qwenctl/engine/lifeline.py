"""Let a program end with this process, however this process ends.

Linux does it itself: it signals the program when the thread ends that started it. Elsewhere a watcher does.
It reads from a pipe whose other end only we hold, and kills its process group, which is the program's, when
that end is closed. The kernel closes it when we end, after SIGKILL, too. launchd ends a job's process group,
but the program has a group of its own, so that a stop reaches all that it has started.

The watcher is a shell, which is smaller than an interpreter and starts sooner. The new process starts it
before it becomes the program. So there is no moment without a watcher, the program is the very process that
we have started, and its exit code is its own. The watcher goes with the program: whoever sees the end of the
program kills what is left of its group, and closes the pipe.
"""

import contextlib
import ctypes
import fcntl
import os
import signal
import sys
from collections.abc import Callable

PR_SET_PDEATHSIG = 1
"""Source: linux/prctl.h."""
SHELL, NAME = "/bin/sh", "qwenctl-watcher"
WATCH = "trap '' HUP INT TERM; read -r end; kill -9 0"
"""A stop signals the whole group with SIGTERM, and a program may need long for its end: the watcher stays."""
FIRST_FILE = 3
"""A new process gets files of its own for the three before."""


class Lifeline:
    """What holds a new process to this one. ``prepare`` runs in it before it becomes its program.

    ``file`` is the end of the pipe that only we hold: ``exec`` must keep it open. It is None on Linux.
    """

    def __init__(self, file: int | None = None) -> None:
        """Take over the file that an earlier program of this process has made, if it made one."""
        self.file = file
        self._reading: int | None = None
        self.prepare: Callable[[], None] | None = None
        if file is not None:
            os.set_inheritable(file, False)

    @classmethod
    def new(cls, system: str = sys.platform) -> "Lifeline":
        """Make one.

        Raises:
            OSError: no descriptor is left.
        """
        line = cls()
        if system == "linux":
            line.prepare = _die_with_parent()
        else:
            line._reading, line.file = map(_above, os.pipe())
            line.prepare = _watched(line._reading)
        return line

    def begun(self) -> None:
        """Let go of what the new process has by now."""
        reading, self._reading = self._reading, None
        if reading is not None:
            os.close(reading)

    def cut(self) -> None:
        """Let the watcher end, and whoever is left of its group."""
        self.begun()
        file, self.file = self.file, None
        if file is not None:
            os.close(file)


def _die_with_parent() -> Callable[[], None]:
    """Return what makes the kernel do it. Names are looked up before the fork."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent, kill = os.getpid(), int(signal.SIGKILL)

    def prepare() -> None:
        prctl(PR_SET_PDEATHSIG, kill, 0, 0, 0)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)

    return prepare


def _watched(reading: int) -> Callable[[], None]:
    """Return what starts a watcher. Python's files are closed in it: none is inherited unless it is named."""
    files = (
        (os.POSIX_SPAWN_DUP2, reading, 0),
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    )
    words = (SHELL, "-c", WATCH, NAME)

    def prepare() -> None:
        with contextlib.suppress(OSError):  # no process is left: better a server without a watcher than none
            os.posix_spawn(SHELL, words, {}, file_actions=files)

    return prepare


def _above(file: int) -> int:
    """Return a copy of a file that no new process replaces by one of its own, and close the first."""
    if file >= FIRST_FILE:
        return file
    copy = fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, FIRST_FILE)
    os.close(file)
    return copy
