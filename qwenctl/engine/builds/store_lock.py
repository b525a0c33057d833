"""One installation at a time: the lock of the store of engines. It is free once its holder has died."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qwenctl.errors import QwenctlError
from qwenctl.files import reason

LOCK = ".lock"


class StoreBusyError(QwenctlError):
    """Another process changes the store of engines."""


def store_error(verb: str, path: Path, error: OSError) -> QwenctlError:
    """Return the error for a failed operation on the store."""
    return QwenctlError(
        f"cannot {verb} {path}: {reason(error)}",
        hint="free some space, or set XDG_DATA_HOME to a folder that is large enough and yours",
    )


@contextmanager
def store_lock(root: Path) -> Iterator[None]:
    """Hold the store of engines, which is made if it is missing.

    Raises:
        StoreBusyError: another process holds it, which is named.
        QwenctlError: the folder cannot be written.
    """
    path = root / LOCK
    try:
        root.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise store_error("write", path, error) from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "?"
            raise StoreBusyError(
                f"cannot change the engines in {root}: process {holder} does so now",
                hint="run it again when that has ended",
            ) from None
        except OSError as error:
            raise store_error("lock", path, error) from error
        os.ftruncate(fd, 0)
        os.pwrite(fd, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(fd)
