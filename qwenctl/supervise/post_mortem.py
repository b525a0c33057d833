"""Say of a server's log, whoever ran it, how the server ended and what follows. Pure: no I/O."""

import re
from dataclasses import dataclass

from qwenctl.engine.usability import signal_of
from qwenctl.supervise import log_lines as log
from qwenctl.supervise.evidence import ExitContext, evidence
from qwenctl.supervise.exits import (
    BUILD_CAUSES,
    GPU_LOST,
    KILLED,
    OUT_OF_MEMORY,
    SIGNAL_NAMES,
    Ending,
    classify,
    proof_of,
)

_SHELL_WORDS = (
    (re.compile(r".*\b[Ss]egmentation fault\b|.*signal: segmentation violation|.*\]: segfault at "), 11),
    (re.compile(r".*\bTrace/BPT trap\b"), 5),
    (re.compile(r"(?:.*: line \d+: .*)?\bAborted\b|.*signal: aborted|Abort trap: 6"), 6),
    (re.compile(r"(?:.*: line \d+: +\d+ +)?Killed\b|.*signal: killed|zsh: killed\b|Killed: 9"), 9),
    (re.compile(r".*\bIllegal instruction\b"), 4),
    (re.compile(r".*\bBus error\b|.*signal: bus error"), 7),
    (re.compile(r".*\bBad system call\b"), 31),
    (re.compile(r"(?:.*: line \d+: +\d+ +)?Terminated\b"), 15),
)
"""What a shell or a supervisor prints when its child ends by a signal. Source: bash, ollama, macOS' sh."""
_ABORTS = re.compile(
    r"\S+\.(?:cpp|cu|cuh|c|m|mm|h|hpp):\d+: |GGML_ASSERT|terminate called|libc\+\+abi: |dyld\["
    r"|(?:CUDA|ROCm|MUSA) error: |Memory access fault by GPU|HW Exception by GPU|rocBLAS error: "
    r"|.*Assertion [`'].*' failed|Assertion failed: \(|\S+\(\d+,0x\w+\) malloc: \*\*\* error|OMP: Error "
    r"|double free|free\(\): |(?:malloc|realloc|malloc_consolidate)\(\): |munmap_chunk"
    r"|corrupted (?:size|double)|:0:rocdevice"
)
_LOADER = re.compile(
    r".*(?:error while loading shared libraries|symbol lookup error|version `\S+' not found)"
)
_EXITS = re.compile(
    r"(?:srv +\w+: |main: )?exiting due to |error: |error while handling argument |Received second interrupt"
    r"|.*\berror loading model: |.*failed to initialize the context: |.*couldn't bind "
)
_STOPPED = re.compile(
    r"srv +\S+: (?:\S+: )?cleaning up before exit|common_memory_breakdown_print: |llama_memory_b"
)
_CODE = re.compile(r".*\b(?:exited with (?:code|status)|exit status|status=)[ =]?(\d{1,3})\b")


@dataclass(frozen=True, slots=True)
class PostMortem:
    """What a log shows. ``code`` is negative for a signal; ``assumed``: nobody said it, the log implies it.

    ``ending`` is None where nothing shows that the server ended. ``proof`` is the line that the cause rests
    on. ``known`` says whether this is a llama-server's log at all.
    """

    ending: Ending | None
    code: int | None
    assumed: bool
    proof: str | None
    serving: bool
    echoed: bool
    known: bool
    action: str

    @property
    def clean(self) -> bool:
        """Whether the server stopped because it was asked to."""
        return self.code == 0 and self.ending is not None and self.ending.cause == KILLED


def examine(tail: tuple[str, ...], code: int | None, context: ExitContext) -> PostMortem:
    """Return what the end of a log shows. ``code``: the exit code, negative for a signal, None if unknown."""
    lines = evidence(tail, context)
    parsed = tuple(log.parse_line(line) for line in tail)
    known = any(log.is_server_log(line) for line in parsed) if context.known is None else context.known
    serving = any(log.listens(line) for line in parsed) if context.serving is None else context.serving
    implied = code if code is not None else _implied(lines, parsed, context)
    if implied is None:
        action = "nothing: the log does not show that the server ended" if known else "nothing"
        return PostMortem(None, None, True, None, serving, context.echoed, known, action)
    ending = classify(implied, tail, context=context)
    named = any("llama-server" in line for line in tail)
    proof = proof_of(lines, implied, context.devices) if ending.cause != KILLED else None
    action = what_follows(ending, serving=serving)
    return PostMortem(
        ending, implied, code is None, proof, serving, context.echoed, bool(known or proof or named), action
    )


def _implied(
    lines: tuple[log.LogLine, ...], parsed: tuple[log.LogLine, ...], context: ExitContext
) -> int | None:
    """Return the exit code that the server's own last words imply, None if they imply none."""
    messages = [line.message.strip() for line in lines]
    for message in reversed(messages):
        for pattern, number in _SHELL_WORDS:
            if pattern.match(message):
                return -number
    if any(_ABORTS.match(message) for message in messages):
        return -6
    if any(_LOADER.match(message) for message in messages):
        return 127
    for message in reversed(messages):
        if found := _CODE.match(message):
            return int(found[1])
    if any(_EXITS.match(message) for message in messages):
        return 1
    if not context.echoed and any(_STOPPED.match(line.message) for line in parsed[-20:]):
        return 0
    return 1 if proof_of(lines, 1, context.devices) and not context.serving else None


def what_follows(ending: Ending, *, serving: bool) -> str:
    """Return in one sentence what qwenctl does after such an ending. Its rules: supervise/endings.py."""
    if ending.cause in OUT_OF_MEMORY:
        return 'plan something smaller and start that; with on_oom = "stop" it stays stopped'
    if ending.permanent and not (serving and ending.cause in BUILD_CAUSES):
        return (
            "stop trying (failed), until somebody asks, the settings change or one of its files is replaced"
        )
    if ending.cause == GPU_LOST:
        return "start the same again: at once after service, else after 1 s, 2 s, ... 60 s"
    if ending.cause == KILLED:
        return "start it again at once, unless qwenctl itself was asked to stop it"
    if serving:
        return "start it again at once, up to five times in 60 s; after that it waits 1 s, 2 s, ... 60 s"
    return "start it again after 1 s, 2 s, ... 60 s, without end"


def name_of_end(code: int) -> str:
    """Return an exit code or a signal in words."""
    number = signal_of(code)
    if number is None:
        return f"exit code {code}"
    name = SIGNAL_NAMES.get(number, f"signal {number}")
    return name if code < 0 else f"exit code {code}, which is {name}"
