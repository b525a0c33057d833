"""Know a process again by pid, start time and executable, and end a leftover that matches.

A pid alone proves nothing, because pids are used again. A process that does not match is never signalled.
macOS does not know the executable of a process any more once its file was removed, as ``brew upgrade`` does,
and psutil then guesses it from the words of its start. So there pid and start time, to the microsecond,
decide.
"""

import contextlib
import dataclasses
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from qwenctl import files
from qwenctl.control.state_dir import CHILD_SOCKET

PROC = Path("/proc")
STARTED_FIELD = 22
"""Ticks since boot in /proc/PID/stat, counted from 1. Source: proc(5)."""
GONE_TIMEOUT_S = 30.0
POLL_S = 0.01


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a process is. ``started`` names the boot and counts from it, so that clock steps do not matter."""

    pid: int
    started: str
    executable: str


def identify(pid: int) -> Identity | None:
    """Return the process that has this pid now; None if there is none, or if it may not be looked at."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return Identity(pid, _started(process), process.exe())
    except (psutil.Error, OSError, IndexError):
        return None


def same(kept: Identity, now: Identity | None, system: str = sys.platform) -> bool:
    """Return whether a process is the one that was kept. The executable counts on Linux only. Pure.

    Source of the guess elsewhere: psutil 7.2.2, Process.exe: argv[0], if that is a file of an absolute path.
    """
    if now is None or (kept.pid, kept.started) != (now.pid, now.started):
        return False
    return system != "linux" or kept.executable == now.executable


def reap(leftover: Identity, timeout_s: float = GONE_TIMEOUT_S) -> bool:
    """End ``leftover`` and its group if it still is who it was, and wait. Return whether it was there."""
    if not same(leftover, identify(leftover.pid)):
        return False
    with contextlib.suppress(ProcessLookupError):
        if os.getpgid(leftover.pid) == leftover.pid:
            os.killpg(leftover.pid, signal.SIGKILL)
        else:
            os.kill(leftover.pid, signal.SIGKILL)
    give_up_at = time.monotonic() + timeout_s
    while same(leftover, identify(leftover.pid)) and time.monotonic() < give_up_at:
        time.sleep(POLL_S)
    return True


def write_identity(path: Path, who: Identity) -> None:
    """Keep who a process is.

    Raises:
        OSError: the file cannot be written.
    """
    files.write_json(path, dataclasses.asdict(who))


def read_identity(path: Path) -> Identity | None:
    """Return who was kept in a file; None where there is no such file, or it is damaged."""
    match files.read_json(path):
        case {"pid": int(pid), "started": str(started), "executable": str(executable)}:
            return Identity(pid, started, executable)
        case _:
            return None


def left_over(path: Path) -> Identity | None:
    """Return the process that is kept in a file, as it is now, if it still runs.

    Where the start time is one of the clock, earlier versions kept one that a step of the clock moves. Who
    has the pid and serves at the socket of this folder is ours, too.
    """
    kept = read_identity(path)
    now = identify(kept.pid) if kept is not None else None
    if kept is None or now is None:
        return None
    moved = dataclasses.replace(kept, started=now.started)
    ours = sys.platform != "linux" and same(moved, now) and serves_at(path.with_name(CHILD_SOCKET), now.pid)
    named = dataclasses.replace(now, executable=now.executable or kept.executable)
    return named if ours or same(kept, now) else None


def serves_at(socket: Path, pid: int) -> bool:
    """Return whether a process was started to serve at this Unix socket."""
    try:
        return str(socket) in psutil.Process(pid).cmdline()
    except (psutil.Error, OSError):
        return False


def _started(process: psutil.Process) -> str:
    """Return the start time as the kernel keeps it.

    That of macOS is the clock's at the start, and never changes. ``psutil.Process.create_time`` adds every
    step of the clock since this program began; the platform's own function does not. Source: psutil 7.2.2,
    _psosx.py.
    """
    if sys.platform != "linux":
        try:
            return repr(process._proc.create_time(monotonic=True))  # noqa: SLF001  nothing public tells it
        except (TypeError, AttributeError):  # before psutil 7.1 nothing is added
            return repr(process.create_time())
    fields = (PROC / str(process.pid) / "stat").read_text().rpartition(")")[2].split()
    boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}/{fields[STARTED_FIELD - 3]}"
