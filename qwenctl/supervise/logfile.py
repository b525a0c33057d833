"""Keep what the server prints in a few files of bounded size. A full disk loses lines, nothing else."""

import contextlib
import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from qwenctl.files import reason
from qwenctl.supervise.exits import TAIL_LINES

LINE_BYTES = 4096
TAIL_BYTES = 256 * 1024


class LogFile:
    """``path``, ``path.1`` … ``path.<keep>``: the newest first, each at most ``max_bytes``."""

    def __init__(self, path: Path, max_bytes: int = 10_000_000, keep: int = 5) -> None:
        self.error: str | None = None
        self._path, self._max_bytes, self._keep = path, max_bytes, keep
        self._size = path.stat().st_size if path.exists() else 0

    def write(self, data: bytes) -> None:
        """Append. The last failure is kept in ``error``; it never raises."""
        try:
            if self._size + len(data) > self._max_bytes and self._size:
                self._rotate()
            with self._path.open("ab") as file:
                file.write(data)
            self._size += len(data)
            self.error = None
        except OSError as error:
            with contextlib.suppress(OSError):
                os.truncate(self._path, self._size)  # no half lines
            self.error = f"cannot write {self._path}: {reason(error)}"

    def mend(self) -> None:
        """After a failure, see whether there is room again, and say in the file that something is missing."""
        if self.error is not None:
            self.write(f"[qwenctl: lines are missing here: {self.error}]\n".encode())

    def _rotate(self) -> None:
        for number in range(self._keep - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                self._numbered(number).replace(self._numbered(number + 1))
        with contextlib.suppress(FileNotFoundError):
            self._path.replace(self._numbered(1))
        self._size = 0

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


class Throttle:
    """Pass on at most ``burst_bytes`` at once and ``bytes_per_s`` after that; say how much was left out.

    A server in a log storm is read as fast as it prints, so it is never held up.
    """

    def __init__(
        self,
        write: Callable[[bytes], None],
        bytes_per_s: float = 1e6,
        burst_bytes: float = 8e6,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._write, self._rate, self._burst, self._clock = write, bytes_per_s, burst_bytes, clock
        self._allowed, self._at, self._left_out = burst_bytes, clock(), 0

    def __call__(self, data: bytes) -> None:
        """Write ``data`` or leave it out."""
        now = self._clock()
        self._allowed = min(self._allowed + (now - self._at) * self._rate, self._burst)
        self._at = now
        if len(data) > self._allowed:
            self._left_out += len(data)
            return
        if self._left_out:
            self._write(b"\n[qwenctl: %d bytes left out here]\n" % self._left_out)
            self._left_out = 0
        self._allowed -= len(data)
        self._write(data)


class Tail:
    """The last lines of one child, for its ending. Cheap to feed: lines are made when they are asked for."""

    def __init__(self) -> None:
        self._chunks: deque[bytes] = deque()
        self._size = 0

    def feed(self, data: bytes) -> None:
        """Take what was read; a line may come in pieces."""
        data = data[-TAIL_BYTES:]
        self._chunks.append(data)
        self._size += len(data)
        while self._size - len(self._chunks[0]) >= TAIL_BYTES:
            self._size -= len(self._chunks.popleft())

    def text(self) -> str:
        """Return what is kept, as text."""
        return b"".join(self._chunks).decode("utf-8", "replace")

    def lines(self) -> tuple[str, ...]:
        """Return the last lines, the unfinished one included."""
        lines = b"".join(self._chunks).removesuffix(b"\n").split(b"\n")
        return tuple(_text(line) for line in lines[-TAIL_LINES:] if lines != [b""])


def _text(line: bytes) -> str:
    """Return a line as text; of a long one its two ends, because both may show who wrote it."""
    if len(line) > LINE_BYTES:
        line = line[: LINE_BYTES * 3 // 4] + b" ... " + line[-LINE_BYTES // 4 :]
    return line.decode("utf-8", "replace").rstrip("\r")
