"""The daemon's folder: the name of every file in it, its lock, its status file, its overrides.

Imports little: ``status`` must be quick.
"""

import contextlib
import fcntl
import os
import time
from pathlib import Path
from typing import IO

from qwenctl.errors import AlreadyRunningError, ControlError
from qwenctl.files import read_json, reason

LOCK, STATUS, CHILD = "lock", "status.json", "child.json"
CONTROL_SOCKET, CHILD_SOCKET = "control.sock", "child.sock"
EVENTS, SERVER_LOG, DAEMON_LOG, LAUNCHD_LOG = "events.jsonl", "server.log", "daemon.log", "launchd.log"
OVERRIDES, GOOD, RECORDS = "overrides.json", "good.json", "artifacts.json"
REFUSED, LOADS, REFUSED_ENGINES = "refused.json", "loads.json", "refused_engines.json"
WARM = "warm"

LOGS = (
    EVENTS,
    f"{EVENTS}.1",
    SERVER_LOG,
    f"{SERVER_LOG}.1",
    DAEMON_LOG,
    f"{DAEMON_LOG}.1",
    LAUNCHD_LOG,
)
"""What a daemon and its server print. The files that end in .1 are the older ones after a rotation."""
OLD_LOGS = (f"{EVENTS}.2", *(f"{SERVER_LOG}.{number}" for number in range(2, 6)))
"""Still older parts: two of the events are kept, and five of the server's log."""
LEFT_FILES = (
    LOCK,
    CONTROL_SOCKET,
    CHILD_SOCKET,
    STATUS,
    CHILD,
    GOOD,
    LOADS,
    REFUSED_ENGINES,
    *LOGS,
    *OLD_LOGS,
)
"""What a daemon leaves in the folder. Nobody needs it when the service is gone."""
LEFT_FOLDERS = (WARM,)
"""Folders of saved prompts. They contain what people wrote, so they are removed with the service."""
KEPT_FILES = (OVERRIDES, REFUSED, RECORDS)
"""What outlives a service: a person's flags, what memory refused, and where the models come from."""

LOCK_TRIES, LOCK_PAUSE_S = 20, 0.01


def lock(folder: Path) -> IO[str]:
    """Take the folder for this process; it is free again when the returned file closes.

    Raises:
        AlreadyRunningError: another daemon holds it.
        ControlError: the lock file cannot be opened.
    """
    try:
        file = (folder / LOCK).open("a+")
    except OSError as error:
        raise ControlError(f"cannot use folder {folder}: {reason(error)}") from error
    for _ in range(LOCK_TRIES):  # a reader may hold it for a microsecond, see running()
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        time.sleep(LOCK_PAUSE_S)
    else:
        file.close()
        raise AlreadyRunningError(
            f"cannot start: a daemon already runs in {folder}", hint="qwenctl status shows it"
        )
    _sign(file)
    return file


def adopt_lock(folder: Path, number: int) -> IO[str]:
    """Hold the folder with the open file of an earlier program, which held it.

    Raises:
        ControlError: it is no open file.
        AlreadyRunningError: it holds nothing, and another daemon holds the folder.
    """
    try:
        file = os.fdopen(number, "r+")
        os.set_inheritable(number, False)
    except OSError as error:
        raise ControlError(f"cannot use folder {folder}: {reason(error)}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # it is held already: this changes nothing
    except OSError as error:
        file.close()
        raise AlreadyRunningError(
            f"cannot start: a daemon already runs in {folder}", hint="qwenctl status shows it"
        ) from error
    _sign(file)
    return file


def _sign(file: IO[str]) -> None:
    file.seek(0)
    if file.read() == str(os.getpid()):
        return  # a reader never finds it empty
    file.seek(0)
    file.truncate()
    file.write(str(os.getpid()))
    file.flush()


def running(folder: Path) -> int | None:
    """Return the pid of the daemon that holds the folder, or None. The lock decides, not the pid."""
    try:
        file = (folder / LOCK).open()
    except OSError:
        return None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            text = file.read().strip()
            return int(text) if text.isdecimal() else 0
        fcntl.flock(file, fcntl.LOCK_UN)
        return None


def read_status(folder: Path) -> dict[str, object] | None:
    """Return what the daemon published last, or None if there is nothing readable."""
    return read_json(folder / STATUS)


def read_overrides(folder: Path) -> dict[str, object]:
    """Return the settings that earlier ``up`` calls were given as flags."""
    return read_json(folder / OVERRIDES) or {}


def forget_refused(folder: Path) -> None:
    """Forget what memory refused and which engines did not work here, so that the best is tried again.

    Raises:
        OSError: a file cannot be removed.
    """
    for name in (REFUSED, REFUSED_ENGINES):
        (folder / name).unlink(missing_ok=True)
