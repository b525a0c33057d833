"""Run ``python -m qwenctl`` in a process that is forked from one which has most modules imported.

Each command is a process of its own all the same: own environment, folder, output, exit code. It differs from
a new interpreter in one thing: importing, which is most of the time of a command, and the tests run well over
a thousand. No module of the list reads the environment while it is imported (tests/test_architecture.py keeps
that for ours); huggingface_hub does, so each command imports it, and what needs it, for itself. The daemons
that the commands start are new interpreters.

This file is also the program that forks (``python forked_commands.py SOCKET``): one connection is one
command, and the program ends with the process that started it. Linux only: forking without an exec is not
safe on macOS.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import random
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

IMPORTED = """
    aiohttp aiohttp.web anyio asyncio click concurrent.futures.thread configparser ctypes.util difflib
    filelock h11 httpcore2 httpx httpx2 importlib.metadata markdown_it platformdirs plistlib psutil pydantic
    pydantic_settings pynvml rich.console rich.progress rich.table rich.text shutil ssl tomlkit tomllib
    tqdm.auto truststore watchfiles xml.parsers.expat yaml qwenctl.cli.group qwenctl.cli.via_service
    qwenctl.control.start qwenctl.control.wait qwenctl.deploy.states qwenctl.engine.fit_params
    qwenctl.hardware.detect qwenctl.launch.argv qwenctl.model.library qwenctl.plan.planner
    qwenctl.settings.load
""".split()
READS_THE_ENVIRONMENT = "huggingface_hub"
CHUNK_BYTES = 1 << 16


class ForkedCommands:
    """The process that forks. It ends with this one, or with ``close``.

    ``python`` is its interpreter. ``env``: what it finds when it starts; None: our own. ``prepare`` is called
    in it before it begins.
    """

    def __init__(
        self,
        python: str = sys.executable,
        env: Mapping[str, str] | None = None,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="qt-run-", dir="/tmp")
        self._path = f"{self._folder.name}/s.sock"
        theirs, self._life = os.pipe()
        words = [python, __file__, self._path, str(theirs)]
        found = {name: value for name, value in (env or os.environ).items() if name != "PYTHONPATH"}
        self._process = subprocess.Popen(
            words,
            env=found,
            stdout=subprocess.PIPE,
            pass_fds=(theirs,),
            preexec_fn=prepare,  # noqa: PLW1509  it makes a few system calls
        )
        os.close(theirs)
        assert self._process.stdout is not None
        with self._process.stdout as told:
            assert told.read() == b"ready", "it could not be started"
        atexit.register(self.close)

    def run(
        self, arguments: tuple[str, ...], env: Mapping[str, str], cwd: Path, timeout_s: float
    ) -> tuple[int, str, str]:
        """Run a command to its end. Return its exit code, as ``subprocess`` has it, and what it printed."""
        asked = json.dumps({"arguments": arguments, "environment": dict(env), "folder": str(cwd)}).encode()
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(timeout_s)
                connection.connect(self._path)
                sent = socket.send_fds(connection, [asked], [0, out.fileno(), err.fileno()])
                connection.sendall(asked[sent:])
                connection.shutdown(socket.SHUT_WR)
                with connection.makefile("r") as told:
                    pid = int(told.readline())
                    try:
                        code = int(told.readline())
                    except TimeoutError:
                        os.kill(pid, signal.SIGKILL)
                        raise subprocess.TimeoutExpired(arguments, timeout_s) from None
            return code, _text(out), _text(err)

    def close(self) -> None:
        """End it."""
        atexit.unregister(self.close)
        os.close(self._life)
        self._process.wait()
        self._folder.cleanup()


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


def main(path: str, life: int) -> None:
    """Fork for each connection, until nobody holds the other end of ``life``."""
    sys.path[0] = str(Path(__file__).parents[2])
    for name in IMPORTED:
        with contextlib.suppress(ImportError):  # of an extra
            importlib.import_module(name)
    assert READS_THE_ENVIRONMENT not in sys.modules
    del sys.path[0]
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    os.write(1, b"ready")
    os.dup2(0, 1)
    while life not in select.select([listener.fileno(), life], [], [])[0]:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            os.close(life)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            serve(connection)
            return
        connection.close()


def serve(connection: socket.socket) -> None:
    """Fork once more: the child becomes the command, the parent says its pid and its exit code."""
    asked, descriptors, _, _ = socket.recv_fds(connection, CHUNK_BYTES, 3)
    while more := connection.recv(CHUNK_BYTES):
        asked += more
    pid = os.fork()
    if pid == 0:
        connection.close()
        become(descriptors, **json.loads(asked))
        return
    with contextlib.suppress(OSError):  # whoever asked has gone
        connection.sendall(f"{pid}\n".encode())
        _, status = os.waitpid(pid, 0)
        connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def become(descriptors: list[int], arguments: list[str], environment: dict[str, str], folder: str) -> None:
    """Run ``python -m qwenctl`` as a new interpreter would, and exit with its code."""
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    random.seed()
    sys.path[:0] = [folder, *environment.get("PYTHONPATH", "").split(os.pathsep)]
    importlib.invalidate_caches()
    sys.argv = ["-m", *arguments]
    runpy.run_module("qwenctl", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
