"""What the lifecycle remembers of the past: endings, quick restarts, want of memory. Pure: no I/O."""

from dataclasses import replace

from qwenctl.supervise.exits import MEMORY_BUSY, Ending
from qwenctl.supervise.states import Policy, State


def note(state: State, ending: Ending) -> State:
    """Remember an ending; one that never started has not ended."""
    if ending.cause == MEMORY_BUSY:
        return replace(state, last=ending)
    counts = dict(state.endings)
    counts[ending.cause] = counts.get(ending.cause, 0) + 1
    return replace(state, last=ending, endings=tuple(sorted(counts.items())))


def forget(state: State) -> State:
    """A new wish is not punished for the failures of an old one."""
    return replace(state, failures=0, quick=(), short_since=None)


def quickly(state: State, now: float, policy: Policy) -> State | None:
    """Count a restart without delay; None if there were too many of late."""
    recent = tuple(time for time in state.quick if now - time < policy.quick_window_s)
    return replace(state, quick=(*recent, now)) if len(recent) < policy.quick_restarts else None


def short_for(state: State, now: float) -> float:
    """Return for how long others have held the memory, in seconds."""
    return 0.0 if state.short_since is None else now - state.short_since
