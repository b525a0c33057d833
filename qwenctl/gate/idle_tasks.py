"""Decide what is due while nobody uses the model, and when to ask again. Pure: no I/O, no clock."""

from dataclasses import dataclass

STALL_CHECKS = 4
"""So many times within ``stall_s`` the gate looks for clients that take nothing."""


@dataclass(frozen=True, slots=True)
class DueTasks:
    """What to do now. ``again_at`` is the time of the next question; None: when something happens.

    ``look``: see what the slots hold. ``save``: save them. ``unload``: ask the daemon to stop the child.
    ``stall_before``: disconnect the clients that have taken nothing since that time.
    """

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
    now: float, idle_since: float | None, saved_idle: float | None, waits: IdleWaits, *, busy: bool
) -> tuple[DueTasks, bool]:
    """Return what is due, and whether the slots of this time of idleness are saved, or will be now.

    ``idle_since``: the model is unused since that time; None: it is used, or there is none. ``saved_idle``:
    the start of the time of idleness whose slots were saved last. ``busy``: requests are at the child.
    """
    if idle_since is None:
        if not busy:
            return DueTasks(), False
        stall_before, again_at = now - waits.stall_s, now + waits.stall_s / STALL_CHECKS
        return DueTasks(stall_before=stall_before, again_at=again_at), False
    saved = saved_idle == idle_since
    save_at = idle_since + waits.warm_after_s
    unload_at = idle_since + waits.unload_s if waits.unload_s > 0 else None
    save = not saved and now >= save_at
    unload = unload_at is not None and now >= unload_at
    later = [
        at for at in (None if saved or save else save_at, None if unload else unload_at) if at is not None
    ]
    return DueTasks(
        look=not saved, save=save, unload=unload, again_at=min(later, default=None)
    ), saved or save
