"""Remember which ranges of a partial file are on the disk. A range is noted only after its bytes are synced.

The journal lies beside the partial file: one line that says which file and range size it is about, then one
for each finished range. A damaged line ends the journal; the ranges after it are fetched again.
"""

import json
import os
from pathlib import Path

from qwenctl.fetch.request import RemoteFile

JOURNAL_BYTES = 64 * 2**20


class RangeJournal:
    """The finished ranges of one partial file, on disk and in memory.

    A journal that exists keeps the range size it was begun with, whatever the settings say now.
    """

    def __init__(self, path: Path, file: RemoteFile, range_bytes: int) -> None:
        self.path = path
        self.bytes = file.bytes
        self.sha256 = file.sha256
        self.range_bytes = range_bytes
        self.done: set[int] = set()
        self._fd = -1

    @property
    def count(self) -> int:
        """How many ranges the file has."""
        return -(-self.bytes // self.range_bytes)

    def span(self, index: int) -> tuple[int, int]:
        """Return where a range starts and ends (exclusive)."""
        start = min(index * self.range_bytes, self.bytes)
        return start, min(start + self.range_bytes, self.bytes)

    @property
    def done_bytes(self) -> int:
        """Number of bytes that need not be fetched again."""
        return sum(end - start for start, end in map(self.span, self.done))

    def read(self) -> None:
        """Read which ranges an earlier fetch finished: none, if the journal is about another file."""
        try:
            with self.path.open("rb") as file:
                lines = file.read(JOURNAL_BYTES).split(b"\n")
            head = json.loads(lines[0])
        except (FileNotFoundError, ValueError):
            return
        match head:
            case {"qwenctl": 1, "bytes": self.bytes, "sha256": self.sha256, "range_bytes": int(size)} if (
                size > 0
            ):
                self.range_bytes = size
            case _:
                return
        for line in lines[1:-1]:  # the text after the last newline is empty or torn
            if not line.isdigit() or len(line) > 9 or int(line) >= self.count:
                break
            self.done.add(int(line))

    def open(self) -> None:
        """Write the journal anew, ready for more ranges. It is renamed into place: a kill loses nothing."""
        head = {"qwenctl": 1, "bytes": self.bytes, "sha256": self.sha256, "range_bytes": self.range_bytes}
        lines = [json.dumps(head), *map(str, sorted(self.done)), ""]
        whole = self.path.with_name(f"{self.path.name}.tmp")
        self._fd = os.open(whole, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        os.write(self._fd, "\n".join(lines).encode())
        os.fsync(self._fd)
        whole.replace(self.path)

    def add(self, ranges: tuple[int, ...]) -> None:
        """Note ranges whose bytes are synced."""
        os.write(self._fd, "".join(f"{index}\n" for index in ranges).encode())
        self.done.update(ranges)

    def close(self) -> None:
        """Let go of the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
