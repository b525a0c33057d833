"""The decisions of the gate, by value."""

import json
from dataclasses import replace

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


def test_a_request_goes_on_only_to_a_ready_child() -> None:
    assert admission(READY, draining=False, closing=False) is Admission.GO
    assert admission(READY, draining=True, closing=False) is Admission.HOLD
    assert admission(READY, draining=False, closing=True) is Admission.REFUSE
    restoring = replace(READY, phase="restoring")  # it has generated a token, its slots are not restored yet
    assert admission(restoring, draining=False, closing=False) is Admission.HOLD
    for phase in ("down", "planning", "fetching", "starting", "draining", "stopping", "backoff", "idle"):
        assert admission(UpstreamState(phase, 3), draining=False, closing=False) is Admission.HOLD
    assert admission(UpstreamState("failed", 3), draining=False, closing=False) is Admission.REFUSE


def test_a_request_that_only_observes_does_not_use_the_model() -> None:
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
def test_a_request_whose_child_was_lost_is_sent_again_until_one_of_four_reasons_applies(
    loss: Loss, expected: AfterLoss
) -> None:
    assert after_loss(loss) is expected


@given(
    st.lists(st.sampled_from(["data: {}", ": ping", "event: a\ndata: b", "x"])), st.lists(st.integers(1, 9))
)
def test_only_whole_events_are_sent_however_their_bytes_come(events: list[str], sizes: list[int]) -> None:
    stream = "".join(f"{event}\n\n" for event in events).encode() + b"data: unfin"
    splitter, out, at = EventSplitter(), [], 0
    for size in [*sizes, len(stream)]:
        out.append(splitter.feed(stream[at : at + size]))
        at += size
    assert all(piece == b"" or piece.endswith(b"\n\n") for piece in out)
    assert b"".join(out) + splitter.rest == stream
    assert splitter.rest == b"data: unfin"


def test_comments_before_the_first_event_are_left_out() -> None:
    assert skip_comments(b":\n\n: ping\n\n") == b""
    assert skip_comments(b":\n\ndata: x\n\n: later\n\n") == b"data: x\n\n: later\n\n"
    assert skip_comments(b"event: a\ndata: b\n\n") == b"event: a\ndata: b\n\n"


def test_each_api_ends_a_stream_and_reports_an_error_in_its_own_way() -> None:
    ends = {
        "/v1/chat/completions": b'data: {"choices":[]}\n\ndata: [DONE]\n\n',
        "/v1/responses": b'event: response.completed\ndata: {"type":"response.completed"}\n\n',
        "/v1/messages": b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
        "/completion": b'data: {"content":"","stop":true}\n\n',
    }
    for path, end in ends.items():
        api_format = format_of(path)
        assert is_complete(api_format, end), path
        assert not is_complete(api_format, b'data: {"content":"x","stop":false}\n\n')
        assert not is_complete(
            api_format, b'data: {"content":"data: [DONE] event: message_stop \\"stop\\":true"}\n\n'
        )
        event = error_event(api_format, 500, "x", "gone")
        assert event.endswith(b"\n\n")
        assert is_complete(api_format, event)
        assert json.loads(event[event.index(b"{") :])["error"]["message"] == "gone"
    assert is_complete(ApiFormat.OTHER, b"anything")
    assert json.loads(error_body(ApiFormat.ANTHROPIC, 503, "x", "away", "wait"))["error"] == {
        "type": "overloaded_error",
        "message": "away (wait)",
    }


def test_a_stream_is_wanted_only_if_the_body_asks_for_one() -> None:
    assert wants_stream(b'{"stream": true}')
    assert not wants_stream(b'{"stream": false}')
    assert not wants_stream(b'{"tools": [{"stream": true}]}')
    assert not wants_stream(b'{"stream": true')


def test_hop_by_hop_headers_and_the_cors_headers_of_the_child_are_not_passed_on() -> None:
    sent = [("Connection", "keep-alive, X-Odd"), ("X-Odd", "1"), ("TE", "x"), ("Origin", "o"), ("A", "b")]
    assert headers.to_child([*sent, ("Authorization", "k")], keep_keys=False) == [("A", "b")]
    assert ("Authorization", "k") in headers.to_child([("Authorization", "k")], keep_keys=True)
    got = headers.to_client(
        [("Access-Control-Allow-Origin", "*"), ("Transfer-Encoding", "chunked"), ("A", "b")]
    )
    assert got == [("A", "b")]


def test_slots_are_looked_at_and_saved_and_the_child_unloaded_after_their_waits() -> None:
    waits = IdleWaits(unload_s=60.0, warm_after_s=5.0, stall_s=300.0)
    assert due(10.0, 9.0, None, waits, busy=False) == (DueTasks(look=True, again_at=14.0), False)
    assert due(14.0, 9.0, None, waits, busy=False) == (DueTasks(look=True, save=True, again_at=69.0), True)
    assert due(15.0, 9.0, 9.0, waits, busy=False) == (DueTasks(again_at=69.0), True)
    assert due(69.0, 9.0, 9.0, waits, busy=False) == (DueTasks(unload=True), True)
    assert due(69.0, None, 9.0, waits, busy=True) == (DueTasks(stall_before=-231.0, again_at=144.0), False)
    never = IdleWaits(unload_s=0.0, warm_after_s=5.0, stall_s=300.0)
    assert due(1e6, 9.0, 9.0, never, busy=False) == (DueTasks(), True)
