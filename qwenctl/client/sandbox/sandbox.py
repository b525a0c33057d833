"""Run generated code where it can do no harm, and return its output. Starts jail.py, watches it, and ends it.

The program gets a new folder in memory, an empty environment, and limits. It has no network and cannot see
other processes or the home folder. At the end every process that it started is gone. On a machine where this
is not possible, nothing is run.
"""

import contextlib
import json
import os
import platform
import secrets
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import psutil

from qwenctl.client.sandbox import jail
from qwenctl.client.sandbox.sandbox_outcome import KIB, Ended, Outcome, SandboxLimits
from qwenctl.client.sandbox.seatbelt import profile, python_paths
from qwenctl.client.sandbox.seccomp import seccomp_filter
from qwenctl.errors import SandboxError
from qwenctl.files import reason

TICK_S = 0.1
END_S = 10.0
DENIALS = "Console.app shows what macOS denied (search for: Sandbox: python)"
SANDBOX_EXEC = "/usr/bin/sandbox-exec"
SETUP_FAILED = 125
Isolation = Literal["sandbox", "limits"]
"""``limits``: no sandbox, only limits on time, memory and processes."""


def python() -> tuple[str, ...]:
    """Return the command that runs Python in the sandbox, without this user's own modules."""
    return (sys.executable, "-s", "-B")


def unavailable() -> str | None:
    """Return why this machine has no sandbox; None if it has one. Tries it, which takes 0.1 s."""
    try:
        outcome = run((*python(), "-c", "print('in')"), {}, SandboxLimits(wall_s=END_S))
    except SandboxError as error:
        return error.message
    return None if outcome.output == "in\n" else f"cannot run Python in the sandbox: {outcome.said()}"


def hint() -> str:
    """Return what a person can do where there is no sandbox."""
    unsafe = "--unsafe runs the code with time and memory limits only"
    return f"{unsafe}; {DENIALS}" if sys.platform == "darwin" else unsafe


def isolation(*, unsafe: bool) -> Isolation:
    """Return how code is kept from doing harm here.

    ``unsafe`` allows running with limits only, but never turns a sandbox off that works.
    """
    return "limits" if unsafe and unavailable() is not None else "sandbox"


def run(
    command: Sequence[str],
    files: Mapping[str, str],
    limits: SandboxLimits,
    isolated: Isolation = "sandbox",
) -> Outcome:
    """Run ``command`` in a fresh folder that holds ``files`` (by relative name) and return how it ended.

    Raises:
        SandboxError: this machine has no sandbox, and ``isolated`` asks for one.
    """
    with tempfile.TemporaryDirectory(prefix="qwenctl-") as name:
        folder = Path(name).resolve()
        for path, content in files.items():
            target = folder / path
            if not target.resolve().is_relative_to(folder):
                raise SandboxError(f"cannot write {path}: outside the sandbox's folder")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(content, encoding="utf-8")
        return _run(command, folder, limits, isolated)


def _run(command: Sequence[str], folder: Path, limits: SandboxLimits, isolated: Isolation) -> Outcome:
    namespaces = sys.platform == "linux" and isolated == "sandbox"
    if isolated == "sandbox" and sys.platform not in ("linux", "darwin"):
        raise _no_sandbox(f"there is none for {sys.platform}")
    if sys.platform == "darwin" and isolated == "sandbox":
        folders, links = python_paths(_python_folders(), _readlink)
        command = (SANDBOX_EXEC, "-p", profile(str(folder), folders, links), *command)
    reading, writing = os.pipe()
    spec: jail.Spec = {
        "command": list(command),
        "environment": _environment(folder, namespaces=namespaces),
        "folder": str(folder),
        "readable": _readable(),
        "limits": _rlimits(limits, namespaces=namespaces),
        "disk_bytes": limits.disk_bytes,
        "inodes": limits.files,
        "run": secrets.randbelow(10**8),
        "report": writing,
        "namespaces": namespaces,
        "filter": _filter() if namespaces else "",
    }
    with os.fdopen(reading, "rb") as report:
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-B", jail.__file__, json.dumps(spec)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(writing,),
                env={},
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            raise _no_sandbox(f"{sys.executable}: {reason(error)}") from error
        finally:
            os.close(writing)
        with process:
            try:
                outcome = _watch(process, folder, limits)
            finally:
                _end(process)
        report_text = report.read().decode(errors="replace")
    if report_text != "ready":
        raise _no_sandbox(
            report_text.removeprefix("ready").removeprefix("cannot ") or outcome.output.strip()[-300:]
        )
    return outcome


def _watch(process: subprocess.Popen[bytes], folder: Path, limits: SandboxLimits) -> Outcome:
    """Collect the output until the program ends or reaches a limit that the kernel does not keep."""
    started = time.monotonic()
    output = bytearray()
    ended: Ended = "exited"
    assert process.stdout is not None  # noqa: S101 - it is a pipe, see Popen
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        looked = started
        while ended == "exited":
            for _key, _events in selector.select(TICK_S):
                chunk = os.read(process.stdout.fileno(), 64 * KIB)
                output += chunk
                if not chunk:
                    selector.unregister(process.stdout)
            now = time.monotonic()
            if len(output) > limits.output_bytes:
                ended = "output"
            elif now - started >= limits.wall_s:
                ended = "time"
            elif now - looked >= TICK_S:
                looked = now
                if (
                    _used_bytes(process.pid) > limits.memory_bytes
                    or _stored_bytes(folder) > limits.disk_bytes
                ):
                    ended = "memory"
            if process.poll() is not None and not selector.select(0):
                break
            if not selector.get_map():
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(TICK_S)
    _end(process)
    text = bytes(output[: limits.output_bytes]).decode(errors="replace")
    return Outcome(ended, process.returncode, text, time.monotonic() - started)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill every process inside, then wait: jail.py returns when the last one is gone."""
    if process.poll() is not None:
        return
    for inside in reversed(_inside(process.pid)):
        with contextlib.suppress(psutil.Error):
            inside.kill()
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _inside(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []


def _used_bytes(pid: int) -> int:
    total = 0
    for process in _inside(pid):
        with contextlib.suppress(psutil.Error):
            total += process.memory_info().rss
    return total


def _stored_bytes(folder: Path) -> int:
    """Return the size of the folder's files. It stays small where the program has a folder in memory."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.lstat().st_size
    return total


def _readable() -> list[str]:
    """Return the folders that Python needs, besides those of the system."""
    folders = (sys.prefix, sys.base_prefix, str(Path(sys.executable).resolve().parent))
    return sorted(dict.fromkeys(folder for folder in folders if folder != "/"), key=len)


def _python_folders() -> list[str]:
    """Return the paths that Python itself uses, as it spells them: they may have symlinks."""
    library = os.path.dirname(os.__file__)  # noqa: PTH120 - that of the standard library
    return [sys.executable, sys.prefix, sys.base_prefix, sys.base_exec_prefix, library]


def _readlink(path: str) -> str | None:
    try:
        return os.readlink(path)  # noqa: PTH115 - a string goes in and comes out
    except OSError:
        return None


def _environment(folder: Path, *, namespaces: bool) -> dict[str, str]:
    home = "/work" if namespaces else str(folder)
    path = [str(Path(sys.executable).parent), "/usr/local/bin", "/usr/bin", "/bin"]
    return {
        "PATH": ":".join(path),
        "HOME": home,
        "TMPDIR": home,
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def _rlimits(limits: SandboxLimits, *, namespaces: bool) -> dict[str, int]:
    rlimits = {
        "RLIMIT_CPU": limits.cpu_s,
        "RLIMIT_FSIZE": limits.file_bytes,
        "RLIMIT_NOFILE": 256,
        "RLIMIT_CORE": 0,
    }
    if sys.platform == "linux":
        rlimits["RLIMIT_AS"] = limits.memory_bytes
    if namespaces:  # elsewhere it counts all processes of this user
        rlimits["RLIMIT_NPROC"] = limits.processes
    return rlimits


def _filter() -> str:
    code = seccomp_filter(platform.machine())
    if code is None:
        raise _no_sandbox(f"the system call numbers of {platform.machine()} are not known")
    return code.hex()


def _no_sandbox(why: str) -> SandboxError:
    allow = "allow user namespaces (sysctl user.max_user_namespaces)"
    first = DENIALS if sys.platform == "darwin" else allow
    return SandboxError(
        f"cannot run code in a sandbox: {why}",
        hint=f"{first}, or add --unsafe to run the code with time and memory limits only",
    )
