"""Show a transfer on stderr: a bar on a terminal, a line every 10 s elsewhere, JSON lines with ``--json``."""

import json
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

from qwenctl.cli.output import Session

if TYPE_CHECKING:
    from rich.progress import Progress as Drawn
    from rich.progress import TaskID

LINE_EVERY_S = 10.0


class Moved(NamedTuple):
    """How far a transfer is. Bytes; ``phase`` as fetch names it."""

    file: str
    bytes: int
    total_bytes: int
    bytes_per_s: float
    phase: str = "downloading"


class ProgressBar:
    """Called with each step of a transfer while the context is open."""

    def __init__(self, session: Session, clock: Callable[[], float] = time.monotonic) -> None:
        self._session, self._clock = session, clock
        self._drawn: Drawn | None = None
        self._task: TaskID | None = None
        self._told_at: float | None = None
        self._phase = ""

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._drawn is not None:
            self._drawn.stop()
            self._drawn = None

    def __call__(self, moved: Moved) -> None:
        """Take the newest step."""
        if self._session.drawing:
            self._draw(moved)
            return
        now = self._clock()
        due = self._told_at is None or now - self._told_at >= LINE_EVERY_S
        if not due and moved.phase == self._phase:
            return
        self._told_at, self._phase = now, moved.phase
        if self._session.json:
            print(json.dumps({"progress": moved._asdict()}), file=sys.stderr)  # noqa: T201 - progress is talk
        else:
            self._session.say(_line(moved))

    def _draw(self, moved: Moved) -> None:
        if self._drawn is None:
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                DownloadColumn,
                Progress,
                TextColumn,
                TimeRemainingColumn,
                TransferSpeedColumn,
            )

            self._drawn = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                DownloadColumn(),
                TransferSpeedColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._drawn.start()
            self._task = self._drawn.add_task(moved.phase, total=moved.total_bytes)
        if self._task is not None:
            self._drawn.update(
                self._task, completed=moved.bytes, description=moved.phase, total=moved.total_bytes
            )


def _line(moved: Moved) -> str:
    share = 100 * moved.bytes / moved.total_bytes if moved.total_bytes else 100
    left = (moved.total_bytes - moved.bytes) / moved.bytes_per_s if moved.bytes_per_s else None
    eta = f", {left / 60:.0f} min left" if left is not None and moved.phase == "downloading" else ""
    return (
        f"{moved.phase} {moved.file}: {moved.bytes / 1e9:.2f} of {moved.total_bytes / 1e9:.2f} GB "
        f"({share:.0f} %, {moved.bytes_per_s / 1e6:.0f} MB/s{eta})"
    )
