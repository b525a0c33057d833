"""The texts of what stands around a server: kernel, systemd, macOS, loaders, docker. Pure: a table.

They are in a log where a wrapper, a container or a journal puts them beside the server's own lines.
"""

import re

from qwenctl.engine.wrapper_texts import NOT_FOUND, OTHERWISE, WRAPPER_TEXTS
from qwenctl.supervise.crash_texts import (
    ABORT,
    EXIT,
    HOST_HINT,
    LIBRARY_MISSING,
    WRONG_BUILD,
    CrashText,
    starts,
)

CODE_SIGNATURE = "code_signature"
SIGN_IT = "codesign --force --sign - FILE, xattr -d com.apple.quarantine FILE, or reinstall llama.cpp"
MUSL = "a build for glibc does not run with musl (Alpine): take a system with glibc, or build llama.cpp here"

_KERNEL = r"(?:kernel: )?(?:\[[\d. ]+\] )?"
OUT_OF_MEMORY_LINES = (
    _KERNEL + r"(Out of memory: Killed process \d+)",
    _KERNEL + r"(Memory cgroup out of memory: Killed process \d+)",
    _KERNEL + r"(oom-kill:constraint=\w+)",
    r"\S+: (A process of this unit has been killed by the OOM killer)",
    r"\S+: (Failed with result 'oom-kill')",
    r"\S+: (systemd-oomd killed \d+ process)",
    r"(Killed \S+ due to (?:memory|swap))",
    r"(sending SIG(?:KILL|TERM) to process \d+ .*badness)",
    r"(?:.*kernel: )?(memorystatus: killing\w* .*pid \d+ \[[^\]]*\])",
    r".*((?:JETSAM|OS)_REASON_(?:MEMORY|JETSAM)\w*)",
    r".*(OOMKilled\"?: ?true)",
    r"(?:Reason: +)?(OOMKilled)$",
)
"""Source: mm/oom_kill.c of Linux, systemd's and systemd-oomd's messages, earlyoom, xnu's kern_memorystatus.c,
docker inspect, kubectl describe. Reports: llama.cpp #20509, systemd #32304.
"""
KILL_TEXTS = (
    CrashText(
        starts(*OUT_OF_MEMORY_LINES),
        "host_out_of_memory",
        "the system ended it: host memory ran out",
        permanent=False,
        hint=HOST_HINT,
    ),
    CrashText(
        starts(
            r"Exception Type: +(.*Code Signature Invalid.*)",
            r"Termination Reason: +(.*CODESIGNING.*)",
            r".*(OS_REASON_CODESIGNING)",
            r".*(CODE SIGNING: process \d+\[[^\]]*\]: rejecting invalid page)",
            r".*(ASP: Security policy would not allow process)",
        ),
        CODE_SIGNATURE,
        "macOS refused the program: its code signature does not hold",
        permanent=True,
        hint=SIGN_IT,
    ),
)
"""What shows why a SIGKILL came. It may come from anybody, so no other text counts with it."""
SHELL_KILLED = re.compile(r"(?:\S+: line \d+: +\d+ +)?(?:zsh: killed\b|Killed\b).*")
"""What a shell prints of a child that SIGKILL ended."""
LOADER_TEXTS = (
    CrashText(
        starts(r"Reason: tried: '(\S+)' \(code signature .*not valid for use in process.*"),
        CODE_SIGNATURE,
        "macOS refused a library: its code signature does not hold",
        permanent=True,
        hint=SIGN_IT,
        ends=(EXIT, ABORT),
    ),
    CrashText(
        re.compile(r".*error while loading shared libraries: (libcuda\.so\.1|libnvidia-ml\.so\.1):"),
        LIBRARY_MISSING,
        "the NVIDIA driver is missing",
        permanent=True,
        hint="install the NVIDIA driver; a container needs --gpus all and the NVIDIA Container Toolkit",
        ends=(EXIT,),
    ),
    CrashText(
        re.compile(r"Error relocating \S+: (\S+): symbol not found"),
        WRONG_BUILD,
        "it was built for another C library",
        permanent=True,
        hint=MUSL,
        ends=(EXIT,),
    ),
    CrashText(
        re.compile(r"Error loading shared library (\S+):"),
        LIBRARY_MISSING,
        "a library is missing",
        permanent=True,
        hint="apk add libstdc++ libgomp; " + MUSL,
        ends=(EXIT,),
    ),
    CrashText(
        re.compile(r".*\b(cannot execute: required file not found)"),
        WRONG_BUILD,
        "its loader is not on this system",
        permanent=True,
        hint=MUSL,
        ends=(EXIT,),
    ),
    CrashText(
        re.compile(r".*\b(exec format error)"),
        WRONG_BUILD,
        "it was built for another processor or system",
        permanent=True,
        hint="qwenctl engine install brings the build for this machine; a container needs an image for it",
        ends=(EXIT,),
    ),
)
"""Texts of dyld, of glibc's and musl's loaders, and of bash. They come before those of crash_texts.py.

Reports: chatd #46, gnosis_vpn-client #302, pelican-eggs #674, alpine-pkg-glibc #157, ollama #7076.
"""
AROUND_TEXTS = (
    CrashText(
        re.compile(r".*nvml error: (driver/library version mismatch)"),
        "wrapper",
        "the NVIDIA driver was updated under its container",
        permanent=False,
        hint="reboot, or unload and load the NVIDIA modules",
        ends=(EXIT,),
    ),
    *(
        CrashText(
            re.compile(f".*(?:{text.text.pattern})"),
            "wrapper",
            f"it needs {text.needs}",
            permanent=False,  # docker, nix or another machine may be there later
            hint=text.hint,
            ends=(EXIT,),
        )
        for text in WRAPPER_TEXTS
    ),
    CrashText(
        re.compile(rf"(?:.*: )?(?:(?:\d+|line \d+): )?(?:{NOT_FOUND.pattern})$"),
        "wrapper",
        "a program that it starts is not on PATH",
        permanent=True,
        hint=f"install it, or give its whole path, {OTHERWISE}",
        ends=(EXIT,),
    ),
    CrashText(
        re.compile(r".*exec: (.*: executable file not found in \$PATH)"),
        "wrapper",
        "a program that it starts is not in the container",
        permanent=True,
        hint=f"give its whole path in the container (/app/llama-server), {OTHERWISE}",
        ends=(EXIT,),
    ),
    CrashText(
        re.compile(r"sudo: (a (?:terminal|password) is required.*)"),
        "wrapper",
        "it needs sudo, which asks for a password",
        permanent=True,
        hint=f"leave sudo out, {OTHERWISE}",
        ends=(EXIT,),
    ),
    CrashText(
        re.compile(
            r"(?:.* )?((?:/\S+|[\u2018'`\"][^\u2019'`\"]+[\u2019'`\"])"
            r": (?:Permission denied|No such file or directory))$"
        ),
        "wrapper",
        "a program that it starts is not there, or may not be executed",
        permanent=True,
        hint=f"chmod +x it, or mend its path, {OTHERWISE}",
        ends=(EXIT,),
    ),
)
"""What counts only in a log without a line of llama-server: the program around it did not get that far."""
