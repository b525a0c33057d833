"""The client of an endpoint: whole answers, streams, and every way they can go wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenctl.client.openai_api import Api
from qwenctl.client.sse import SseReader
from qwenctl.errors import BrokenOffError, ClientError, RefusedError
from tests.fakes.home import free_port
from tests.fakes.openai_server import Break, Refuse, Say, serving

HI = {"messages": [{"role": "user", "content": "hi"}]}
CALL = {"id": "c1", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
TIMINGS = {"cache_n": 3, "prompt_n": 20, "prompt_ms": 100, "predicted_n": 11, "predicted_ms": 500}


@pytest.mark.parametrize("piece", [1, 2, 7, 1 << 20])
def test_characters_cut_by_packets_arrive_whole(piece: int) -> None:
    said = "grüße 東京 \U0001f999\u2028 a line separator is no end of line\n"
    with serving([Say(said, reasoning="hm ja", piece=piece)]) as server, Api(server.url) as api:
        answer = api.answer(HI)
    assert answer.text == said
    assert answer.reasoning == "hmja"
    assert answer.finish == "stop"


def test_an_answer_that_does_not_stream_is_the_same() -> None:
    with (
        serving([Say("yes", "hm", (CALL,), "tool_calls", timings=TIMINGS)]) as server,
        Api(server.url) as api,
    ):
        whole, streamed = api.ask(HI), api.answer(HI)
    assert whole.text == streamed.text == "yes"
    assert whole.reasoning == streamed.reasoning == "hm"
    assert whole.tool_calls == streamed.tool_calls
    assert whole.tool_calls[0].arguments == '{"city": "Paris"}'
    assert whole.timings == streamed.timings
    assert whole.message["tool_calls"] == [{"id": "c1", "type": "function", "function": CALL["function"]}]


def test_speeds_come_from_the_servers_timings() -> None:
    with serving([Say("x", timings=TIMINGS)]) as server, Api(server.url) as api:
        timings = api.answer(HI).timings
    assert timings is not None
    assert timings.prompt_tokens_per_s == 200
    assert timings.generated_tokens_per_s == 20  # ten tokens after the first
    assert timings.cached_tokens == 3


def test_the_clock_of_a_client_starts_when_it_asks() -> None:
    """A gate holds the head back until there is an answer: what came before it is waiting, too."""
    with (
        serving([Say("x")]) as server,
        Api(server.url, clock=lambda: float(len(server.asked))) as api,
    ):
        assert api.answer(HI).first_s == 1.0


def test_an_error_event_ends_a_stream_and_keeps_what_came() -> None:
    with serving([Break("half of it")]) as server, Api(server.url) as api, api.stream(HI) as stream:
        with pytest.raises(BrokenOffError, match="the server ended while it answered"):
            list(stream)
        assert stream.answer.text == "half of it"


def test_a_stream_without_an_end_is_an_error() -> None:
    broken = pytest.raises(BrokenOffError, match="ended before the answer did")
    with serving([Break("half", error=None)]) as server, Api(server.url) as api, broken:
        api.answer(HI)


@pytest.mark.parametrize("ask", ["ask", "answer"])
def test_a_refusal_says_why(ask: str) -> None:
    refused = pytest.raises(RefusedError, match=r"loading model \(HTTP 503\)")
    with serving([Refuse(503, "loading model")]) as server, Api(server.url) as api, refused as caught:
        getattr(api, ask)(HI)
    assert caught.value.status == 503


def test_a_key_is_sent_and_a_refused_one_has_a_hint() -> None:
    refused = pytest.raises(RefusedError)
    with (
        serving([Refuse(401, "invalid key")]) as server,
        Api(f"{server.url}/v1", "sesame") as api,
        refused as caught,
    ):
        api.ask(HI)
    assert server.keys == ["Bearer sesame"]
    assert "--api-key-file" in (caught.value.hint or "")


def test_nobody_there_is_one_clear_line() -> None:
    with (
        Api(f"http://127.0.0.1:{free_port()}") as api,
        pytest.raises(ClientError, match=r"^cannot reach http"),
    ):
        api.ask(HI)


def test_a_server_that_is_no_llama_server_has_no_props() -> None:
    with serving([Say()]) as server, Api(server.url) as api:
        assert api.props() is None
        assert api.models() == ["scripted"]


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r"), min_size=1)),
    st.data(),
)
def test_events_do_not_depend_on_where_the_stream_is_cut(texts: list[str], data: st.DataObject) -> None:
    wire = "".join(f": ping\n\ndata: {text}\n\n" for text in texts).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=8)))
    events = SseReader()
    found = [
        event
        for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True)
        for event in events.feed(wire[start:end])
    ]
    assert found == texts
