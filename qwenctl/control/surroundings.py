"""The daemon's dealings with its folder: who the child is, what was remembered, what cannot be written."""

import contextlib
import dataclasses
import logging
import os
import resource
from collections.abc import Callable
from pathlib import Path

from qwenctl.control import folder as files
from qwenctl.supervise.identity import Identity, identify, reap

log = logging.getLogger(__name__)

DESCRIPTORS = 65_536
"""Enough for every client that may be held, twice: macOS starts with 256."""
NEARLY = 0.9


def attempt(action: Callable[[], None], what: str) -> str | None:
    """Do something that a full disk or a lost folder can spoil; return what went wrong, if anything."""
    try:
        action()
    except OSError as error:
        return f"cannot write {what}: {(error.strerror or str(error)).lower()}"
    return None


def raise_descriptor_limit() -> None:
    """Take the descriptors that are ours for the asking: each client needs one, and its answer another."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # macOS has a second limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def descriptors_left() -> str | None:
    """Return what is wrong if hardly a file descriptor is left."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        used = len(os.listdir("/dev/fd"))  # noqa: PTH208 - one call, one descriptor
    except OSError:
        return f"no file descriptor is left of {limit}"
    return f"{used} of {limit} file descriptors are in use" if used > NEARLY * limit else None


def record_child(folder: Path, pid: int) -> str | None:
    """Keep who the child is, for a daemon that finds it left over. Return what went wrong, if anything."""
    identity = identify(pid)
    if identity is None:
        return None  # gone already
    return attempt(lambda: files.write_json(folder / files.CHILD, dataclasses.asdict(identity)), files.CHILD)


def reap_leftover(folder: Path) -> Identity | None:
    """End the child of a daemon that was killed, if it still runs. Return who it was.

    A process that only has its number is a stranger: it is named and left alone.
    """
    leftover = _read(files.read_json(folder / files.CHILD) or {})
    with contextlib.suppress(OSError):
        (folder / files.CHILD).unlink()
    if leftover is None:
        return None
    if reap(leftover):
        return leftover
    stranger = identify(leftover.pid)
    if stranger is not None:
        log.info("pid=%d is now %s and none of ours", stranger.pid, stranger.executable)
    return None


def _read(kept: dict[str, object]) -> Identity | None:
    match kept:
        case {"pid": int(pid), "started": str(started), "executable": str(executable)}:
            return Identity(pid, started, executable)
        case _:
            return None
