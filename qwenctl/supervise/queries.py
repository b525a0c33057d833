"""Read off a state what is to run, what may be running, and when a timer is due. Pure: no I/O."""

from typing import assert_never

from qwenctl.launch.configuration import Configuration
from qwenctl.supervise import states as st


def aim(state: st.State) -> Configuration | None:
    """Return what is to run now: what is wanted, or the last good one where that generated no token."""
    if state.asleep:
        return None
    return in_force(state)


def in_force(state: st.State) -> Configuration | None:
    """Return the configuration that holds now, also while it is asleep."""
    if state.rejected is not None and state.rejected.configuration.starts_like(state.want):
        return state.good
    return state.want


def deadline(state: st.State) -> float | None:
    """Return when ``Tick`` is due, or None when only an event can move us."""
    match state.phase:
        case st.Starting(child, since, probe_at):
            return min(probe_at, since + child.spec.ready_timeout_s)
        case (
            st.Draining(until=due)
            | st.Stopping(kill_at=due)
            | st.Backoff(until=due)
            | st.Restoring(until=due)
        ):
            return due
        case st.Down() | st.Idle() | st.Ready() | st.Failed():
            return None
        case _:
            assert_never(state.phase)


def live(state: st.State) -> st.Child | None:
    """Return the child that may be running."""
    match state.phase:
        case (
            st.Starting(child=child)
            | st.Restoring(child=child)
            | st.Ready(child=child)
            | st.Draining(child=child)
            | st.Stopping(child=child)
        ):
            return child
        case st.Down() | st.Idle() | st.Backoff() | st.Failed():
            return None
        case _:
            assert_never(state.phase)
