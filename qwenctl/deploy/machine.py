"""Decide how a change of configuration proceeds. Pure: no I/O, no clock, no logging.

``step`` takes the state and one event; it returns the next state and the actions that lead there.

The life of a wish: it is planned, its model file is fetched, its address is opened, the supervisor puts it on
trial, and it is kept once it has generated a token. Four rules hold at every step:

1. The newest wish that can be planned wins: once it is planned, an older one ends wherever it stands. One on
   trial goes on serving until the newer one takes its place.
2. A refused wish changes nothing: neither what serves, nor where it listens, nor an older wish on its way.
3. At most one transfer runs. The next one waits until the one before has really ended.
4. An event whose number is not the one that is waited for changes nothing.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import assert_never

from qwenctl.deploy import states as st
from qwenctl.deploy.engine_blame import blames_engine, told_rejection, unsuited_engine
from qwenctl.deploy.types import Draft
from qwenctl.launch.configuration import Configuration
from qwenctl.plan.outcome import MemoryRefusal
from qwenctl.supervise import states as supervised

Outcome = tuple[st.ChangeState, st.Actions]
Overrides = Mapping[str, object] | None

WAITING_KEPT = 8
"""How many wishes may wait for the newest one to be planned. Only a program asks faster than that."""


def step(state: st.ChangeState, event: st.Event) -> Outcome:  # noqa: C901 - one case an event
    """Return the next state and the actions that take us there. Defined for every pair."""
    match event:
        case st.Closed():
            return _closed(state)
        case st.TransferEnded(number):
            return _transfer_ended(state, number)
        case _ if state.closed:
            return state, ()
        case st.Asked(origin, overrides):
            return _asked(state, origin, overrides)
        case st.Planned(number, draft):
            return _planned(state, number, draft)
        case st.Unchanged(number):
            return _unchanged(state, number)
        case st.PlanFailed(number, why):
            return _plan_failed(state, number, why)
        case st.Fetched(number, configuration):
            return _fetched(state, number, configuration)
        case st.FetchFailed(number, why) | st.OpenFailed(number, why):
            return _stage_failed(state, number, why)
        case st.Opened(number):
            return _opened(state, number)
        case st.Proved(configuration):
            return _proved(state, configuration)
        case st.Rejected():
            return _rejected(state, event)
        case st.OutOfMemory(configuration, refusal):
            return _out_of_memory(state, configuration, refusal)
        case st.RetryDue():
            return _retry(state)
        case _:
            assert_never(event)


def pending(state: st.ChangeState) -> st.Wish | None:
    """Return the newest wish that is on its way, planned or not."""
    if state.planning is not None:
        return state.planning
    match state.stage:
        case st.Fetching(wish) | st.Opening(wish):
            return wish
        case st.Rest():
            return None if state.trial is None else state.trial.wish


def _asked(state: st.ChangeState, origin: st.Origin, overrides: Overrides) -> Outcome:
    """Plan the wish. One without overrides of its own takes those of the wish on its way along."""
    before = pending(state)
    if overrides is None and before is not None:
        overrides = before.overrides
    return _plan(state, st.Wish(state.number + 1, origin, overrides))


def _plan(state: st.ChangeState, wish: st.Wish) -> Outcome:
    before, waiting = state.planning, state.waiting
    if before is not None and before.instead_of is None:
        others = (one for one in waiting if before.origin == "up" or one.origin != before.origin)
        waiting = (before, *others)[:WAITING_KEPT]  # a file is read again anyway: once is enough
    asked = replace(state, number=wish.number, origin=wish.origin, planning=wish, waiting=waiting)
    return asked, (st.PlanWish(wish),)


def _planned(state: st.ChangeState, number: int, draft: Draft) -> Outcome:
    wish = state.planning
    if wish is None or wish.number != number:
        return state, ()
    fetching = st.Fetching(wish, draft)
    state = replace(state, planning=None, waiting=(), stage=fetching)
    newer_refused = state.refused is not None and state.refused.wish.number > number
    if wish.instead_of is None and not newer_refused:
        state = replace(state, refused=None, config_error=None)
    if state.transfer is not None:
        return state, (st.CancelFetch(state.transfer),)
    return _begin_transfer(state, fetching)


def _unchanged(state: st.ChangeState, number: int) -> Outcome:
    """The file says what it said before: an older wish that was put aside for it is planned after all."""
    if state.planning is None or state.planning.number != number:
        return state, ()
    refused = state.refused
    if refused is not None and refused.wish.origin in st.FROM_FILE and not refused.rolled_back:
        refused = None  # what was wrong with the file has been put right
    return _next_waiting(replace(state, planning=None, refused=refused, config_error=None))


def _plan_failed(state: st.ChangeState, number: int, why: st.Refusal) -> Outcome:
    wish = state.planning
    if wish is None or wish.number != number:
        return state, ()
    state = replace(state, planning=None)
    if wish.instead_of is not None:
        state, actions = _next_waiting(state)
        return state, (st.StartAnyway(wish.instead_of, why), *actions)
    return _next_waiting(_refused(state, wish, why))


def _next_waiting(state: st.ChangeState) -> Outcome:
    if not state.waiting:
        return state, ()
    wish, *others = state.waiting
    return replace(state, planning=wish, waiting=tuple(others)), (st.PlanWish(wish),)


def _begin_transfer(state: st.ChangeState, fetching: st.Fetching) -> Outcome:
    return replace(state, transfer=fetching.wish.number), (st.Fetch(fetching.wish, fetching.draft),)


def _transfer_ended(state: st.ChangeState, number: int) -> Outcome:
    if state.transfer != number:
        return state, ()
    state = replace(state, transfer=None)
    match state.stage:
        case st.Fetching(wish) as fetching if wish.number != number and not state.closed:
            return _begin_transfer(state, fetching)
        case _:
            return state, ()


def _fetched(state: st.ChangeState, number: int, configuration: Configuration) -> Outcome:
    match state.stage:
        case st.Fetching(wish) if wish.number == number:
            return replace(state, stage=st.Opening(wish, configuration)), (st.Open(number, configuration),)
        case _:
            return state, ()


def _stage_failed(state: st.ChangeState, number: int, why: st.Refusal) -> Outcome:
    match state.stage:
        case st.Fetching(wish) | st.Opening(wish) if wish.number == number:
            state = replace(state, stage=st.Rest())
            if wish.instead_of is not None:
                return state, (st.StartAnyway(wish.instead_of, why),)
            return _refused(state, wish, why), ()
        case _:
            return state, ()


def _refused(state: st.ChangeState, wish: st.Wish, why: st.Refusal) -> st.ChangeState:
    """Remember a refusal. A file that cannot be served as it is counts as wrong; troubles of the hub pass."""
    error = why.message if wish.origin in st.FROM_FILE and not why.passing else state.config_error
    return replace(state, refused=st.Refused(wish, why), config_error=error)


def _opened(state: st.ChangeState, number: int) -> Outcome:
    match state.stage:
        case st.Opening(wish, configuration) if wish.number == number:
            state = replace(state, stage=st.Rest(), trial=st.OnTrial(wish, configuration))
            if wish.instead_of is not None:
                return state, (st.Replace(wish.instead_of, configuration),)
            return state, (st.Try(configuration),)
        case _:
            return state, ()


def _proved(state: st.ChangeState, configuration: Configuration) -> Outcome:
    trial = state.trial
    if trial is None or not trial.configuration.starts_like(configuration):
        return state, ()
    kept = replace(state, trial=None, kept=trial.configuration, kept_number=trial.wish.number)
    return kept, (st.Keep(trial.wish, trial.configuration),)


def _rejected(state: st.ChangeState, event: st.Rejected) -> Outcome:
    """Refuse the wish, and its engine where that is at fault. Where nothing is back, the wish goes on."""
    trial, tried = state.trial, event.configuration
    if trial is None or not trial.configuration.starts_like(tried):
        return state, ()
    after = replace(state, trial=None)
    if event.refuses_engine and event.instead is None:
        return after, (st.RefuseEngine(tried.engine, None, event.why, trial.wish.overrides),)
    refuse = (st.RefuseEngine(tried.engine, event.instead, event.why),) if event.refuses_engine else ()
    return replace(after, refused=st.Refused(trial.wish, event.why, rolled_back=True)), refuse


def _out_of_memory(state: st.ChangeState, configuration: Configuration, refusal: MemoryRefusal) -> Outcome:
    """Plan something smaller than the configuration that ran out, unless a newer wish is on its way."""
    remember = st.Remember(configuration, refusal)
    trial = state.trial
    if state.planning is not None or not isinstance(state.stage, st.Rest):
        return state, (remember,)
    if trial is not None and trial.configuration.starts_like(configuration):
        overrides = trial.wish.overrides
    elif trial is None and configuration.starts_like(state.kept):
        overrides = None
    else:
        return state, (remember,)
    state, actions = _plan(state, st.Wish(state.number + 1, "memory", overrides, configuration))
    return state, (remember, *actions)


def _retry(state: st.ChangeState) -> Outcome:
    """Ask again for what was refused, where trying later can help and nobody is told the outcome."""
    refused = state.refused
    if refused is None or pending(state) is not None or refused.rolled_back:
        return state, ()
    wish = refused.wish
    nothing_serves = state.kept is None
    if not nothing_serves and (wish.origin == "up" or not refused.why.passing):
        return state, ()
    return _plan(state, replace(wish, number=state.number + 1))


def _closed(state: st.ChangeState) -> Outcome:
    cancel = () if state.transfer is None else (st.CancelFetch(state.transfer),)
    closed = replace(state, planning=None, waiting=(), stage=st.Rest(), trial=None, closed=True)
    return closed, cancel


def verdict(state: st.ChangeState, server: supervised.State) -> st.Proved | st.Rejected | None:
    """Return what the supervisor's state says of the configuration on trial, if it says anything yet."""
    trial, rejected, good = state.trial, server.rejected, server.good
    if trial is None:
        return None
    if good is None and (unsuited := unsuited_engine(trial.configuration, server)) is not None:
        why = st.Refusal("no_server", f"cannot serve: {unsuited.summary}", unsuited.hint)
        return st.Rejected(trial.configuration, why, refuses_engine=True)
    if rejected is not None and rejected.configuration.starts_like(trial.configuration):
        instead = good.engine if good is not None and blames_engine(rejected, good) else None
        told = told_rejection(rejected.why.summary, rejected.configuration.engine, instead)
        why = st.Refusal("not_ready", f"cannot serve: {told}", rejected.why.hint)
        return st.Rejected(rejected.configuration, why, instead is not None, instead)
    if good is None or rejected is not None or not good.starts_like(trial.configuration):
        return None
    return st.Proved(good) if good.starts_like(server.want) else None
