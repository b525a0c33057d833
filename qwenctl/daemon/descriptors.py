"""File descriptors: raise the limit to what is ours, and say when hardly one is left."""

import contextlib
import os
import resource

DESCRIPTORS = 65_536
"""Enough for every client that may be held, twice: macOS starts with 256."""
NEARLY = 0.9


def raised(soft: int, hard: int) -> int:
    """Return the limit that a daemon started with these will have."""
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    return soft if soft == resource.RLIM_INFINITY else max(soft, wanted)


def raise_descriptor_limit() -> None:
    """Take the descriptors that are ours for the asking: each client needs one, and its answer another."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = raised(soft, hard)
    if soft != wanted:
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
