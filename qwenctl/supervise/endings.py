"""Decide what follows when a child ended without anybody's wish. Pure: no I/O, no clock."""

from dataclasses import dataclass, replace

from qwenctl.launch.configuration import Configuration
from qwenctl.supervise import restart_counts as counts
from qwenctl.supervise.exits import (
    BUILD_CAUSES,
    HOST_OUT_OF_MEMORY,
    KILLED,
    MEMORY_BUSY,
    OUT_OF_MEMORY,
    Ending,
)
from qwenctl.supervise.policy import Policy
from qwenctl.supervise.states import Actions, Backoff, Child, Degrade, Failed, Rejection, State

Verdict = tuple[State, bool, Actions]
"""The next state, whether a child starts again at once, and what else is to be done."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended, and when. ``ready_since``: None if it never got ready. ``loaded_s``: its load."""

    child: Child
    ending: Ending
    at: float
    ready_since: float | None
    loaded_s: float = 0.0


def ended(  # noqa: C901 - one branch a rule, in the order of the list
    state: State, how: Ended, wanted: Configuration | None, policy: Policy
) -> Verdict:
    """Return what follows. ``wanted`` is what is to run now. The first of these rules that applies:

    1. something else is to run by now: start that;
    2. a new configuration generated no token: the last good one comes back (``_given_up``);
    3. trying again cannot help: park; a build that had got ready suits this machine, whatever it says;
    4. memory ran out: plan something smaller, and wait a little in case there is no smaller plan;
    5. others hold the memory: look again soon, then plan something smaller, where that helps;
    6. it is killed soon after each long load: as 4, because a guard against low memory seems to kill it;
    7. it had been ready, or was killed from outside: start again at once, a few times within a window; kills
       of a ready child that had served for a while do not count;
    8. it is killed again and again while it starts: wait, but never longer and longer;
    9. wait, longer each time.
    """  # noqa: D415 - an ordered list follows
    child, ending, now = how.child, how.ending, how.at
    state = counts.note(state, ending)
    if how.ready_since is not None and now - how.ready_since >= policy.quick_window_s:
        state = replace(state, failures=0)
    if ending.cause != MEMORY_BUSY:
        state = replace(state, short_since=None)
    short_lives = min(state.short_lives + 1, policy.short_lives) if _was_short(how, policy) else 0
    state = replace(state, short_lives=short_lives)
    if not child.configuration.starts_like(wanted):  # 1
        return state, True, ()
    if state.good is not None and not child.configuration.starts_like(state.good):  # 2
        return _given_up(state, how, policy)
    out_of_memory = ending.cause in OUT_OF_MEMORY
    lasting = ending.permanent and (ending.cause not in BUILD_CAUSES or how.ready_since is None)
    if lasting or (out_of_memory and child.spec.on_oom == "stop"):  # 3
        return replace(state, phase=Failed(child.configuration)), False, ()
    if out_of_memory:  # 4
        return _take_smaller(state, child, ending, now, policy)
    if ending.cause == MEMORY_BUSY:  # 5
        if not ending.smaller_helps or counts.short_for(state, now) < policy.memory_wait_s:
            return _wait_for_memory(state, child, now, policy)
        return _back_off(
            replace(state, short_since=None), child, now, policy, Degrade(child.configuration, ending)
        )
    if state.short_lives >= policy.short_lives and child.spec.on_oom == "degrade":  # 6
        return _take_smaller(replace(state, short_lives=0), child, _hunted(ending, policy), now, policy)
    killed, ready = ending.cause == KILLED, how.ready_since is not None
    if killed and ready and not state.short_lives:  # 7
        return state, True, ()
    if (
        (killed or ready)
        and state.short_lives <= 1
        and (again := counts.quickly(state, now, policy)) is not None
    ):
        return again, True, ()
    if killed and not state.short_lives:  # 8
        return replace(state, phase=Backoff(child.configuration, now + policy.first_delay_s)), False, ()
    return _back_off(state, child, now, policy)  # 9


def _given_up(state: State, how: Ended, policy: Policy) -> Verdict:
    """Reject a new configuration that generated no token, and let the last good one come back.

    A kill from outside and memory that others hold are not its fault: then it is tried again a few times.
    """
    child, ending, now = how.child, how.ending, how.at
    if ending.cause == KILLED and (again := counts.quickly(state, now, policy)) is not None:
        return again, True, ()
    if ending.cause == MEMORY_BUSY and counts.short_for(state, now) < policy.trial_memory_wait_s:
        return _wait_for_memory(state, child, now, policy)
    rejected = Rejection(child.configuration, ending, now)
    return replace(counts.forget(state), rejected=rejected), True, ()


def _take_smaller(state: State, child: Child, why: Ending, now: float, policy: Policy) -> Verdict:
    """Ask for a smaller plan. The configuration that ran out of memory is no longer the last good one."""
    worse = replace(state, good=None, rejected=None, want=child.configuration)
    return _back_off(worse, child, now, policy, Degrade(child.configuration, why))


def _back_off(state: State, child: Child, now: float, policy: Policy, *actions: Degrade) -> Verdict:
    failures = state.failures + 1
    phase = Backoff(child.configuration, now + policy.delay_s(failures))
    return replace(state, phase=phase, failures=failures), False, actions


def _wait_for_memory(state: State, child: Child, now: float, policy: Policy) -> Verdict:
    since = now if state.short_since is None else state.short_since
    late = counts.short_for(state, now) >= policy.memory_wait_s
    wait_s = policy.memory_late_poll_s if late else policy.memory_poll_s
    phase = Backoff(child.configuration, now + wait_s)
    return replace(state, phase=phase, short_since=since), False, ()


def _was_short(how: Ended, policy: Policy) -> bool:
    """Return whether a child was killed from outside before it served for as long as it had loaded."""
    if how.ending.cause != KILLED or how.loaded_s < policy.slow_load_s:
        return False
    return how.ready_since is None or how.at - how.ready_since < how.loaded_s


def _hunted(ending: Ending, policy: Policy) -> Ending:
    return Ending(
        HOST_OUT_OF_MEMORY,
        f"killed from outside {policy.short_lives} times soon after it was started: memory seems to be short",
        hint="choose a smaller quant or context, or exempt llama-server from the system's memory guard",
        log_tail=ending.log_tail,
    )
