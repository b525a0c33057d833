"""Walk every state the lifecycle can reach, up to shifts in time and number.

Times are small, so that every order of deadlines occurs; two specs, so that every change of mind does.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from qwenctl.engine.address import Address
from qwenctl.launch.spec import LaunchSpec
from qwenctl.supervise import lifecycle as lc
from qwenctl.supervise import states as st
from qwenctl.supervise.exits import KILLED, MEMORY_BUSY, Ending


def spec(name: str) -> LaunchSpec:
    """A spec that differs from others by its name alone."""
    return LaunchSpec((name,), Address("127.0.0.1", 1), ready_timeout_s=2.0, stop_timeout_s=1.0)


A, B = spec("a"), spec("b")
CRASH, BAD = Ending("crashed", "crash"), Ending("bad_flag", "bad", permanent=True)
KILL, BUSY = Ending(KILLED, "kill"), Ending(MEMORY_BUSY, "busy")
OOM, WEDGE = Ending("host_out_of_memory", "oom"), Ending("wedged", "wedge")
POLICY = st.Policy(
    quick_restarts=1,
    quick_window_s=2.0,
    first_delay_s=1.0,
    max_delay_s=2.0,
    first_probe_s=1.0,
    max_probe_s=1.0,
    drain_timeout_s=1.0,
    memory_poll_s=1.0,
    memory_wait_s=2.0,
    trial_memory_wait_s=1.0,
)
LATEST = 3.0


class Step(NamedTuple):
    """One edge of the walk."""

    state: st.State
    event: st.Event
    now: float
    after: st.State
    actions: st.Actions


class Walk:
    """Iterate for every step; ``states`` counts the different states met, ``done`` says that all were."""

    def __init__(self, policy: st.Policy = POLICY) -> None:
        self.policy, self.states, self.done = policy, 0, False

    def __iter__(self) -> Iterator[Step]:
        first = st.State()
        seen, todo = {_shape(first, 0.0)}, deque([(first, 0.0)])
        while todo:
            state, before = todo.popleft()
            for now in (before, before + 1.0):
                for event in _events(state):
                    after, actions = lc.step(state, event, now, self.policy)
                    yield Step(state, event, now, after, actions)
                    shape = _shape(after, now)
                    if shape not in seen:
                        seen.add(shape)
                        todo.append((after, now))
        self.states, self.done = len(seen), True


def _events(state: st.State) -> Iterator[st.Event]:
    yield from (st.Want(None), st.Want(A), st.Want(B), st.Restart(), st.Tick(), st.Sleep(), st.Wake())
    yield st.TimeLost(1.0)
    for number in (state.spawned, state.spawned - 1):
        if number > 0:
            yield from (st.Exited(number, ending) for ending in (CRASH, BAD, KILL, BUSY, OOM))
            yield st.Listening(number)
            yield from (st.TokenAnswer(number, True), st.TokenAnswer(number, False))
            yield from (st.Faulty(number, WEDGE), st.Drained(number))


def _shape(state: st.State, now: float) -> object:
    """What is left of a state when times count from ``now`` and children from the newest."""

    def at(time: float) -> float:
        return min(max(time - now, -LATEST), LATEST)

    def spoken(child: st.Child) -> object:
        return child.spec, child.number - state.spawned

    def phase() -> object:
        match state.phase:
            case st.Starting(child, since, probe_at):
                return "starting", spoken(child), at(since), at(probe_at)
            case st.Ready(child, since):
                return "ready", spoken(child), at(since)
            case st.Draining(child, until):
                return "draining", spoken(child), at(until)
            case st.Stopping(child, kill_at, cause, since):
                return "stopping", spoken(child), at(kill_at), cause, since if since is None else at(since)
            case st.Backoff(spec, until):
                return "backoff", spec, at(until)
            case other:
                return other

    quick = tuple(at(time) for time in state.quick if now - time < LATEST)
    short = None if state.short_since is None else at(state.short_since)
    rejected = state.rejected and state.rejected.spec
    past = (min(state.spawned, 1), state.good, rejected, state.asleep, min(state.failures, 2), quick, short)
    return phase(), state.want, past


def plain(state: st.State) -> st.State:
    """The state without its counts and texts, for comparisons."""
    return replace(state, last=None, endings=())
