"""Read a rotated text file: its last lines, then the lines that are added. Imports little, to start fast."""

import os
from collections import deque
from pathlib import Path
from typing import IO

BLOCK_BYTES = 1 << 16


class LogReader:
    """``path`` and the part before it, ``path.1``. A rotated file is read to its end before the new one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None
        self._open = b""

    def last(self, count: int) -> list[str]:
        """Return the last ``count`` lines; what is added later is returned by ``more``."""
        lines: deque[str] = deque(maxlen=count)
        older = self._path.with_name(f"{self._path.name}.1")
        if older.exists():
            with older.open(encoding="utf-8", errors="replace") as file:
                lines.extend(line.rstrip("\n") for line in file)
        while more := self.more():
            lines.extend(more)
        return list(lines)

    def more(self) -> list[str]:
        """Return the whole lines that were added, at most a few blocks of them."""
        if self._file is None and not self._reopen():
            return []
        lines = self._read()
        if not lines and self._rotated():
            self._reopen()
            lines = self._read()
        return lines

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _read(self) -> list[str]:
        if self._file is None:
            return []
        *whole, self._open = (self._open + self._file.read(BLOCK_BYTES)).split(b"\n")
        while not whole and len(self._open) >= BLOCK_BYTES:  # a line without end
            whole, self._open = [self._open], b""
        return [line.decode("utf-8", "replace") for line in whole]

    def _rotated(self) -> bool:
        """Whether the path has another file by now.

        The open file is asked through its descriptor: macOS tells the device of devfs for /dev/fd/N. Source:
        XNU 11417, bsd/vfs/kpi_vfs.c, vnode_getattr.
        """
        try:
            here = self._path.stat()
        except OSError:
            return False
        there = os.fstat(self._file.fileno()) if self._file else None
        return there is None or (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino)

    def _reopen(self) -> bool:
        self.close()
        try:
            self._file = self._path.open("rb")
        except OSError:
            return False
        return True
