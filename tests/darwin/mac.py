"""A Mac for one test: a home, a Python that believes it is on macOS, macOS' own programs, and a launchd."""

import contextlib
import json
import os
import resource
import socket
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Any

import psutil

from tests.fakes.forked_commands import ForkedCommands
from tests.fakes.home import COMMAND_TIMEOUT_S, STARTUP, Home, Ran, until
from tests.fakes.scripted_server import fake_server

REPOSITORY = Path(__file__).parents[2]
TOOLS = Path(__file__).parent / "tools"
SYSTEM_VERSION = "root/System/Library/CoreServices/SystemVersion.plist"
PORT = "QWENCTL_SERVER__PORT"
"""Tests run beside each other. launchd's jobs get this variable, too, though on a Mac they would not."""
SOFT_FILES = 256
GIB = 1 << 30
PLIST = """<?xml version="1.0" encoding="UTF-8"?>
<plist version="1.0"><dict>
<key>ProductBuildVersion</key><string>{build}</string>
<key>ProductName</key><string>macOS</string>
<key>ProductVersion</key><string>{macos}</string>
</dict></plist>
"""
HARDWARE: dict[str, dict[str, str]] = {
    "m3-max-36gb": {
        "hw.memsize": "38654705664",
        "hw.model": "Mac15,10",
        "hw.optional.arm64": "1",
        "hw.physicalcpu": "14",
        "hw.logicalcpu": "14",
        "hw.perflevel0.physicalcpu": "10",
        "machdep.cpu.brand_string": "Apple M3 Max",
        "iogpu.wired_limit_mb": "0",
    },
    "m2-16gb": {
        "hw.memsize": "17179869184",
        "hw.model": "Mac14,2",
        "hw.optional.arm64": "1",
        "hw.physicalcpu": "8",
        "hw.logicalcpu": "8",
        "hw.perflevel0.physicalcpu": "4",
        "machdep.cpu.brand_string": "Apple M2",
        "iogpu.wired_limit_mb": "0",
    },
    "intel-32gb": {
        "hw.memsize": "34359738368",
        "hw.model": "MacBookPro16,1",
        "hw.physicalcpu": "8",
        "hw.logicalcpu": "16",
        "machdep.cpu.brand_string": "Intel(R) Core(TM) i9-9980HK CPU @ 2.40GHz",
    },
}
"""What ``sysctl`` says of three Macs. The sizes are those of tests/machines."""
STATE: dict[str, str] = {
    "kern.memorystatus_vm_pressure_level": "1",
    "kern.memorystatus_level": "62",
    "kern.boottime": "{ sec = 1764000000, usec = 0 } Mon Nov 24 16:00:00 2025",
    "vm.swapusage": "total = 2048.00M  used = 1418.75M  free = 629.25M  (encrypted)",
}
BUSY_16_GB = {
    "free": 4_518,
    "active": 190_000,
    "inactive": 191_193,
    "speculative": 3_014,
    "wired down": 180_000,
    "purgeable": 5_000,
    "File-backed pages": 250_000,
    "Anonymous pages": 150_000,
}
"""A 16 GB Mac that has been up for a day, pages of 16 KiB: macOS itself says 38 % free, psutil 3.0 GiB."""
VERSIONS = {
    "13.6.9": ("22G830", "22.6.0"),
    "14.3.1": ("23D60", "23.3.0"),
    "15.6.1": ("24G90", "24.6.0"),
    "26.1": ("25B78", "25.1.0"),
}
LAUNCHD: dict[str, Any] = {
    "start_after_s": 0.3,
    "run_at_load_is_lost": False,
    "bootout_waits_not": True,
    "bootstrap_codes": [],
    "no_session_code": 125,
    "hurry": 20,  # a throttled job waits a twentieth of its time
}


class Mac(Home):
    """``run`` the command line on it. ``facts`` are what it is like; ``change`` changes some.

    ``engine`` is the program behind Homebrew's llama-server, None: there is none. ``hardware`` is one of
    HARDWARE, ``macos`` one of VERSIONS. launchd runs from the first use of ``boot``.
    """

    def __init__(
        self,
        path: Path,
        mark: str,
        root: Path,
        *,
        engine: Path | None = None,
        hardware: str = "m3-max-36gb",
        macos: str = "15.6.1",
    ) -> None:
        super().__init__(path, mark, root)
        self.system = path / ".mac"
        build, darwin = VERSIONS[macos]
        self._launchd: subprocess.Popen[bytes] | None = None
        self._forked: ForkedCommands | None = None
        scale = int(HARDWARE[hardware]["hw.memsize"]) / (16 * GIB)
        self._facts: dict[str, Any] = {
            "macos": macos,
            "build": build,
            "darwin": darwin,
            "arch": "x86_64" if hardware.startswith("intel") else "arm64",
            "home": str(path),
            "uid": 501,
            "root": False,
            "marks": [mark, PORT],
            "session": "Aqua",
            "sysctl": HARDWARE[hardware] | STATE,
            "page_bytes": 16_384,
            "vm_stat": {name: int(pages * scale) for name, pages in BUSY_16_GB.items()},
            "swap_total_bytes": 2 * GIB,
            "swap_used_bytes": int(1.4 * GIB),
            "clock_step_s": 0,
            "quarantined": [],
            "low_power_mode": False,
            "launchd": LAUNCHD,
        }
        self._make_folders(macos, build)
        self.environment |= {"TMPDIR": f"{path}/tmp/", PORT: str(self.port)}
        self.environment["PATH"] = f"/opt/homebrew/bin:/usr/local/bin:{self.environment['PATH']}"
        if engine is not None:
            self.brew("llama-server", f"{sys.executable} -m tests.darwin.metal_server {self.system} {engine}")

    @property
    def python(self) -> Path:
        """The interpreter that believes it is on a Mac."""
        return self.system / "python/bin/python"

    @property
    def state(self) -> Path:
        """The daemon's folder."""
        return self.path / "Library/Application Support/qwenctl"

    @property
    def logs(self) -> Path:
        """The folder of the daemon's logs."""
        return self.path / "Library/Logs/qwenctl"

    @property
    def agent(self) -> Path:
        """The file of our job."""
        return self.path / "Library/LaunchAgents/qwenctl.plist"

    @property
    def facts(self) -> dict[str, Any]:
        """What this Mac is like now."""
        facts: dict[str, Any] = json.loads((self.system / "facts.json").read_text())
        return facts

    def change(self, **facts: Any) -> None:  # noqa: ANN401  what JSON holds
        """Change what this Mac is like; ``sysctl``, ``vm_stat`` and ``launchd`` are added to."""
        now = self.facts
        if "root" in facts and self._forked is not None:  # it has found out who it is
            self._forked.close()
            self._forked = None
        for name, value in facts.items():
            now[name] = now[name] | value if isinstance(value, dict) else value
        new = self.system / "facts.new"
        new.write_text(json.dumps(now))
        new.replace(self.system / "facts.json")

    def settle(self, text: str = "", server: str = 'extra_args = ["-t", "1"]') -> None:
        """Write the settings: a service knows no port but theirs, and tests beside this one have theirs.

        Its server computes with one thread, as that of ``Home.up``.
        """
        self.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.state / "config.toml").write_text(f"{text}\n[server]\nport = {self.port}\n{server}\n")

    def run(self, *arguments: str, **environment: str) -> Ran:
        """Run ``qwenctl`` to its end."""
        given = self.environment | environment
        if any(name.startswith(STARTUP) for name in environment):
            return self.command([str(self.python), "-m", "qwenctl", *arguments], environment)
        if self._forked is None:
            self._forked = ForkedCommands(str(self.python), given, _few_files)
        return Ran(*self._forked.run(arguments, given, self.path, COMMAND_TIMEOUT_S))

    def command(self, words: list[str], environment: dict[str, str] | None = None) -> Ran:
        """Run a program to its end, as a shell of this Mac would: with 256 open files."""
        with self.begun(words, environment) as process:
            try:
                out, err = process.communicate(timeout=COMMAND_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return Ran(process.returncode, out, err)

    def begun(self, words: list[str], environment: dict[str, str] | None = None) -> "subprocess.Popen[str]":
        """Start a program; the caller ends it."""
        return subprocess.Popen(
            words,
            env=self.environment | (environment or {}),
            cwd=self.path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=_few_files,  # noqa: PLW1509  it makes two system calls
        )

    def shell(self, command: str, **environment: str) -> Ran:
        """Run a line of shell; ``{python}`` in it stands for this Mac's interpreter."""
        path = f"{self.system}/python/bin:{self.system}/tools:{self.environment['PATH']}"
        words = ["/bin/sh", "-c", command.format(python=self.python)]
        return self.command(words, {"PATH": path} | environment)

    def brew(self, name: str, command: str) -> Path:
        """Put a program into Homebrew's folder: a line of shell, which gets the arguments."""
        program = self.system / "root/opt/homebrew/bin" / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(f'#!/bin/sh\nPYTHONPATH={REPOSITORY} exec {command} "$@"\n')
        program.chmod(0o755)
        return program

    def scripted(self, **behaviour: object) -> Path:
        """Let Homebrew's llama-server be the stand-in that is told what to do, with Metal as its device."""
        program = fake_server(self, **behaviour)
        del self.environment["QWENCTL_SERVER__BINARY"]
        self.brew("llama-server", f"{sys.executable} -m tests.darwin.metal_server {self.system} {program}")
        return program

    def boot(self) -> None:
        """Start launchd, if it does not run."""
        if self._launchd is None:
            words = [sys.executable, "-m", "tests.darwin.launchd", str(self.system)]
            self._launchd = subprocess.Popen(
                words, cwd=REPOSITORY, env=self._plain(), stdin=subprocess.DEVNULL
            )
            until((self.system / "launchd.sock").exists, within=20)

    def launchctl(self, *words: str) -> Ran:
        """Ask launchd by hand."""
        self.boot()
        return self.command([str(self.system / "tools/launchctl"), *words])

    def job(self) -> dict[str, Any] | None:
        """Return the daemon of the job that launchd runs: its pid and how often it was started."""
        printed = self.launchctl("print", "gui/501/qwenctl")
        if printed.code != 0:
            return None
        lines = [line for line in printed.out.splitlines() if line.startswith("\t") and line[1] != "\t"]
        return dict(line.strip().split(" = ", 1) for line in lines if " = " in line)

    def close(self) -> None:
        """End launchd with its jobs, then a daemon of ours that runs beside it, and its server."""
        if self._launchd is not None:
            self._halt(self._launchd)
        if self._forked is not None:
            self._forked.close()
        super().close()
        for process in psutil.process_iter(["cmdline"]):  # a server whose daemon was killed
            if str(self.path) in " ".join(process.info["cmdline"] or []) and process.pid != os.getpid():
                with contextlib.suppress(psutil.Error):
                    process.kill()

    def _halt(self, launchd: "subprocess.Popen[bytes]") -> None:
        with socket.socket(socket.AF_UNIX) as connection, contextlib.suppress(OSError):
            connection.settimeout(40)
            connection.connect(str(self.system / "launchd.sock"))
            connection.sendall(b'{"words": ["halt"]}\n')
            connection.recv(64)
        launchd.terminate()
        launchd.wait(20)
        self._launchd = None

    def _plain(self) -> dict[str, str]:
        return self.environment | {"PYTHONPATH": str(REPOSITORY)}

    def _make_folders(self, macos: str, build: str) -> None:
        for name in ("tools", "root/Library/LaunchDaemons", "root/Library/Logs/DiagnosticReports"):
            (self.system / name).mkdir(parents=True)
        (self.path / "Library/Logs").mkdir(parents=True)
        if os.geteuid() == 0:  # who owns the home is seen, too, if the test lets root in
            os.chown(self.path, self._facts["uid"], 20)
        (self.path / "tmp").mkdir()
        (self.system / "facts.json").write_text(json.dumps(self._facts))
        version = self.system / SYSTEM_VERSION
        version.parent.mkdir(parents=True)
        version.write_text(PLIST.format(macos=macos, build=build))
        for tool in TOOLS.glob("*.py"):
            program = self.system / "tools" / tool.stem
            program.write_text(f'#!/bin/sh\nexec {sys.executable} -I {tool} {self.system} "$@"\n')
            program.chmod(0o755)
        _make_python(self.system)


def _make_python(system: Path) -> None:
    """Make an interpreter whose every start calls ``pretend.install``; all packages here are there, too."""
    folder = system / "python"
    venv.create(folder, symlinks=True, with_pip=False)
    packages = sysconfig.get_path("purelib")
    own = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    here = f"sys.path.insert(0, {str(REPOSITORY)!r})"
    mend = f"import site, sys; site.addsitedir({packages!r}); {here}; "
    mend += f"from tests.darwin import pretend; pretend.install({str(system)!r})\n"
    (own / "a_mac.pth").write_text(mend)
    for name in ("qwenctl", "qwenctl-llama-server"):
        script = Path(sysconfig.get_path("scripts")) / name
        if script.exists():
            text = script.read_text().partition("\n")[2]
            (folder / "bin" / name).write_text(f"#!{folder}/bin/python\n{text}")
            (folder / "bin" / name).chmod(0o755)


def _few_files() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(SOFT_FILES, hard), hard))
