"""Say how a child ended, from its exit code, its signal and the end of its log. Pure: no I/O.

A permanent ending parks the supervisor: trying the same again cannot help.
"""

from dataclasses import dataclass

from qwenctl.engine.usability import WRONG_PROCESSOR, Attempt, signal_of, why_unusable
from qwenctl.supervise.crash_texts import BUILD_TEXTS, CRASH_TEXTS

TAIL_LINES = 100

KILLED = "killed"
MEMORY_BUSY = "memory_busy"
HOST_OUT_OF_MEMORY = "host_out_of_memory"
OUT_OF_MEMORY = frozenset(("device_out_of_memory", HOST_OUT_OF_MEMORY))

BUILD_CAUSES = frozenset({*(sign.cause for sign in BUILD_TEXTS), WRONG_PROCESSOR})
"""Causes that are always the build's: it does not suit the processor, the system, the driver or the card."""
SIGKILL, SIGTERM, SIGILL = -9, -15, -4
SIGNAL_NAMES = {4: "SIGILL", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 11: "SIGSEGV", 31: "SIGSYS"}
"""Source: signal(7), Linux numbers; SIGBUS is 10 on macOS and prints as its number there."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a child ended. ``hint`` tells a person what would help."""

    cause: str
    summary: str
    permanent: bool = False
    hint: str | None = None
    log_tail: tuple[str, ...] = ()


def classify(returncode: int, tail: tuple[str, ...], *, oom_killed: bool = False) -> Ending:
    """Return the ending of a child that exited without being told to. Negative codes are signals.

    ``oom_killed``: the kernel has killed a process for lack of memory since this one started. A kill from
    outside is judged by its signal; every other ending by the log, and by the signal if the log says nothing.
    """
    returncode = -(signal_of(returncode) or -returncode)
    if returncode == SIGKILL:
        if oom_killed:
            summary = "the system ended it: host memory ran out"
            return Ending(HOST_OUT_OF_MEMORY, summary, False, "choose a smaller quant or context", tail)
        return Ending(KILLED, "killed from outside (SIGKILL)", log_tail=tail)
    if returncode in (SIGTERM, 0):  # it obeys SIGTERM and SIGINT and exits with 0
        return Ending(KILLED, "ended from outside (SIGTERM or SIGINT)", log_tail=tail)
    text = "\n".join(tail)
    for sign in CRASH_TEXTS:
        if found := sign.text.search(text):
            named = next((group for group in found.groups() if group), None)
            summary = f"{sign.summary}: {named}" if named else sign.summary
            return Ending(sign.cause, summary, sign.permanent, sign.hint, tail)
    if returncode == SIGILL:
        why = why_unusable(Attempt(returncode), "work")
        return Ending(why.cause, why.summary, True, why.hint, tail)
    if returncode < 0:
        name = SIGNAL_NAMES.get(-returncode, f"signal {-returncode}")
        return Ending("crashed", f"crashed ({name})", log_tail=tail)
    return Ending("unknown", f"exited with code {returncode}", hint="qwenctl logs shows why", log_tail=tail)
