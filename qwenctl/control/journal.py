"""The event log: what happened, one JSON object a line, in files of bounded size and in memory."""

import json
from collections import deque
from pathlib import Path

from qwenctl.control import times
from qwenctl.supervise.logfile import LogFile

FILE_BYTES, FILES_KEPT = 1_000_000, 2
REMEMBERED = 1000


class Journal:
    """``events.jsonl`` and its two older parts. A full disk costs the file, not the memory."""

    def __init__(self, path: Path) -> None:
        self._file = LogFile(path, FILE_BYTES, FILES_KEPT)
        self._lines: deque[str] = deque(maxlen=REMEMBERED)
        self.written = 0

    @property
    def error(self) -> str | None:
        """What is wrong with the file, if anything."""
        return self._file.error

    def note(self, event: str, **fields: object) -> None:
        """Add an event."""
        line = json.dumps({"at": times.now(), "event": event, **fields})
        self._lines.append(line)
        self.written += 1
        self._file.write(line.encode() + b"\n")

    def since(self, number: int) -> list[str]:
        """Return the lines after the first ``number``, as far as they are remembered."""
        count = min(self.written - number, len(self._lines))
        return list(self._lines)[len(self._lines) - count :] if count > 0 else []
