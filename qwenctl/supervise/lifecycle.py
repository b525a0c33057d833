"""Decide what happens to the server next. Pure: no I/O, no clock, no logging.

``step`` takes the state, one event and the time; it returns the next state and the actions that lead
there. ``deadline`` says when a ``Tick`` is due. Timers are read off the state, so none can be stale.
Times are monotonic seconds. Children are numbered: an event about another number changes nothing.
"""

from dataclasses import dataclass, replace
from typing import assert_never

from qwenctl.launch.spec import LaunchSpec
from qwenctl.supervise.exits import Ending


@dataclass(frozen=True, slots=True)
class Policy:
    """How eagerly a server is brought back.

    A child that had been ready starts again at once, ``quick_restarts`` times in ``quick_window_s``.
    After that, and for one that never got ready, the delay doubles from first to max, without end.
    """

    quick_restarts: int = 5
    quick_window_s: float = 60.0
    first_delay_s: float = 1.0
    max_delay_s: float = 60.0
    first_probe_s: float = 0.02
    max_probe_s: float = 1.0

    def delay_s(self, failures: int) -> float:
        """Return the wait before the next try after that many failures in a row."""
        return min(self.first_delay_s * 2.0 ** min(failures - 1, 30), self.max_delay_s)

    def probe_s(self, waited_s: float) -> float:
        """Return the time to the next probe: soon for a quick loader, seldom for a slow one."""
        return min(max(waited_s / 10, self.first_probe_s), self.max_probe_s)


@dataclass(frozen=True, slots=True)
class Child:
    """One incarnation of the server."""

    number: int
    spec: LaunchSpec


# Phases. What is known of the past restarts travels along in State.


@dataclass(frozen=True, slots=True)
class Down:
    """Nothing runs and nothing is wanted."""


@dataclass(frozen=True, slots=True)
class Starting:
    """The child was spawned at ``since`` and has not generated a token yet."""

    child: Child
    since: float
    probe_at: float


@dataclass(frozen=True, slots=True)
class Ready:
    """The child has generated a token."""

    child: Child
    since: float


@dataclass(frozen=True, slots=True)
class Stopping:
    """The child was told to stop. SIGKILL at ``kill_at``, and again every ``stop_timeout_s`` after."""

    child: Child
    kill_at: float
    cause: Ending | None = None  # the fault this stop answers; None for a wanted stop


@dataclass(frozen=True, slots=True)
class Backoff:
    """Nothing runs; ``spec`` starts again at ``until``."""

    spec: LaunchSpec
    until: float


@dataclass(frozen=True, slots=True)
class Failed:
    """Parked: trying ``spec`` again cannot help until something changes."""

    spec: LaunchSpec


Phase = Down | Starting | Ready | Stopping | Backoff | Failed


# Events.


@dataclass(frozen=True, slots=True)
class Want:
    """Run exactly this, or (None) nothing."""

    spec: LaunchSpec | None


@dataclass(frozen=True, slots=True)
class Restart:
    """Someone asked for a fresh start."""


@dataclass(frozen=True, slots=True)
class Exited:
    """The child is gone, or never came to be."""

    number: int
    ending: Ending


@dataclass(frozen=True, slots=True)
class Probed:
    """The child did (or did not) generate a token."""

    number: int
    ok: bool


@dataclass(frozen=True, slots=True)
class Tick:
    """The deadline passed."""


Event = Want | Restart | Exited | Probed | Tick


# Actions.


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start the child."""

    child: Child


@dataclass(frozen=True, slots=True)
class Terminate:
    """Ask the child to stop."""

    number: int


@dataclass(frozen=True, slots=True)
class Kill:
    """End the child."""

    number: int


@dataclass(frozen=True, slots=True)
class Probe:
    """Ask the child for a token; the answer comes as ``Probed``."""

    child: Child


Action = Spawn | Terminate | Kill | Probe
Actions = tuple[Action, ...]


@dataclass(frozen=True, slots=True)
class State:
    """Everything the decisions depend on. ``want`` is the desired state, ``phase`` the actual one."""

    want: LaunchSpec | None = None
    phase: Phase = Down()
    spawned: int = 0  # children so far; the next one's number is one more
    failures: int = 0  # in a row, since a child stayed ready for a quick window
    quick: tuple[float, ...] = ()  # times of restarts without delay, within the last quick window
    last: Ending | None = None  # the last ending that was not our wish
    endings: tuple[tuple[str, int], ...] = ()  # how often each cause ended a child unwished


def step(state: State, event: Event, now: float, policy: Policy) -> tuple[State, Actions]:
    """Return the next state and the actions that take us there. Defined for every pair."""
    match event:
        case Want(spec):
            return _settle(_forget(replace(state, want=spec)) if spec != state.want else state, now, policy)
        case Restart():
            return _restart(_forget(state), now, policy)
        case Exited(number, ending):
            return _exited(state, number, ending, now, policy)
        case Probed(number, ok):
            return _probed(state, number, ok, now)
        case Tick():
            return _tick(state, now, policy)
        case _:
            assert_never(event)


def deadline(state: State) -> float | None:
    """Return when ``Tick`` is due, or None when only an event can move us."""
    match state.phase:
        case Starting(child, since, probe_at):
            return min(probe_at, since + child.spec.ready_timeout_s)
        case Stopping(kill_at=due) | Backoff(until=due):
            return due
        case Down() | Ready() | Failed():
            return None
        case _:
            assert_never(state.phase)


def live(state: State) -> Child | None:
    """Return the child that may be running."""
    match state.phase:
        case Starting(child=child) | Ready(child=child) | Stopping(child=child):
            return child
        case Down() | Backoff() | Failed():
            return None
        case _:
            assert_never(state.phase)


def _settle(state: State, now: float, policy: Policy) -> tuple[State, Actions]:
    """Move towards what is wanted: the one place where desired meets actual."""
    match state.phase:
        case Starting(child=child) | Ready(child=child):
            return (state, ()) if child.spec == state.want else _stop(state, child, None, now)
        case Stopping():
            return state, ()  # settled when it is gone
        case Backoff(spec=spec) | Failed(spec=spec) if spec == state.want:
            return state, ()  # waiting is the plan; saying it again changes nothing
        case Down() | Backoff() | Failed():
            return _spawn(state, now, policy)
        case _:
            assert_never(state.phase)


def _restart(state: State, now: float, policy: Policy) -> tuple[State, Actions]:
    match state.phase:
        case Starting(child=child) | Ready(child=child):
            return _stop(state, child, None, now)
        case Stopping() as stopping:
            return replace(state, phase=replace(stopping, cause=None)), ()
        case Down() | Backoff() | Failed():
            return _spawn(state, now, policy)
        case _:
            assert_never(state.phase)


def _exited(state: State, number: int, ending: Ending, now: float, policy: Policy) -> tuple[State, Actions]:
    match state.phase:
        case Starting(child=child) if child.number == number:
            return _failed(state, child, ending, now, policy)
        case Ready(child=child, since=since) if child.number == number:
            stable = now - since >= policy.quick_window_s
            state = replace(state, failures=0) if stable else state
            recent = tuple(time for time in state.quick if now - time < policy.quick_window_s)
            if child.spec == state.want and not ending.permanent and len(recent) < policy.quick_restarts:
                return _spawn(_note(replace(state, quick=(*recent, now)), ending), now, policy)
            return _failed(state, child, ending, now, policy)
        case Stopping(child=child, cause=cause) if child.number == number:
            if cause is not None:
                return _failed(state, child, cause, now, policy)
            return _spawn(state, now, policy)
        case _:
            return state, ()


def _probed(state: State, number: int, ok: bool, now: float) -> tuple[State, Actions]:  # noqa: FBT001 - an answer
    match state.phase:
        case Starting(child=child) if child.number == number and ok:
            return replace(state, phase=Ready(child, now)), ()
        case _:
            return state, ()


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
        case Starting(child=child, since=since) as starting:
            later = replace(starting, probe_at=now + policy.probe_s(now - since))
            return replace(state, phase=later), (Probe(child),)
        case Stopping(child=child) as stopping:
            later_kill = replace(stopping, kill_at=now + child.spec.stop_timeout_s)
            return replace(state, phase=later_kill), (Kill(child.number),)
        case _:
            return state, ()


def _spawn(state: State, now: float, policy: Policy) -> tuple[State, Actions]:
    """Start what is wanted; nothing runs now."""
    if state.want is None:
        return replace(state, phase=Down()), ()
    child = Child(state.spawned + 1, state.want)
    phase = Starting(child, now, now + policy.first_probe_s)
    return replace(state, phase=phase, spawned=child.number), (Spawn(child),)


def _stop(state: State, child: Child, cause: Ending | None, now: float) -> tuple[State, Actions]:
    phase = Stopping(child, now + child.spec.stop_timeout_s, cause)
    return replace(state, phase=phase), (Terminate(child.number),)


def _failed(state: State, child: Child, ending: Ending, now: float, policy: Policy) -> tuple[State, Actions]:
    """The child is gone and it was not our wish: try again later, park, or move on to a newer wish."""
    state = _note(state, ending)
    if child.spec != state.want:
        return _spawn(state, now, policy)
    if ending.permanent:
        return replace(state, phase=Failed(child.spec)), ()
    failures = state.failures + 1
    phase = Backoff(child.spec, now + policy.delay_s(failures))
    return replace(state, phase=phase, failures=failures), ()


def _note(state: State, ending: Ending) -> State:
    counts = dict(state.endings)
    counts[ending.cause] = counts.get(ending.cause, 0) + 1
    return replace(state, last=ending, endings=tuple(sorted(counts.items())))


def _forget(state: State) -> State:
    """A new wish is not punished for the failures of an old one."""
    return replace(state, failures=0, quick=())
