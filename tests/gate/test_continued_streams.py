"""A stream that lost its server is finished by the next one: on the real server, with a real small model."""

import json
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from qwenctl.gate.options import GateLimits
from tests.fakes.real_models import smollm2
from tests.gate.driver import Driver, Scenario, Setup, play
from tests.gate.talk import TEMPLATE

QUESTION = "Count from 1 to 40."
PROMPT = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13,"
"""Each token of their answers is far ahead of the next best: the last digits of a sum, which differ between
one token at a time and many at once, and between processors, change no word.
"""
TOKENS = 40
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}, "city": {"type": "string"}},
    "required": ["name", "age", "city"],
}
CHAT: dict[str, Any] = {
    "messages": [{"role": "user", "content": QUESTION}],
    "max_tokens": TOKENS,
    "temperature": 0,
    "stream": True,
}
COMMENT = b": continued"
Told = tuple[str, dict[str, Any]]


@pytest.fixture
def real(server_binary: Path) -> Callable[..., None]:
    """Run a scenario with SmolLM2 behind a gate."""

    def run(scenario: Scenario, setup: Callable[[], Setup]) -> None:
        play(server_binary, smollm2(), scenario, setup)

    return run


def setup() -> Setup:
    return Setup(limits=GateLimits(child_gone_s=5.0), parallel=1, context=2048)


def events(stream: bytes) -> list[Told]:
    """All events with a table, with their names."""
    told, name = [], ""
    for line in stream.decode().splitlines():
        if line.startswith("event:"):
            name = line[6:].strip()
        elif line.startswith("data:") and line[5:].strip() != "[DONE]":
            told.append((name, json.loads(line[5:])))
            name = ""
    return told


def pieces(told: list[Told]) -> list[str]:
    """The pieces of text, whatever the API."""
    found: list[Any] = []
    for _, data in told:
        for choice in data.get("choices", ()):
            found += [choice.get("text"), choice.get("delta", {}).get("content")]
        delta = data.get("delta")
        found += [data.get("content"), delta.get("text") if isinstance(delta, dict) else None]
        found.append(delta if data.get("type") == "response.output_text.delta" else None)
    return [piece for piece in found if isinstance(piece, str) and piece]


async def whole(driver: Driver, session: aiohttp.ClientSession, path: str, body: dict[str, Any]) -> bytes:
    async with session.post(driver.url + path, json=body) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.read()


async def cut(
    driver: Driver,
    session: aiohttp.ClientSession,
    path: str,
    body: dict[str, Any],
    after: tuple[int, ...],
    number: signal.Signals = signal.SIGKILL,
    count: Callable[[list[Told]], list[str]] | None = None,
) -> bytes:
    """The same, while the child is ended each time so many pieces have come."""
    came = b""
    async with session.post(driver.url + path, json=body) as answer:
        assert answer.status == 200, await answer.text()
        for many in after:
            while len((count or pieces)(events(came[: came.rfind(b"\n\n") + 2]))) < many:
                data = await answer.content.readany()
                assert data, "it ended before it was cut"
                came += data
            await driver.down(number)
            await driver.up()
        return came + await answer.content.read()


APIS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", CHAT | {"stream_options": {"include_usage": True}}),
    "messages": ("/v1/messages", CHAT),
    "responses": (
        "/v1/responses",
        {"input": QUESTION, "max_output_tokens": TOKENS, "temperature": 0, "stream": True},
    ),
    "completions": (
        "/v1/completions",
        {"prompt": PROMPT, "max_tokens": TOKENS, "temperature": 0, "stream": True},
    ),
    "native": (
        "/completion",
        {"prompt": PROMPT, "n_predict": TOKENS, "temperature": 0, "stream": True},
    ),
}


@pytest.mark.parametrize("api", APIS)
def test_the_client_sees_one_whole_answer(real: Callable[..., None], api: str) -> None:
    path, body = APIS[api]

    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        first = events(await whole(driver, session, path, body))
        came = await cut(driver, session, path, body, (7, 19))
        assert came.count(COMMENT) == 2
        second = events(came)
        assert "".join(pieces(second)) == "".join(pieces(first))
        assert kinds(second) == kinds(first)
        assert ends(second) == ends(first)
        assert driver.gate.stats().continued == 1

    real(scenario, setup)


def test_a_schema_holds_over_the_seam(real: Callable[..., None]) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA}}
    messages = [{"role": "user", "content": "Give me a person as JSON with name, age, city."}]
    body = CHAT | {"messages": messages, "response_format": wanted}

    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        came = await cut(driver, session, "/v1/chat/completions", body, (9,))
        person = json.loads("".join(pieces(events(came))))
        assert set(person) == {"name", "age", "city"}

    real(scenario, setup)


BUDGET = 12


@pytest.mark.parametrize("api", ["chat", "messages", "responses"])
def test_reasoning_stays_reasoning(real: Callable[..., None], api: str) -> None:
    """One cut falls into the reasoning, one into the answer."""
    path, body = APIS[api]
    thinking: dict[str, Any] = {
        "thinking_budget_tokens": BUDGET,
        "thinking": {"type": "enabled", "budget_tokens": BUDGET},
    }
    story = "Write three sentences about the sea."
    thinking |= {"input": story} if api == "responses" else {"messages": [{"role": "user", "content": story}]}

    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        first = events(await whole(driver, session, path, body | thinking))
        came = await cut(driver, session, path, body | thinking, (2, 9), count=thoughts_and_pieces)
        assert came.count(COMMENT) == 2
        second = events(came)
        assert 2 < len(thoughts(second)) <= BUDGET
        assert pieces(second)
        assert thoughts_and_pieces(second)[: len(thoughts(second))] == thoughts(second), "thoughts come first"
        assert kinds(second) == kinds(first)

    flags = ("--chat-template", TEMPLATE, "--reasoning-format", "deepseek")
    real(scenario, lambda: replace(setup(), flags=flags))


def thoughts(told: list[Told]) -> list[str]:
    """The pieces of reasoning."""
    found: list[Any] = []
    for _, data in told:
        found += [each["delta"].get("reasoning_content") for each in data.get("choices", ())]
        delta = data.get("delta")
        found.append(delta.get("thinking") if isinstance(delta, dict) else None)
        found.append(delta if data.get("type") == "response.reasoning_text.delta" else None)
    return [piece for piece in found if isinstance(piece, str) and piece]


def thoughts_and_pieces(told: list[Told]) -> list[str]:
    """All text in the order in which it came."""
    return [piece for one in told for piece in (*thoughts([one]), *pieces([one]))]


def test_a_stream_that_was_drained_too_long_is_finished_after_the_restart(real: Callable[..., None]) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        first = await whole(driver, session, "/v1/chat/completions", CHAT)
        async with session.post(driver.url + "/v1/chat/completions", json=CHAT) as answer:
            came = await answer.content.readany()
            assert not await driver.gate.drain(0.0)
            await driver.down(signal.SIGTERM, "stopping")
            await driver.up()
            came += await answer.content.read()
        assert "".join(pieces(events(came))) == "".join(pieces(events(first)))

    real(scenario, setup)


CANNOT: dict[str, dict[str, Any]] = {
    "logprobs": {"logprobs": True},
    "two answers": {"n": 2},
    "a grammar": {"grammar": "root ::= [a-z ]+"},
    "a text to continue": {"messages": [*CHAT["messages"], {"role": "assistant", "content": "The sea"}]},
}


@pytest.mark.parametrize("why", CANNOT)
def test_what_cannot_be_continued_honestly_ends_with_an_error(real: Callable[..., None], why: str) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        came = await cut(driver, session, "/v1/chat/completions", CHAT | CANNOT[why], (3,))
        assert COMMENT not in came
        assert events(came)[-1][1]["error"]["code"] == "server_restarted"
        assert driver.gate.stats().continued == 0

    real(scenario, lambda: replace(setup(), parallel=2))


def test_a_stream_that_crashes_two_servers_alone_is_given_up(real: Callable[..., None]) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        came = await cut(driver, session, "/v1/chat/completions", CHAT, (3, 6), signal.SIGABRT)
        assert events(came)[-1][1]["error"]["code"] == "crashed"

    real(scenario, setup)


def test_without_memory_for_it_a_stream_ends_as_before(real: Callable[..., None]) -> None:
    """The request fits into the budget, and what was sent of a long answer does not."""
    body = CHAT | {"max_tokens": 1500, "ignore_eos": True}

    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        came = await cut(driver, session, "/v1/chat/completions", body, (200,))
        assert events(came)[-1][1]["error"]["code"] == "server_restarted"

    real(scenario, lambda: replace(setup(), limits=GateLimits(child_gone_s=5.0, max_held_bytes=20_000)))


def test_counts_that_the_client_did_not_ask_for_do_not_reach_it(real: Callable[..., None]) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        wanted = {"response_format": {"type": "json_schema", "json_schema": {"name": "p", "schema": SCHEMA}}}
        for asked, shown in ((wanted, 1), (wanted | {"timings_per_token": True}, 10)):
            told = events(await whole(driver, session, "/v1/chat/completions", CHAT | asked))
            assert sum("timings" in data for _, data in told) >= shown
            assert (sum("timings" in data for _, data in told) == 1) is (shown == 1)

    real(scenario, setup)


def kinds(told: list[Told]) -> list[str]:
    """What kinds of events come, in their order, each once in a row."""
    names = [str(data.get("type") or sorted(data)) for _, data in told]
    return [name for at, name in enumerate(names) if at == 0 or names[at - 1] != name]


def ends(told: list[Told]) -> list[Any]:
    """What a client may count on: one name, one role, one reason to end, counts that add up."""
    found: list[Any] = []
    names = set()
    for _, data in told:
        names.add(data.get("id"))
        for choice in data.get("choices", ()):
            found += [choice.get("finish_reason"), choice.get("delta", {}).get("role")]
        found.append(counts(data.get("usage")))
        if data.get("stop"):
            found += [data["tokens_predicted"], data["tokens_evaluated"], data["stop_type"], data["prompt"]]
        answer = data.get("response") or data.get("message") or {}
        if data.get("type") == "response.completed":
            found += [counts(answer.get("usage")), answer["output"][0]["content"], answer["status"]]
        if data.get("type") == "message_delta":
            found.append(data["delta"])
        timings = data.get("timings")
        if timings is not None:
            found.append((timings["predicted_n"], timings["cache_n"] + timings["prompt_n"]))
    assert len(names - {None}) <= 1
    return [each for each in found if each is not None]


def counts(usage: dict[str, Any] | None) -> dict[str, Any] | None:
    if usage is None:
        return None
    return {name: count for name, count in usage.items() if "details" not in name and "cache" not in name}
