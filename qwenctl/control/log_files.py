"""Where the logs of a daemon lie, what an older version left elsewhere, and what nobody else rotates."""

import contextlib
import fcntl
import os
import stat
from pathlib import Path

from qwenctl import paths
from qwenctl.control.state_dir import DAEMON_LOG, EVENTS, LAUNCHD_LOG, LOGS, OLD_LOGS

MOVED = tuple(name for name in (*LOGS, *OLD_LOGS) if name != LAUNCHD_LOG and not name.startswith(EVENTS))
"""What lies in the folder of the logs, where that is not the state folder. launchd has its own file open."""
OUTPUT_BYTES = 1 << 20
"""How long the file may be into which launchd puts what a daemon prints: a few lines for each start."""


def prepare(state: Path) -> Path:
    """Return the folder of the logs of the daemon in ``state``. It is there then.

    On a Mac older versions kept them in ``state``: they are moved, unless there is a newer file.

    Raises:
        ControlError: the folder cannot be made.
    """
    logs = paths.log_dir(state)
    if logs == state:
        return state
    paths.private_dir(logs)
    for name in MOVED:
        if (state / name).is_file() and not (logs / name).exists():
            with contextlib.suppress(OSError):  # on another disk they stay where they are
                (state / name).replace(logs / name)
    return logs


def place(state: Path, asked: Path) -> Path:
    """Return where a daemon logs that was told to log to ``asked``. Older versions named the state folder."""
    return paths.log_dir(state) / DAEMON_LOG if asked == state / DAEMON_LOG else asked


def bound_output(number: int, max_bytes: int = OUTPUT_BYTES) -> bool:
    """Empty the file behind an open file, if it is too long; return whether it was.

    launchd opens it for each start, to append, and never rotates it. A file that is not open to append is
    left: what is written next would follow a hole. Source: launchd.plist(5), StandardOutPath.
    """
    try:
        found = os.fstat(number)
        appends = fcntl.fcntl(number, fcntl.F_GETFL) & os.O_APPEND
        if not stat.S_ISREG(found.st_mode) or not appends or found.st_size <= max_bytes:
            return False
        os.ftruncate(number, 0)
        os.write(number, b"[qwenctl: older lines were left out]\n")
    except OSError:
        return False
    return True
