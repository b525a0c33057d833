"""The proxy hearth (hearth-llm of PyPI) before a llama-server, as its documentation says. For benchmarks."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from benchmarks.lib.keepers import free_port, until_healthy

END_S = 30.0


class Hearth:
    """A running hearth and the server behind it. ``restart``: end the server as a person does, start it."""

    def __init__(self, program: Path, server: list[str], environment: dict[str, str], folder: Path) -> None:
        self.port, self.server_port = free_port(), free_port()
        self.cache = folder / "cache"
        self.cache.mkdir(parents=True)
        self._environment = environment
        self._words = _on_port(server, self.server_port, self.cache)
        self._server = self._start(self._words)
        until_healthy(self.server_port)
        upstream = f"http://127.0.0.1:{self.server_port}"
        words = [str(program), "serve", "--upstream", upstream, "--port", str(self.port)]
        self._proxy = self._start([*words, "--cache-dir", str(self.cache)])
        until_healthy(self.port)

    def restart(self) -> None:
        """End the server with SIGTERM and start it again."""
        _end(self._server)
        self._server = self._start(self._words)
        until_healthy(self.server_port)

    def close(self) -> None:
        """End both."""
        _end(self._proxy)
        _end(self._server)

    def _start(self, words: list[str]) -> subprocess.Popen[bytes]:
        with (self.cache.parent / "log").open("ab") as log:
            return subprocess.Popen(words, stdout=log, stderr=log, env=self._environment)


@contextlib.contextmanager
def hearth(program: Path, server: list[str], environment: dict[str, str], folder: Path) -> Iterator[Hearth]:
    """Run hearth before a server with this command line; end both afterwards."""
    made = Hearth(program, server, environment, folder)
    try:
        yield made
    finally:
        made.close()


def _on_port(argv: list[str], port: int, cache: Path) -> list[str]:
    """Return the command line of a server at a Unix socket for a port of its own, and its slots elsewhere."""
    words = list(argv)
    for option, value in (("--host", "127.0.0.1"), ("--slot-save-path", str(cache))):
        words[words.index(option) + 1] = value
    return [*words, "--port", str(port)]


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(END_S)
