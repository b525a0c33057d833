"""Decide what happens to the server next. Pure: no I/O, no clock, no logging.

``step`` takes the state, one event and the time; it returns the next state and the actions that lead there.
``deadline`` says when a ``Tick`` is due.

How to read it. ``State.want`` is the desired state and ``State.phase`` the actual one; ``aim`` says which
configuration is to run now. Only ``_settle`` brings the two together. Timers are read off the state, so
none can be stale. Children are numbered: an event about another number than the living child's
changes nothing. A start without a person's wish goes through ``_start_again``, which bounds all starts.
What follows an ending that nobody wished for is decided in ``endings.py``.
"""

from dataclasses import replace
from typing import assert_never

from qwenctl.launch.configuration import Configuration
from qwenctl.supervise import restart_counts as counts
from qwenctl.supervise import states as st
from qwenctl.supervise.endings import Ended, ended
from qwenctl.supervise.evidence import devices_of
from qwenctl.supervise.exits import Ending, because
from qwenctl.supervise.policy import Policy
from qwenctl.supervise.queries import aim, deadline, in_force, live

__all__ = ["aim", "deadline", "in_force", "live", "step"]

Outcome = tuple[st.State, st.Actions]


def step(state: st.State, event: st.Event, now: float, policy: Policy) -> Outcome:  # noqa: C901 - one case an event
    """Return the next state and the actions that take us there. Defined for every pair."""
    match event:
        case st.Want(configuration):
            return _settle(_wish(state, configuration), now, policy)
        case st.Smaller(instead_of, configuration):
            return _smaller(state, instead_of, configuration, now, policy)
        case st.Restart():
            return _restart(replace(counts.forget(state), asleep=False), now, policy)
        case st.Exited(number, ending):
            return _exited(state, number, ending, now, policy)
        case st.Listening(number):
            return _listening(state, number, now, policy)
        case st.TokenAnswer(number, ok):
            return _token(state, number, ok, now, policy)
        case st.Restored(number):
            return _restored(state, number, now)
        case st.Faulty(number, ending):
            return _faulty(state, number, ending, now)
        case st.Drained(number):
            return _drained(state, number, now)
        case st.Sleep():
            asleep = not state.demand and (isinstance(state.phase, st.Ready) or state.asleep)
            return _settle(replace(state, asleep=asleep), now, policy)
        case st.Demand(held):
            return _settle(replace(state, demand=held, asleep=state.asleep and not held), now, policy)
        case st.TimeLost(seconds):
            return _later(state, seconds), ()
        case st.Tick():
            return _tick(state, now, policy)
        case _:
            assert_never(event)


def _wish(state: st.State, wanted: Configuration | None) -> st.State:
    """Take a person's wish. One that starts like what runs replaces it without a restart."""
    if wanted is None or not wanted.starts_like(state.want) or state.rejected is not None:
        state = replace(counts.forget(state), asleep=False, rejected=None)
    return _adopt(state, wanted)


def _adopt(state: st.State, wanted: Configuration | None) -> st.State:
    """Replace each configuration that starts like ``wanted`` by ``wanted``."""
    phase = state.phase
    if wanted is not None:
        match phase:
            case (
                st.Starting(child=child)
                | st.Restoring(child=child)
                | st.Ready(child=child)
                | st.Draining(child=child)
                | st.Stopping(child=child)
            ) if wanted.starts_like(child.configuration):
                phase = replace(phase, child=replace(child, configuration=wanted))
            case st.Backoff(configuration=this) | st.Failed(configuration=this) if wanted.starts_like(this):
                phase = replace(phase, configuration=wanted)
            case _:
                pass
    good = wanted if wanted is not None and wanted.starts_like(state.good) else state.good
    return replace(state, want=wanted, phase=phase, good=good)


def _smaller(
    state: st.State, instead_of: Configuration, smaller: Configuration, now: float, policy: Policy
) -> Outcome:
    if not instead_of.starts_like(in_force(state)) or smaller.starts_like(instead_of):
        return state, ()
    state = _adopt(replace(state, rejected=None), smaller)
    match state.phase:
        case st.Backoff() | st.Failed():
            return _start_again(state, now, policy)
        case _:
            return _settle(state, now, policy)


def _settle(state: st.State, now: float, policy: Policy) -> Outcome:
    """Move towards what is to run: the one place where desired meets actual."""
    wanted = aim(state)
    match state.phase:
        case st.Starting(child=child) | st.Restoring(child=child) | st.Ready(child=child):
            return (state, ()) if child.configuration.starts_like(wanted) else _leave(state, now)
        case st.Draining() | st.Stopping():
            return state, ()  # decided when the child is gone
        case st.Backoff(configuration=this) | st.Failed(configuration=this) if this.starts_like(wanted):
            return state, ()  # it waits already; the same wish again changes nothing
        case st.Down() | st.Idle() | st.Backoff() | st.Failed():
            return _start(state, now, policy)
        case _:
            assert_never(state.phase)


def _restart(state: st.State, now: float, policy: Policy) -> Outcome:
    match state.phase:
        case st.Starting() | st.Restoring() | st.Ready():
            return _leave(state, now)
        case st.Draining():
            return state, ()
        case st.Stopping() as stopping:
            return replace(state, phase=replace(stopping, cause=None)), ()
        case st.Down() | st.Idle() | st.Backoff() | st.Failed():
            return _start(state, now, policy)
        case _:
            assert_never(state.phase)


def _exited(state: st.State, number: int, ending: Ending, now: float, policy: Policy) -> Outcome:
    child = live(state)
    if child is None or child.number != number:
        return state, ()
    match state.phase:
        case st.Ready(_, since, loaded_s) | st.Restoring(_, since, loaded_s):
            return _judge(state, Ended(child, ending, now, since, loaded_s), policy)
        case st.Draining():
            return _start(counts.note(state, ending), now, policy)
        case st.Stopping(cause=None):
            return _start(state, now, policy)
        case st.Stopping(cause=Ending() as cause, ready_since=since):
            why = because(cause, ending, devices_of(child.spec.argv))
            return _judge(state, Ended(child, why, now, since), policy)
        case st.Starting(since=since):
            return _judge(state, Ended(child, ending, now, None, now - since), policy)
        case _:
            return state, ()


def _judge(state: st.State, how: Ended, policy: Policy) -> Outcome:
    """Go on after an ending that nobody wished for."""
    state, again, actions = ended(state, how, aim(state), policy)
    if not again:
        return state, actions
    state, started = _start_again(state, how.at, policy)
    return state, (*actions, *started)


def _listening(state: st.State, number: int, now: float, policy: Policy) -> Outcome:
    match state.phase:
        case st.Starting(child=child) if child.number == number:
            return _ask(state, state.phase, now, policy)
        case _:
            return state, ()


def _ask(state: st.State, starting: st.Starting, now: float, policy: Policy) -> Outcome:
    later = replace(starting, probe_at=now + policy.probe_s(now - starting.since))
    return replace(state, phase=later), (st.AskToken(starting.child),)


def _token(state: st.State, number: int, ok: bool, now: float, policy: Policy) -> Outcome:  # noqa: FBT001 - an answer
    match state.phase:
        case st.Starting(child=child, since=since) if child.number == number and ok:
            state = replace(state, good=child.configuration, short_since=None)
            if not child.spec.saves_slots:
                return replace(state, phase=st.Ready(child, now, now - since)), ()
            phase = st.Restoring(child, now, now - since, now + policy.restore_timeout_s)
            return replace(state, phase=phase), (st.Restore(child),)
        case _:
            return state, ()


def _restored(state: st.State, number: int, now: float) -> Outcome:
    match state.phase:
        case st.Restoring(child=child, loaded_s=loaded_s) if child.number == number:
            return replace(state, phase=st.Ready(child, now, loaded_s)), ()
        case _:
            return state, ()


def _faulty(state: st.State, number: int, ending: Ending, now: float) -> Outcome:
    """Kill the child at once, because it may not react to a request to stop."""
    match state.phase:
        case st.Ready(child, since) | st.Restoring(child, since) if child.number == number:
            return _kill(state, st.Stopping(child, 0, ending, since), now)
        case st.Starting(child=child) if child.number == number:
            return _kill(state, st.Stopping(child, 0, ending), now)
        case st.Draining(child=child) if child.number == number:
            return _kill(counts.note(state, ending), st.Stopping(child, 0), now)
        case _:
            return state, ()


def _drained(state: st.State, number: int, now: float) -> Outcome:
    match state.phase:
        case st.Draining(child=child) if child.number == number:
            return _stop(state, child, None, now)
        case _:
            return state, ()


def _later(state: st.State, seconds: float) -> st.State:
    """Move the child's timers by the time it could not use. A wait for the next try stays as it is."""
    match state.phase:
        case st.Starting(child, since, probe_at):
            return replace(state, phase=st.Starting(child, since + seconds, probe_at + seconds))
        case st.Restoring(child, since, loaded_s, until):
            return replace(state, phase=st.Restoring(child, since, loaded_s, until + seconds))
        case st.Draining(child, until):
            return replace(state, phase=st.Draining(child, until + seconds))
        case st.Stopping() as stopping:
            return replace(state, phase=replace(stopping, kill_at=stopping.kill_at + seconds))
        case _:
            return state


def _tick(state: st.State, now: float, policy: Policy) -> Outcome:
    due = deadline(state)
    if due is None or now < due:
        return state, ()
    match state.phase:
        case st.Backoff():
            return _start_again(state, now, policy)
        case st.Starting(child=child, since=since) if now >= since + child.spec.ready_timeout_s:
            seconds = f"{child.spec.ready_timeout_s:g}"
            return _stop(state, child, Ending("not_ready", f"generated no token within {seconds} s"), now)
        case st.Starting() as starting:
            return _ask(state, starting, now, policy)
        case st.Restoring(child=child, loaded_s=loaded_s):
            return replace(state, phase=st.Ready(child, now, loaded_s)), ()
        case st.Draining(child=child):
            return _stop(state, child, None, now)
        case st.Stopping() as stopping:
            return _kill(state, stopping, now)
        case _:
            return state, ()


def _leave(state: st.State, now: float) -> Outcome:
    """Begin a wanted stop. A child that is ready may finish its answers first."""
    match state.phase:
        case st.Ready(child=child) if child.spec.drain_timeout_s > 0:
            phase = st.Draining(child, now + child.spec.drain_timeout_s)
            return replace(state, phase=phase), (st.Drain(child.number),)
        case st.Starting(child=child) | st.Restoring(child=child) | st.Ready(child=child):
            return _stop(state, child, None, now)
        case _:
            return state, ()


def _stop(state: st.State, child: st.Child, cause: Ending | None, now: float) -> Outcome:
    phase = st.Stopping(child, now + child.spec.stop_timeout_s, cause)
    return replace(state, phase=phase), (st.Terminate(child.number),)


def _kill(state: st.State, stopping: st.Stopping, now: float) -> Outcome:
    later = replace(stopping, kill_at=now + stopping.child.spec.stop_timeout_s)
    return replace(state, phase=later), (st.Kill(stopping.child.number),)


def _start(state: st.State, now: float, policy: Policy) -> Outcome:
    """Start what is to run; nothing runs now."""
    wanted = aim(state)
    if wanted is None:
        return replace(state, phase=st.Idle() if state.asleep and state.want is not None else st.Down()), ()
    child = st.Child(state.spawned + 1, wanted)
    phase = st.Starting(child, now, now + policy.first_probe_s)
    state = counts.note_start(state, now, policy)
    return replace(state, phase=phase, spawned=child.number), (st.Spawn(child),)


def _start_again(state: st.State, now: float, policy: Policy) -> Outcome:
    """Start what is to run without a person's wish, never more often than the policy allows."""
    wanted, due = aim(state), counts.next_start_at(state, now, policy)
    if wanted is not None and due > now:
        return replace(state, phase=st.Backoff(wanted, due)), ()
    return _start(state, now, policy)
