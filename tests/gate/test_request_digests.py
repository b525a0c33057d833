"""Requests are known again by digests: by value, for each API, and never with the text itself."""

import dataclasses
import json
import time
from typing import Any

import pytest

from qwenctl.gate.slots import request_digests as requests
from qwenctl.gate.slots.request_digests import ParsedRequest, SharedDepth, parse_request
from qwenctl.gate.slots.text_chain import BLOCK_CHARS, agreed_blocks, agreed_chars, chain_of

LONG = "".join(f"line {number} of a long text\n" for number in range(400))
USER, SAID = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}
TOOL = {"name": "read", "description": LONG, "input_schema": {"type": "object"}}


def parsed(path: str, **body: object) -> ParsedRequest:
    found = parse_request(path, json.dumps(body).encode())
    assert found is not None
    return found


def chat(*messages: dict[str, Any], path: str = "/v1/chat/completions", **more: object) -> ParsedRequest:
    return parsed(path, messages=list(messages), **more)


def test_two_texts_agree_as_far_as_their_digests_do() -> None:
    whole = chain_of(LONG)
    for at in (0, 255, 256, 257, 5000, len(LONG) - 1):
        other = chain_of(LONG[:at] + "#" + LONG[at + 1 :])
        assert agreed_blocks(whole, other) == at // BLOCK_CHARS
    assert agreed_chars(whole, chain_of(LONG)) == len(LONG)
    assert agreed_blocks(chain_of(""), whole) == 0


def test_a_later_turn_continues_an_earlier_one_and_no_other_conversation() -> None:
    first = chat(USER)
    second = chat(USER, SAID, {"role": "user", "content": "and?"})
    assert requests.continues_request(second, first.digests)
    assert requests.continues_request(first, first.digests)
    assert not requests.is_longer(first, first.digests)
    assert requests.is_longer(second, first.digests)
    assert not requests.continues_request(first, second.digests)
    for other in (
        chat({"role": "user", "content": "ho"}, SAID, {"role": "user", "content": "and?"}),
        chat({"role": "system", "content": "x"}, USER, SAID, {"role": "user", "content": "and?"}),
        chat(USER, SAID, {"role": "user", "content": "and?"}, tools=[TOOL]),
    ):
        assert not requests.continues_request(other, first.digests)


def test_what_a_client_moves_about_does_not_make_another_conversation() -> None:
    block = {"type": "text", "text": "hi"}
    marked = {"role": "user", "content": [{**block, "cache_control": {"type": "ephemeral"}}]}
    first = chat(marked, path="/v1/messages", system=[{**block, "cache_control": {"type": "ephemeral"}}])
    second = chat(
        {"role": "user", "content": [block]}, SAID, USER, path="/v1/messages", system=[block], tools=None
    )
    assert requests.continues_request(second, first.digests)
    billed = "x-anthropic-billing-header: cc_version=1; cch={}; be good"
    one, two = (chat(USER, path="/v1/messages", system=billed.format(count)) for count in ("0a1b2", "99999"))
    assert one.digests == two.digests


@pytest.mark.parametrize(
    ("path", "first", "second"),
    [
        (
            "/v1/messages",
            {"system": LONG, "messages": [USER]},
            {"system": LONG, "messages": [USER, SAID, USER]},
        ),
        (
            "/v1/responses",
            {"instructions": LONG, "input": "hi"},
            {"instructions": LONG, "input": [USER, SAID]},
        ),
        ("/completion", {"prompt": LONG}, {"prompt": LONG + "and then?"}),
        ("/v1/completions", {"prompt": LONG}, {"prompt": LONG + "and then?"}),
        ("/completion", {"prompt": [1, 2, 3]}, {"prompt": [1, 2, 3, 44]}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_api_is_understood(path: str, first: dict[str, Any], second: dict[str, Any]) -> None:
    earlier = parsed(path, **first)
    assert requests.continues_request(parsed(path, **second), earlier.digests)
    assert earlier.pinnable is (path != "/v1/messages")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"nonsense",
        b'{"messages": 5}',
        b'{"messages": []}',
        b'{"prompt": ["one", "two"]}',
        b"[" * 100_000,
        b'{"messages": [' + b"7," * 9 + b"null]}",
        b'{"messages": [{"role": ["a"], "content": {"b": 1}}], "tools": 3, "system": 9}',
        b'{"messages": [{"content": "\\ud800"}]}',
    ],
)
def test_any_body_is_read_or_left_alone(body: bytes) -> None:
    for path in (*requests.CHAT_PATHS, *requests.PROMPT_PATHS, "/v1/embeddings"):
        parse_request(path, body)


def test_a_client_may_choose_its_slot_or_want_nothing_cached() -> None:
    assert not chat(USER).pinned
    assert chat(USER, id_slot=1).pinned
    assert chat(USER, cache_prompt=False).pinned
    assert parsed("/completion", prompt="x", cache_prompt=False).pinned


def test_sessions_share_what_comes_before_the_first_difference() -> None:
    one, two = (
        chat({"role": "system", "content": f"{LONG}You are in {place}. {LONG}"}, USER, tools=[TOOL])
        for place in ("apples", "pears")
    )
    depth = requests.shared_depth(one.digests, two.digests)
    assert depth == SharedDepth(
        len(one.digests.tools.blocks), (len(LONG) + len("You are in ")) // BLOCK_CHARS, 0
    )
    third = chat({"role": "system", "content": f"{LONG}You are in plums. {LONG}"}, SAID, tools=[TOOL])
    assert requests.reaches(third.digests, one.digests, depth)
    for other in (
        chat({"role": "system", "content": f"{LONG}You are in plums. {LONG}"}, USER),
        chat({"role": "system", "content": LONG[:500]}, USER, tools=[TOOL]),
    ):
        assert not requests.reaches(other.digests, one.digests, depth)


def test_a_text_is_stable_to_before_what_changes_from_session_to_session() -> None:
    for word in ("2026-11-26", "/home/me/project", "/tmp/x1", "12:30:59"):
        assert requests.stable_chars(f"be good. Today: {word}, and so on") <= len("be good. Today: ") + 2
    uuid = "be good 0b1c2d3e-1111-2222-3333-444455556666"
    assert requests.stable_chars(uuid) < len(uuid)
    assert requests.stable_chars("section 20-30, see /usr/share") == len("section 20-30, see /usr/share")


def test_no_text_is_kept_in_digests() -> None:
    one = chat({"role": "user", "content": LONG}, tools=[TOOL])
    kept = json.dumps(dataclasses.asdict(one.digests))
    assert "line" not in kept
    assert len(kept) < len(LONG)


def test_a_megabyte_takes_some_milliseconds_and_a_bounded_place() -> None:
    """The bound is ten times what it takes, so that a busy machine does not break it."""
    body = json.dumps({"messages": [{"role": "user", "content": "a b c d " * 500}] * 256}).encode()
    assert len(body) > 1_000_000
    took, found = [], None
    for _ in range(3):
        since = time.perf_counter()
        found = parse_request("/v1/chat/completions", body)
        took.append(time.perf_counter() - since)
    assert found is not None
    assert len(found.digests.messages.blocks) <= 4096
    assert len(found.digests.ends) <= requests.KEPT_ENDS
    assert min(took) < 0.15, took
    assert parse_request("/v1/chat/completions", b" " * (requests.MAX_BODY_BYTES + 1)) is None
