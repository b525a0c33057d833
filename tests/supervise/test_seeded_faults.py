"""Faults seeded into the lifecycle: the walk through its states finds each of them."""

from dataclasses import replace

import pytest

from qwenctl.supervise import lifecycle as lc
from qwenctl.supervise import states as st
from qwenctl.supervise.policy import Policy
from tests.supervise.exploring import HUNTED, MANY, Walk, endings_only
from tests.supervise.test_exploration import check, check_hunted


def demand_is_an_edge(state: st.State, event: st.Event, now: float, policy: Policy) -> lc.Outcome:
    """A request wakes the server only if it is idle when the request comes: the lost wake-up."""
    if isinstance(event, st.Demand) and not isinstance(state.phase, st.Idle):
        return replace(state, demand=event.held), ()
    return lc.step(state, event, now, policy)


def starts_are_free(state: st.State, event: st.Event, now: float, policy: Policy) -> lc.Outcome:
    """Nothing bounds the starts: a planner that never ends degrades for ever, without a delay."""
    return lc.step(state, event, now, replace(policy, most_starts=MANY, first_delay_s=0.0, max_delay_s=0.0))


def a_stale_end_counts(state: st.State, event: st.Event, now: float, policy: Policy) -> lc.Outcome:
    """The end of an earlier child is taken for the end of this one."""
    child = lc.live(state)
    if isinstance(event, st.Exited) and child is not None:
        event = st.Exited(child.number, event.ending)
    return lc.step(state, event, now, policy)


def a_timer_is_forgotten(state: st.State, event: st.Event, now: float, policy: Policy) -> lc.Outcome:
    """A wait before the next try has no end."""
    after, actions = lc.step(state, event, now, policy)
    if isinstance(after.phase, st.Backoff):
        after = replace(after, phase=st.Idle())
    return after, actions


def a_load_is_proof_enough(state: st.State, event: st.Event, now: float, policy: Policy) -> lc.Outcome:
    """A configuration counts as good as soon as it listens, before it has generated a token."""
    after, actions = lc.step(state, event, now, policy)
    if isinstance(event, st.Listening) and (child := lc.live(after)) is not None:
        after = replace(after, good=child.configuration)
    return after, actions


@pytest.mark.parametrize(
    "fault", [demand_is_an_edge, a_stale_end_counts, a_timer_is_forgotten, a_load_is_proof_enough]
)
def test_the_walk_finds_a_fault_in_the_lifecycle(fault: object) -> None:
    assert callable(fault)
    with pytest.raises(AssertionError):
        check(Walk(step=fault))


def test_the_walk_finds_that_nothing_bounds_the_starts() -> None:
    with pytest.raises(AssertionError):
        check_hunted(Walk(HUNTED, endings_only, starts_are_free))
