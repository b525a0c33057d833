"""Programs that keep a llama-server running, each started as its documentation says. For benchmarks."""

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.fakes.home import SERVERS

ROOT = Path(__file__).parents[2]
READY_TIMEOUT_S = 60.0
POLL_S = 0.002


@dataclass(frozen=True, slots=True)
class Kept:
    """A running keeper: its process, and the server's port."""

    process: subprocess.Popen[bytes]
    port: int

    def keeper(self) -> psutil.Process:
        """Return the process that does the keeping: the parent of the server."""
        parent = psutil.Process(server_pid(self.process)).parent()
        assert parent is not None
        return parent


def free_port() -> int:
    """Return a port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def healthy(port: int) -> bool:
    """Return whether /health answers 200. A bare socket: a client library would cost more than the answer."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return b" 200 " in connection.recv(64)
    except OSError:
        return False


def until_healthy(port: int) -> float:
    """Wait for the first 200 and return the time."""
    give_up_at = time.perf_counter() + READY_TIMEOUT_S
    while not healthy(port):
        assert time.perf_counter() < give_up_at, "the server does not come"
        time.sleep(POLL_S)
    return time.perf_counter()


def server_pid(keeper: subprocess.Popen[bytes]) -> int:
    """Return the pid of the server that this keeper keeps."""
    for process in psutil.Process(keeper.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.name() in SERVERS:
                return process.pid
    raise LookupError("llama-server")


Keeper = Callable[[list[str], Path], list[str]]
"""Makes the command that keeps a command line running, with a folder for its files."""


def shell_loop(argv: list[str], folder: Path) -> list[str]:
    """A loop in a shell."""
    script = folder / "loop.sh"
    script.write_text(f"while :; do {shlex.join(argv)} >>{folder}/log 2>&1; done\n")
    return ["/bin/sh", str(script)]


def supervisord(argv: list[str], folder: Path) -> list[str]:
    """Supervisord, with the settings that restart fastest."""
    (folder / "supervisord.conf").write_text(
        f"[supervisord]\nnodaemon=true\nlogfile={folder}/d.log\npidfile={folder}/d.pid\n"
        f"[program:server]\ncommand={shlex.join(argv).replace('%', '%%')}\nautorestart=true\nstartsecs=0\n"
        f"redirect_stderr=true\nstdout_logfile={folder}/log\n"
    )
    return [str(_tools() / "supervisord"), "-c", str(folder / "supervisord.conf")]


def circus(argv: list[str], folder: Path) -> list[str]:
    """Circus."""
    (folder / "circus.ini").write_text(
        f"[circus]\ncheck_delay=1\nendpoint=ipc://{folder}/e\npubsub_endpoint=ipc://{folder}/p\n"
        f"[watcher:server]\ncmd={argv[0]}\nargs={shlex.join(argv[1:])}\ncopy_env=true\nmax_retry=-1\n"
        f"stdout_stream.class=FileStream\nstdout_stream.filename={folder}/log\n"
    )
    return [str(_tools() / "circusd"), str(folder / "circus.ini")]


def systemd(restart: str) -> Keeper:
    """A real systemd user manager, in namespaces of its own, since it need not be this machine's init."""

    def command(argv: list[str], folder: Path) -> list[str]:
        units = folder / "home/.config/systemd/user"
        units.mkdir(parents=True, exist_ok=True)
        quoted = " ".join(f'"{word.replace(chr(34), chr(92) + chr(34))}"' for word in argv)
        (units / "server.service").write_text(
            f"[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart={quoted}\nRestart=always\n{restart}"
            f"StandardOutput=append:{folder}/log\nStandardError=append:{folder}/log\n"
        )
        script = folder / "systemd.sh"
        script.write_text(
            "mount --make-rprivate /\nmount -t tmpfs tmpfs /run\n"
            "mkdir -p /run/systemd/system /run/user/0\nchmod 700 /run/user/0\n"
            f"export HOME={folder}/home XDG_RUNTIME_DIR=/run/user/0 "
            "DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/0/bus\n"
            "/lib/systemd/systemd --user &\nmanager=$!\n"
            "for n in $(seq 100); do systemctl --user is-system-running >/dev/null 2>&1 && break; "
            "systemctl --user list-units >/dev/null 2>&1 && break; sleep 0.1; done\n"
            "systemctl --user start server.service\nwait $manager\n"
        )
        return ["unshare", "-m", "-p", "-f", "--kill-child", "--mount-proc", "bash", str(script)]

    return command


def qwenctl(argv: list[str], folder: Path) -> list[str]:
    """This program, in the foreground, as a unit would run it: its gate listens, the server behind it."""
    port = argv[argv.index("--port") + 1]
    config = folder / "config.toml"
    config.write_text(f'profile = "demo"\n[server]\nport = {port}\n')
    return [sys.executable, "-m", "qwenctl", "--config", str(config), "run"]


@contextmanager
def keeping(keeper: Keeper, argv: list[str], folder: Path) -> Iterator[Kept]:
    """Run a keeper until its server is healthy; end both afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    argv = [*argv[: argv.index("--port") + 1], str(port), *argv[argv.index("--port") + 2 :]]
    environment = os.environ | {"HOME": str(folder), "PYTHONPATH": str(ROOT)}
    with (folder / "out").open("ab") as out:
        process = subprocess.Popen(
            keeper(argv, folder), stdout=out, stderr=out, env=environment, start_new_session=True, cwd=folder
        )
    try:
        until_healthy(port)
        yield Kept(process, port)
    finally:
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=3)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for one in family:
            if one.is_running():
                one.kill()


def _tools() -> Path:
    return Path(os.environ.get("KEEPERS", "/usr/bin"))
