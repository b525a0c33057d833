"""Say how a child ended, from its exit code, its signal and the end of its log. Pure: no I/O.

A permanent ending parks the supervisor: trying the same again cannot help.
"""

import re
from dataclasses import dataclass

TAIL_LINES = 100


@dataclass(frozen=True, slots=True)
class Ending:
    """How a child ended. ``hint`` tells a person what would help."""

    cause: str
    summary: str
    permanent: bool = False
    hint: str | None = None
    log_tail: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sign:
    """A text in the log that gives a cause away."""

    text: re.Pattern[str]
    cause: str
    summary: str
    permanent: bool
    hint: str | None = None


SIGNS = (
    Sign(
        re.compile(r"error while loading shared libraries: (\S+):|Library not loaded: (\S+)"),
        "library_missing",
        "a library is missing",
        permanent=True,
        hint="reinstall llama.cpp, or set [server] binary to a complete one",
    ),
    Sign(
        re.compile(r"error: (?:invalid argument|unknown argument|unknown option): (\S+)"),
        "bad_flag",
        "it does not know a flag",
        permanent=True,
        hint="look at [server] extra_args",
    ),
    Sign(
        re.compile(
            r"error: (?:while handling argument|expected value for argument)|error while handling argument"
        ),
        "bad_flag",
        "it does not accept a flag's value",
        permanent=True,
        hint="look at [server] extra_args",
    ),
    Sign(
        re.compile(r"couldn't bind HTTP server socket"),
        "port_taken",
        "its address is taken or not allowed",
        permanent=True,
        hint="qwenctl up --port N uses another one",
    ),
    Sign(
        re.compile(
            r"invalid magic|is not within the file bounds|failed to read magic|unknown model architecture"
        ),
        "model_corrupt",
        "the model file is damaged or of a kind this build does not know",
        permanent=True,
        hint="qwenctl fetch checks it and brings it again",
    ),
    Sign(
        re.compile(r"out of memory|failed to allocate|unable to allocate|cudaMalloc failed", re.IGNORECASE),
        "out_of_memory",
        "memory ran out",
        permanent=False,
        hint="choose a smaller quant or context",
    ),
)
"""In this order; the first match wins. Source: texts of llama-server b11434 and of ld.so."""


def classify(returncode: int, tail: tuple[str, ...]) -> Ending:
    """Return the ending of a child that exited without being told to. Negative codes are signals."""
    text = "\n".join(tail)
    for sign in SIGNS:
        if found := sign.text.search(text):
            named = next((group for group in found.groups() if group), None)
            summary = f"{sign.summary}: {named}" if named else sign.summary
            return Ending(sign.cause, summary, sign.permanent, sign.hint, tail)
    if returncode == -9:
        return Ending("killed", "killed from outside (SIGKILL)", log_tail=tail)
    if returncode == -15:
        return Ending("killed", "ended from outside (SIGTERM)", log_tail=tail)
    if returncode < 0:
        return Ending("crashed", f"crashed (signal {-returncode})", log_tail=tail)
    return Ending("unknown", f"exited with code {returncode}", log_tail=tail)
