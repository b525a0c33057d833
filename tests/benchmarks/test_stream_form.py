import json
from typing import Any

import pytest

from benchmarks.lib.stream_form import Reading, parse, read, repeated_at


def chunk(delta: dict[str, Any], finish: str | None = None, **more: object) -> dict[str, Any]:
    choice: dict[str, Any] = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c1", "model": "m", "object": "o", "choices": [choice], **more}


ROLE = chunk({"role": "assistant", "content": None})
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
END: list[Any] = [
    chunk({}, "stop"),
    chunk({}, usage=USAGE, timings={"predicted_n": 2}) | {"choices": []},
    "[DONE]",
]
CHAT = [ROLE, chunk({"reasoning_content": "hm"}), chunk({"content": "a"}), chunk({"content": "b"}), *END]

OPENED = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
SAID = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}}
MESSAGES = [
    {"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 3}}},
    OPENED,
    SAID,
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}},
    {"type": "message_stop"},
]


def stream(contents: list[Any]) -> str:
    lines = []
    for content in contents:
        name = f"event: {content['type']}\n" if "type" in content else ""
        data = content if isinstance(content, str) else json.dumps(content)
        lines.append(f"{name}data: {data}\n\n: a comment\n\n")
    return "".join(lines)


def reading(api: str, contents: list[Any]) -> Reading:
    return read(api, parse(stream(contents)))


def test_a_whole_chat_is_read() -> None:
    told = reading("chat", CHAT)
    assert (told.reasoning, told.text, told.finish, told.ended, told.failed) == (
        "hm",
        "ab",
        "stop",
        True,
        False,
    )
    assert (told.tokens, told.prompt_tokens, told.problems) == (2, 3, [])


def test_a_whole_message_is_read() -> None:
    told = reading("messages", MESSAGES)
    assert (told.text, told.finish, told.ended, told.tokens) == ("hi", "end_turn", True, 1)
    assert told.problems == []


@pytest.mark.parametrize(
    ("contents", "problem"),
    [
        ([ROLE, *CHAT], "the role came 2 times"),
        ([*CHAT[:3], chunk({"content": "b"}) | {"id": "c2"}, *END], "2 values of id"),
        ([*CHAT[:4], END[0], *END], "the finish reason came 2 times"),
        ([*CHAT, "[DONE]"], "[DONE] came 2 times"),
        ([*CHAT[:3], chunk({"reasoning_content": "x"}), *END], "reasoning after the answer has begun"),
        ([*CHAT[:4], END[0], chunk({"content": "c"}), *END[1:]], "text after the finish reason"),
        ([*CHAT[:4], END[0], "[DONE]"], "usage came 0 times"),
        ([*CHAT[:4], END[0], END[1] | {"timings": {"predicted_n": 1}}, "[DONE]"], "timings and usage differ"),
    ],
)
def test_what_is_wrong_with_a_chat_is_said(contents: list[Any], problem: str) -> None:
    assert reading("chat", contents).problems == [problem]


@pytest.mark.parametrize(
    ("contents", "problem"),
    [
        ([MESSAGES[0], *MESSAGES], "message_start came 2 times"),
        ([MESSAGES[0], OPENED, OPENED | {"index": 1}, *MESSAGES[2:]], "a block opens at a wrong index"),
        ([*MESSAGES[:3], *MESSAGES[4:]], "a block is open at the end"),
        ([*MESSAGES[:4], SAID, *MESSAGES[4:]], "a delta outside its block"),
    ],
)
def test_what_is_wrong_with_a_message_is_said(contents: list[Any], problem: str) -> None:
    assert problem in reading("messages", contents).problems


def test_an_error_event_ends_no_answer() -> None:
    told = reading("chat", [*CHAT[:3], {"error": {"message": "gone"}}])
    assert (told.failed, told.ended, told.text) == (True, False, "a")


def test_text_that_is_said_again_after_the_seam_is_found() -> None:
    assert repeated_at(8, "The blue blue sky") == " blue"
    assert repeated_at(13, "The blue blue blue sky") == "", "it goes round in circles anyway"
    assert repeated_at(8, "The blue sky") == ""
