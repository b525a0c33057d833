"""Events have stable names and say what a person asks next."""

from qwenctl.supervise import lifecycle as lc
from qwenctl.supervise import states as st
from qwenctl.supervise.exits import Ending
from qwenctl.supervise.lifecycle_events import tell
from qwenctl.supervise.policy import Policy
from tests.fakes.configurations import with_patience
from tests.supervise.test_stories import BAD, CRASH, GOOD, KILL, NEW, WEDGE, Story, serving


def told(story: Story, state: st.State, policy: Policy | None = None) -> list[tuple[str, dict[str, object]]]:
    events: list[tuple[str, dict[str, object]]] = []
    for now, event in story:
        after, _ = lc.step(state, event, now, policy or Policy())
        events += tell(state, after, 100 + after.spawned, now)
        state = after
    return events


def names(story: Story, state: st.State, policy: Policy | None = None) -> list[str]:
    return [name for name, _ in told(story, state, policy)]


def test_a_first_start_is_two_events() -> None:
    events = told([(0, st.Want(GOOD)), (0.5, st.TokenAnswer(1, True))], st.State())
    assert events == [
        ("child_started", {"child": 1, "pid": 101}),
        ("child_ready", {"child": 1, "pid": 101, "took_s": 0.5}),
    ]


def test_a_crash_is_told_before_the_child_that_replaces_it() -> None:
    events = told([(9, st.Exited(1, CRASH))], serving())
    assert [name for name, _ in events] == ["child_ended", "child_started"]
    assert events[0][1] == {
        "child": 1,
        "cause": "crashed",
        "summary": CRASH.summary,
        "permanent": False,
        "hint": None,
        "log_tail": [],
    }


def test_a_rollback_is_told_between_the_two_servers() -> None:
    story: Story = [
        (10, st.Want(NEW)),
        (11, st.Exited(1, KILL)),
        (12, st.Exited(2, BAD)),
        (13, st.TokenAnswer(3, True)),
    ]
    events = told(story, serving())
    assert [name for name, _ in events] == [
        "stopping",
        "child_started",
        "child_ended",
        "rolled_back",
        "child_started",
        "child_ready",
    ]
    assert events[3][1] == {"why": BAD.summary, "cause": "bad_flag"}


def test_each_phase_in_which_nothing_runs_has_its_event() -> None:
    assert names([(0, st.Want(GOOD)), (1, st.Exited(1, CRASH))], st.State())[-2:] == [
        "child_ended",
        "backoff",
    ]
    assert names([(0, st.Want(GOOD)), (1, st.Exited(1, BAD))], st.State())[-2:] == ["child_ended", "failed"]
    assert names([(9, st.Sleep()), (9, st.Exited(1, KILL))], serving()) == ["stopping", "idle"]
    assert names([(9, st.Want(None)), (9, st.Exited(1, KILL))], serving()) == ["stopping", "down"]


def test_a_wait_for_memory_names_the_holders_once() -> None:
    busy = Ending("memory_busy", "RAM has 1.0 GiB free; held by pid 7 (browser) 12.0 GiB")
    story: Story = [(0, st.Want(GOOD)), (0, st.Exited(1, busy)), (2, st.Tick()), (2, st.Exited(2, busy))]
    events = [fields for name, fields in told(story, st.State()) if name == "memory_short"]
    assert events == [{"summary": busy.summary, "hint": None}]


def test_a_drained_stop_and_a_wedged_server_have_their_events() -> None:
    patient = with_patience(GOOD, drain_timeout_s=30)
    story: Story = [(5, st.Want(patient)), (9, st.Restart()), (12, st.Drained(1))]
    assert names(story, serving()) == ["draining", "stopping"]
    assert names([(9, st.Faulty(1, WEDGE)), (9, st.Exited(1, KILL))], serving()) == [
        "stopping",
        "child_ended",
        "child_started",
    ]
