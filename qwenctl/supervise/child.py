"""Start one llama-server, read what it prints, wait for its end. Decides nothing.

Spawn from the main thread: Linux sends the parent-death signal when the spawning *thread* ends.
"""

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable

from qwenctl.launch.spec import LaunchSpec
from qwenctl.supervise.exits import Ending, classify
from qwenctl.supervise.logfile import Tail

CHUNK_BYTES = 65536
DRAIN_TIMEOUT_S = 2.0
PR_SET_PDEATHSIG = 1
"""Source: linux/prctl.h."""


class ChildProcess:
    """A running server. ``on_output`` gets the bytes it prints."""

    def __init__(self, process: asyncio.subprocess.Process, on_output: Callable[[bytes], None]) -> None:
        self.pid = process.pid
        self._process, self._on_output = process, on_output
        self._tail = Tail()

    async def wait(self) -> Ending:
        """Wait until it is gone, end what is left of its process group, and return how it ended."""
        reader = asyncio.create_task(self._read())
        try:
            code = await self._process.wait()
            self.signal(signal.SIGKILL)  # stragglers hold the log and the port
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(reader, DRAIN_TIMEOUT_S)
        finally:
            reader.cancel()
        return classify(code, self._tail.lines())

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to its process group, which is its own."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    async def _read(self) -> None:
        stream = self._process.stdout
        while stream is not None and (data := await stream.read(CHUNK_BYTES)):
            self._tail.feed(data)
            self._on_output(data)


async def spawn(spec: LaunchSpec, on_output: Callable[[bytes], None]) -> ChildProcess:
    """Start the server in a process group of its own, with a cleaned environment.

    Raises:
        OSError: it cannot be started.
    """
    if spec.address.socket is not None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(spec.address.socket)  # noqa: PTH108 - a dead socket file makes the next bind fail
    process = await asyncio.create_subprocess_exec(
        *spec.argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=clean_environment(dict(os.environ)) | dict(spec.environment),
        process_group=0,
        umask=0o077,
        preexec_fn=_die_with_parent() if sys.platform == "linux" else None,
    )
    return ChildProcess(process, on_output)


def clean_environment(environment: dict[str, str]) -> dict[str, str]:
    """Return the environment without what would change the server unseen, or tell it a secret.

    ``GGML_NO_BACKTRACE`` keeps a crashing server from starting a debugger on itself, which takes seconds.
    Source: ggml/src/ggml.c, ggml_print_backtrace.
    """
    kept = {
        name: value
        for name, value in environment.items()
        if not name.startswith(("LLAMA_", "QWENCTL_")) and name not in ("HF_TOKEN", "NOTIFY_SOCKET")
    }
    return kept | {"GGML_NO_BACKTRACE": "1"}


def _die_with_parent() -> Callable[[], None]:
    """Return what the new process runs before it becomes the server. Everything is looked up beforehand."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent, kill = os.getpid(), int(signal.SIGKILL)

    def prepare() -> None:
        prctl(PR_SET_PDEATHSIG, kill, 0, 0, 0)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)

    return prepare
