"""The event log: what happened, one JSON object a line, in files of bounded size and in memory."""

import json
import time
from collections import deque
from datetime import UTC, datetime
from pathlib import Path

from qwenctl.supervise.logfile import LogFile

FILE_BYTES, FILES_KEPT = 1_000_000, 2
REMEMBERED, REMEMBERED_BYTES = 1000, 300_000
"""What a new reader of the stream can be told: lines and bytes. Endings bring a hundred lines of log."""


class EventLog:
    """``events.jsonl`` and its two older parts. A full disk costs the file, not the memory."""

    def __init__(self, path: Path) -> None:
        self._file = LogFile(path, FILE_BYTES, FILES_KEPT)
        self._lines: deque[str] = deque(maxlen=REMEMBERED)
        self._bytes = self._missing = 0
        self.written = 0

    @property
    def error(self) -> str | None:
        """What is wrong with the file, if anything."""
        return self._file.error

    def note(self, event: str, **fields: object) -> None:
        """Add an event."""
        line = json.dumps({"at": now(), "event": event, **fields})
        self._bytes += len(line) - (len(self._lines[0]) if len(self._lines) == REMEMBERED else 0)
        self._lines.append(line)
        while self._bytes > REMEMBERED_BYTES and len(self._lines) > 1:
            self._bytes -= len(self._lines.popleft())
        self.written += 1
        self._missing += 1
        self.mend()

    def resume(self, lines: tuple[str, ...]) -> None:
        """Remember what an earlier program has written."""
        self._lines.extend(lines)
        self._bytes, self.written = sum(map(len, self._lines)), len(self._lines)

    def mend(self) -> None:
        """Write what the file does not have yet, as far as it is remembered."""
        lines = self.since(self.written - self._missing)
        if lines:
            self._file.write("".join(f"{line}\n" for line in lines).encode())
            self._missing = self._missing if self.error else 0

    def since(self, number: int) -> list[str]:
        """Return the lines after the first ``number``, as far as they are remembered."""
        count = min(self.written - number, len(self._lines))
        return list(self._lines)[len(self._lines) - count :] if count > 0 else []


def now() -> str:
    """Return the time."""
    return _text(time.time())


def wall(monotonic: float) -> str:
    """Return the time of a monotonic one. A step of the clock in between shows in it."""
    return _text(time.time() + monotonic - time.monotonic())


def _text(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
