"""Decide what happens to the server next. Pure: no I/O, no clock, no logging.

``step`` takes the state, one event and the time; it returns the next state and the actions that lead
there. ``deadline`` says when a ``Tick`` is due. Timers are read off the state, so none can be stale.
"""

from dataclasses import replace
from typing import assert_never

from qwenctl.launch.spec import LaunchSpec
from qwenctl.supervise import restart_counts
from qwenctl.supervise.exits import KILLED, MEMORY_BUSY, OUT_OF_MEMORY, Ending
from qwenctl.supervise.states import (
    Actions,
    AskToken,
    Backoff,
    Child,
    Degrade,
    Down,
    Drain,
    Drained,
    Draining,
    Event,
    Exited,
    Failed,
    Faulty,
    Idle,
    Kill,
    Listening,
    Policy,
    Ready,
    Rejection,
    Restart,
    Sleep,
    Spawn,
    Starting,
    State,
    Stopping,
    Terminate,
    Tick,
    TimeLost,
    TokenAnswer,
    Wake,
    Want,
)


def step(state: State, event: Event, now: float, policy: Policy) -> tuple[State, Actions]:  # noqa: C901 - one case an event
    """Return the next state and the actions that take us there. Defined for every pair."""
    match event:
        case Want(spec):
            return _settle(_wish(state, spec), now, policy)
        case Restart():
            return _restart(replace(restart_counts.forget(state), asleep=False), now, policy)
        case Exited(number, ending):
            return _exited(state, number, ending, now, policy)
        case Listening(number):
            return _opened(state, number, now, policy)
        case TokenAnswer(number, ok):
            return _probed(state, number, ok, now)
        case Faulty(number, ending):
            return _faulty(state, number, ending, now)
        case Drained(number):
            return _drained(state, number, now)
        case Sleep():
            asleep = isinstance(state.phase, Ready) or state.asleep
            return _settle(replace(state, asleep=asleep), now, policy)
        case Wake():
            return _settle(replace(state, asleep=False), now, policy)
        case TimeLost(seconds):
            return _later(state, seconds), ()
        case Tick():
            return _tick(state, now, policy)
        case _:
            assert_never(event)


def aim(state: State) -> LaunchSpec | None:
    """Return what is to run now: what is wanted, or the last good one where that generated no token."""
    if state.asleep:
        return None
    if state.rejected is not None and state.rejected.spec == state.want:
        return state.good
    return state.want


def deadline(state: State) -> float | None:
    """Return when ``Tick`` is due, or None when only an event can move us."""
    match state.phase:
        case Starting(child, since, probe_at):
            return min(probe_at, since + child.spec.ready_timeout_s)
        case Draining(until=due) | Stopping(kill_at=due) | Backoff(until=due):
            return due
        case Down() | Idle() | Ready() | Failed():
            return None
        case _:
            assert_never(state.phase)


def live(state: State) -> Child | None:
    """Return the child that may be running."""
    match state.phase:
        case Starting(child=child) | Ready(child=child) | Draining(child=child) | Stopping(child=child):
            return child
        case Down() | Idle() | Backoff() | Failed():
            return None
        case _:
            assert_never(state.phase)


def _wish(state: State, spec: LaunchSpec | None) -> State:
    """Take a new wish. An equal one brings its timeouts along and changes nothing else."""
    if spec != state.want or state.rejected is not None:
        state = replace(restart_counts.forget(state), asleep=False, rejected=None)
    match state.phase:
        case (
            Starting(child=child)
            | Ready(child=child)
            | Draining(child=child)
            | Stopping(child=child) as phase
        ):
            if spec is not None and child.spec == spec:
                state = replace(state, phase=replace(phase, child=replace(child, spec=spec)))
        case _:
            pass
    return replace(state, want=spec)


def _settle(state: State, now: float, policy: Policy) -> tuple[State, Actions]:
    """Move towards what is to run: the one place where desired meets actual."""
    spec = aim(state)
    match state.phase:
        case Starting(child=child) | Ready(child=child):
            return (state, ()) if child.spec == spec else _leave(state, now, policy)
        case Draining() | Stopping():
            return state, ()  # settled when it is gone
        case Backoff(spec=waiting) | Failed(spec=waiting) if waiting == spec:
            return state, ()  # waiting is the plan; saying it again changes nothing
        case Down() | Idle() | Backoff() | Failed():
            return _spawn(state, now, policy)
        case _:
            assert_never(state.phase)


def _restart(state: State, now: float, policy: Policy) -> tuple[State, Actions]:
    match state.phase:
        case Starting() | Ready():
            return _leave(state, now, policy)
        case Draining():
            return state, ()
        case Stopping() as stopping:
            return replace(state, phase=replace(stopping, cause=None)), ()
        case Down() | Idle() | Backoff() | Failed():
            return _spawn(state, now, policy)
        case _:
            assert_never(state.phase)


def _exited(state: State, number: int, ending: Ending, now: float, policy: Policy) -> tuple[State, Actions]:
    child = live(state)
    if child is None or child.number != number:
        return state, ()
    match state.phase:
        case Ready(since=since):
            return _ended(state, child, ending, now, policy, since)
        case Draining():
            return _spawn(restart_counts.note(state, ending), now, policy)
        case Stopping(cause=None):
            return _spawn(state, now, policy)
        case Stopping(cause=Ending() as cause, ready_since=since):
            return _ended(state, child, cause, now, policy, since)
        case _:
            return _ended(state, child, ending, now, policy, None)


def _opened(state: State, number: int, now: float, policy: Policy) -> tuple[State, Actions]:
    match state.phase:
        case Starting(child=child) if child.number == number:
            return _probe(state, state.phase, now, policy)
        case _:
            return state, ()


def _probe(state: State, starting: Starting, now: float, policy: Policy) -> tuple[State, Actions]:
    later = replace(starting, probe_at=now + policy.probe_s(now - starting.since))
    return replace(state, phase=later), (AskToken(starting.child),)


def _probed(state: State, number: int, ok: bool, now: float) -> tuple[State, Actions]:  # noqa: FBT001 - an answer
    match state.phase:
        case Starting(child=child) if child.number == number and ok:
            return replace(state, phase=Ready(child, now), good=child.spec, short_since=None), ()
        case _:
            return state, ()


def _faulty(state: State, number: int, ending: Ending, now: float) -> tuple[State, Actions]:
    """End it at once: it would not hear a request to stop."""
    match state.phase:
        case Ready(child=child, since=since) if child.number == number:
            return _kill(state, Stopping(child, 0, ending, since), now)
        case Starting(child=child) if child.number == number:
            return _kill(state, Stopping(child, 0, ending), now)
        case Draining(child=child) if child.number == number:
            return _kill(restart_counts.note(state, ending), Stopping(child, 0), now)
        case _:
            return state, ()


def _drained(state: State, number: int, now: float) -> tuple[State, Actions]:
    match state.phase:
        case Draining(child=child) if child.number == number:
            return _stop(state, child, None, now)
        case _:
            return state, ()


def _later(state: State, seconds: float) -> State:
    """Give back the time that a child was not given. A wait for the next try needs none."""
    match state.phase:
        case Starting(child, since, probe_at):
            return replace(state, phase=Starting(child, since + seconds, probe_at + seconds))
        case Draining(child, until):
            return replace(state, phase=Draining(child, until + seconds))
        case Stopping() as stopping:
            return replace(state, phase=replace(stopping, kill_at=stopping.kill_at + seconds))
        case _:
            return state


def _tick(state: State, now: float, policy: Policy) -> tuple[State, Actions]:
    due = deadline(state)
    if due is None or now < due:
        return state, ()
    match state.phase:
        case Backoff():
            return _spawn(state, now, policy)
        case Starting(child=child, since=since) if now >= since + child.spec.ready_timeout_s:
            seconds = f"{child.spec.ready_timeout_s:g}"
            return _stop(state, child, Ending("not_ready", f"generated no token within {seconds} s"), now)
        case Starting() as starting:
            return _probe(state, starting, now, policy)
        case Draining(child=child):
            return _stop(state, child, None, now)
        case Stopping() as stopping:
            return _kill(state, stopping, now)
        case _:
            return state, ()


def _leave(state: State, now: float, policy: Policy) -> tuple[State, Actions]:
    """Stop a child on purpose: one that answers may finish first."""
    match state.phase:
        case Ready(child=child) if policy.drain_timeout_s > 0:
            phase = Draining(child, now + policy.drain_timeout_s)
            return replace(state, phase=phase), (Drain(child.number),)
        case Starting(child=child) | Ready(child=child):
            return _stop(state, child, None, now)
        case _:
            return state, ()


def _stop(state: State, child: Child, cause: Ending | None, now: float) -> tuple[State, Actions]:
    phase = Stopping(child, now + child.spec.stop_timeout_s, cause)
    return replace(state, phase=phase), (Terminate(child.number),)


def _kill(state: State, stopping: Stopping, now: float) -> tuple[State, Actions]:
    later = replace(stopping, kill_at=now + stopping.child.spec.stop_timeout_s)
    return replace(state, phase=later), (Kill(stopping.child.number),)


def _spawn(state: State, now: float, policy: Policy) -> tuple[State, Actions]:
    """Start what is to run; nothing runs now."""
    spec = aim(state)
    if spec is None:
        return replace(state, phase=Idle() if state.asleep and state.want is not None else Down()), ()
    child = Child(state.spawned + 1, spec)
    phase = Starting(child, now, now + policy.first_probe_s)
    return replace(state, phase=phase, spawned=child.number), (Spawn(child),)


def _ended(  # noqa: C901 - one branch a rule, in the order of the list
    state: State, child: Child, ending: Ending, now: float, policy: Policy, ready_since: float | None
) -> tuple[State, Actions]:
    """The child is gone and it was not our wish. The first of these that applies:

    1. something else is to run by now: start that;
    2. a new configuration generated no token: the last good one comes back (``_given_up``);
    3. trying again cannot help: park;
    4. memory ran out: plan something smaller, and wait a little in case there is nothing;
    5. others hold the memory: look again soon, then plan something smaller;
    6. it had been ready, or was killed from outside: start again at once, a few times within a window; kills
       of a ready child do not count;
    7. it is killed again and again while it starts: wait, but never longer and longer;
    8. wait, longer each time.
    """  # noqa: D415 - an ordered list follows
    state = restart_counts.note(state, ending)
    if ready_since is not None and now - ready_since >= policy.quick_window_s:
        state = replace(state, failures=0)
    if ending.cause != MEMORY_BUSY:
        state = replace(state, short_since=None)
    if child.spec != aim(state):  # 1
        return _spawn(state, now, policy)
    if state.good is not None and child.spec != state.good:  # 2
        return _given_up(state, child, ending, now, policy)
    out_of_memory = ending.cause in OUT_OF_MEMORY
    if ending.permanent or (out_of_memory and policy.on_oom == "stop"):  # 3
        return replace(state, phase=Failed(child.spec)), ()
    if out_of_memory:  # 4
        worse = state if state.rejected else replace(state, good=None)  # no better than a new one by now
        return _back_off(worse, child.spec, now, policy, Degrade(child.spec, ending))
    if ending.cause == MEMORY_BUSY:  # 5
        if restart_counts.short_for(state, now) < policy.memory_wait_s:
            return _wait_for_memory(state, child.spec, now, policy)
        worse = replace(state, short_since=None)
        return _back_off(worse, child.spec, now, policy, Degrade(child.spec, ending))
    killed = ending.cause == KILLED
    if killed and ready_since is not None:  # 6
        return _spawn(state, now, policy)
    if (killed or ready_since is not None) and (
        again := restart_counts.quickly(state, now, policy)
    ) is not None:
        return _spawn(again, now, policy)
    if killed:  # 7
        return replace(state, phase=Backoff(child.spec, now + policy.first_delay_s)), ()
    return _back_off(state, child.spec, now, policy)  # 8


def _given_up(
    state: State, child: Child, ending: Ending, now: float, policy: Policy
) -> tuple[State, Actions]:
    """A new configuration generated no token. Only what is no fault of its own is forgiven, a few times."""
    if ending.cause == KILLED and (again := restart_counts.quickly(state, now, policy)) is not None:
        return _spawn(again, now, policy)
    if ending.cause == MEMORY_BUSY and restart_counts.short_for(state, now) < policy.trial_memory_wait_s:
        return _wait_for_memory(state, child.spec, now, policy)
    return _spawn(
        replace(restart_counts.forget(state), rejected=Rejection(child.spec, ending, now)), now, policy
    )


def _back_off(
    state: State, spec: LaunchSpec, now: float, policy: Policy, *actions: Degrade
) -> tuple[State, Actions]:
    failures = state.failures + 1
    return replace(state, phase=Backoff(spec, now + policy.delay_s(failures)), failures=failures), actions


def _wait_for_memory(state: State, spec: LaunchSpec, now: float, policy: Policy) -> tuple[State, Actions]:
    since = now if state.short_since is None else state.short_since
    return replace(state, phase=Backoff(spec, now + policy.memory_poll_s), short_since=since), ()
