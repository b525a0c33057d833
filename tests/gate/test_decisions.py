"""The decisions of the gate, by value."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenctl.engine.address import Address
from qwenctl.gate import headers
from qwenctl.gate.api_format import ApiFormat, error_body, error_event, format_of, is_complete, wants_stream
from qwenctl.gate.idle_tasks import DueTasks, IdleWaits, due
from qwenctl.gate.replay import AfterLoss, Loss, after_loss
from qwenctl.gate.sse_split import EventSplitter, skip_comments
from qwenctl.gate.upstream import Admission, UpstreamState, admission, is_use

READY = UpstreamState("ready", 3, Address("/s.sock", None))


def test_a_request_goes_on_only_to_a_ready_and_opened_child() -> None:
    assert admission(READY, 3, draining=False, closing=False) is Admission.GO
    assert admission(READY, 2, draining=False, closing=False) is Admission.HOLD  # its slots are not back yet
    assert admission(READY, 3, draining=True, closing=False) is Admission.HOLD
    assert admission(READY, 3, draining=False, closing=True) is Admission.REFUSE
    for phase in ("down", "planning", "fetching", "starting", "draining", "stopping", "backoff", "idle"):
        assert admission(UpstreamState(phase, 3), 3, draining=False, closing=False) is Admission.HOLD
    assert admission(UpstreamState("failed", 3), 3, draining=False, closing=False) is Admission.REFUSE


def test_looking_is_no_use() -> None:
    assert is_use("POST", "/v1/chat/completions")
    assert not is_use("GET", "/v1/models")
    assert not is_use("POST", "/health")


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (Loss(False, 0, 0, 1.0, 2.0), AfterLoss.REPLAY),
        (Loss(False, 1, 2, 1.0, 2.0), AfterLoss.REPLAY),
        (Loss(False, 0, 0, 2.0, 2.0), AfterLoss.GIVE_UP_LATE),
        (Loss(False, 2, 0, 1.0, 2.0), AfterLoss.GIVE_UP_POISON),
        (Loss(False, 0, 3, 1.0, 2.0), AfterLoss.GIVE_UP_BROKEN),
        (Loss(True, 2, 3, 9.0, 2.0), AfterLoss.GIVE_UP_CUT),
    ],
)
def test_what_becomes_of_a_request_that_lost_its_child(loss: Loss, expected: AfterLoss) -> None:
    assert after_loss(loss) is expected


@given(
    st.lists(st.sampled_from(["data: {}", ": ping", "event: a\ndata: b", "x"])), st.lists(st.integers(1, 9))
)
def test_events_leave_whole_however_they_come(events: list[str], sizes: list[int]) -> None:
    stream = "".join(f"{event}\n\n" for event in events).encode() + b"data: unfin"
    cutter, out, at = EventSplitter(), [], 0
    for size in [*sizes, len(stream)]:
        out.append(cutter.feed(stream[at : at + size]))
        at += size
    assert all(piece == b"" or piece.endswith(b"\n\n") for piece in out)
    assert b"".join(out) + cutter.rest == stream
    assert cutter.rest == b"data: unfin"


def test_comments_are_no_answer() -> None:
    assert skip_comments(b":\n\n: ping\n\n") == b""
    assert skip_comments(b":\n\ndata: x\n\n: later\n\n") == b"data: x\n\n: later\n\n"
    assert skip_comments(b"event: a\ndata: b\n\n") == b"event: a\ndata: b\n\n"


def test_each_api_has_its_own_end_and_its_own_error() -> None:
    ends = {
        "/v1/chat/completions": b'data: {"choices":[]}\n\ndata: [DONE]\n\n',
        "/v1/responses": b'event: response.completed\ndata: {"type":"response.completed"}\n\n',
        "/v1/messages": b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
        "/completion": b'data: {"content":"","stop":true}\n\n',
    }
    for path, end in ends.items():
        shape = format_of(path)
        assert is_complete(shape, end), path
        assert not is_complete(shape, b'data: {"content":"x","stop":false}\n\n')
        assert not is_complete(
            shape, b'data: {"content":"data: [DONE] event: message_stop \\"stop\\":true"}\n\n'
        )
        event = error_event(shape, 500, "x", "gone")
        assert event.endswith(b"\n\n")
        assert is_complete(shape, event)
        assert json.loads(event[event.index(b"{") :])["error"]["message"] == "gone"
    assert is_complete(ApiFormat.OTHER, b"anything")
    assert json.loads(error_body(ApiFormat.ANTHROPIC, 503, "x", "away", "wait"))["error"] == {
        "type": "overloaded_error",
        "message": "away (wait)",
    }


def test_a_stream_is_what_the_body_asks_for() -> None:
    assert wants_stream(b'{"stream": true}')
    assert not wants_stream(b'{"stream": false}')
    assert not wants_stream(b'{"tools": [{"stream": true}]}')
    assert not wants_stream(b'{"stream": true')


def test_hop_by_hop_headers_stay_and_cors_is_ours() -> None:
    sent = [("Connection", "keep-alive, X-Odd"), ("X-Odd", "1"), ("TE", "x"), ("Origin", "o"), ("A", "b")]
    assert headers.to_child([*sent, ("Authorization", "k")], keep_keys=False) == [("A", "b")]
    assert ("Authorization", "k") in headers.to_child([("Authorization", "k")], keep_keys=True)
    got = headers.to_client(
        [("Access-Control-Allow-Origin", "*"), ("Transfer-Encoding", "chunked"), ("A", "b")]
    )
    assert got == [("A", "b")]


def test_chores_are_due_when_idle_long_enough() -> None:
    patience = IdleWaits(unload_s=60.0, warm_after_s=5.0, stall_s=300.0)
    assert due(10.0, 9.0, None, patience, busy=False) == (DueTasks(look=True, again_at=14.0), False)
    assert due(14.0, 9.0, None, patience, busy=False) == (DueTasks(look=True, save=True, again_at=69.0), True)
    assert due(15.0, 9.0, 9.0, patience, busy=False) == (DueTasks(again_at=69.0), True)
    assert due(69.0, 9.0, 9.0, patience, busy=False) == (DueTasks(unload=True), True)
    assert due(69.0, None, 9.0, patience, busy=True) == (DueTasks(stall_before=-231.0, again_at=144.0), False)
    never = IdleWaits(unload_s=0.0, warm_after_s=5.0, stall_s=300.0)
    assert due(1e6, 9.0, 9.0, never, busy=False) == (DueTasks(), True)
