"""Tell what happened between two states of the lifecycle, in events with stable names. Pure: no I/O."""

from collections.abc import Iterator

from qwenctl.supervise import lifecycle as lc
from qwenctl.supervise import states as st
from qwenctl.supervise.exits import MEMORY_BUSY, Ending

Told = tuple[str, dict[str, object]]


def tell(before: st.State, after: st.State, pid: int | None, now: float) -> tuple[Told, ...]:
    """Return the events in their order: how a child ended, what was decided, what came of it.

    Names: child_ended, memory_short, rolled_back, child_started, restoring, child_ready, draining, stopping,
    backoff, failed, idle, down. They do not change within a schema; fields may be added.
    """
    return tuple(_told(before, after, pid, now))


def _told(before: st.State, after: st.State, pid: int | None, now: float) -> Iterator[Told]:
    gone, here, last = lc.live(before), lc.live(after), after.last
    if last is not None and last is not before.last:
        if last.cause != MEMORY_BUSY:
            yield "child_ended", {"child": gone.number if gone else None, **_ending(last)}
        elif before.last is None or before.last.cause != MEMORY_BUSY:
            yield "memory_short", {"summary": last.summary, "hint": last.hint}
    if after.rejected is not None and after.rejected != before.rejected:
        why = after.rejected.why
        yield "rolled_back", {"why": why.summary, "cause": why.cause}
    started = here is not None and (gone is None or here.number != gone.number)
    if here is not None and started and pid is not None:
        yield "child_started", {"child": here.number, "pid": pid}
    if type(after.phase) is not type(before.phase):
        yield from _entered(after, pid, now)


def _entered(after: st.State, pid: int | None, now: float) -> Iterator[Told]:
    match after.phase:
        case st.Restoring(child):
            yield "restoring", {"child": child.number}
        case st.Ready(child, _, loaded_s):
            yield "child_ready", {"child": child.number, "pid": pid, "took_s": round(loaded_s, 3)}
        case st.Draining(child, until):
            yield "draining", {"child": child.number, "at_most_s": round(until - now, 3)}
        case st.Stopping(child, _, cause):
            yield "stopping", {"child": child.number, "why": cause.summary if cause else None}
        case st.Backoff(_, until):
            yield "backoff", {"wait_s": round(until - now, 3), "failures": after.failures}
        case st.Failed():
            yield "failed", {"why": after.last.summary if after.last else None}
        case st.Idle():
            yield "idle", {}
        case st.Down():
            yield "down", {}
        case st.Starting():
            pass


def _ending(ending: Ending) -> dict[str, object]:
    return {
        "cause": ending.cause,
        "summary": ending.summary,
        "permanent": ending.permanent,
        "hint": ending.hint,
        "log_tail": list(ending.log_tail),
    }
