"""Keep what the server prints in a few files of bounded size. A full disk loses lines, nothing else."""

import contextlib
from collections import deque
from pathlib import Path

from qwenctl.supervise.exits import TAIL_LINES

LINE_BYTES = 4096


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
            self.error = f"cannot write {self._path}: {(error.strerror or str(error)).lower()}"

    def _rotate(self) -> None:
        for number in range(self._keep - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                self._numbered(number).replace(self._numbered(number + 1))
        with contextlib.suppress(FileNotFoundError):
            self._path.replace(self._numbered(1))
        self._size = 0

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


class Tail:
    """The last lines of one child, for its ending."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=TAIL_LINES)
        self._open = b""

    def feed(self, data: bytes) -> None:
        """Take what was read; a line may come in pieces."""
        *whole, rest = (self._open + data).split(b"\n")
        self._lines.extend(_text(line) for line in whole[-TAIL_LINES:])
        self._open = rest[:LINE_BYTES]

    def lines(self) -> tuple[str, ...]:
        """Return the last lines, the unfinished one included."""
        return (*self._lines, _text(self._open))[-TAIL_LINES:] if self._open else tuple(self._lines)


def _text(line: bytes) -> str:
    return line[:LINE_BYTES].decode("utf-8", "replace").rstrip("\r")
