"""Say why a program cannot be used as the engine, from what an attempt to run it showed. Pure: no I/O.

Each cause is permanent: the same attempt would show the same. The texts are also those of a real start
(supervise/crash_texts.py), so that a cause has one name wherever it is met.
"""

import errno
import re
import shlex
from collections import Counter
from dataclasses import dataclass

from qwenctl.engine.wrapper_texts import MISSING_PROGRAM, NOT_FOUND, OTHERWISE, WRAPPER_TEXTS
from qwenctl.hardware.device_list import goes_away

SIGABRT, SIGILL, SIGKILL = 6, 4, 9
"""Source: signal(7); the same numbers on Linux and macOS."""
SHELL_SIGNAL, MOST_SIGNAL = 128, 64
"""A shell exits with this plus the number of the signal that ended its child. Source: POSIX, sh."""
GPU_BUILD = (
    "qwenctl engine install --backend vulkan, or the build for this card; HIP_VISIBLE_DEVICES or "
    "CUDA_VISIBLE_DEVICES can leave a card out"
)
BUNDLED = "pip install 'qwenctl[engine]' brings one that runs on any system since glibc 2.17"
OTHER_BUILD = "qwenctl engine install brings the build for this machine"
ON_CPU = 'qwenctl up --cpu, or gpu = "off" in [hardware], leaves the devices alone'
LIST_DEVICES = "--list-devices"
WRONG_PROCESSOR, DRIVER_REFUSES = "wrong_processor", "driver_refuses"
QUARANTINED, QUARANTINE, LIFT = "quarantined", "com.apple.quarantine", "xattr -dr com.apple.quarantine"
"""The cause, the mark that a browser puts on what it downloads, and the command that takes it away."""
MAY_BE_QUARANTINED = ("killed", "no_answer", QUARANTINED)
"""A marked program is killed, or waits for a dialog that nobody sees, or gets no library."""
CARD_UNUSED, CARD_AWAY, NO_DEVICE_ON = "card_unused", "card_away", "it has no device on "
"""The causes of an engine that works, but not on this machine's card: never, or not now."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What an attempt to run a program showed. ``code`` is negative for a signal, None without an end.

    ``errno`` says why it was not started; ``stderr`` then has the system's words.
    """

    code: int | None = None
    stdout: str = ""
    stderr: str = ""
    errno: int | None = None
    timed_out: bool = False

    @property
    def signal(self) -> int | None:
        """The signal that ended it, or its child where it is a shell script."""
        return None if self.code is None else signal_of(self.code)


def signal_of(code: int) -> int | None:
    """Return the signal that an exit code means: negative, or a shell's 128 and the number."""
    if code < 0:
        return -code
    return code - SHELL_SIGNAL if 0 < code - SHELL_SIGNAL <= MOST_SIGNAL else None


@dataclass(frozen=True, slots=True)
class Unusable:
    """Why a program cannot be used: the name of the cause, one line, and the way out."""

    cause: str
    summary: str
    hint: str


@dataclass(frozen=True, slots=True)
class UnusableText:
    """A text that shows a cause. Its first group that matched is shown to people."""

    text: re.Pattern[str]
    cause: str
    summary: str
    hint: str


def _any(*texts: str) -> re.Pattern[str]:
    return re.compile("|".join(texts), re.MULTILINE)


UNUSABLE_TEXTS = (
    UnusableText(
        _any(
            r"version [`'](GLIBC_[\d.]+)' not found", r"version [`'](GLIBCXX_[\d.]+|CXXABI_[\d.]+)' not found"
        ),
        "wrong_libc",
        "it was built for a newer system",
        hint=BUNDLED,
    ),
    UnusableText(
        _any(r"(libgomp\.so\.1|libstdc\+\+\.so\.6|libvulkan\.so\.1): cannot open shared object file"),
        "library_missing",
        "a library of the system is missing",
        hint="install it: apt-get install libgomp1 libstdc++6 libvulkan1, or dnf install libgomp libstdc++ "
        "vulkan-loader",
    ),
    UnusableText(
        _any(r"error while loading shared libraries: (libcu(?!rl)[\w.-]+|libnv[\w.-]+):"),
        "library_missing",
        "the CUDA runtime is missing",
        hint="install that CUDA runtime; or qwenctl engine install, which brings it along",
    ),
    UnusableText(
        _any(r"(library load disallowed by system policy)"),
        QUARANTINED,
        "macOS does not let it load its libraries",
        hint=f"{LIFT} FOLDER, the folder that it was unpacked into",
    ),
    UnusableText(
        _any(r"error while loading shared libraries: (\S+):", r"Library not loaded: (\S+)"),
        "library_missing",
        "a library is missing",
        hint="reinstall llama.cpp, or set [server] binary to a complete one",
    ),
    UnusableText(
        _any(r"undefined symbol: (\S+)", r"Symbol not found: (\S+)"),
        "library_mixed",
        "its libraries are of another version",
        hint="reinstall llama.cpp and ggml together (brew upgrade llama.cpp ggml)",
    ),
    UnusableText(
        _any(
            r"(Exec format error)",
            r"([Bb]ad CPU type in executable)",
            r"(cannot execute binary file)",
            r"mach-o file, but is an (incompatible architecture)",
        ),
        "wrong_architecture",
        "it was built for another processor or system",
        hint=OTHER_BUILD,
    ),
    UnusableText(
        _any(r"(Illegal instruction)"),
        WRONG_PROCESSOR,
        "it was built for another processor",
        hint=OTHER_BUILD,
    ),
    UnusableText(
        _any(
            r"(no kernel image is available for execution on the device)",
            r"ROCm error: (invalid device function)",
            r"rocBLAS error: Cannot read \S+TensileLibrary.*GPU arch : (\S+)",
            r"(failed to initialize the Metal library)",
        ),
        "wrong_gpu_build",
        "it was not built for this card",
        hint=GPU_BUILD,
    ),
    UnusableText(
        _any(
            r"(the provided PTX was compiled with an unsupported toolchain)",
            r"(CUDA driver version is insufficient for CUDA runtime version)",
        ),
        "driver_too_old",
        "the driver is too old for it",
        hint="update the NVIDIA driver, or qwenctl engine install takes a build for this driver",
    ),
    UnusableText(
        _any(r"(ggml-sycl\.cpp:\d+: .*)", r"(rocBLAS error: .*)"),
        DRIVER_REFUSES,
        "the card's driver refuses it",
        hint="update the driver, or use another build: qwenctl engine install --backend vulkan; "
        "HIP_VISIBLE_DEVICES or ONEAPI_DEVICE_SELECTOR can leave a device out; " + ON_CPU,
    ),
)
"""In this order; the first match wins.

Source: texts of ld.so and dyld; of Gatekeeper: pwndbg #2689; CUDA and ROCm texts after reports in llama.cpp
#11404, #17950, #8734, #14421, #28515, ramalama #732 and ollama #15849.
"""
OUT_OF_MEMORY = _any(
    r"cudaMalloc failed: out of memory",
    r"CUDA error: out of memory",
    r"hipMalloc failed: out of memory",
    r"ErrorOutOfDeviceMemory",
    r"ErrorOutOfMemory",
)
"""The card is full: that says nothing of the build. Source: as in supervise/crash_texts.py."""


def why_unusable(attempt: Attempt, doing: str) -> Unusable:
    """Return why a program that failed cannot be used. ``doing`` says what was asked of it, for people."""
    if attempt.errno is not None:
        return _not_started(attempt)
    text = f"{attempt.stderr}\n{attempt.stdout}"
    for sign in UNUSABLE_TEXTS:
        if found := sign.text.search(text):
            named = next((group for group in found.groups() if group), None)
            return Unusable(sign.cause, f"{sign.summary}: {named}" if named else sign.summary, sign.hint)
    return _by_its_end(attempt, doing) or _wrapper(attempt, text) or _crash_or_refusal(attempt, doing)


def _by_its_end(attempt: Attempt, doing: str) -> Unusable | None:
    """Return what an end that only one cause has says: none at all, SIGILL, SIGKILL."""
    if attempt.timed_out:
        hint = "a driver may hang: look at the system's log" if doing == LIST_DEVICES else "try it by hand"
        way_out = ON_CPU if doing == LIST_DEVICES else OTHER_BUILD
        return Unusable("no_answer", f"no answer to {doing} in time", f"{hint}; {way_out}")
    if attempt.signal == SIGILL:
        return Unusable(WRONG_PROCESSOR, "it was built for another processor (SIGILL)", OTHER_BUILD)
    if attempt.signal == SIGKILL:
        hint = f"on macOS: {LIFT} FOLDER, or codesign --force --sign - FILE; elsewhere look for who ends it"
        return Unusable("killed", f"the system killed it (SIGKILL) at {doing}", hint)
    return None


def _crash_or_refusal(attempt: Attempt, doing: str) -> Unusable:
    """Return what is left: its last words, and that it crashed if it did."""
    said = last_line(attempt)
    colon = said and f": {said}"
    if attempt.signal is not None and doing == LIST_DEVICES:
        summary = f"a driver ended it while it looked for devices (signal {attempt.signal}){colon}"
        return Unusable(DRIVER_REFUSES, summary, f"update the driver, or take {GPU_BUILD}; {ON_CPU}")
    if attempt.signal is not None:
        return Unusable("crashed", f"it crashed at {doing} (signal {attempt.signal}){colon}", OTHER_BUILD)
    if attempt.code == 0:
        summary = f"it ended at once at {doing} with exit code 0"
        return Unusable("not_in_foreground", summary, "[server] binary must stay in the foreground")
    return Unusable("failed", said or f"exit code {attempt.code}", f"{doing} shows it; or {OTHER_BUILD}")


def _wrapper(attempt: Attempt, text: str) -> Unusable | None:
    """Return what a script lacks that starts llama-server elsewhere; None if it is none, or says nothing."""
    if sign := next((sign for sign in WRAPPER_TEXTS if sign.text.search(text)), None):
        return Unusable("wrapper", f"it needs {sign.needs}: {last_line(attempt)}", sign.hint)
    if attempt.code == MISSING_PROGRAM and (found := NOT_FOUND.search(text)):
        name = found[1] or found[2]
        return Unusable(
            "wrapper",
            f"it is a script that needs {name}, which is not on PATH",
            f"install {name}, {OTHERWISE}",
        )
    return None


def last_line(attempt: Attempt) -> str:
    """Return the last line of what it said, at most 300 characters of it."""
    lines = [line.strip() for line in attempt.stderr.splitlines() if line.strip()]
    lines = lines or [line.strip() for line in attempt.stdout.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def quarantined(folder: str, doing: str) -> Unusable:
    """Return why a program that a browser has downloaded cannot be used on macOS."""
    summary = f"macOS holds it back at {doing}: a browser downloaded it, and its files are in quarantine"
    return Unusable(QUARANTINED, summary, f"{LIFT} {shlex.quote(folder)}")


def device_missing(backend: str, reason: str | None = None) -> Unusable:
    """Return why an engine whose ``--list-devices`` shows no device of its backend is of no use."""
    summary = f"it shows no {backend} device{f': {reason}' if reason else ''}"
    hint = f"check the driver for {backend}, or take another build: qwenctl engine install --backend vulkan"
    return Unusable("device_missing", summary, hint)


def card_unused(cards: tuple[str, ...], backend: str, reason: str | None = None) -> Unusable:
    """Return why an engine that has no device on this machine's cards is none for this machine.

    ``reason``: what it said itself. It is built for such a card, then, and the driver is at fault.
    """
    counts = Counter(cards)
    names = (f"{count} x {name}" if count > 1 else name for name, count in counts.items())
    summary = f"{NO_DEVICE_ON}{', '.join(names)}"
    if reason is not None:
        hint = "look at the card's driver (nvidia-smi, rocminfo, vulkaninfo)"
        cause = CARD_AWAY if goes_away(reason) else CARD_UNUSED
        return Unusable(cause, f"{summary} ({reason})", f"{hint}; {ON_CPU}")
    brew = "brew install llama.cpp, or " if backend == "metal" else ""
    hint = (
        f"{brew}qwenctl engine install --backend {backend} brings a build for it; "
        "qwenctl up --cpu runs on the processor on purpose"
    )
    return Unusable(CARD_UNUSED, summary, hint)


def _not_started(attempt: Attempt) -> Unusable:
    match attempt.errno:
        case errno.ENOEXEC:
            return Unusable("wrong_architecture", "it was built for another processor or system", OTHER_BUILD)
        case errno.EACCES:
            hint = "chmod +x it; if it is executable, its file system is mounted noexec: move it elsewhere"
            return Unusable("not_executable", "it may not be executed", hint)
        case errno.ENOENT:
            hint = "reinstall it; a script needs the program of its first line, a binary its loader"
            return Unusable("not_found", "no such file, or what it needs to start is missing", hint)
        case _ if attempt.errno == getattr(errno, "EBADARCH", 86):
            return Unusable(
                "wrong_architecture", "it was built for another processor (Bad CPU type)", OTHER_BUILD
            )
        case _:
            return Unusable("not_started", attempt.stderr.lower(), "try it by hand")
