"""launchd and launchctl, as far as an agent's life goes: load, start, keep alive, throttle, unload, print.

    python -m tests.darwin.launchd ROOT        runs until ROOT/launchd.sock gets {"words": ["halt"]}

tools/launchctl.py sends its words; the answer is its exit code and what it prints. Of ``facts.json``:
``session`` (Aqua, or Background over ssh), ``macos`` (which code is said), ``launchd`` (how jobs start).
"""

import contextlib
import json
import os
import plistlib
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.darwin.place import MacPaths

THROTTLE_S, EXIT_TIMEOUT_S = 10.0, 5.0
"""The defaults. Source: launchd.plist(5) for the first; the second is what ``print`` shows on macOS 14."""
SOFT_FILES = 256
EX_CONFIG = 78
NO_DOMAIN, NO_SERVICE, NOT_SUPPORTED, DISABLED = 112, 113, 125, 119
BUSY, IN_PROGRESS, IO_ERROR, NO_PROCESS = 37, 36, 5, 3
WORDS = {
    IO_ERROR: "Input/output error",
    BUSY: "Operation already in progress",
    IN_PROGRESS: "Operation now in progress",
    NO_PROCESS: "No such process",
    DISABLED: "Service is disabled",
    NOT_SUPPORTED: "Domain does not support specified action",
}
"""Source: what launchctl prints; ``launchctl error CODE``."""


@dataclass
class Job:
    """One job of one domain."""

    label: str
    domain: str
    path: str
    plist: dict[str, Any]
    runs: int = 0
    process: subprocess.Popen[bytes] | None = None
    last_exit: int | None = None
    started_at: float = -1e9
    end: threading.Event = field(default_factory=threading.Event)
    wanted: bool = False
    """Whether it is to be started when its throttle allows it."""
    wake: threading.Event = field(default_factory=threading.Event)

    @property
    def leaving(self) -> bool:
        """Whether it is unloaded: it ends, and is not started again."""
        return self.end.is_set()

    @property
    def state(self) -> str:
        """The state as ``print`` shows it."""
        if self.process is not None:
            return "SIGTERMed" if self.leaving else "running"
        return "spawn scheduled" if self.wanted else "not running"


class Launchd:
    """All jobs, each with a thread of its own."""

    def __init__(self, root: Path) -> None:
        here = MacPaths(str(root))
        self.root, self.there, self.program = root, here.there, here.program
        self.jobs: dict[str, Job] = {}
        self.disabled: set[str] = set()
        self.lock = threading.RLock()

    def fact(self, name: str) -> Any:  # noqa: ANN401  what JSON holds
        """Return one fact of this Mac."""
        return json.loads((self.root / "facts.json").read_text())[name]

    def answer(self, words: list[str], uid: int) -> tuple[int, str, str]:
        """Return launchctl's exit code and what it prints on stdout and stderr."""
        verbs: dict[str, Callable[..., tuple[int, str, str]]] = {
            "bootstrap": self.bootstrap,
            "bootout": self.bootout,
            "kickstart": self.kickstart,
            "print": self.print,
            "print-disabled": self.print_disabled,
            "enable": self.enable,
            "disable": self.disable,
            "managername": lambda uid: (0, "System" if uid == 0 else str(self.fact("session")), ""),
            "manageruid": lambda uid: (0, str(uid), ""),
            "list": self.list,
        }
        if not words or words[0] not in verbs:
            return 64, "", f"Unrecognized subcommand: {words[0] if words else ''}"
        with self.lock:
            return verbs[words[0]](*words[1:], uid=uid)

    def bootstrap(self, domain: str, path: str, *, uid: int) -> tuple[int, str, str]:
        """Load a job. It is started later: launchctl returns once launchd has accepted it."""
        if (code := self._refused(domain, uid)) is not None:
            return self._failed("Bootstrap", code, uid)
        try:
            plist = plistlib.loads(Path(self.there(path)).read_bytes())
            label = str(plist["Label"])
        except (OSError, plistlib.InvalidFileException, KeyError, ValueError):
            return self._failed("Bootstrap", IO_ERROR, uid)
        target, faults = f"{domain}/{label}", self.fact("launchd")
        if faults["bootstrap_codes"]:
            code = faults["bootstrap_codes"].pop(0)
            self._change_facts(faults)
            return self._failed("Bootstrap", code, uid)
        if target in self.disabled:
            return self._failed("Bootstrap", self._modern(IO_ERROR, DISABLED), uid)
        if target in self.jobs:
            leaving = self.jobs[target].leaving
            return self._failed("Bootstrap", IO_ERROR if leaving else self._modern(IO_ERROR, BUSY), uid)
        job = self.jobs[target] = Job(label, domain, path, plist)
        job.wanted = bool(plist.get("RunAtLoad")) and not faults["run_at_load_is_lost"]
        threading.Thread(
            target=self._keep, args=(target, job, float(faults["start_after_s"])), daemon=True
        ).start()
        return 0, "", ""

    def bootout(self, target: str, path: str | None = None, *, uid: int) -> tuple[int, str, str]:
        """Unload a job: SIGTERM now, SIGKILL when its time to exit is over."""
        if path is not None:
            target = f"{target}/{plistlib.loads(Path(self.there(path)).read_bytes())['Label']}"
        domain = target.rpartition("/")[0]
        if (code := self._refused(domain, uid)) is not None:
            return self._failed("Boot-out", code, uid)
        job = self.jobs.get(target)
        if job is None:
            return self._failed("Boot-out", self._modern(IO_ERROR, NO_PROCESS), uid)
        if job.leaving:
            return self._failed("Boot-out", IN_PROGRESS, uid)
        job.end.set()
        job.wanted = False
        job.wake.set()
        if job.process is None:
            self.jobs.pop(target, None)
            return 0, "", ""
        with contextlib.suppress(ProcessLookupError):
            job.process.send_signal(signal.SIGTERM)
        return (
            (0, "", "")
            if self.fact("launchd")["bootout_waits_not"]
            else self._failed("Boot-out", IN_PROGRESS, uid)
        )

    def kickstart(self, *words: str, uid: int) -> tuple[int, str, str]:
        """Start a job now, or with -k again."""
        target, job = words[-1], self.jobs.get(words[-1])
        if job is None:
            return NO_SERVICE, "", self._absent(target)
        if job.process is not None and "-k" in words:
            job.wanted = True
            with contextlib.suppress(ProcessLookupError):
                job.process.send_signal(signal.SIGTERM)
        elif job.process is not None:
            return BUSY, "", f'Could not kickstart service "{job.label}": {BUSY}: {WORDS[BUSY]}'
        job.wanted = True
        job.started_at = -1e9
        job.wake.set()
        del uid
        return 0, "", ""

    def print(self, target: str, *, uid: int) -> tuple[int, str, str]:
        """Show a job as macOS 14 does, with its blocks; or whether there is a domain.

        Source of 112 and its words: ENODOMAIN in launchctl; a user without a session has no ``gui/UID``.
        """
        domain = target if target.count("/") == (0 if target == "system" else 1) else ""
        if domain == target and not target.startswith("system/"):
            if domain.startswith("gui/") and self.fact("session") != "Aqua":
                return NO_DOMAIN, "", f"Bad request.\nCould not find domain for user gui: {domain[4:]}"
            return 0, f"{domain} = {{\n\ttype = login\n\thandle = 100016\n}}", ""
        del uid
        job = self.jobs.get(target)
        if job is None:
            return NO_SERVICE, "", f"Bad request.\n{self._absent(target)}"
        return 0, shown(job), ""

    def print_disabled(self, domain: str, *, uid: int) -> tuple[int, str, str]:
        """Show what was enabled or disabled by hand."""
        del uid
        lines = [
            f'\t\t"{each.rpartition("/")[2]}" => disabled'
            for each in sorted(self.disabled)
            if each.startswith(domain)
        ]
        return 0, "\n".join(["\tdisabled services = {", *lines, "\t}"]), ""

    def enable(self, target: str, *, uid: int) -> tuple[int, str, str]:
        """Let a job be loaded again."""
        del uid
        self.disabled.discard(target)
        return 0, "", ""

    def disable(self, target: str, *, uid: int) -> tuple[int, str, str]:
        """Let a job not be loaded."""
        del uid
        self.disabled.add(target)
        return 0, "", ""

    def list(self, label: str | None = None, *, uid: int) -> tuple[int, str, str]:
        """Show the old form: pid, last exit status, label."""
        del uid
        jobs = [job for job in self.jobs.values() if label in (None, job.label)]
        if label is not None and not jobs:
            return NO_SERVICE, "", f'Could not find service "{label}" in domain for port'
        rows = [
            f"{job.process.pid if job.process else '-'}\t{job.last_exit or 0}\t{job.label}" for job in jobs
        ]
        return 0, "\n".join(["PID\tStatus\tLabel", *rows]), ""

    def halt(self) -> None:
        """End every job, by its id, and wait for it."""
        with self.lock:
            jobs = list(self.jobs.values())
        for job in jobs:
            job.end.set()
            job.wanted = False
            job.wake.set()
            if job.process is not None:
                with contextlib.suppress(ProcessLookupError):
                    job.process.send_signal(signal.SIGTERM)
        for job in jobs:
            if job.process is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    job.process.wait(20)

    # How it is done.

    def _refused(self, domain: str, uid: int) -> int | None:
        if domain == "system":
            return None if uid == 0 else IO_ERROR
        if domain.startswith("gui/") and self.fact("session") != "Aqua":
            return int(self.fact("launchd")["no_session_code"])
        return None

    def _failed(self, verb: str, code: int, uid: int) -> tuple[int, str, str]:
        more = "" if uid == 0 else "\nTry re-running the command as root for richer errors."
        return (
            code,
            "",
            f"{verb} failed: {code}: {WORDS.get(code, 'Unknown error')}{more if code == IO_ERROR else ''}",
        )

    def _absent(self, target: str) -> str:
        domain, _, label = target.rpartition("/")
        kind, _, number = domain.partition("/")
        known = f"user gui: {number}" if kind == "gui" else (f"uid: {number}" if kind == "user" else "system")
        return f'Could not find service "{label}" in domain for {known}'

    def _modern(self, new: int, old: int) -> int:
        """Since macOS 14 launchctl says 5 where it said what it was."""
        return new if int(str(self.fact("macos")).partition(".")[0]) >= 14 else old

    def _change_facts(self, faults: dict[str, Any]) -> None:
        path = self.root / "facts.json"
        facts = json.loads(path.read_text()) | {"launchd": faults}
        new = path.with_suffix(".new")
        new.write_text(json.dumps(facts))
        new.replace(path)

    def _keep(self, target: str, job: Job, after_s: float) -> None:
        """Start a job whenever that is wanted, and see how it ends.

        The first start takes its time, also if ``kickstart`` asks for it: only unloading ends the wait.
        """
        job.end.wait(after_s)
        while not job.leaving:
            if not job.wanted:
                job.wake.wait(0.05)
                job.wake.clear()
                continue
            throttle = float(job.plist.get("ThrottleInterval", THROTTLE_S)) / float(
                self.fact("launchd")["hurry"]
            )
            left_s = job.started_at + throttle - time.monotonic()
            if left_s > 0:
                job.wake.wait(min(left_s, 0.05))
                job.wake.clear()
                continue
            self._run(job)
        with self.lock:
            if self.jobs.get(target) is job:
                self.jobs.pop(target)

    def _run(self, job: Job) -> None:
        with self.lock:
            if job.leaving:
                return
            job.wanted, job.started_at = False, time.monotonic()
            job.runs += 1
            try:
                job.process = self._start(job)
            except OSError:  # launchd cannot open its log, or its program: nothing of it is run
                job.last_exit, job.wanted = EX_CONFIG, True
                return
        while job.process.poll() is None:
            if job.end.is_set():
                try:
                    job.process.wait(float(job.plist.get("ExitTimeOut", EXIT_TIMEOUT_S)))
                except subprocess.TimeoutExpired:
                    job.process.kill()
            job.wake.wait(0.02)
            job.wake.clear()
        code = job.process.returncode
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(job.process.pid, signal.SIGKILL)  # AbandonProcessGroup is false
        with self.lock:
            job.process, job.last_exit = None, code
            keep = job.plist.get("KeepAlive")
            again = (
                bool(keep)
                if isinstance(keep, bool)
                else code != 0 and (keep or {}).get("SuccessfulExit") is False
            )
            job.wanted = job.wanted or again

    def _start(self, job: Job) -> subprocess.Popen[bytes]:
        plist, limit = job.plist, job.plist.get("SoftResourceLimits", {}).get("NumberOfFiles", SOFT_FILES)
        home = str(self.fact("home"))
        outputs = []
        _check_owner(plist)
        for name in ("StandardOutPath", "StandardErrorPath"):
            path = self.there(plist.get(name))
            outputs.append(
                os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
                if path
                else os.open("/dev/null", os.O_WRONLY)
            )
        environment = {
            "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
            "HOME": home,
            "USER": "mac",
            "LOGNAME": "mac",
            "SHELL": "/bin/zsh",
            "TMPDIR": f"{home}/tmp/",
            "XPC_FLAGS": "0x0",
            "XPC_SERVICE_NAME": job.label,
        }
        if "UserName" in plist:
            environment["MAC_USERNAME"] = plist["UserName"]
        kept = {name: os.environ[name] for name in self.fact("marks") if name in os.environ}

        def limited() -> None:
            hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(limit, hard), hard))

        try:
            return subprocess.Popen(
                [self.program(plist["ProgramArguments"][0], ""), *plist["ProgramArguments"][1:]],
                env=environment | kept | plist.get("EnvironmentVariables", {}),
                cwd=plist.get("WorkingDirectory", "/"),
                stdin=subprocess.DEVNULL,
                stdout=outputs[0],
                stderr=outputs[1],
                process_group=0,
                umask=int(plist.get("Umask", 0o022)),
                preexec_fn=limited,  # noqa: PLW1509  it makes two system calls
            )
        finally:
            for each in outputs:
                os.close(each)


def _check_owner(plist: dict[str, Any]) -> None:
    """Refuse a log that its job's user may not write: launchd opens it as that user. Needs a test as root.

    Source: a test on a Mac, with a log 0600 of root: EX_CONFIG, execs = 0.
    """
    log = Path(plist.get("StandardOutPath", "/dev/null"))
    if plist.get("UserName", "root") == "root" or os.geteuid() != 0:
        return
    held = log if log.exists() else log.parent
    if held.stat().st_uid == 0:
        raise PermissionError(f"{held} belongs to root")


def shown(job: Job) -> str:
    """Return what ``launchctl print`` shows of a job on macOS 14 and 15.

    The order, the tabs and the blocks are those of two public captures; the values are the job's.
    """
    kind = "LaunchDaemon" if job.domain == "system" else "LaunchAgent"
    words = job.plist["ProgramArguments"]
    limit = int(float(job.plist.get("ThrottleInterval", THROTTLE_S)))
    lines = [
        f"{job.domain}/{job.label} = {{",
        f"\tactive count = {1 if job.process else 0}",
        f"\tpath = {job.path}",
        f"\ttype = {kind}",
        f"\tstate = {job.state}",
        "",
        f"\tprogram = {words[0]}",
        "\targuments = {",
        *(f"\t\t{word}" for word in words),
        "\t}",
        "",
        f"\tstdout path = {job.plist.get('StandardOutPath', '/dev/null')}",
        f"\tstderr path = {job.plist.get('StandardErrorPath', '/dev/null')}",
        "\tinherited environment = {",
        "\t\tSSH_AUTH_SOCK => /private/tmp/com.apple.launchd.0000000000/Listeners",
        "\t}",
        "",
        "\tdefault environment = {",
        "\t\tPATH => /usr/bin:/bin:/usr/sbin:/sbin",
        "\t}",
        "",
        "\tenvironment = {",
        "\t\tOSLogRateLimit => 64",
        *(f"\t\t{name} => {value}" for name, value in job.plist.get("EnvironmentVariables", {}).items()),
        f"\t\tXPC_SERVICE_NAME => {job.label}",
        "\t}",
        "",
        f"\tdomain = {job.domain} [100016]",
        "\tasid = 100016",
        f"\tminimum runtime = {limit}",
        f"\texit timeout = {int(job.plist.get('ExitTimeOut', EXIT_TIMEOUT_S))}",
        f"\truns = {job.runs}",
        *([f"\tpid = {job.process.pid}"] if job.process else []),
        "\timmediate reason = semaphore",
        f"\tforks = {0 if job.last_exit == EX_CONFIG else job.runs}",
        f"\texecs = {0 if job.last_exit == EX_CONFIG else job.runs}",
        "\tinitialized = 1",
        "\ttrampolined = 1",
        "\tstarted suspended = 0",
        "\tproxy started suspended = 0",
        "\tchecked allocations = 0 (queried = 1)",
        "\tchecked allocations reason = no host",
        "\tchecked allocations flags = 0x0",
        _last_exit(job),
        "",
        "\tsemaphores = {",
        "\t\tsuccessful exit => 0",
        "\t}",
        "",
    ]
    for name in ("resource", "jetsam"):
        lines += [f"\t{name} coalition = {{", "\t\tID = 280936", f"\t\ttype = {name}", "\t\tstate = active"]
        lines += ["\t\tactive count = 1", f"\t\tname = {job.label}", "\t}", ""]
    lines += [
        "\tspawn type = interactive (4)",
        "\tjetsam priority = 40",
        "\tjetsam memory limit (active) = (unlimited)",
        "\tjetsam memory limit (inactive) = (unlimited)",
        "\tjetsamproperties category = daemon",
        "\tjetsam thread limit = 32",
        "\tcpumon = default",
        "",
        "\tproperties = keepalive | runatload | inferred program",
        "}",
    ]
    return "\n".join(lines)


def _last_exit(job: Job) -> str:
    code = job.last_exit
    if code is None:
        return "\tlast exit code = (never exited)"
    if code == EX_CONFIG:
        return "\tlast exit code = 78: EX_CONFIG"
    if code < 0:
        return f"\tlast terminating signal = {signal.strsignal(-code)}: {-code}"
    return f"\tlast exit code = {code}"


def serve(root: Path) -> None:
    """Answer launchctl until it says halt."""
    launchd = Launchd(root)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(root / "launchd.sock"))
        listening.listen(64)
        while True:
            connection, _ = listening.accept()
            with connection, connection.makefile("rwb") as stream:
                asked = json.loads(stream.readline() or b"{}")
                if asked.get("words") == ["halt"]:
                    launchd.halt()
                    stream.write(b'[0, "", ""]\n')
                    return
                answer = launchd.answer(asked.get("words", []), asked.get("uid", 0))
                stream.write(json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
