"""Which streams can be continued, what the next server is asked, and how two parts join: by value."""

import json
from typing import Any

import pytest

from qwenctl.gate.continuation.chat_stream import without_counts
from qwenctl.gate.continuation.next_part import (
    TokenCounts,
    counted_tokens,
    longer_request,
    next_part,
    read_request,
    why_not,
)
from qwenctl.gate.continuation.seam import EchoFilter, Seam, join_timings
from qwenctl.gate.continuation.sent_answer import (
    CHARGE_BYTES,
    RAW_BYTES,
    SentAnswer,
    read_events,
    write_event,
)
from qwenctl.gate.continuation.splice import (
    CHAT,
    FORMATS,
    MESSAGES,
    NATIVE,
    RESPONSES,
    TEXT,
    Splicer,
    StreamFormat,
)

ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
PROMPT = {"prompt": "once", "stream": True}
LONG = "a sentence that is long enough to be no chance"


def chunk(delta: dict[str, Any], reason: str | None = None, **more: object) -> bytes:
    data = {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}], "id": "one", "created": 1}
    return b"data: " + json.dumps(data | more).encode() + b"\n\n"


def named(kind: str, **data: object) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind} | data)}\n\n".encode()


def sent(form: StreamFormat, *events: bytes) -> SentAnswer:
    record = SentAnswer(form.note, lambda _: True, form.piece)
    for each in events:
        record.feed(each, 1.0)
    return record


def told(events: bytes) -> list[dict[str, Any]]:
    return [data for _, data in read_events(events)]


@pytest.mark.parametrize(
    ("form", "asked", "reason"),
    [
        (CHAT, ASK, None),
        (CHAT, ASK | {"response_format": {"type": "json_schema"}}, None),
        (CHAT, ASK | {"n": 2}, "several answers"),
        (CHAT, ASK | {"logprobs": True}, "details"),
        (CHAT, ASK | {"top_logprobs": 3}, "details"),
        (CHAT, ASK | {"grammar": 'root ::= "a"'}, "grammar"),
        (CHAT, ASK | {"reasoning_format": "none"}, "reasoning"),
        (CHAT, ASK | {"continue_final_message": True}, "continues a text"),
        (CHAT, {"messages": [*ASK["messages"], {"role": "assistant", "content": "x"}]}, "continues a text"),
        (CHAT, {"messages": []}, "no messages"),
        (CHAT, {}, "no messages"),
        (TEXT, PROMPT, None),
        (TEXT, PROMPT | {"json_schema": {}}, None),
        (TEXT, PROMPT | {"json_schema": {"type": "object"}}, "grammar"),
        (TEXT, {"prompt": ["a", "b"]}, "several prompts"),
        (TEXT, {"prompt": [1, 2, 3]}, None),
        (TEXT, {"prompt": [[1], [2]]}, "several prompts"),
        (NATIVE, PROMPT | {"n_probs": 4}, "details"),
        (NATIVE, PROMPT | {"grammar": "x"}, "grammar"),
        (NATIVE, {"prompt": {"prompt_string": "x", "multimodal_data": []}}, "several prompts"),
        (MESSAGES, ASK, None),
        (RESPONSES, {"input": "hi"}, None),
        (RESPONSES, {"input": [{"role": "user", "content": "hi"}]}, None),
        (RESPONSES, {"input": [{"role": "assistant", "content": "hi"}]}, "continues a text"),
        (RESPONSES, {"input": [{"type": "reasoning", "content": []}]}, "continues a text"),
        (RESPONSES, {}, "no input"),
    ],
)
def test_what_can_be_continued(form: StreamFormat, asked: dict[str, Any], reason: str | None) -> None:
    why = why_not(form, asked, SentAnswer(form.note, lambda _: True).text())
    assert (why is None) is (reason is None), why
    assert reason is None or (why is not None and reason in why)


@pytest.mark.parametrize(
    ("form", "event", "reason"),
    [
        (CHAT, chunk({"tool_calls": [{"index": 0, "function": {"name": "f"}}]}), "no text"),
        (CHAT, chunk({}, "stop"), "last event"),
        (CHAT, chunk({"content": "<think>hm"}), "reasoning"),
        (MESSAGES, named("content_block_start", index=0, content_block={"type": "tool_use"}), "no text"),
        (MESSAGES, named("message_delta", delta={}), "last event"),
        (RESPONSES, named("response.output_item.added", item={"type": "function_call"}), "no text"),
        (RESPONSES, named("response.completed", response={}), "last event"),
        (TEXT, b'data: {"choices":[{"text":"","finish_reason":"length"}]}\n\n', "last event"),
        (NATIVE, b'data: {"content":"","stop":true}\n\n', "last event"),
    ],
)
def test_what_was_sent_may_forbid_it(form: StreamFormat, event: bytes, reason: str) -> None:
    asked = PROMPT if form in (TEXT, NATIVE) else ASK | {"input": "hi"}
    why = why_not(form, asked, sent(form, event).text())
    assert why is not None
    assert reason in why


def test_the_next_server_is_asked_to_go_on_within_what_is_left_of_the_limit() -> None:
    record = sent(CHAT, chunk({"role": "assistant", "content": None}), *[chunk({"content": "ab "})] * 10)
    part = next_part(CHAT, ASK | {"max_tokens": 30}, record.text(), TokenCounts(5, 17), 100.0)
    assert part is not None
    body = json.loads(part.body)
    assert body["messages"][-1] == {"role": "assistant", "content": "ab " * 10}
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)
    assert body["max_tokens"] == 18  # as the server counts the text: 12 tokens in 10 pieces
    assert (part.seam.prompt_tokens, part.seam.answer_tokens, part.seam.mute) == (5, 12, False)
    used_up = next_part(CHAT, ASK | {"max_tokens": 12}, record.text(), TokenCounts(5, 17), 100.0)
    assert used_up is not None
    assert (json.loads(used_up.body)["max_tokens"], used_up.seam.mute) == (1, True)


@pytest.mark.parametrize(
    ("counts", "pieces", "tokens"),
    [
        (TokenCounts(5, 15, 10), 10, 10),
        (TokenCounts(5, 13, 10), 10, 10),  # as one text it is cut into fewer tokens
        (TokenCounts(5, 15, 11), 9, 11),  # one piece was two tokens, and as one text it is cut into fewer
        (TokenCounts(5, 15, 20), 10, 10),  # a tokenizer that puts a blank before each piece
        (TokenCounts(5, 17, 10, 10), 10, 12),  # the marks between reasoning and answer
        (TokenCounts(5, 25), 10, 20),
        (TokenCounts(5, 5), 0, 0),
    ],
)
def test_the_tokens_of_the_text_so_far(counts: TokenCounts, pieces: int, tokens: int) -> None:
    assert counted_tokens(counts, pieces) == tokens


def test_a_server_that_does_not_take_the_text_is_not_asked() -> None:
    record = sent(CHAT, *[chunk({"content": "ab "})] * 10)
    assert next_part(CHAT, ASK, record.text(), TokenCounts(5, 6), 0.0) is None


def test_nothing_but_the_head_was_sent() -> None:
    record = sent(CHAT, chunk({"role": "assistant", "content": None}))
    part = next_part(CHAT, ASK | {"max_tokens": 3}, record.text(), None, 0.0)
    assert part is not None
    assert json.loads(part.body) == ASK | {"max_tokens": 3}
    splicer = Splicer(CHAT, part.seam)
    assert splicer.feed(chunk({"role": "assistant", "content": None})) == b""
    assert told(splicer.feed(chunk({"content": "x"})))[0]["choices"][0]["delta"] == {"content": "x"}


def test_reasoning_is_given_back_as_reasoning() -> None:
    record = sent(CHAT, chunk({"reasoning_content": "hm"}))
    body = longer_request(CHAT, ASK, record.text())
    assert body["messages"][-1] == {"role": "assistant", "content": "", "reasoning_content": "hm"}
    assert body["continue_final_message"] == "reasoning_content"
    record = sent(CHAT, chunk({"reasoning_content": "hm"}), chunk({"content": "so"}))
    assert longer_request(CHAT, ASK, record.text())["continue_final_message"] == "content"
    blocks = longer_request(MESSAGES, ASK, record.text())["messages"][-1]["content"]
    assert [block["type"] for block in blocks] == ["thinking", "text"]
    items = longer_request(RESPONSES, {"input": "hi"}, record.text())["input"]
    assert [item.get("type") for item in items] == [None, "reasoning", "message"]


@pytest.mark.parametrize("form", dict.fromkeys(FORMATS.values()))
def test_a_prompt_of_any_form_stays_the_beginning(form: StreamFormat) -> None:
    record = sent(form).text()
    record.add("so far")
    for asked in (PROMPT, {"prompt": [1, 2]}) if form in (TEXT, NATIVE) else (ASK | {"input": "hi"},):
        longer = longer_request(form, asked, record)
        assert longer != asked
        assert "so far" in json.dumps(longer)


@pytest.mark.parametrize(
    ("so_far", "expected", "pieces", "new"),
    [
        ("The sea", False, [" is", " wide"], " is wide"),
        ("The sea", True, ["The sea is", " wide"], " is wide"),
        ("The sea", True, ["The", " end"], "The end"),  # shorter than what was sent: no repetition
        ("ha", False, ["ha", "!"], "ha!"),
        ("ha", True, ["ha!", "!"], "!!"),
        ("🌍", True, ["🌍", "🌍", "!"], "🌍🌍!"),  # a repetition has the first new text with it
        ("🌍", True, ["🌍"], ""),  # nothing was new
        ("🌍", True, ["🌍🌍", "🌍"], "🌍🌍"),
        (LONG, False, [LONG + " and", " more"], " and more"),
        (LONG + "\n", True, [LONG, "\nnext"], "next"),  # the end of it comes later
        (LONG, True, [LONG[:30], LONG[30:] + " more"], " more"),
        (LONG, True, [LONG[:30], "another way"], "another way"),
        ("", True, ["x", "x"], "xx"),
    ],
)
def test_a_repeated_beginning_is_left_out(so_far: str, expected: bool, pieces: list[str], new: str) -> None:  # noqa: FBT001
    echo = EchoFilter(so_far, expected)
    assert "".join(echo.new(piece) for piece in pieces) == new


def seam(**more: object) -> Seam:
    values: dict[str, Any] = {"content": "so far", "reasoning": "", "names": {}, "blocks": {}, "role": True}
    return Seam(**values | {"answer_tokens": 4, "answer_ms": 100.0, "prompt_tokens": 10} | more)


def test_counts_and_timings_are_those_of_the_whole_answer() -> None:
    usage = {"prompt_tokens": 14, "completion_tokens": 6, "total_tokens": 20}
    usage |= {"prompt_tokens_details": {"cached_tokens": 13}}  # type: ignore[dict-item]
    timings = {"cache_n": 13, "prompt_n": 1, "prompt_ms": 5.0, "predicted_n": 6, "predicted_ms": 200.0}
    joined = Splicer(CHAT, seam()).feed(chunk({}, "stop", usage=usage, timings=timings))
    data = told(joined)[0]
    assert data["usage"] == {
        "prompt_tokens": 10,
        "completion_tokens": 10,
        "total_tokens": 20,
        "prompt_tokens_details": {"cached_tokens": 10},
    }
    assert (data["timings"]["cache_n"], data["timings"]["prompt_n"]) == (10, 0)
    assert (data["timings"]["predicted_n"], data["timings"]["predicted_ms"]) == (10, 300.0)
    assert data["timings"]["predicted_per_token_ms"] == 30.0
    assert round(data["timings"]["predicted_per_second"], 3) == 33.333
    assert join_timings({}, seam())["predicted_n"] == 4


def test_a_part_that_only_ends_the_answer_adds_no_text_and_no_token() -> None:
    splicer = Splicer(CHAT, seam(mute=True))
    assert splicer.feed(chunk({"content": "one too many"})) == b""
    usage = {"prompt_tokens": 14, "completion_tokens": 1, "total_tokens": 15}
    end = told(splicer.feed(chunk({}, "length", usage=usage) + b"data: [DONE]\n\n"))[0]
    assert end["usage"]["completion_tokens"] == 4


def test_messages_keep_the_numbers_of_their_parts() -> None:
    events = (
        named("message_start", message={"id": "one"}),
        named("content_block_start", index=0, content_block={"type": "thinking", "thinking": ""}),
        named("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "hm"}),
        named("content_block_start", index=1, content_block={"type": "text", "text": ""}),
        named("content_block_delta", index=1, delta={"type": "text_delta", "text": "so"}),
    )
    part = next_part(MESSAGES, ASK, sent(MESSAGES, *events).text(), None, 0.0)
    assert part is not None
    assert json.loads(part.body)["max_tokens"] == 4096 - 2
    splicer = Splicer(MESSAGES, part.seam)
    out = told(
        splicer.feed(
            named("message_start", message={"id": "two"})
            + named("content_block_start", index=0, content_block={"type": "text", "text": ""})
            + named("content_block_delta", index=0, delta={"type": "text_delta", "text": " be it"})
            + named(
                "content_block_start", index=1, content_block={"type": "tool_use", "id": "t", "name": "f"}
            )
            + named("content_block_delta", index=1, delta={"type": "input_json_delta", "partial_json": "{}"})
            + named("content_block_stop", index=0)
            + named("content_block_stop", index=1)
            + named("message_delta", delta={"stop_reason": "tool_use"}, usage={"output_tokens": 5})
            + named("message_stop")
        )
    )
    assert [(data["type"], data.get("index")) for data in out] == [
        ("content_block_delta", 1),
        ("content_block_start", 2),
        ("content_block_delta", 2),
        ("content_block_delta", 0),  # the signature
        ("content_block_stop", 0),
        ("content_block_stop", 1),
        ("content_block_stop", 2),
        ("message_delta", None),
        ("message_stop", None),
    ]
    assert out[-2]["usage"] == {"output_tokens": 7}


def test_responses_end_with_the_whole_text_under_the_first_names() -> None:
    events = (
        named("response.created", response={"id": "resp_1"}),
        named("response.output_item.added", item={"type": "reasoning", "id": "rs_1"}),
        named("response.reasoning_text.delta", delta="hm", item_id="rs_1"),
    )
    part = next_part(RESPONSES, {"input": "hi"}, sent(RESPONSES, *events).text(), None, 0.0)
    assert part is not None
    item = {"type": "message", "id": "msg_2", "content": [{"type": "output_text", "text": "it"}]}
    out = told(
        Splicer(RESPONSES, part.seam).feed(
            named("response.created", response={"id": "resp_2"})
            + named("response.output_item.added", item={"type": "reasoning", "id": "rs_2"})
            + named("response.reasoning_text.delta", delta=", yes", item_id="rs_2")
            + named("response.output_item.added", item={"type": "message", "id": "msg_2"})
            + named("response.content_part.added", item_id="msg_2", part={})
            + named("response.output_text.delta", delta="it", item_id="msg_2")
            + named("response.output_text.done", text="it", item_id="msg_2")
            + named("response.output_item.done", item=item)
            + named("response.completed", response={"id": "resp_2", "output": [item]})
        )
    )
    kinds = [data["type"].removeprefix("response.") for data in out]
    assert kinds == [
        "reasoning_text.delta",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "output_item.done",
        "completed",
    ]
    assert out[0]["item_id"] == "rs_1"
    answer = out[-1]["response"]
    assert answer["id"] == "resp_1"
    assert [(each["id"], each["content"][0]["text"]) for each in answer["output"]] == [
        ("rs_1", "hm, yes"),
        ("msg_2", "it"),
    ]


def test_an_error_of_the_next_server_and_its_comments_are_passed_on() -> None:
    for form in dict.fromkeys(FORMATS.values()):
        error = b'data: {"error":{"message":"no"}}\n\n'
        assert Splicer(form, seam()).feed(b": ping\n\n" + error) == b": ping\n\n" + error


def test_long_streams_take_the_memory_of_their_text_and_no_more_than_the_budget() -> None:
    charged = [0]

    def afford(count: int) -> bool:
        charged[0] += count
        return True

    record = SentAnswer(CHAT.note, afford)
    event = chunk({"content": "word "}, system_fingerprint="f" * 100)
    for _ in range(100_000):
        record.feed(event, 1.0)
    assert "".join(record.text().content) == "word " * 100_000
    assert charged[0] == record.charged
    assert 900_000 <= record.charged <= 900_000 + RAW_BYTES + CHARGE_BYTES
    assert record.text().each_piece()[-1] == "word "

    refused = SentAnswer(CHAT.note, lambda _: False)
    for _ in range(200):
        refused.feed(event, 1.0)
    assert refused.lost
    assert refused.charged == 0
    assert not refused.text().content


@pytest.mark.parametrize("thinks", [True, False])
@pytest.mark.parametrize("form", [CHAT, MESSAGES])
def test_plain_pieces_are_read_alike_in_both_ways(form: StreamFormat, *, thinks: bool) -> None:
    """The quick way and the whole parser, on texts with quotes, escapes, line ends and other scripts."""
    texts = ['a "b"', "c\\d", "e\nf", "\u00e9\u6728\U0001f600", "}}]", '"},', "\x00", " ", "plain"]
    events = []
    for number, text in enumerate(texts * 2):
        for ascii_only in (True, False):
            if form is CHAT:
                name = "reasoning_content" if thinks else "content"
                data: dict[str, Any] = {"finish_reason": None, "index": 0, "delta": {name: text}}
                data = {"choices": [data], "id": "one", "timings": {"predicted_n": number}}
                head = ""
            else:
                kind = "thinking" if thinks else "text"
                data = {"type": "content_block_delta", "index": 0}
                data |= {"delta": {"type": f"{kind}_delta", kind: text}}
                head = "event: content_block_delta\n"
            told_as = json.dumps(data, ensure_ascii=ascii_only, separators=(",", ":"))
            events.append(f"{head}data: {told_as}\n\n".encode())
    first = chunk({"role": "assistant"}) if form is CHAT else named("message_start", message={"id": "one"})
    quick, whole = (SentAnswer(form.note, lambda _: True, piece) for piece in (form.piece, None))
    for record in (quick, whole):
        record.feed(first, 1.0)
        record.text()  # so that the answer has its names
        record.feed(b"".join(events), 2.0)
    assert quick.text() == whole.text()
    assert quick.text().each_piece() == [text for text in texts * 2 for _ in range(2)]
    assert form.piece is not None
    assert len(form.piece.findall(b"".join(events))) == len(events)


def test_counts_are_taken_out_of_each_event_but_the_last() -> None:
    timings = {"cache_n": 1, "predicted_n": 2}
    events = [chunk({"content": ',"timings":{"x"}'}, timings=timings), chunk({}, "stop", timings=timings)]
    compact = [
        b"data: " + json.dumps(told(each)[0], separators=(",", ":")).encode() + b"\n\n" for each in events
    ]
    out = told(without_counts(b": ping\n\n" + b"".join(compact) + b"data: [DONE]\n\n"))
    assert out == [told(chunk({"content": ',"timings":{"x"}'}))[0], told(events[1])[0]]
    assert without_counts(b"data: [DONE]\n\n") == b"data: [DONE]\n\n"


def test_time_without_a_server_is_no_time_of_the_answer() -> None:
    record = SentAnswer(CHAT.note, lambda _: True)
    record.feed(chunk({"content": "a"}), 10.0)
    record.feed(chunk({"content": "b"}), 12.0)
    assert record.take_ms() == 2000.0
    record.feed(chunk({"content": "c"}), 100.0)
    record.feed(chunk({"content": "d"}), 101.0)
    assert record.take_ms() == 3000.0


def test_events_are_read_and_written_alike() -> None:
    events = b'event: a\ndata: {"type":"a","text":"\xc3\xa4"}\n\ndata: {"b":1}\n\n'
    assert b"".join(map(write_event, read_events(events))) == events
    noise = b": ping\n\ndata: [DONE]\n\ndata: {broken\n\ndata: 7\r\n\r\n"
    assert list(read_events(noise)) == []
    assert read_request(b"[]") is None
    assert read_request(b"\xff") is None
