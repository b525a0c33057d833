"""Remember who the server is, for a daemon that finds it left over; end such a leftover."""

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path

from qwenctl import files
from qwenctl.control import state_dir
from qwenctl.supervise.identity import Identity, identify, left_over, read_identity, reap, write_identity

log = logging.getLogger(__name__)


def attempt(action: Callable[[], None], what: str) -> str | None:
    """Do something that a full disk or a lost folder can spoil; return what went wrong, if anything."""
    try:
        action()
    except OSError as error:
        return f"cannot write {what}: {files.reason(error)}"
    return None


def record_child(folder: Path, pid: int) -> str | None:
    """Keep who the child is, for a daemon that finds it left over. Return what went wrong, if anything."""
    identity = identify(pid)
    if identity is None:
        return None  # gone already
    return attempt(lambda: write_identity(folder / state_dir.CHILD, identity), state_dir.CHILD)


def reap_leftover(folder: Path) -> Identity | None:
    """End the child of a daemon that was killed, if it still runs. Return who it was.

    A process that only has its number is a stranger: it is named and left alone.
    """
    path = folder / state_dir.CHILD
    kept, leftover = read_identity(path), left_over(path)
    with contextlib.suppress(OSError):
        path.unlink()
    if leftover is not None and reap(leftover):
        return leftover
    stranger = identify(kept.pid) if kept is not None else None
    if stranger is not None:
        log.info("pid=%d is now %s and none of ours", stranger.pid, stranger.executable)
    return None
