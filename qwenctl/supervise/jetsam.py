"""Ask macOS whether it has ended a process because memory was short. Reads only, and only on a Mac.

macOS then sends SIGKILL, which says nothing. It counts no such kills; it writes a report, some seconds later.
So its word on the pressure counts, too: at that moment, and shortly before, since the end of a large program
is what takes the pressure away.
"""

import asyncio
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from qwenctl.hardware.apple import WARNING, MemoryPressure
from qwenctl.hardware.macos import read_memory_pressure

REPORTS = (Path("/Library/Logs/DiagnosticReports"), Path("~/Library/Logs/DiagnosticReports"))
PATTERN = "JetsamEvent-*.ips"
MOST_REPORTS, MOST_BYTES = 4, 16 << 20
"""The newest reports, and no file that is none: one has a row for each process, about a megabyte."""
OTHER_REASONS = frozenset(("vnode-limit", "idle-exit", "long-idle-exit", "disk-space-shortage"))
"""Why macOS ends programs, too. Every other reason is memory. Source: XNU, bsd/kern/kern_memorystatus.c."""
SERVER = "llama-server"
NAME_COUNTS_S = 60.0
"""So old may a report be that names a llama-server, but not our pid: what we started may be a script."""

LOOK_EVERY_S, RECENT_S = 15.0, 45.0
"""How often the pressure is looked at while a server runs, and for how long it counts after its end."""


class PressureWatch:
    """Looks at the pressure now and then while a server runs, which costs a program of milliseconds."""

    def __init__(
        self,
        pressure: Callable[[], MemoryPressure | None] = read_memory_pressure,
        every_s: float = LOOK_EVERY_S,
    ) -> None:
        self._pressure, self._every_s = pressure, every_s
        self._short_at: float | None = None
        self._looking = asyncio.get_running_loop().create_task(self._look())

    def was_short(self) -> bool:
        """Return whether memory was short a short while ago."""
        return self._short_at is not None and time.monotonic() - self._short_at <= RECENT_S

    def close(self) -> None:
        """Look no more."""
        self._looking.cancel()

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            now = await asyncio.to_thread(self._pressure)
            if now is not None and now.level >= WARNING:
                self._short_at = time.monotonic()


def ended_for_memory(
    pid: int,
    since: float,
    *,
    spoke: bool,
    was_short: bool = False,
    pressure: Callable[[], MemoryPressure | None] = read_memory_pressure,
    folders: Iterable[Path] = REPORTS,
    now: Callable[[], float] = time.time,
) -> bool:
    """Return whether macOS seems to have ended this process, which SIGKILL has just ended.

    ``since``: when it was started, in seconds since 1970. ``was_short``: memory was short a while ago.
    ``spoke``: it had printed something. One that had not may never have begun, since its signature does not
    hold: then the pressure shows nothing.
    """
    by_name_since = max(since, now() - NAME_COUNTS_S)
    if any(names(text, pid, by_name=at >= by_name_since) for at, text in _reports(since, folders)):
        return True
    if not spoke:
        return False
    level = pressure()
    return was_short or (level is not None and level.level >= WARNING)


def names(report: str, pid: int, *, by_name: bool) -> bool:
    """Return whether a report says that this process was ended for lack of memory. Pure.

    ``by_name``: any llama-server may be it. A report of an earlier server of ours, or of another program's,
    must not count for each later end of this one.

    Each process of the machine has a row; those that were ended have a reason in it. Source of the form:
    Apple, "Identifying high-memory use with jetsam event reports": a line of JSON, then a JSON object.
    """
    try:
        rows = json.loads(report.partition("\n")[2])["processes"]
        ended = [row for row in rows if row.get("reason") is not None]
        return any(
            row["reason"] not in OTHER_REASONS
            and (row.get("pid") == pid or (by_name and row.get("name") == SERVER))
            for row in ended
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


def _reports(since: float, folders: Iterable[Path]) -> Iterable[tuple[float, str]]:
    """Return the newest reports, each with the time of its file."""
    found = []
    for folder in folders:
        try:
            for path in folder.expanduser().glob(PATTERN):
                about = path.stat()
                if about.st_mtime >= since and about.st_size <= MOST_BYTES:
                    found.append((about.st_mtime, path))
        except (OSError, RuntimeError):
            continue  # there is none, or it is not ours to read
    for at, path in sorted(found, reverse=True)[:MOST_REPORTS]:
        try:
            yield at, path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
