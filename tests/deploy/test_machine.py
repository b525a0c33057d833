"""A change, one promise each, told step by step."""

from qwenctl.deploy import machine
from qwenctl.deploy import states as st
from tests.deploy.exploring import config, draft

TAKEN = st.Refusal("failed", "cannot listen on 127.0.0.1:80: address already in use")
NO_HUB = st.Refusal("fetch", "cannot reach the hub", passing=True)


def after(*events: st.Event, state: st.ChangeState | None = None) -> st.ChangeState:
    """The state after these events."""
    state = state or st.ChangeState()
    for event in events:
        state, _ = machine.step(state, event)
    return state


def serving() -> st.ChangeState:
    """Wish 1 has generated a token."""
    start = (st.Asked("start"), st.Planned(1, draft("a")), st.Fetched(1, config("a")), st.TransferEnded(1))
    return after(*start, st.Opened(1), st.Proved(config("a")))


def test_a_wish_that_has_generated_a_token_is_kept() -> None:
    state = serving()
    assert (state.kept, state.kept_number, state.trial) == (config("a"), 1, None)


def test_a_saved_file_whose_address_is_taken_is_told_as_wrong_and_changes_nothing() -> None:
    saved = (st.Asked("file"), st.Planned(2, draft("b")), st.Fetched(2, config("b")), st.TransferEnded(2))
    state = after(*saved, st.OpenFailed(2, TAKEN), state=serving())
    assert state.config_error == TAKEN.message
    assert state.kept == config("a")
    assert state.stage == st.Rest()


def test_a_hub_that_is_away_makes_no_file_wrong_and_is_asked_again() -> None:
    saved = (st.Asked("file"), st.Planned(2, draft("b")), st.FetchFailed(2, NO_HUB), st.TransferEnded(2))
    state = after(*saved, state=serving())
    assert state.config_error is None
    again, actions = machine.step(state, st.RetryDue())
    assert actions == (st.PlanWish(st.Wish(3, "file")),)
    assert again.number == 3


def test_what_a_person_was_refused_by_up_is_not_tried_behind_their_back() -> None:
    asked = (st.Asked("up", {}), st.Planned(2, draft("b")), st.FetchFailed(2, NO_HUB), st.TransferEnded(2))
    state = after(*asked, state=serving())
    assert machine.step(state, st.RetryDue()) == (state, ())


def test_a_saved_file_takes_the_flags_of_an_up_that_is_on_its_way_along() -> None:
    flags = {"server": {"port": 9000}}
    state = after(st.Asked("up", flags), st.Planned(2, draft("b")), st.Asked("file"), state=serving())
    assert state.planning == st.Wish(3, "file", flags)


def test_after_the_end_nothing_is_begun() -> None:
    state, actions = machine.step(after(st.Asked("up"), st.Planned(1, draft("a"))), st.Closed())
    assert actions == (st.CancelFetch(1),)
    assert machine.step(state, st.Asked("up")) == (state, ())
