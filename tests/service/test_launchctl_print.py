"""What ``launchctl print`` says of a job: only the job's own lines count.

The samples in launchctl/ have the form of public captures, with other names: ``running`` and ``never_run``
from the tests of honest_watchdogs (macOS 15), ``spawn_scheduled`` from jamf/aftermath (an older macOS),
``daemon`` from SumoLogic's documentation, ``ex_config`` from a test on a Mac whose log belonged to root,
``lwcr`` from an excerpt that a user reported (macOS 26), ``memory_exit`` from the fields of a system host.
"""

from pathlib import Path

import pytest

from qwenctl.cli.via_service import refusal_of
from qwenctl.errors import ExitCode
from qwenctl.service.launchctl_print import PrintedJob, parse
from qwenctl.service.service_state import ServiceState, ended_since, of_job, of_unit

SAMPLES = Path(__file__).parent / "launchctl"


def job(name: str) -> PrintedJob:
    return parse((SAMPLES / f"{name}.txt").read_text())


@pytest.mark.parametrize(
    ("name", "words", "running", "pid", "fault"),
    [
        ("running", "running", True, 3438, None),
        ("daemon", "running", True, 54109, None),
        ("never_run", "not running", False, None, "not running"),
        (
            "spawn_scheduled",
            "spawn scheduled; last exit code 0",
            False,
            None,
            "spawn scheduled; last exit code 0",
        ),
        ("lwcr", "SIGTERMed", False, 812, None),
        (
            "memory_exit",
            "not running; last ended by macOS: JETSAM_REASON_MEMORY_IDLE_EXIT",
            False,
            None,
            "not running; last ended by macOS: JETSAM_REASON_MEMORY_IDLE_EXIT",
        ),
    ],
)
def test_the_state_is_that_of_the_job_itself(
    name: str, words: str, *, running: bool, pid: int | None, fault: str | None
) -> None:
    state = of_job(job(name))
    assert (state.words, state.running, state.pid, state.fault) == (words, running, pid, fault)


def test_a_job_that_launchd_cannot_start_is_a_fault_that_says_why() -> None:
    state = of_job(job("ex_config"))
    assert not state.running
    assert state.fault is not None
    assert state.fault.startswith("not running; last exit code 78: launchd could not start it")
    assert state.shown == {"state": "not running", "runs": "5", "last exit code": "78: EX_CONFIG"}


def test_what_was_told_to_end_is_no_fault() -> None:
    ended = parse("x = {\n\tstate = not running\n\truns = 1\n\tlast exit code = 0\n}")
    assert of_job(ended).fault is None
    assert of_job(parse("")).words == "not loaded"
    assert of_job(parse("")).fault is None


@pytest.mark.parametrize(
    "text", ["", "\t", "\t = ", "garbage", "\tstate", "\tx = {", "\tpid = 12a\n\truns = -"]
)
def test_any_text_is_read(text: str) -> None:
    assert of_job(parse(text)).running is False


def printed(runs: int, *, running: bool, code: str = "1") -> ServiceState:
    state = "running\n\tpid = 7" if running else "spawn scheduled"
    return of_job(parse(f"x = {{\n\truns = {runs}\n\tstate = {state}\n\tlast exit code = {code}\n}}"))


@pytest.mark.parametrize(
    ("before", "now", "ended"),
    [
        (of_job(parse("")), of_job(parse("")), False),
        (of_job(parse("")), printed(0, running=False, code="(never exited)"), False),
        (of_job(parse("")), printed(1, running=True, code="(never exited)"), False),
        (of_job(parse("")), printed(1, running=False), True),
        (of_job(parse("")), printed(2, running=True), True),  # the second try runs already
        (printed(3, running=False), printed(3, running=False), False),  # the end of an earlier run
        (printed(3, running=False), printed(4, running=True), False),
        (printed(3, running=True), printed(4, running=True), False),  # kickstart -k
    ],
)
def test_only_an_end_since_the_start_counts(before: ServiceState, now: ServiceState, *, ended: bool) -> None:
    assert ended_since(before, now) is ended


def test_the_end_of_a_daemon_has_its_own_exit_code_and_reason() -> None:
    wrong = refusal_of(printed(1, running=False, code="2"), "cannot read config.toml: no")
    assert (wrong.exit_code, wrong.code) == (ExitCode.USAGE, "usage")
    assert wrong.message.endswith("ended with exit code 2: cannot read config.toml: no")
    killed = of_job(parse("x = {\n\tstate = not running\n\tlast terminating signal = Killed: 9\n}"))
    assert "ended by signal Killed 9" in refusal_of(killed, "cannot old: line").message
    assert refusal_of(killed, None).exit_code == ExitCode.FAILED
    assert refusal_of(printed(1, running=False, code="0"), None).exit_code == ExitCode.FAILED


def test_a_unit_has_the_same_form() -> None:
    state = of_unit({"ActiveState": "failed", "MainPID": "0"})
    assert (state.words, state.running, state.pid, state.fault) == ("failed", False, None, "failed")
    assert of_unit({"ActiveState": "activating", "MainPID": "12"}).pid == 12
