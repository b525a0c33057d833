"""What one program tells the next: by value, and the same when it is read again."""

import json
import os
from dataclasses import replace

import pytest

from qwenctl.daemon import handover_states as by_value
from qwenctl.daemon.handover import (
    SCHEMA,
    Descriptors,
    HandedChild,
    Handover,
    dump,
    load,
)
from qwenctl.daemon.new_program import document_file, judge, read_document, without_handover
from qwenctl.deploy import states as change
from qwenctl.engine.address import Address
from qwenctl.errors import ControlError
from qwenctl.gate.passed_connection import PassedAddress, PassedConnection, PassedStream
from qwenctl.plan.outcome import MemoryRefusal
from qwenctl.supervise import states as st
from qwenctl.supervise.child import LogSoFar
from qwenctl.supervise.exits import Ending
from qwenctl.supervise.identity import Identity
from tests.fakes.configurations import configuration

ONE, OTHER = configuration("one"), configuration("other")
WHY = Ending("not_ready", "no token", hint="wait", log_tail=("a", "b"))
KNOWN = st.State(
    want=OTHER,
    phase=st.Ready(st.Child(7, ONE), 12.5, 3.25),
    spawned=7,
    good=ONE,
    rejected=st.Rejection(OTHER, WHY, 4.0),
    failures=2,
    quick=(1.0, 2.0),
    starts=(1.0,),
    short_lives=1,
    short_since=9.0,
    last=WHY,
    endings=(("killed", 3), ("wedged", 1)),
)
REFUSED = change.Refused(
    change.Wish(5, "up", {"context": {"tokens": 9}}, OTHER),
    change.Refusal("no_fit", "cannot fit", "less", passing=True, data={"away": True}),
    rolled_back=True,
)
WISHES = change.ChangeState(
    number=6, origin="file", kept=ONE, kept_number=4, refused=REFUSED, config_error="wrong"
)


def document(server: st.State = KNOWN, wishes: change.ChangeState = WISHES) -> Handover:
    """Return what a daemon in these states tells."""
    table = by_value.ConfigurationTable()
    handed, told = by_value.server_of(server, table), by_value.change_of(wishes, table)
    assert handed is not None
    assert told is not None
    return Handover(
        schema=SCHEMA,
        number=3,
        version="1",
        paused_at=1.5,
        descriptors=Descriptors(3, 4, (5, 6), 7),
        configurations=tuple(table.all),
        server=handed,
        change=told,
        child=HandedChild(
            Identity(9, "boot/1", "/s"),
            8,
            LogSoFar(serving=True, echoed=False, known=True, said="é\n", oom_kills=1),
        ),
        gate=(PassedAddress(Address("127.0.0.1", 1), (9,), (PassedConnection(10, b"GET".hex()),)),),
        streams=(PassedStream("c", 1, 2, 200, "OK", (("Content-Type", "text/event-stream"),), 0, "0a"),),
        refused=(MemoryRefusal("host", 5, "q"),),
        troubles=(("load", "differs"),),
        events=("{}",),
    )


@pytest.mark.parametrize(
    "phase",
    [
        st.Down(),
        st.Idle(),
        st.Ready(st.Child(7, ONE), 12.5, 3.25),
        st.Backoff(OTHER, 99.0),
        st.Failed(OTHER),
    ],
    ids=lambda phase: type(phase).__name__,
)
def test_both_states_come_out_as_they_went_in(phase: st.Phase) -> None:
    state = replace(KNOWN, phase=phase)
    read = load(dump(document(state)))
    assert read == document(state)
    assert by_value.state_of(read) == state
    assert by_value.wishes_of(read) == WISHES


def test_what_is_the_same_configuration_stays_the_same() -> None:
    """Parts compare by identity what they got from each other."""
    state = by_value.state_of(load(dump(document())))
    assert state.rejected is not None
    assert isinstance(state.phase, st.Ready)
    assert state.want is state.rejected.configuration
    assert state.phase.child.configuration is state.good
    assert by_value.wishes_of(load(dump(document()))).kept == state.good


def test_the_file_that_ends_a_server_with_its_daemon_goes_along() -> None:
    handed = document()
    assert handed.child is not None
    watched = replace(handed, child=replace(handed.child, lifeline=12))
    assert load(dump(watched)) == watched
    assert set(watched.files()) - set(handed.files()) == {12}
    older = json.loads(dump(handed))
    del older["child"]["lifeline"]
    assert load(json.dumps(older).encode()) == handed, "a program of an earlier version has none"


@pytest.mark.parametrize(
    "phase",
    [
        st.Starting(st.Child(1, ONE), 0.0, 0.0),
        st.Restoring(st.Child(1, ONE), 0.0, 0.0, 0.0),
        st.Draining(st.Child(1, ONE), 0.0),
        st.Stopping(st.Child(1, ONE), 0.0),
    ],
    ids=lambda phase: type(phase).__name__,
)
def test_a_phase_that_does_not_last_is_not_passed_on(phase: st.Phase) -> None:
    assert not by_value.lasts(replace(KNOWN, phase=phase))


@pytest.mark.parametrize(
    "wishes",
    [
        change.ChangeState(),
        replace(WISHES, planning=REFUSED.wish),
        replace(WISHES, waiting=(REFUSED.wish,)),
        replace(WISHES, stage=change.Opening(REFUSED.wish, ONE)),
        replace(WISHES, trial=change.OnTrial(REFUSED.wish, ONE)),
        replace(WISHES, transfer=2),
    ],
    ids=["nothing asked yet", "planning", "waiting", "opening", "on trial", "a transfer"],
)
def test_a_wish_on_its_way_is_not_passed_on(wishes: change.ChangeState) -> None:
    assert not by_value.settled(wishes)
    assert by_value.settled(WISHES)


def test_every_open_file_is_named_once() -> None:
    assert sorted(document().files()) == [3, 4, 5, 6, 7, 8, 9, 10]


def damaged(**changes: object) -> bytes:
    """Return a document with other contents."""
    return json.dumps(json.loads(dump(document())) | changes).encode()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "cannot be read"),
        (b"[1]", "has form None"),
        (b"\xff", "cannot be read"),
        (b"[" * 100_000, "cannot be read"),
        (damaged(schema=SCHEMA + 1), f"has form {SCHEMA + 1}, and version"),
        (damaged(server={}), "cannot be read"),
        (damaged(configurations=[]), "a configuration that is not in it"),
    ],
)
def test_a_document_that_is_not_understood_is_an_error_and_no_traceback(content: bytes, words: str) -> None:
    with pytest.raises(ControlError, match=words):
        load(content)


def test_an_open_file_carries_the_document_whatever_was_read_of_it() -> None:
    number = document_file(b"state")
    try:
        assert not os.get_inheritable(number)
        os.lseek(number, 0, os.SEEK_END)
        assert read_document(number) == b"state"
        assert read_document(number) == b"state"
    finally:
        os.close(number)
    with pytest.raises(ControlError, match="no state in open file"):
        read_document(number)


@pytest.mark.parametrize(
    ("arguments", "kept"),
    [
        (["run"], ("run",)),
        (["run", "--handover", "7"], ("run",)),
        (["--json", "run", "--handover", "7", "--log", "x"], ("--json", "run", "--log", "x")),
        (["run", "--handover"], ("run",)),
    ],
)
def test_the_next_program_gets_the_arguments_of_the_first(
    arguments: list[str], kept: tuple[str, ...]
) -> None:
    assert without_handover(arguments) == kept


YES = b'{"ok": true, "data": {"version": "2.0", "takes_over": true}, "error": null}\n'
NO = b'{"ok": false, "data": null, "error": {"message": "cannot take over: no"}}\n'


def test_a_program_that_says_so_can_take_over() -> None:
    assert judge("q", 0, YES, b"a warning") == "2.0"


@pytest.mark.parametrize(
    ("code", "output", "errors", "words"),
    [
        (1, b"", b"", "it ended with code 1, and said: nothing"),
        (2, b"", b"Usage\nno such option\n", "code 2, and said: no such option"),
        (1, NO, b"noise", "code 1, and said: cannot take over: no"),
        (-9, YES, b"", "it ended with code -9"),
        (0, b"hello", b"", "it did not say that it can take over, and said: hello"),
        (0, b"[]", b"", "it did not say"),
        (0, b'{"data": {"version": "1"}}', b"", "it did not say"),
        (0, b'{"data": {"version": 1, "takes_over": true}}', b"", "it did not say"),
        (0, b"\xff\xfe", b"", "it did not say"),
        (0, b"[" * 100_000, b"", "it did not say"),
    ],
)
def test_any_other_answer_is_quoted(code: int, output: bytes, errors: bytes, words: str) -> None:
    with pytest.raises(ControlError, match=words) as caught:
        judge("q", code, output, errors)
    assert len(caught.value.message) < 400
