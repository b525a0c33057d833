"""Say how a child ended, from its exit code, its signal and the end of its log. Pure: no I/O.

A permanent ending parks the supervisor: trying the same again cannot help.
"""

import itertools
import re
from dataclasses import dataclass, replace

from qwenctl.engine.usability import OTHER_BUILD, UNUSABLE_TEXTS, WRONG_PROCESSOR, signal_of
from qwenctl.supervise import log_lines as log
from qwenctl.supervise.crash_texts import (
    ABORT,
    ANY_BACKEND,
    BUILD_TEXTS,
    DEVICE_TEXTS,
    EXIT,
    FAULT,
    HOST_HINT,
    HOST_TEXTS,
    WRONG_BUILD,
    CrashText,
)
from qwenctl.supervise.load_texts import FULL_TEXTS, LAST_TEXTS, LOAD_TEXTS, QUOTES

TAIL_LINES = 100

KILLED = "killed"
MEMORY_BUSY = "memory_busy"
NOT_READY = "not_ready"
GPU_LOST = "gpu_lost"
HOST_OUT_OF_MEMORY = "host_out_of_memory"
OUT_OF_MEMORY = frozenset(("device_out_of_memory", HOST_OUT_OF_MEMORY))

BUILD_CAUSES = frozenset(
    {WRONG_BUILD, "code_signature", WRONG_PROCESSOR, *(sign.cause for sign in UNUSABLE_TEXTS)}
)
"""Causes that are always the build's: it does not suit the processor, the system, the driver or the card."""
SIGILL, SIGABRT, SIGKILL, SIGTERM, SIGSYS = 4, 6, 9, 15, 31
SIGBUS = {"linux": 7, "darwin": 10}
SIGNAL_NAMES = {
    4: "SIGILL",
    6: "SIGABRT",
    7: "SIGBUS",
    8: "SIGFPE",
    9: "SIGKILL",
    11: "SIGSEGV",
    31: "SIGSYS",
}
"""Source: signal(7), Linux numbers; SIGBUS is 10 on macOS, SIGSYS 12."""
OTHER_FAULT = "a fault in llama.cpp: another build may help (qwenctl engine install)"
FOREGROUND = (
    "[server] binary must stay in the foreground: a script ends with exec, docker run goes without -d"
)
LONGEST_QUOTE = 200


@dataclass(frozen=True, slots=True)
class Ending:
    """How a child ended. ``hint`` tells a person what would help."""

    cause: str
    summary: str
    permanent: bool = False
    hint: str | None = None
    log_tail: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ExitContext:
    """What is known of a child beside its end. None: it is not known.

    ``serving``: it took requests. ``echoed``: the log, of which only the end is kept, let a client's text
    follow on lines of its own. ``devices``: the ids of the devices that it was to use.
    """

    serving: bool | None = None
    echoed: bool = False
    devices: tuple[str, ...] | None = None
    platform: str = "linux"


UNKNOWN = ExitContext()


def classify(
    returncode: int, tail: tuple[str, ...], *, oom_killed: bool = False, context: ExitContext = UNKNOWN
) -> Ending:
    """Return the ending of a child that exited without being told to. Negative codes are signals.

    ``oom_killed``: the kernel has killed a process for lack of memory since this one started. A kill from
    outside is judged by its signal; every other ending by the server's own lines, and by the signal if these
    say nothing.
    """
    number = signal_of(returncode)
    lines = evidence(tail, context)
    return replace(_judge(returncode, number, lines, tail, context, oom_killed=oom_killed), log_tail=tail)


def evidence(tail: tuple[str, ...], context: ExitContext = UNKNOWN) -> tuple[log.LogLine, ...]:
    """Return the lines that the server wrote itself, and that may show why it ended.

    While it loads, these are its errors. Once it takes requests, it is what it printed last. Nothing counts
    that a client may have written: see ``log_lines``.
    """
    every = tuple(log.parse_line(line) for line in tail)
    lines = log.before_echo(every)
    serving = any(log.listens(line) for line in lines) if context.serving is None else context.serving
    if context.echoed or (serving and len(lines) < len(every)):
        lines = ()  # nothing in the tail shows where in the log the client's text began
    elif serving:
        lines = log.last_block(log.after_ends(lines))
    else:
        lines = log.after_ends(lines)
    return tuple(line for line in lines if not _harmless(line))


def _harmless(line: log.LogLine) -> bool:
    """Say whether a line is no error: only a warning, or one about a thing that the server does without."""
    return line.level in ("I", "W", "D") or log.carries_text(line) or bool(_WARNINGS.match(line.message))


_WARNINGS = re.compile(r"(?:warning|WARNING|warn|WARN)\b|.*failed to m(?:un)?lock|.*pinned memory")
_SURVIVED = re.compile(
    r"(?:load_backend|ggml_backend_load_best): |ggml_\w+_init: failed to initialize (?!the )"
)
"""A backend that could not be loaded or initialized: the server goes on without it."""


def _judge(
    returncode: int,
    number: int | None,
    lines: tuple[log.LogLine, ...],
    tail: tuple[str, ...],
    context: ExitContext,
    *,
    oom_killed: bool,
) -> Ending:
    if number == SIGKILL:
        return _killed(_signal_name(returncode, number), tail, context, oom_killed=oom_killed)
    if number == SIGTERM or any(line.message.startswith("Received second interrupt") for line in lines):
        return Ending(KILLED, "ended from outside (SIGTERM or SIGINT)")
    if returncode == 0:  # it obeys SIGTERM and SIGINT and exits with 0
        return _ended_well(tail, context)
    end = ABORT if number == SIGABRT else EXIT if number is None else FAULT
    if found := sign_of(lines, end, context.devices):
        return found
    return _by_signal(returncode, number, _quote(lines), context)


def sign_of(
    lines: tuple[log.LogLine, ...], end: str, devices: tuple[str, ...] | None = None
) -> Ending | None:
    """Return the ending that the server's own lines show, None if they show none."""
    lasting = tuple(line.message for line in lines if not _SURVIVED.match(line.message))
    early = tuple(line.message for line in lines if _SURVIVED.match(line.message))
    for messages, table in (
        (lasting, (*BUILD_TEXTS, *LOAD_TEXTS, *DEVICE_TEXTS, *HOST_TEXTS, *FULL_TEXTS)),
        (early, BUILD_TEXTS),
        (lasting, LAST_TEXTS),
    ):
        for sign in table:
            if end not in sign.ends or not _concerns(sign, devices):
                continue
            for message in reversed(messages):
                if summary := sign.match(message):
                    return Ending(sign.cause, summary[:LONGEST_QUOTE], sign.permanent, sign.hint)
    return None


def _concerns(sign: CrashText, devices: tuple[str, ...] | None) -> bool:
    """Say whether a text speaks of a device that the child was to use."""
    if devices is None or not sign.backends:
        return True
    used = {_backend(device) for device in devices}
    return bool(used) if ANY_BACKEND in sign.backends else bool(used.intersection(sign.backends))


def _backend(device: str) -> str:
    name = re.sub(r"\d.*", "", device).upper()
    return {"MTL": "METAL", "GPUOPENCL": "OPENCL"}.get(name, name)


def _killed(name: str, tail: tuple[str, ...], context: ExitContext, *, oom_killed: bool) -> Ending:
    if oom_killed:
        hint = "choose a smaller quant or context"
        return Ending(HOST_OUT_OF_MEMORY, "the system ended it: host memory ran out", False, hint)
    silent = not any(line.strip() for line in tail)
    if context.platform == "darwin" and silent and not context.serving:
        hint = "codesign --force --sign - FILE, xattr -d com.apple.quarantine FILE, or reinstall llama.cpp"
        summary = "macOS refused the program: its code signature does not hold (SIGKILL before any output)"
        return Ending("code_signature", summary, True, hint)
    hint = "journalctl -k shows whether the kernel ended it; a container has a memory limit of its own"
    if context.platform == "darwin":
        hint = "macOS ends programs when memory is short (jetsam): see Console, or choose a smaller quant"
    return Ending(KILLED, f"killed from outside ({name})", hint=hint)


def _ended_well(tail: tuple[str, ...], context: ExitContext) -> Ending:
    """Tell a server that was asked to stop from a script that only starts one, or that did nothing."""
    lines = [log.parse_line(line) for line in tail]
    served = context.serving or any(line.own or _LIBRARY.match(line.message) for line in lines)
    if served:
        return Ending(KILLED, "ended from outside (SIGTERM or SIGINT)")
    return Ending("unknown", "it ended at once, without an error and without a server's log", hint=FOREGROUND)


_LIBRARY = re.compile(r"(?:llama|ggml|gguf|common|load|main|build|system)_?\w*: ")


def _by_signal(returncode: int, number: int | None, quote: str | None, context: ExitContext) -> Ending:
    said = f": {quote}" if quote else ""
    if number == SIGILL:
        return Ending(WRONG_BUILD, f"it was built for another processor (SIGILL){said}", True, OTHER_BUILD)
    if number == SIGBUS.get(context.platform, SIGBUS["linux"]):
        hint = "the model file was changed or cut off under the server, or its disk went away"
        return Ending("disk", f"the model file could not be read any more (SIGBUS){said}", hint=hint)
    if number == SIGSYS:
        hint = "allow it: SystemCallFilter= of the unit, --security-opt seccomp= of the container"
        return Ending("seccomp", f"a filter of the system forbids one of its calls (SIGSYS){said}", hint=hint)
    if number is not None:
        return Ending("crashed", f"crashed ({_signal_name(returncode, number)}){said}", hint=OTHER_FAULT)
    return Ending("unknown", f"exited with code {returncode}{said}", hint="qwenctl logs shows why")


def _signal_name(returncode: int, number: int) -> str:
    """Return the name of a signal, with the exit code of the shell that passed it on."""
    name = SIGNAL_NAMES.get(number, f"signal {number}")
    return name if returncode < 0 else f"{name}, exit code {returncode}"


def _quote(lines: tuple[log.LogLine, ...]) -> str | None:
    """Return what the server says of its end itself: the assertion, the exception, or its last error."""
    for pattern in QUOTES:
        for line in reversed(lines):
            if found := pattern.match(line.message):
                return found[1].strip()[:LONGEST_QUOTE]
    errors = [line.message for line in lines if line.level == "E"]
    return errors[-1].strip()[:LONGEST_QUOTE] if errors else None


def because(cause: Ending, exited: Ending, devices: tuple[str, ...] | None = None) -> Ending:
    """Return why a server that we ended was no good: what its own log says, if that is more.

    Some builds hang where others exit: a load that ran out of memory or lost its device then only never
    gets ready.
    """
    if cause.cause != NOT_READY:
        return cause
    context = ExitContext(serving=False, devices=devices)
    found = sign_of(evidence(exited.log_tail, context), ABORT, devices)
    if found is None or found.cause not in (*OUT_OF_MEMORY, GPU_LOST):
        return cause
    return replace(found, summary=f"{cause.summary}; {found.summary}", log_tail=exited.log_tail)


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


__all__ = [
    "BUILD_CAUSES",
    "HOST_HINT",
    "KILLED",
    "MEMORY_BUSY",
    "Ending",
    "ExitContext",
    "because",
    "classify",
    "devices_of",
    "evidence",
]
