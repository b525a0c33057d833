"""An RPC worker on loopback: a device to llama.cpp, on a machine that has no GPU."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.fakes.home import free_port

TRIES = 500


@contextmanager
def worker(tools: Path, port: int | None = None) -> Iterator[str]:
    """Run ``ggml-rpc-server``, on a port of its own unless one is given, and yield its address."""
    port = free_port() if port is None else port
    process = subprocess.Popen(
        [tools / "ggml-rpc-server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(TRIES):
            if _listens(port):
                break
            _dies_within(process, 0.01)
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _dies_within(process: subprocess.Popen[bytes], seconds: float) -> None:
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return
    raise RuntimeError(f"ggml-rpc-server ended with status {process.returncode}")
