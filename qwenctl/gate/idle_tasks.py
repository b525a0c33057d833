"""Know what is due while the gate waits: look at slots, save them, unload, cut off stalled clients."""

import asyncio
import contextlib
from dataclasses import dataclass

STALL_CHECKS = 4


@dataclass(frozen=True, slots=True)
class DueTasks:
    """What to do now, and when to ask again (None: when something happens)."""

    look: bool = False
    save: bool = False
    unload: bool = False
    stall_before: float | None = None
    again_at: float | None = None


@dataclass(frozen=True, slots=True)
class IdleWaits:
    """The three waits, in seconds. ``unload_s`` 0: never."""

    unload_s: float
    warm_after_s: float
    stall_s: float


def due(
    now: float, idle_since: float | None, last: float | None, patience: IdleWaits, *, busy: bool
) -> tuple[DueTasks, bool]:
    """Return what is due, and whether this idleness has been looked at and saved.

    ``last`` is the idleness that was saved already. Pure.
    """
    if idle_since is None:
        if not busy:
            return DueTasks(), False
        return DueTasks(
            stall_before=now - patience.stall_s, again_at=now + patience.stall_s / STALL_CHECKS
        ), False
    saved = last == idle_since
    save_at = idle_since + patience.warm_after_s
    unload_at = idle_since + patience.unload_s if patience.unload_s > 0 else None
    save = not saved and now >= save_at
    unload = unload_at is not None and now >= unload_at
    later = [
        at for at in (None if saved or save else save_at, None if unload else unload_at) if at is not None
    ]
    return DueTasks(
        look=not saved, save=save, unload=unload, again_at=min(later, default=None)
    ), saved or save


class IdleTasks:
    """Remembers what was done, and waits for the next time."""

    def __init__(self, unload_s: float, warm_after_s: float, stall_s: float) -> None:
        self._patience = IdleWaits(unload_s, warm_after_s, stall_s)
        self._saved: float | None = None
        self._news = asyncio.Event()

    def nudge(self) -> None:
        """Something happened: ask again."""
        self._news.set()

    def due(self, now: float, idle_since: float | None, *, busy: bool) -> DueTasks:
        """Return what to do now."""
        todo, done = due(now, idle_since, self._saved, self._patience, busy=busy)
        self._saved = idle_since if done else self._saved
        return todo

    async def wait(self, until: float | None) -> None:
        """Wait for news, at most until then (the loop's clock)."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await self._news.wait()
        self._news.clear()
