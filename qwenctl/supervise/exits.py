"""Say how a child ended, from its exit code, its signal and the end of its log. Pure: no I/O.

A permanent ending parks the supervisor: trying the same again cannot help.
"""

import re
from dataclasses import dataclass, replace

from qwenctl.engine.usability import OTHER_BUILD, UNUSABLE_TEXTS, WRONG_PROCESSOR, signal_of
from qwenctl.supervise import log_lines as log
from qwenctl.supervise.build_texts import BUILD_TEXTS
from qwenctl.supervise.crash_texts import (
    ABORT,
    DEVICE_TEXTS,
    EXIT,
    FAULT,
    HOST_HINT,
    HOST_TEXTS,
    WRONG_BUILD,
    CrashText,
)
from qwenctl.supervise.evidence import UNKNOWN, ExitContext, concerns, evidence
from qwenctl.supervise.load_texts import FULL_TEXTS, LAST_TEXTS, LOAD_TEXTS, QUOTES
from qwenctl.supervise.system_texts import (
    AROUND_TEXTS,
    CODE_SIGNATURE,
    KILL_TEXTS,
    LOADER_TEXTS,
    SHELL_KILLED,
    SIGN_IT,
)

TAIL_LINES = 100

KILLED = "killed"
MEMORY_BUSY = "memory_busy"
NOT_READY = "not_ready"
GPU_LOST = "gpu_lost"
HOST_OUT_OF_MEMORY = "host_out_of_memory"
OUT_OF_MEMORY = frozenset(("device_out_of_memory", HOST_OUT_OF_MEMORY))

BUILD_CAUSES = frozenset(
    {WRONG_BUILD, CODE_SIGNATURE, WRONG_PROCESSOR, *(sign.cause for sign in UNUSABLE_TEXTS)}
)
"""Causes that are always the build's: it does not suit the processor, the system, the driver or the card."""
SIGILL, SIGABRT, SIGKILL, SIGTERM = 4, 6, 9, 15
SIGBUS, SIGSYS = {"linux": 7, "darwin": 10}, {"linux": 31, "darwin": 12}
FROM_OUTSIDE = frozenset({1, 2, 3, SIGTERM})
"""A terminal that was closed, its keys, and a plain kill: llama-server never sends itself these."""
SIGNAL_NAMES = {
    1: "SIGHUP",
    2: "SIGINT",
    3: "SIGQUIT",
    4: "SIGILL",
    5: "SIGTRAP",
    6: "SIGABRT",
    7: "SIGBUS",
    8: "SIGFPE",
    9: "SIGKILL",
    11: "SIGSEGV",
    15: "SIGTERM",
    31: "SIGSYS",
}
"""Source: signal(7), Linux numbers; SIGBUS is 10 on macOS, SIGSYS 12."""
OTHER_FAULT = "a fault in llama.cpp: another build may help (qwenctl engine install)"
FOREGROUND = (
    "[server] binary must stay in the foreground: a script ends with exec, docker run goes without -d"
)
LONGEST_QUOTE = 200
LINUX = "linux"
Devices = tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Ending:
    """How a child ended. ``hint`` tells a person what would help.

    ``smaller_helps``: whether a smaller plan may start where memory is busy.
    """

    cause: str
    summary: str
    permanent: bool = False
    hint: str | None = None
    log_tail: tuple[str, ...] = ()
    smaller_helps: bool = True


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
        if oom_killed:
            hint = "choose a smaller quant or context"
            return Ending(HOST_OUT_OF_MEMORY, "the system ended it: host memory ran out", False, hint)
        shown = _first(KILL_TEXTS, _messages(lines), FAULT, None)
        return shown[0] if shown else _killed(_signal_name(returncode, number), tail, context)
    if number == SIGTERM or any(line.message.startswith("Received second interrupt") for line in lines):
        return Ending(KILLED, "ended from outside (SIGTERM or SIGINT)")
    if number in FROM_OUTSIDE:
        return Ending(KILLED, f"ended from outside ({_signal_name(returncode, number)})")
    if returncode == 0:  # it obeys SIGTERM and SIGINT and exits with 0
        return _ended_well(tail, context)
    if found := sign_of(lines, _end(number), context.devices, context.platform):
        return found
    if number is None and not context.serving and not _is_known(tail, context):
        around = _first(AROUND_TEXTS, _messages(lines), EXIT, None)
        if around:
            return around[0]
    return _by_signal(returncode, number, _quoted(lines)[1], context)


def _end(number: int | None) -> str:
    return ABORT if number == SIGABRT else EXIT if number is None else FAULT


def proof_of(
    lines: tuple[log.LogLine, ...], returncode: int, devices: tuple[str, ...] | None = None
) -> str | None:
    """Return the line that an ending rests on: the one that shows its cause, else the one it quotes."""
    number = signal_of(returncode)
    if number == SIGKILL:
        found = _first(KILL_TEXTS, _messages(lines), FAULT, None)
    else:
        found = _sign(lines, _end(number), devices)
    if found is None and not any(log.is_server_log(line) for line in lines):
        found = _first(AROUND_TEXTS, _messages(lines), _end(number), None)
    return found[1] if found else _quoted(lines)[0]


def _messages(lines: tuple[log.LogLine, ...]) -> tuple[str, ...]:
    return tuple(line.message for line in lines)


def sign_of(
    lines: tuple[log.LogLine, ...], end: str, devices: Devices = None, platform: str = LINUX
) -> Ending | None:
    """Return the ending that the server's own lines show, None if they show none."""
    found = _sign(lines, end, devices, platform)
    return found[0] if found else None


LASTING_TEXTS = (
    *LOADER_TEXTS,
    *BUILD_TEXTS,
    *LOAD_TEXTS,
    *DEVICE_TEXTS,
    *HOST_TEXTS,
    *KILL_TEXTS,
    *FULL_TEXTS,
)


def _sign(
    lines: tuple[log.LogLine, ...], end: str, devices: Devices, platform: str = LINUX
) -> tuple[Ending, str] | None:
    """Return the ending that the lines show, and the line that shows it."""
    lasting = tuple(line.message for line in lines if not _SURVIVED.match(line.message))
    early = tuple(line.message for line in lines if _SURVIVED.match(line.message))
    for messages, table in (
        (lasting, LASTING_TEXTS),
        (early, BUILD_TEXTS),
        (lasting, LAST_TEXTS),
    ):
        if found := _first(table, messages, end, devices, platform):
            return found
    return None


def _first(
    table: tuple[CrashText, ...], messages: tuple[str, ...], end: str, devices: Devices, platform: str = LINUX
) -> tuple[Ending, str] | None:
    """Return what the first text of a table shows that a line matches, and its last such line."""
    for sign in table:
        if end not in sign.ends or not concerns(sign.backends, devices):
            continue
        for message in reversed(messages):
            if summary := sign.match(message):
                summary = summary[:LONGEST_QUOTE]
                return Ending(sign.cause, summary, sign.permanent, sign.hint_on(platform)), message
    return None


def _killed(name: str, tail: tuple[str, ...], context: ExitContext) -> Ending:
    words = (log.parse_line(line).message.strip() for line in tail)
    silent = all(not said or SHELL_KILLED.fullmatch(said) for said in words)
    if context.platform == "darwin" and silent and not context.serving:
        summary = "macOS refused the program: its code signature does not hold (SIGKILL before any output)"
        return Ending(CODE_SIGNATURE, summary, permanent=True, hint=SIGN_IT)
    hint = "journalctl -k shows whether the kernel ended it; a container has a memory limit of its own"
    if context.platform == "darwin":
        hint = "macOS ends programs when memory is short (jetsam): see Console, or choose a smaller quant"
    return Ending(KILLED, f"killed from outside ({name})", hint=hint)


def _is_known(tail: tuple[str, ...], context: ExitContext) -> bool:
    """Say whether it printed what only llama-server prints."""
    if context.known is not None:
        return context.known
    return any(
        log.is_server_log(line) for line in log.before_echo(tuple(log.parse_line(one) for one in tail))
    )


def _ended_well(tail: tuple[str, ...], context: ExitContext) -> Ending:
    """Tell a server that was asked to stop from a script that only starts one, or that did nothing."""
    if context.serving or _is_known(tail, context):
        return Ending(KILLED, "ended from outside (SIGTERM or SIGINT)")
    return Ending("unknown", "it ended at once, without an error and without a server's log", hint=FOREGROUND)


def _by_signal(returncode: int, number: int | None, quote: str | None, context: ExitContext) -> Ending:
    said = f": {quote}" if quote else ""
    if number == SIGILL:
        return Ending(WRONG_BUILD, f"it was built for another processor (SIGILL){said}", True, OTHER_BUILD)
    if number == SIGBUS.get(context.platform, SIGBUS["linux"]):
        hint = "the model file was changed or cut off under the server, or its disk went away"
        return Ending("disk", f"the model file could not be read any more (SIGBUS){said}", hint=hint)
    if number == SIGSYS.get(context.platform, SIGSYS["linux"]):
        hint = "allow it: SystemCallFilter= of the unit, --security-opt seccomp= of the container"
        return Ending("seccomp", f"a filter of the system forbids one of its calls (SIGSYS){said}", hint=hint)
    if number is not None:
        return Ending("crashed", f"crashed ({_signal_name(returncode, number)}){said}", hint=OTHER_FAULT)
    return Ending("unknown", f"exited with code {returncode}{said}", hint="qwenctl logs shows why")


def _signal_name(returncode: int, number: int) -> str:
    """Return the name of a signal, with the exit code of the shell that passed it on."""
    name = SIGNAL_NAMES.get(number, f"signal {number}")
    return name if returncode < 0 else f"{name}, exit code {returncode}"


def _quoted(lines: tuple[log.LogLine, ...]) -> tuple[str | None, str | None]:
    """Return what the server says of its end itself: the line, and what to quote of it.

    That is the assertion, the exception, or its last error.
    """
    for pattern in QUOTES:
        for line in reversed(lines):
            if found := pattern.match(line.message):
                return line.message, found[1].strip()[:LONGEST_QUOTE]
    last = next((line.message for line in reversed(lines) if line.level == "E"), None)
    return last, last.strip()[:LONGEST_QUOTE] if last else None


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


__all__ = [
    "BUILD_CAUSES",
    "HOST_HINT",
    "KILLED",
    "MEMORY_BUSY",
    "Ending",
    "ExitContext",
    "because",
    "classify",
    "evidence",
    "proof_of",
    "sign_of",
]
