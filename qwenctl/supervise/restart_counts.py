"""What the lifecycle remembers of the past: endings, starts, restarts, lack of memory. Pure: no I/O."""

from dataclasses import replace

from qwenctl.supervise.exits import MEMORY_BUSY, Ending
from qwenctl.supervise.policy import Policy
from qwenctl.supervise.states import State


def note(state: State, ending: Ending) -> State:
    """Remember an ending. Where memory was short no child was started, so no ending is counted."""
    if ending.cause == MEMORY_BUSY:
        return replace(state, last=ending)
    counts = dict(state.endings)
    counts[ending.cause] = counts.get(ending.cause, 0) + 1
    return replace(state, last=ending, endings=tuple(sorted(counts.items())))


def forget(state: State) -> State:
    """Forget the failures of an earlier configuration: they do not count against another one.

    The times of the starts stay, because they are bounded over all configurations.
    """
    return replace(state, failures=0, quick=(), short_lives=0, short_since=None)


def quickly(state: State, now: float, policy: Policy) -> State | None:
    """Count a restart without delay. Return None if there were too many within the window."""
    recent = tuple(time for time in state.quick if now - time < policy.quick_window_s)
    return replace(state, quick=(*recent, now)) if len(recent) < policy.quick_restarts else None


def note_start(state: State, now: float, policy: Policy) -> State:
    """Remember a start, and forget those before the last ``most_starts``."""
    return replace(state, starts=(*_recent(state, now, policy), now)[-policy.most_starts :])


def next_start_at(state: State, now: float, policy: Policy) -> float:
    """Return when a child may start without a person's wish: ``now``, or once the oldest start is past."""
    recent = _recent(state, now, policy)
    return now if len(recent) < policy.most_starts else recent[0] + policy.starts_window_s


def short_for(state: State, now: float) -> float:
    """Return for how long others have held the memory, in seconds."""
    return 0.0 if state.short_since is None else now - state.short_since


def _recent(state: State, now: float, policy: Policy) -> tuple[float, ...]:
    return tuple(time for time in state.starts if now - time < policy.starts_window_s)
