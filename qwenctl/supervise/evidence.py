"""Pick the lines of a log that may show why a server ended. Pure: no I/O."""

import itertools
import re
from dataclasses import dataclass

from qwenctl.supervise import log_lines as log
from qwenctl.supervise.crash_texts import ANY_BACKEND


@dataclass(frozen=True, slots=True)
class ExitContext:
    """What is known of a child beside its end. None: it is not known.

    ``serving``: it took requests. ``echoed``: the log, of which only the end is kept, let a client's text
    follow on lines of its own. ``known``: it printed what only llama-server prints. ``devices``: the ids of
    the devices that it was to use.
    """

    serving: bool | None = None
    echoed: bool = False
    known: bool | None = None
    devices: tuple[str, ...] | None = None
    platform: str = "linux"


UNKNOWN = ExitContext()


def evidence(tail: tuple[str, ...], context: ExitContext = UNKNOWN) -> tuple[log.LogLine, ...]:
    """Return the lines that the server wrote itself, and that may show why it ended.

    While it loads, these are its errors; a caller who asks what a living server complained of says
    ``serving=False``, too. Once it takes requests, it is what it printed last. Nothing counts
    that a client may have written: see ``log_lines``.
    """
    every = tuple(log.parse_line(line) for line in tail)
    lines = log.before_echo(every)
    serving = any(log.listens(line) for line in lines) if context.serving is None else context.serving
    if context.echoed or (serving and len(lines) < len(every)):
        lines = ()  # nothing in the tail shows where in the log the client's text began
    elif serving:
        lines = log.last_block(log.after_ends(log.before_more_of_an_exception(lines)))
    else:
        lines = log.after_ends(lines)
    return tuple(line for line in lines if not _harmless(line))


def _harmless(line: log.LogLine) -> bool:
    """Say whether a line is no error: only a warning, or one about a thing that the server does without."""
    return line.level in ("I", "W", "D") or log.carries_text(line) or bool(_WARNINGS.match(line.message))


_WARNINGS = re.compile(r"(?:warning|WARNING|warn|WARN)\b|.*failed to m(?:un)?lock|.*pinned memory")


def concerns(backends: tuple[str, ...], devices: tuple[str, ...] | None) -> bool:
    """Say whether a text about these backends speaks of a device that the child was to use."""
    if devices is None or not backends:
        return True
    used = {_backend(device) for device in devices}
    return bool(used) if ANY_BACKEND in backends else bool(used.intersection(backends))


def _backend(device: str) -> str:
    name = re.sub(r"\d.*", "", device).upper()
    return {"MTL": "METAL", "GPUOPENCL": "OPENCL"}.get(name, name)


def devices_of(argv: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return the devices that a command line names; None if it leaves the choice to llama.cpp."""
    named: tuple[str, ...] | None = None
    remote: tuple[str, ...] = ()
    for flag, value in itertools.pairwise(argv):
        if flag in ("--device", "-dev"):
            named = () if value == "none" else tuple(value.split(","))
        elif flag == "--rpc":
            remote = tuple(f"RPC{index}" for index, _ in enumerate(value.split(",")))
    return None if named is None else named + remote
