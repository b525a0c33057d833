"""Answers that go on without their client, as the pages of llama-server ask for: on the real server."""

import asyncio
import json
import signal
from typing import Any

import aiohttp

from qwenctl.gate.kept_streams import MOST_BYTES, STEP_BYTES, KeptStream, KeptStreams
from qwenctl.gate.options import GateLimits
from tests.gate.conftest import Play
from tests.gate.driver import Driver, Setup, until

CHAT: dict[str, Any] = {
    "messages": [{"role": "user", "content": "hi"}],
    "stream": True,
    "ignore_eos": True,
    "temperature": 0,
}
CONVERSATION = "a/b c?d=&%::the/model"
NAMED = {"X-Conversation-Id": CONVERSATION}
ENDLESS = 100_000
DONE = b"data: [DONE]\n\n"


async def leave_one_running(driver: Driver, session: aiohttp.ClientSession, tokens: int) -> int:
    """Begin an answer, read a little of it and go; return how many bytes were read."""
    body = CHAT | {"max_tokens": tokens}
    async with session.post(driver.url + "/v1/chat/completions", json=body, headers=NAMED) as answer:
        assert answer.status == 200, await answer.text()
        read = len(await answer.content.readany())
        answer.close()
    return read


async def rest(driver: Driver, session: aiohttp.ClientSession, start: int) -> bytes:
    async with session.get(driver.url + "/v1/stream", params=asked(start)) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.content.read()


async def lookup(driver: Driver, session: aiohttp.ClientSession, *names: str) -> list[dict[str, Any]]:
    url, body = driver.url + "/v1/streams/lookup", {"conversation_ids": list(names)}
    async with session.post(url, json=body) as answer:
        found: list[dict[str, Any]] = await answer.json()
        return found


def test_a_wanted_stop_waits_for_it_and_the_next_child_finishes_it(playing: Play) -> None:
    """The server itself would hang when it is told to stop while one runs."""

    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        await leave_one_running(driver, session, 3000)
        assert driver.gate.stats().in_flight == 1
        assert driver.gate.stats().idle_since is None
        assert not await driver.gate.drain(0.1)
        async with asyncio.timeout(10):
            await driver.down(signal.SIGTERM, "stopping")
        await driver.up()
        whole = await rest(driver, session, 0)
        assert b": continued" in whole
        assert whole.endswith(DONE)
        assert driver.gate.stats().continued == 1

    playing(scenario, lambda: Setup(context=131072))


def test_it_outlives_its_child_while_nobody_reads(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        read = await leave_one_running(driver, session, 3000)
        await driver.down()
        await driver.up()
        second = await rest(driver, session, read)
        whole = await rest(driver, session, 0)
        assert whole[read:] == second
        assert whole.endswith(DONE)

    playing(scenario, lambda: Setup(context=131072))


def test_a_wanted_stop_lets_such_an_answer_finish(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        await leave_one_running(driver, session, 1000)
        assert await driver.gate.drain(30.0)
        assert (await rest(driver, session, 0)).endswith(DONE)

    playing(scenario, lambda: Setup(context=131072))


def test_a_server_with_such_an_answer_is_not_idle_until_it_is_over(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        await leave_one_running(driver, session, 1500)
        await until(driver.unloaded.is_set, within=40)
        assert (await lookup(driver, session, CONVERSATION))[0]["is_done"]
        assert (await rest(driver, session, 0)).endswith(DONE)

    playing(scenario, lambda: Setup(context=131072, idle_unload_s=0.2))


def test_a_client_that_comes_back_finds_the_bytes_where_it_left_off(playing: Play) -> None:
    """It counts what it has read, the comments of the gate included."""

    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        body = CHAT | {
            "max_tokens": 200,
            "messages": [{"role": "user", "content": "once upon a time " * 200}],
        }
        head = NAMED | {"Content-Type": "application/json"}
        async with session.post(driver.url + "/v1/chat/completions", json=body, headers=head) as answer:
            first = await answer.content.readany()
            answer.close()
        second = await rest(driver, session, len(first))
        assert first + second == await rest(driver, session, 0)
        assert second.endswith(DONE)

    flags = ("--sse-ping-interval", "1")
    limits = GateLimits(comment_after_s=0.05, comment_every_s=0.05)
    playing(scenario, lambda: Setup(context=131072, limits=limits, flags=flags))


def test_the_routes_answer_as_those_of_the_server(playing: Play) -> None:
    """Compare with llama-server's own tests of them (``test_stream.py``)."""

    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        await leave_one_running(driver, session, ENDLESS)
        name = CONVERSATION.partition("::")[0]
        found = await lookup(driver, session, "unknown", name)
        assert [each["conversation_id"] for each in found] == [CONVERSATION]
        assert not found[0]["is_done"]
        assert found[0]["completed_at"] == 0
        for query, status, words in (
            ({"conv_id": "unknown"}, 404, "Stream not found or expired"),
            ({}, 400, "Missing conversation id"),
            ({"conv_id": CONVERSATION, "from": "x"}, 400, "Invalid 'from' offset"),
        ):
            async with session.get(driver.url + "/v1/stream", params=query) as answer:
                assert answer.status == status
                assert words in (await answer.json())["error"]["message"]
        async with session.post(driver.url + "/v1/streams/lookup", data=b"[") as answer:
            assert answer.status == 400
        for _ in range(2):  # to end one that is gone is no error
            async with session.delete(driver.url + "/v1/stream", params=asked(0)) as answer:
                assert answer.status == 204
        await until(lambda: driver.gate.stats().in_flight == 0)
        assert await lookup(driver, session, CONVERSATION) == []

    playing(scenario, lambda: Setup(context=131072))


def test_a_new_answer_of_a_conversation_ends_the_one_before(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        await leave_one_running(driver, session, ENDLESS)
        await leave_one_running(driver, session, 20)
        assert (await rest(driver, session, 0)).endswith(DONE)
        await until(lambda: driver.gate.stats().in_flight == 0)

    playing(scenario, lambda: Setup(context=131072))


def test_a_refusal_is_passed_on_and_not_kept(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        body = {"stream": True, "messages": "none"}
        async with session.post(driver.url + "/v1/chat/completions", json=body, headers=NAMED) as answer:
            assert answer.status in (400, 500)
            assert "error" in json.loads(await answer.read())
        assert await lookup(driver, session, CONVERSATION) == []

    playing(scenario)


def test_memory_is_bounded_by_the_budget_and_finished_streams_go_first() -> None:
    async def run() -> None:
        left = [4 * STEP_BYTES]

        def afford(count: int) -> bool:
            enough = left[0] >= count
            left[0] -= count if enough else 0
            return enough

        def give(count: int) -> None:
            left[0] += count

        async def nothing(stream: KeptStream) -> None:
            stream.head = (200, None, [])

        streams = KeptStreams(afford, give)
        old, new = streams.begin("old", nothing), streams.begin("new", nothing)
        streams.keep(old, b"x" * 3 * STEP_BYTES)
        assert left == [STEP_BYTES]
        old.finish()
        streams.keep(new, b"y" * 4 * STEP_BYTES)  # the finished one makes room
        assert new.dropped == 0
        streams.keep(new, b"z" * STEP_BYTES)
        assert (new.dropped, new.total_bytes) == (STEP_BYTES, 5 * STEP_BYTES)
        assert await new.read(0) is None
        assert (await new.read(4 * STEP_BYTES)) == b"z" * STEP_BYTES
        await streams.close()
        assert left == [4 * STEP_BYTES]

        whole = KeptStreams(lambda _: True, lambda _: None)
        long = whole.begin("long", nothing)
        whole.keep(long, b"x" * (MOST_BYTES + 7))
        assert long.dropped == 7
        await whole.close()

    asyncio.run(run())


def asked(start: int) -> dict[str, str]:
    return {"conv_id": CONVERSATION, "from": str(start)}
