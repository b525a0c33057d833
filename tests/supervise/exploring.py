"""Walk every state the lifecycle can reach, up to shifts in time and number.

Times are small, so that every order of deadlines occurs; two specs, so that every change of mind does.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from qwenctl.launch.configuration import Configuration
from qwenctl.supervise import lifecycle as lc
from qwenctl.supervise import states as st
from qwenctl.supervise.exits import KILLED, MEMORY_BUSY, Ending
from qwenctl.supervise.policy import Policy
from tests.fakes.configurations import configuration

PATIENCE: dict[str, Any] = {"ready_timeout_s": 2.0, "stop_timeout_s": 1.0, "drain_timeout_s": 1.0}
A, B = configuration("a", **PATIENCE, slots=True), configuration("b", **PATIENCE)
C = configuration("c", **PATIENCE)
CRASH, BAD = Ending("crashed", "crash"), Ending("bad_flag", "bad", permanent=True)
KILL, BUSY = Ending(KILLED, "kill"), Ending(MEMORY_BUSY, "busy")
OOM, WEDGE = Ending("host_out_of_memory", "oom"), Ending("wedged", "wedge")
MANY = 1_000_000
POLICY = Policy(
    quick_restarts=1,
    quick_window_s=2.0,
    first_delay_s=1.0,
    max_delay_s=1.0,
    first_probe_s=1.0,
    max_probe_s=1.0,
    most_starts=MANY,
    slow_load_s=MANY,
    restore_timeout_s=1.0,
    memory_poll_s=1.0,
    memory_wait_s=1.0,
    trial_memory_wait_s=1.0,
)
LATEST = 2.0
HUNTED = replace(
    POLICY,
    most_starts=3,
    starts_window_s=2.0,
    slow_load_s=1.0,
    short_lives=2,
    quick_window_s=1.0,
    memory_wait_s=1.0,
)
"""Few starts allowed and every load slow: for the walk of a server that is ended again and again."""


class Step(NamedTuple):
    """One edge of the walk."""

    state: st.State
    event: st.Event
    now: float
    after: st.State
    actions: st.Actions


class Walk:
    """Iterate for every step; ``states`` and ``steps`` count them, ``done`` says that all were walked.

    ``events`` are those that can happen in a state; with fewer of them, more of the past can be followed.
    """

    def __init__(
        self,
        policy: Policy = POLICY,
        events: Callable[[st.State], Iterable[st.Event]] | None = None,
        step: Callable[[st.State, st.Event, float, Policy], lc.Outcome] = lc.step,
    ) -> None:
        self.policy, self.states, self.steps, self.done = policy, 0, 0, False
        self._events, self._step = events or every_event, step

    def __iter__(self) -> Iterator[Step]:
        first = st.State()
        seen, todo = {_shape(first, 0.0, self.policy)}, deque([(first, 0.0)])
        while todo:
            state, before = todo.popleft()
            for now in (before, before + 1.0):
                for event in self._events(state):
                    after, actions = self._step(state, event, now, self.policy)
                    self.steps += 1
                    yield Step(state, event, now, after, actions)
                    shape = _shape(after, now, self.policy)
                    if shape not in seen:
                        seen.add(shape)
                        todo.append((after, now))
        self.states, self.done = len(seen), True


def endings_only(state: st.State) -> Iterator[st.Event]:
    """One wish, and a server that gets ready or ends in whatever way."""
    if state.want is None:
        yield st.Want(B)
        return
    yield st.Tick()
    yield from (st.Exited(state.spawned, ending) for ending in (CRASH, KILL, OOM))
    yield st.TokenAnswer(state.spawned, True)
    if isinstance(state.phase, st.Backoff):  # it ran out of memory: a planner that would never end
        yield from (st.Smaller(B, C), st.Smaller(C, B))


def every_event(state: st.State) -> Iterator[st.Event]:
    yield from (st.Want(None), st.Want(A), st.Want(B), st.Restart(), st.Tick(), st.Sleep())
    yield from (st.Demand(True), st.Demand(False), st.TimeLost(1.0), st.Smaller(A, B))
    for number in (state.spawned, state.spawned - 1):
        if number > 0:
            yield from (st.Exited(number, ending) for ending in (CRASH, BAD, KILL, BUSY, OOM))
            yield st.Listening(number)
            yield from (st.TokenAnswer(number, True), st.TokenAnswer(number, False), st.Restored(number))
            yield from (st.Faulty(number, WEDGE), st.Drained(number))


def name(one: Configuration | None) -> str | None:
    """What a configuration starts."""
    return None if one is None else one.spec.argv[0]


def _shape(state: st.State, now: float, policy: Policy) -> object:  # noqa: C901 - one case a phase
    """What is left of a state when times count from ``now`` and children from the newest."""

    def at(time: float) -> float:
        return min(max(time - now, -LATEST), LATEST)

    def loaded(seconds: float) -> float:
        return min(seconds, LATEST) if policy.slow_load_s < MANY else 0.0

    def spoken(child: st.Child) -> object:
        return name(child.configuration), child.number - state.spawned

    def phase() -> object:
        match state.phase:
            case st.Starting(child, since, probe_at):
                return "starting", spoken(child), at(since), at(probe_at)
            case st.Restoring(child, since, loaded_s, until):
                return "restoring", spoken(child), at(since), loaded(loaded_s), at(until)
            case st.Ready(child, since, loaded_s):
                return "ready", spoken(child), at(since), loaded(loaded_s)
            case st.Draining(child, until):
                return "draining", spoken(child), at(until)
            case st.Stopping(child, kill_at, cause, since):
                return "stopping", spoken(child), at(kill_at), cause, since if since is None else at(since)
            case st.Backoff(waiting, until):
                return "backoff", name(waiting), at(until)
            case st.Failed(parked):
                return "failed", name(parked)
            case other:
                return other

    quick = tuple(at(time) for time in state.quick if now - time < LATEST)
    short = None if state.short_since is None else at(state.short_since)
    starts = tuple(at(time) for time in state.starts if now - time < LATEST and policy.most_starts < MANY)
    rejected = state.rejected and name(state.rejected.configuration)
    asleep = (state.asleep, state.demand)
    counts = (min(state.failures, 1), quick, starts, state.short_lives, short)
    return phase(), name(state.want), min(state.spawned, 1), name(state.good), rejected, asleep, counts


def plain(state: st.State) -> st.State:
    """The state without its counts and texts, for comparisons."""
    return replace(state, last=None, endings=())
