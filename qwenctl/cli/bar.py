"""Show a transfer on stderr: a bar on a terminal, a line every 10 s elsewhere, JSON lines with ``--json``."""

import json
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

from qwenctl.cli.output import Session, talk

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

LINE_EVERY_S = 10.0


class Moved(NamedTuple):
    """The state of a transfer, in bytes. ``phase`` is fetch's word for what it does."""

    file: str
    bytes: int
    total_bytes: int
    bytes_per_s: float
    phase: str = "downloading"


class ProgressBar:
    """Draws a transfer while the context is open. Call it with each step."""

    def __init__(self, session: Session, clock: Callable[[], float] = time.monotonic) -> None:
        self._session, self._clock = session, clock
        self._progress: RichProgress | None = None
        self._task: TaskID | None = None
        self._printed_at: float | None = None
        self._phase = ""

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def __call__(self, moved: Moved) -> None:
        """Show the newest step."""
        if self._session.drawing:
            self._draw(moved)
            return
        now = self._clock()
        due = self._printed_at is None or now - self._printed_at >= LINE_EVERY_S
        if not due and moved.phase == self._phase:
            return
        self._printed_at, self._phase = now, moved.phase
        if self._session.json:
            talk(json.dumps({"progress": moved._asdict()}))
        else:
            self._session.say(_line(moved))

    def _draw(self, moved: Moved) -> None:
        if self._progress is None:
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                DownloadColumn,
                Progress,
                TextColumn,
                TimeRemainingColumn,
                TransferSpeedColumn,
            )

            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                DownloadColumn(),
                TransferSpeedColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._progress.start()
            self._task = self._progress.add_task(moved.phase, total=moved.total_bytes)
        if self._task is not None:
            self._progress.update(
                self._task, completed=moved.bytes, description=moved.phase, total=moved.total_bytes
            )


def _line(moved: Moved) -> str:
    share = 100 * moved.bytes / moved.total_bytes if moved.total_bytes else 100
    seconds_left = (moved.total_bytes - moved.bytes) / moved.bytes_per_s if moved.bytes_per_s else None
    eta = (
        f", {seconds_left / 60:.0f} min left"
        if seconds_left is not None and moved.phase == "downloading"
        else ""
    )
    return (
        f"{moved.phase} {moved.file}: {moved.bytes / 1e9:.2f} of {moved.total_bytes / 1e9:.2f} GB "
        f"({share:.0f} %, {moved.bytes_per_s / 1e6:.0f} MB/s{eta})"
    )
