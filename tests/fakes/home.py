"""A home folder of its own for one test, and the command line run in it as a person would."""

import contextlib
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from tests.fakes.forked_commands import ForkedCommands

PASSED_ON = ("PATH", "LANG", "SYSTEMROOT")
COMMAND_TIMEOUT_S = 240
EXTRA_ARGS = "QWENCTL_SERVER__EXTRA_ARGS"
SERVERS = ("llama-server", "qwenctl-llama-s")
"""The names of the programs. The second is a script: Linux has the first 15 bytes of its file's name."""

FORKS = sys.platform == "linux"
XDG = {
    "XDG_STATE_HOME": ".local/state",
    "XDG_CONFIG_HOME": ".config",
    "XDG_CACHE_HOME": ".cache",
    "XDG_DATA_HOME": ".local/share",
}
STARTUP = ("LANG", "LC_", "PYTHONIOENCODING", "PYTHONUTF8", "LD_LIBRARY_PATH")
"""An interpreter, or the loader, reads these once, when it starts."""


@functools.cache
def _forked_commands() -> ForkedCommands:
    return ForkedCommands()


class Ran(NamedTuple):
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str


class Home:
    """``run`` the command line with this home; ``close`` ends what it started."""

    def __init__(self, path: Path, mark: str, root: Path) -> None:
        self.path = path
        self.environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        self.environment |= {"HOME": str(path), mark: str(root), "PYTHONPATH": str(Path(__file__).parents[2])}
        if sys.platform == "darwin":  # the tests look where Linux keeps things
            self.environment |= {name: str(path / folder) for name, folder in XDG.items()}
        self.port = free_port()

    @property
    def state(self) -> Path:
        """The daemon's folder."""
        return self.path / ".local/state/qwenctl"

    def run(self, *arguments: str, **environment: str) -> Ran:
        """Run ``qwenctl`` to its end."""
        given = self.environment | environment
        if FORKS and not any(name.startswith(STARTUP) for name in {*environment} - {*self.environment}):
            return Ran(*_forked_commands().run(arguments, given, self.path, COMMAND_TIMEOUT_S))
        return self._run([sys.executable, "-m", "qwenctl", *arguments], environment)

    def shell(self, command: str, **environment: str) -> Ran:
        """Run a line of shell to its end; ``{python}`` in it stands for our interpreter."""
        return self._run(["/bin/sh", "-c", command.format(python=sys.executable)], environment)

    def json(self, *arguments: str, **environment: str) -> dict[str, Any]:
        """Run ``qwenctl --json`` and return the envelope."""
        ran = self.run("--json", *arguments, **environment)
        envelope: dict[str, Any] = json.loads(ran.out)
        return envelope

    def up(self, *arguments: str) -> str:
        """Serve the demo model on this home's port; return the endpoint.

        With one thread, unless the home says otherwise: the threads of a server wait for each other with all
        they have, so that two of them are slower than one where other tests run beside it.
        """
        given = {} if (self.path / ".config").exists() else {EXTRA_ARGS: '["-t", "1"]'} | self.environment
        ran = self.run("up", "--profile", "demo", "--port", str(self.port), *arguments, **given)
        assert ran.code == 0, ran.err
        return ran.out.strip()

    def status(self) -> dict[str, Any]:
        """The status the daemon published last, or an empty one."""
        try:
            status: dict[str, Any] = json.loads((self.state / "status.json").read_text())
        except FileNotFoundError:
            return {}
        return status

    def servers(self) -> list[int]:
        """The pids of the llama-servers that run for this home."""
        return [process.pid for process in psutil.process_iter() if self._is_ours(process)]

    def _run(self, words: list[str], environment: dict[str, str]) -> Ran:
        done = subprocess.run(
            words,
            env=self.environment | environment,
            cwd=self.path,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return process.name() in SERVERS and str(self.path) in " ".join(process.cmdline())
        except psutil.Error:
            return False

    def close(self) -> None:
        """End the daemon if it still runs, as ``down`` does, but without half a second for the command."""
        pid = self.status().get("daemon_pid")
        if pid is None or not runs(pid):
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        until(lambda: not runs(pid), within=20)


def path_without(program: str, path: str, folder: Path) -> str:
    """Return ``path`` without the one program; ``folder`` gets links to what else lies beside it."""
    kept = []
    for number, place in enumerate(Path(each) for each in path.split(os.pathsep)):
        kept.append(place)
        if (place / program).exists():
            kept[-1] = folder / str(number)
            kept[-1].mkdir()
            for each in place.iterdir():
                if each.name != program:
                    (kept[-1] / each.name).symlink_to(each)
    return os.pathsep.join(map(str, kept))


def runs(pid: int) -> bool:
    """Whether a process runs. One that has ended may wait for its parent for a while: init may be slow."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def until(condition: Callable[[], object], within: float) -> None:
    """Wait for something to become true."""
    give_up_at = time.monotonic() + within
    while not condition():
        assert time.monotonic() < give_up_at, f"not within {within} s"
        time.sleep(0.01)


def free_port() -> int:
    """Return a port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_healthy(path: Path) -> bool:
    """Whether the llama-server at a Unix socket takes requests."""
    with socket.socket(socket.AF_UNIX) as probe:  # httpx leaves the socket of a failed connect open
        probe.settimeout(COMMAND_TIMEOUT_S)
        try:
            probe.connect(str(path))
            probe.sendall(b"GET /health HTTP/1.0\r\n\r\n")
            return b" 200 " in probe.recv(64)
        except OSError:
            return False


def kill(pid: int) -> None:
    """SIGKILL, by id."""
    os.kill(pid, signal.SIGKILL)
