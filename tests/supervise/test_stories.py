"""One promise each, told with explicit times (seconds)."""

from collections.abc import Iterable
from dataclasses import replace

import pytest

from qwenctl.supervise import lifecycle as lc
from qwenctl.supervise import states as st
from qwenctl.supervise.exits import Ending
from qwenctl.supervise.policy import Policy
from tests.fakes.configurations import configuration, with_patience

GOOD, NEW = configuration("good"), configuration("new")
SAVING = configuration("saving", slots=True)
CRASH = Ending("crashed", "crashed (SIGSEGV)")
BAD = Ending("bad_flag", "it does not know a flag: --x", permanent=True)
KILL = Ending("killed", "killed from outside (SIGKILL)")
OOM = Ending("device_out_of_memory", "device memory ran out")
BUSY = Ending("memory_busy", "others hold the memory")
WEDGE = Ending("wedged", "no progress for 120 s")
POLICY = Policy()
Story = Iterable[tuple[float, st.Event]]


def tell(
    story: Story, state: st.State | None = None, policy: Policy = POLICY
) -> tuple[st.State, list[st.Action]]:
    state = state or st.State()
    done: list[st.Action] = []
    for now, event in story:
        state, actions = lc.step(state, event, now, policy)
        done += actions
    return state, done


def serving(policy: Policy = POLICY) -> st.State:
    """``GOOD`` is ready since second 1, as child 1."""
    return tell([(0, st.Want(GOOD)), (1, st.TokenAnswer(1, True))], policy=policy)[0]


def test_a_server_is_ready_when_it_has_generated_a_token() -> None:
    state, done = tell([(0, st.Want(GOOD)), (0.02, st.Tick()), (0.1, st.TokenAnswer(1, True))])
    assert state.phase == st.Ready(st.Child(1, GOOD), 0.1, loaded_s=0.1)
    assert done == [st.Spawn(st.Child(1, GOOD)), st.AskToken(st.Child(1, GOOD))]


def test_a_server_that_says_that_it_listens_is_asked_for_its_token_at_once() -> None:
    state, done = tell([(0, st.Want(GOOD)), (40, st.Tick()), (40.1, st.Listening(1))])
    assert done[1:] == [st.AskToken(st.Child(1, GOOD))] * 2
    assert isinstance(state.phase, st.Starting)


def test_a_load_may_be_silent_as_long_as_the_ready_timeout() -> None:
    state, _ = tell([(0, st.Want(GOOD)), (100, st.TokenAnswer(1, False)), (599, st.Tick())])
    assert isinstance(state.phase, st.Starting)
    state, done = tell([(600, st.Tick()), (601, st.Exited(1, KILL))], state)
    assert done == [st.Terminate(1)]
    assert state.phase == st.Backoff(GOOD, 602)
    assert state.last == Ending("not_ready", "generated no token within 600 s")


def test_a_server_that_crashes_after_it_was_ready_starts_again_at_once() -> None:
    state, done = tell([(50, st.Exited(1, CRASH))], serving())
    assert done == [st.Spawn(st.Child(2, GOOD))]
    assert state.endings == (("crashed", 1),)


def test_the_sixth_crash_within_a_minute_waits_and_then_waits_longer() -> None:
    state, waits = serving(), []
    for number in range(1, 9):
        now = float(number)
        state, done = tell([(now, st.Exited(number, CRASH))], state)
        if isinstance(state.phase, st.Backoff):
            waits.append(state.phase.until - now)
            state, done = tell([(state.phase.until, st.Tick())], state)
        assert done == [st.Spawn(st.Child(number + 1, GOOD))]
        state, _ = tell([(now, st.TokenAnswer(number + 1, True))], state)
    assert waits == [1, 2, 4]


def test_after_a_minute_of_service_earlier_failures_are_forgotten() -> None:
    state = replace(serving(), failures=7)
    state, _ = tell([(61, st.Exited(1, CRASH))], state)
    assert state.failures == 0


def test_a_server_that_never_gets_ready_is_tried_for_ever_a_minute_apart() -> None:
    state, now = tell([(0, st.Want(GOOD))])[0], 0.0
    waits = []
    for number in range(1, 12):
        state, _ = tell([(now, st.Exited(number, CRASH))], state)
        assert isinstance(state.phase, st.Backoff)
        waits.append(state.phase.until - now)
        now = state.phase.until
        state, _ = tell([(now, st.Tick())], state)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60]


def test_a_build_for_another_processor_parks_unless_it_had_served() -> None:
    """One that was ready suits this machine: what it could not do then is a crash like any other."""
    sigill = Ending("wrong_processor", "it was built for another processor (SIGILL)", permanent=True)
    state, _ = tell([(0, st.Want(GOOD)), (1, st.Exited(1, sigill))])
    assert isinstance(state.phase, st.Failed)
    state, done = tell([(50, st.Exited(1, sigill))], serving())
    assert done == [st.Spawn(st.Child(2, GOOD))]


def test_a_permanent_fault_parks_at_once_until_someone_asks() -> None:
    state, done = tell([(0, st.Want(GOOD)), (1, st.Exited(1, BAD)), (9999, st.Tick()), (9999, st.Want(GOOD))])
    assert state.phase == st.Failed(GOOD)
    assert done == [st.Spawn(st.Child(1, GOOD))]
    state, done = tell([(10000, st.Restart())], state)
    assert done == [st.Spawn(st.Child(2, GOOD))]


def test_kills_from_outside_are_counted_but_never_back_off() -> None:
    state = serving()
    for number in range(1, 50):
        state, done = tell([(2, st.Exited(number, KILL)), (2, st.TokenAnswer(number + 1, True))], state)
        assert done == [st.Spawn(st.Child(number + 1, GOOD))]
    assert dict(state.endings) == {"killed": 49}
    assert state.failures == 0


def test_kills_of_a_starting_child_never_make_the_wait_longer() -> None:
    state = tell([(0, st.Want(GOOD))])[0]
    waits = set()
    for number in range(1, 20):
        state, _ = tell([(1, st.Exited(number, KILL))], state)
        if isinstance(state.phase, st.Backoff):
            waits.add(state.phase.until - 1)
            state, _ = tell([(state.phase.until, st.Tick())], state)
    assert waits == {1.0}


def test_a_new_configuration_that_dies_before_its_token_brings_the_last_good_one_back() -> None:
    state, done = tell(
        [
            (10, st.Want(NEW)),
            (11, st.Exited(1, KILL)),
            (12, st.Exited(2, CRASH)),
            (13, st.TokenAnswer(3, True)),
        ],
        serving(),
    )
    assert done == [st.Terminate(1), st.Spawn(st.Child(2, NEW)), st.Spawn(st.Child(3, GOOD))]
    assert state.phase == st.Ready(st.Child(3, GOOD), 13, loaded_s=1)
    assert state.rejected == st.Rejection(NEW, CRASH, 12)
    assert state.want == NEW


@pytest.mark.parametrize("ending", [CRASH, BAD, OOM], ids=lambda ending: ending.cause)
def test_every_kind_of_failure_rolls_back(ending: Ending) -> None:
    state, done = tell([(10, st.Want(NEW)), (11, st.Exited(1, KILL)), (12, st.Exited(2, ending))], serving())
    assert done[-1] == st.Spawn(st.Child(3, GOOD))
    assert lc.aim(state) == GOOD


def test_a_new_configuration_that_generates_nothing_in_time_rolls_back() -> None:
    story: Story = [
        (10, st.Want(NEW)),
        (11, st.Exited(1, KILL)),
        (611, st.Tick()),
        (631, st.Tick()),
        (632, st.Exited(2, KILL)),
    ]
    state, done = tell(story, serving())
    assert done == [
        st.Terminate(1),
        st.Spawn(st.Child(2, NEW)),
        st.Terminate(2),
        st.Kill(2),
        st.Spawn(st.Child(3, GOOD)),
    ]
    assert state.rejected is not None
    assert state.rejected.why.cause == "not_ready"


def test_a_rejected_configuration_stays_rejected_through_crashes_of_the_good_one() -> None:
    state, _ = tell([(10, st.Want(NEW)), (11, st.Exited(1, KILL)), (12, st.Exited(2, BAD))], serving())
    state, done = tell([(13, st.TokenAnswer(3, True)), (14, st.Exited(3, CRASH)), (15, st.Restart())], state)
    assert done == [st.Spawn(st.Child(4, GOOD)), st.Terminate(4)]


def test_a_rejected_configuration_is_tried_again_when_it_is_asked_for_again() -> None:
    state, _ = tell([(10, st.Want(NEW)), (11, st.Exited(1, KILL)), (12, st.Exited(2, BAD))], serving())
    state, done = tell([(13, st.TokenAnswer(3, True)), (20, st.Want(NEW)), (21, st.Exited(3, KILL))], state)
    assert done == [st.Terminate(3), st.Spawn(st.Child(4, NEW))]
    assert state.rejected is None


def test_a_kill_from_outside_does_not_count_against_a_new_configuration() -> None:
    state, done = tell([(10, st.Want(NEW)), (11, st.Exited(1, KILL)), (12, st.Exited(2, KILL))], serving())
    assert done[-1] == st.Spawn(st.Child(3, NEW))
    state, _ = tell([(13, st.TokenAnswer(3, True))], state)
    assert state.good == NEW


def test_a_configuration_with_no_good_one_before_it_is_simply_tried_again() -> None:
    state, _ = tell([(0, st.Want(NEW)), (1, st.Exited(1, CRASH))])
    assert state.phase == st.Backoff(NEW, 2)
    assert state.rejected is None


def test_equal_wishes_change_nothing_but_the_timeouts() -> None:
    state, done = tell([(5, st.Want(with_patience(GOOD, stop_timeout_s=3)))], serving())
    assert done == []
    assert state.good is not None
    assert state.good.spec.stop_timeout_s == 3
    _, done = tell([(6, st.Restart()), (9, st.Tick())], state)
    assert done == [st.Terminate(1), st.Kill(1)]


def test_answers_in_flight_are_given_time_before_a_wanted_stop() -> None:
    patient = tell([(2, st.Want(with_patience(GOOD, drain_timeout_s=30)))], serving())[0]
    state, done = tell([(10, st.Restart()), (15, st.Drained(1))], patient)
    assert done == [st.Drain(1), st.Terminate(1)]
    state, done = tell([(10, st.Restart()), (40, st.Tick())], patient)
    assert done == [st.Drain(1), st.Terminate(1)]
    assert isinstance(state.phase, st.Stopping)


def test_a_wedged_server_is_killed_and_started_again_at_once() -> None:
    state, done = tell([(10, st.Faulty(1, WEDGE)), (10.1, st.Exited(1, KILL))], serving())
    assert done == [st.Kill(1), st.Spawn(st.Child(2, GOOD))]
    assert state.last == WEDGE


def test_a_child_that_ignores_everything_is_killed_again_and_again() -> None:
    _, done = tell([(10, st.Restart()), (30, st.Tick()), (50, st.Tick())], serving())
    assert done == [st.Terminate(1), st.Kill(1), st.Kill(1)]


def test_out_of_memory_asks_for_a_smaller_plan_and_waits_in_case_there_is_none() -> None:
    state, done = tell([(0, st.Want(GOOD)), (1, st.Exited(1, OOM))])
    assert done[-1] == st.Degrade(GOOD, OOM)
    assert state.phase == st.Backoff(GOOD, 2)
    _, done = tell([(1.2, st.Want(NEW))], state)
    assert done == [st.Spawn(st.Child(2, NEW))]


def test_a_configuration_that_ran_out_of_memory_is_good_no_longer() -> None:
    state, _ = tell([(100, st.Exited(1, OOM)), (100.2, st.Want(NEW)), (101, st.Exited(2, CRASH))], serving())
    assert state.rejected is None
    assert state.phase == st.Backoff(NEW, 102)


def test_out_of_memory_can_be_told_to_stop() -> None:
    stopping = with_patience(GOOD, on_oom="stop")
    state, done = tell([(0, st.Want(stopping)), (1, st.Exited(1, OOM))])
    assert state.phase == st.Failed(stopping)
    assert len(done) == 1


def test_after_a_rollback_the_rules_of_the_last_good_configuration_hold() -> None:
    stopping = with_patience(NEW, on_oom="stop")
    rolled_back: list[tuple[float, st.Event]] = [
        (10, st.Want(stopping)),
        (11, st.Exited(1, KILL)),
        (12, st.Exited(2, CRASH)),
    ]
    state, done = tell([*rolled_back, (13, st.TokenAnswer(3, True)), (90, st.Exited(3, OOM))], serving())
    assert done[-1] == st.Degrade(GOOD, OOM)
    assert isinstance(state.phase, st.Backoff)


def test_a_smaller_plan_replaces_what_ran_out_of_memory_and_counts_as_no_wish() -> None:
    state, done = tell([(10, st.Exited(1, OOM))], serving())
    assert done == [st.Degrade(GOOD, OOM)]
    state, done = tell([(10.2, st.Smaller(GOOD, NEW))], state)
    assert done == [st.Spawn(st.Child(2, NEW))]
    assert state.failures == 1, "a smaller plan does not forget that the one before failed"
    state, done = tell([(11, st.Smaller(GOOD, GOOD))], state)
    assert done == [], "an answer about what no longer runs changes nothing"


def test_smaller_and_smaller_plans_are_started_at_a_bounded_rate() -> None:
    """Whatever a planner says: never more starts within the window than the policy allows."""
    state, now = tell([(0, st.Want(GOOD))])[0], 0.0
    one, other = GOOD, NEW
    starts = []
    while now < 120:
        state, done = tell([(now, st.Exited(state.spawned, OOM)), (now, st.Smaller(one, other))], state)
        one, other = other, one
        starts += [now for action in done if isinstance(action, st.Spawn)]
        if isinstance(state.phase, st.Backoff):
            now = state.phase.until
            state, done = tell([(now, st.Tick())], state)
            starts += [now for action in done if isinstance(action, st.Spawn)]
        now += 0.1
    assert starts, "it goes on trying"
    assert max(sum(at <= time < at + 60 for time in starts) for at in starts) <= POLICY.most_starts


def test_a_server_that_is_killed_soon_after_each_long_load_waits_and_then_becomes_smaller() -> None:
    """As the guards of a machine that is short of memory do: they move no counter of the kernel's."""
    state, now = tell([(0, st.Want(GOOD))])[0], 0.0
    waits, asked = [], []
    for _ in range(3):
        now += 20
        state, _ = tell([(now, st.TokenAnswer(state.spawned, True))], state)
        now += 1
        state, done = tell([(now, st.Exited(state.spawned, KILL))], state)
        asked += [action.why.cause for action in done if isinstance(action, st.Degrade)]
        if isinstance(state.phase, st.Backoff):
            waits.append(state.phase.until - now)
            now = state.phase.until
            state, _ = tell([(now, st.Tick())], state)
    assert len(waits) == 2
    assert asked == ["host_out_of_memory"]


def test_a_server_that_served_longer_than_it_loaded_is_back_at_once_when_it_is_killed() -> None:
    state, now = tell([(0, st.Want(GOOD))])[0], 0.0
    for number in range(1, 20):
        state, _ = tell([(now + 20, st.TokenAnswer(number, True))], state)
        now += 50
        state, done = tell([(now, st.Exited(number, KILL))], state)
        assert done == [st.Spawn(st.Child(number + 1, GOOD))]


def test_saved_slots_come_back_before_requests_flow() -> None:
    state, done = tell([(0, st.Want(SAVING)), (1, st.TokenAnswer(1, True))])
    assert done[-1] == st.Restore(st.Child(1, SAVING))
    assert isinstance(state.phase, st.Restoring)
    assert state.good == SAVING, "the token is the proof"
    state, done = tell([(3, st.Restored(1))], state)
    assert state.phase == st.Ready(st.Child(1, SAVING), 3, loaded_s=1)
    assert done == []


def test_restoring_slots_cannot_take_for_ever() -> None:
    state, _ = tell([(0, st.Want(SAVING)), (1, st.TokenAnswer(1, True))])
    state, _ = tell([(1 + POLICY.restore_timeout_s, st.Tick())], state)
    assert isinstance(state.phase, st.Ready)


def test_a_server_that_dies_while_its_slots_come_back_starts_again_at_once() -> None:
    state, _ = tell([(0, st.Want(SAVING)), (1, st.TokenAnswer(1, True))])
    _, done = tell([(2, st.Exited(1, CRASH))], state)
    assert done == [st.Spawn(st.Child(2, SAVING))]


def test_memory_that_others_hold_is_waited_for_and_then_something_smaller_is_planned() -> None:
    state, asked = tell([(0, st.Want(GOOD))])[0], []
    now = 0.0
    for number in range(1, 40):
        state, done = tell([(now, st.Exited(number, BUSY))], state)
        asked += [(now, action) for action in done if isinstance(action, st.Degrade)]
        if asked:
            break
        assert isinstance(state.phase, st.Backoff)
        now = state.phase.until
        state, _ = tell([(now, st.Tick())], state)
    assert asked == [(60.0, st.Degrade(GOOD, BUSY))]
    assert state.endings == ()


def test_where_nothing_smaller_helps_memory_is_waited_for_without_end() -> None:
    state, _ = tell([(0, st.Want(GOOD))])
    now, waits = 0.0, []
    for number in range(1, 50):
        state, done = tell([(now, st.Exited(number, replace(BUSY, smaller_helps=False)))], state)
        assert done == []
        assert isinstance(state.phase, st.Backoff)
        waits.append(state.phase.until - now)
        now = state.phase.until
        state, _ = tell([(now, st.Tick())], state)
    assert now > 3 * POLICY.memory_wait_s
    assert waits[:30] == [2.0] * 30
    assert set(waits[30:]) == {15.0}
    assert state.endings == ()


def test_a_new_configuration_does_not_keep_the_old_one_waiting_for_memory() -> None:
    state, _ = tell([(10, st.Want(NEW)), (11, st.Exited(1, KILL)), (11, st.Exited(2, BUSY))], serving())
    assert state.phase == st.Backoff(NEW, 13)
    _, done = tell([(13, st.Tick()), (16, st.Exited(3, BUSY))], state)
    assert done[-1] == st.Spawn(st.Child(4, GOOD))


def test_an_idle_server_is_stopped_and_a_request_brings_it_back() -> None:
    state, done = tell([(500, st.Sleep()), (501, st.Exited(1, KILL))], serving())
    assert state.phase == st.Idle()
    assert done == [st.Terminate(1)]
    assert state.endings == ()
    _, done = tell([(900, st.Demand(True))], state)
    assert done == [st.Spawn(st.Child(2, GOOD))]


@pytest.mark.parametrize("when", ["draining", "stopping", "idle"])
def test_a_request_that_comes_while_an_idle_server_leaves_brings_it_back(when: str) -> None:
    drained = tell([(2, st.Want(with_patience(GOOD, drain_timeout_s=30)))], serving())[0]
    leaving: list[tuple[float, st.Event]] = [(500, st.Sleep())]
    leaving += [(501, st.Drained(1))] if when != "draining" else []
    leaving += [(502, st.Exited(1, KILL))] if when == "idle" else []
    state, _ = tell(leaving, drained)
    state, done = tell([(503, st.Demand(True)), (504, st.Drained(1)), (505, st.Exited(1, KILL))], state)
    assert done[-1] == st.Spawn(st.Child(2, state.want or GOOD))


def test_a_server_is_not_put_to_sleep_while_a_request_waits() -> None:
    state, done = tell([(500, st.Demand(True)), (501, st.Sleep())], serving())
    assert done == []
    assert isinstance(state.phase, st.Ready)


def test_the_last_good_configuration_of_an_earlier_daemon_comes_back() -> None:
    state, done = tell([(0, st.Want(NEW)), (1, st.Exited(1, CRASH))], st.State(good=GOOD))
    assert done == [st.Spawn(st.Child(1, NEW)), st.Spawn(st.Child(2, GOOD))]
    assert state.rejected == st.Rejection(NEW, CRASH, 1)


def test_time_in_which_the_machine_stood_still_does_not_count_as_loading() -> None:
    state, done = tell([(0, st.Want(GOOD)), (3600, st.TimeLost(3590)), (3600, st.Tick())])
    assert isinstance(state.phase, st.Starting)
    assert done[1:] == [st.AskToken(st.Child(1, GOOD))]


def test_down_ends_a_running_server_and_a_wait_for_the_next_try() -> None:
    state, done = tell([(10, st.Want(None)), (11, st.Exited(1, KILL))], serving())
    assert state.phase == st.Down()
    assert done == [st.Terminate(1)]
    state, done = tell([(0, st.Want(GOOD)), (1, st.Exited(1, CRASH)), (1.5, st.Want(None))])
    assert state.phase == st.Down()
