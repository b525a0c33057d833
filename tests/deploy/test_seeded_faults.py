"""Faults seeded into the machine of a change: the walk through its states finds each of them."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from qwenctl.deploy import machine
from qwenctl.deploy import states as st
from tests.deploy.exploring import NO_HUB, UNPLANNABLE, Walk
from tests.deploy.test_exploration import check

Step = Callable[[st.ChangeState, st.Event], machine.Outcome]


def two_transfers(state: st.ChangeState, event: st.Event) -> machine.Outcome:
    """A newer wish begins its transfer without waiting for the end of the older one."""
    after, actions = machine.step(state, event)
    if isinstance(event, st.Planned) and any(isinstance(action, st.CancelFetch) for action in actions):
        stage = after.stage
        assert isinstance(stage, st.Fetching)
        return replace(after, transfer=stage.wish.number), (*actions, st.Fetch(stage.wish, stage.draft))
    return after, actions


def an_older_wish_wins(state: st.ChangeState, event: st.Event) -> machine.Outcome:
    """A plan that comes late is taken for the newest one."""
    if isinstance(event, st.Planned) and state.planning is not None:
        event = replace(event, number=state.planning.number)
    return machine.step(state, event)


def a_stale_file_is_served(state: st.ChangeState, event: st.Event) -> machine.Outcome:
    """The file of an older wish is taken for the newest one's."""
    if isinstance(event, st.Fetched) and isinstance(state.stage, st.Fetching):
        event = replace(event, number=state.stage.wish.number)
    return machine.step(state, event)


def a_refusal_stops_what_serves(state: st.ChangeState, event: st.Event) -> machine.Outcome:
    """A file that cannot be fetched leaves nothing in force."""
    after, actions = machine.step(state, event)
    if isinstance(event, st.FetchFailed):
        after = replace(after, kept=None)
    return after, actions


def nothing_is_proved(state: st.ChangeState, event: st.Event) -> machine.Outcome:
    """A configuration is kept when it is handed over, before it has generated a token."""
    after, actions = machine.step(state, event)
    if isinstance(event, st.Opened) and after.trial is not None:
        return after, (*actions, st.Keep(after.trial.wish, after.trial.configuration))
    return after, actions


def the_end_of_a_transfer_is_missed(state: st.ChangeState, event: st.Event) -> machine.Outcome:
    """A wish that waits for an older transfer waits for ever."""
    after, actions = machine.step(state, event)
    if isinstance(event, st.TransferEnded):
        return replace(after, transfer=None), ()
    return after, actions


def a_refused_wish_drops_the_one_before(state: st.ChangeState, event: st.Event) -> machine.Outcome:
    """A wish that leads nowhere takes those with it that nobody had planned yet."""
    if isinstance(event, st.PlanFailed):
        state = replace(state, waiting=())
    return machine.step(state, event)


@pytest.mark.parametrize(
    "fault",
    [
        two_transfers,
        an_older_wish_wins,
        a_stale_file_is_served,
        a_refusal_stops_what_serves,
        nothing_is_proved,
        the_end_of_a_transfer_is_missed,
        a_refused_wish_drops_the_one_before,
    ],
)
def test_the_walk_finds_a_fault_in_the_machine_of_a_change(fault: Step) -> None:
    with pytest.raises(AssertionError):
        _check_all(fault)


def _check_all(step: Step) -> None:
    check(Walk(("a", "b"), asks=3, step=step))
    check(Walk(("a", UNPLANNABLE, NO_HUB), asks=3, kills=0, step=step))
