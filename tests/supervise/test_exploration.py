"""Every step that can be reached keeps the promises of the lifecycle."""

from qwenctl.supervise import lifecycle as lc
from qwenctl.supervise import states as st
from qwenctl.supervise.exits import Ending
from qwenctl.supervise.policy import Policy
from tests.supervise.exploring import HUNTED, Step, Walk, endings_only
from tests.supervise.table import EVENTS, PHASES, Cells, documented, note, table


def test_every_reachable_step_keeps_the_promises_and_is_in_the_documented_table() -> None:
    walk = Walk()
    cells = check(walk)
    assert walk.done
    assert set(cells) == {(phase, event) for phase in PHASES for event in EVENTS}
    assert documented() == table(cells), "python -m tests.supervise.table --write"


def check(walk: Walk) -> Cells:
    """Check every promise at every step; return what follows each pair of phase and event."""
    cells: Cells = {}
    for step in walk:
        note(cells, step)
        gone = _gone(step)
        _one_child_at_a_time(step, gone)
        _nothing_stale_counts(step)
        _signals_reach_only_the_living(step)
        _waits_are_kept(step)
        _rest_means_that_nothing_is_wanted(step)
        _only_a_token_makes_a_configuration_good(step)
        _a_healthy_server_is_left_alone(step)
        _something_always_comes_next(step)
        _who_waits_is_never_asleep(step)
        _starts_are_bounded(step, walk.policy)
    return cells


def test_a_server_that_ends_again_and_again_is_started_at_a_bounded_rate() -> None:
    walk = Walk(HUNTED, endings_only)
    check_hunted(walk)
    assert walk.done


def check_hunted(walk: Walk) -> None:
    """Check the promises about a server that ends again and again."""
    for step in walk:
        _one_child_at_a_time(step, _gone(step))
        _starts_are_bounded(step, walk.policy)
        _something_always_comes_next(step)


def _gone(step: Step) -> bool:
    child = lc.live(step.state)
    return isinstance(step.event, st.Exited) and child is not None and child.number == step.event.number


def _one_child_at_a_time(step: Step, gone: bool) -> None:  # noqa: FBT001 - a fact of the step
    spawns = [action for action in step.actions if isinstance(action, st.Spawn)]
    before, after = lc.live(step.state), lc.live(step.after)
    if spawns:
        assert len(spawns) == 1, step
        assert before is None or gone, step
        assert spawns[0].child == after, step
        assert spawns[0].child.configuration == lc.aim(step.after), step
        assert spawns[0].child.number == step.state.spawned + 1, step
    elif before is not None and not gone:
        assert after == before, step  # never forgotten while it may run
    else:
        assert after is None, step


def _nothing_stale_counts(step: Step) -> None:
    child = lc.live(step.state)
    match step.event:
        case (
            st.Exited(number=number)
            | st.Listening(number)
            | st.TokenAnswer(number=number)
            | st.Restored(number)
            | st.Faulty(number=number)
            | st.Drained(number)
        ):
            if child is None or child.number != number:
                assert (step.after, step.actions) == (step.state, ()), step
        case _:
            pass


def _signals_reach_only_the_living(step: Step) -> None:
    child = lc.live(step.state)
    for action in step.actions:
        match action:
            case st.Terminate(number) | st.Kill(number) | st.Drain(number):
                assert child is not None, step
                assert child.number == number, step
            case st.AskToken(asked):
                assert asked == child, step
            case st.Restore(asked):
                assert asked == lc.live(step.after), step
            case _:
                pass


def _waits_are_kept(step: Step) -> None:
    if isinstance(step.state.phase, st.Backoff) and step.now < step.state.phase.until:
        again = lc.aim(step.state) == lc.aim(step.after) and step.state.rejected == step.after.rejected
        if any(isinstance(action, st.Spawn) for action in step.actions) and again:
            assert isinstance(step.event, st.Restart), step
    if isinstance(step.state.phase, st.Failed) and isinstance(step.event, st.Tick):
        assert step.after == step.state, step


def _rest_means_that_nothing_is_wanted(step: Step) -> None:
    if isinstance(step.after.phase, st.Down):
        assert step.after.want is None, step
    if isinstance(step.after.phase, st.Idle):
        assert step.after.asleep, step
        assert step.after.want is not None, step
    if isinstance(step.after.phase, st.Ready):
        assert lc.aim(step.after) == step.after.phase.child.configuration, step


def _only_a_token_makes_a_configuration_good(step: Step) -> None:
    if step.after.good != step.state.good and step.after.good is not None:
        assert isinstance(step.event, st.TokenAnswer), step
        assert step.event.ok, step
    rejected = step.after.rejected
    if rejected is not None:
        assert step.after.good is not None, step
        assert rejected.configuration not in (step.after.good, None), step
        assert rejected.configuration == step.after.want, step
        if step.state.rejected is None:
            assert isinstance(step.event, st.Exited), step
            assert isinstance(step.state.phase, st.Starting | st.Stopping), step


def _a_healthy_server_is_left_alone(step: Step) -> None:
    if not isinstance(step.state.phase, st.Ready) or isinstance(step.after.phase, st.Ready):
        return
    match step.event:
        case st.Want(wanted) | st.Smaller(_, wanted):
            assert wanted != step.state.phase.child.configuration, step
        case st.Restart() | st.Exited() | st.Faulty() | st.Sleep():
            pass
        case _:
            raise AssertionError(step)


def _something_always_comes_next(step: Step) -> None:
    """No phase that is on its way somewhere may wait for ever."""
    on_its_way = isinstance(
        step.after.phase, st.Starting | st.Restoring | st.Draining | st.Stopping | st.Backoff
    )
    assert (lc.deadline(step.after) is not None) == on_its_way, step
    if isinstance(step.after.phase, st.Failed):
        assert isinstance(step.after.last, Ending), step


def _who_waits_is_never_asleep(step: Step) -> None:
    """A request that is held wakes the server, whenever it came."""
    assert not (step.after.demand and step.after.asleep), step
    if step.after.demand and step.after.want is not None:
        assert not isinstance(step.after.phase, st.Idle), step


ORDERS = (st.Want, st.Restart, st.Demand)


def _starts_are_bounded(step: Step, policy: Policy) -> None:
    """Whatever the cause, at most so many starts within the window happen without an order."""
    if not any(isinstance(action, st.Spawn) for action in step.actions):
        return
    assert step.after.starts[-1] == step.now, step
    follows_order = isinstance(step.event, ORDERS) or (
        isinstance(step.event, st.Exited)
        and (isinstance(step.state.phase, st.Draining) or step.state.phase == _wanted_stop(step.state))
    )
    if not follows_order:
        recent = [time for time in step.state.starts if step.now - time < policy.starts_window_s]
        assert len(recent) < policy.most_starts, step


def _wanted_stop(state: st.State) -> st.Phase | None:
    """The phase, if it is a stop that somebody wanted."""
    return state.phase if isinstance(state.phase, st.Stopping) and state.phase.cause is None else None
