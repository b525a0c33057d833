"""Who runs in a process group."""

import contextlib
import os

import psutil


def group(number: int) -> list[psutil.Process]:
    """Return who runs in a process group; who has ended and waits for its parent does not count."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getpgid(process.pid) == number and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found
