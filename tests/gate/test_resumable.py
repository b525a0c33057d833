"""Answers that go on without their client, as the pages of llama-server ask for: on the real server."""

import asyncio
import signal

import aiohttp

from qwenctl.engine.api import ServerApi
from qwenctl.gate.options import GateLimits
from tests.gate.conftest import Play
from tests.gate.driver import Driver, Setup, direct, until

CHAT = {"messages": [{"role": "user", "content": "hi"}], "stream": True, "ignore_eos": True}
CONVERSATION = "a/b c?d=&%::the/model"
NAMED = {"X-Conversation-Id": CONVERSATION}
ENDLESS = 100_000


async def leave_one_running(driver: Driver, session: aiohttp.ClientSession, tokens: int) -> int:
    """Begin an answer, read a little of it and go; return how many bytes were read."""
    body = CHAT | {"max_tokens": tokens}
    async with session.post(driver.url + "/v1/chat/completions", json=body, headers=NAMED) as answer:
        assert answer.status == 200, await answer.text()
        read = len(await answer.content.readany())
        answer.close()
    await until(lambda: driver.gate.stats().in_flight == 0)
    return read


async def runs(driver: Driver) -> bool:
    async with ServerApi(driver.spec.address) as api:
        return bool(await api.running_streams((CONVERSATION,)))


def test_a_stop_ends_an_answer_that_nobody_reads(playing: Play) -> None:
    """The server itself hangs when it is told to stop while one runs."""

    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        await leave_one_running(driver, session, ENDLESS)
        assert await runs(driver)
        assert driver.gate.stats().idle_since is None
        await driver.gate.drain(0.1)
        async with asyncio.timeout(10):
            await driver.down(signal.SIGTERM, "stopping")

    playing(scenario, lambda: Setup(context=131072))


def test_a_stop_ends_an_answer_whose_client_still_reads(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        body = CHAT | {"max_tokens": ENDLESS}
        async with session.post(driver.url + "/v1/chat/completions", json=body, headers=NAMED) as answer:
            await answer.content.readany()
            assert not await driver.gate.drain(0.1)
            async with asyncio.timeout(10):
                await driver.down(signal.SIGTERM, "stopping")
            assert b'data: {"error"' in await answer.content.read()

    playing(scenario, lambda: Setup(context=131072))


def test_a_wanted_stop_lets_such_an_answer_finish(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        await leave_one_running(driver, session, 1000)
        assert await runs(driver)
        await driver.gate.drain(30.0)
        assert not await runs(driver)
        async with direct(driver) as child, child.get("http://x/v1/stream", params=asked(0)) as whole:
            assert whole.status == 200, "it was ended, not finished"
            assert (await whole.read()).endswith(b"data: [DONE]\n\n")

    playing(scenario, lambda: Setup(context=131072))


def test_a_server_with_such_an_answer_is_not_idle_until_it_is_over(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        await leave_one_running(driver, session, 1500)
        assert await runs(driver)
        await until(driver.unloaded.is_set, within=40)
        assert not await runs(driver)
        async with session.get(driver.url + "/v1/stream", params=asked(0)) as whole:
            assert (await whole.read()).endswith(b"data: [DONE]\n\n")

    playing(scenario, lambda: Setup(context=131072, idle_unload_s=0.2))


def test_a_client_that_comes_back_finds_the_bytes_where_it_left_off(playing: Play) -> None:
    """It counts what it has read, so the gate adds no comment of its own and takes none away."""

    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        body = CHAT | {
            "max_tokens": 200,
            "messages": [{"role": "user", "content": "once upon a time " * 200}],
        }
        head = NAMED | {"Content-Type": "application/json"}
        async with session.post(driver.url + "/v1/chat/completions", json=body, headers=head) as answer:
            first = await answer.content.readany()
            answer.close()
        async with session.get(driver.url + "/v1/stream", params=asked(len(first))) as rest:
            second = await rest.content.read()
        async with session.get(driver.url + "/v1/stream", params=asked(0)) as whole:
            assert first + second == await whole.content.read()
        assert second.endswith(b"data: [DONE]\n\n")

    flags = ("--sse-ping-interval", "1")
    limits = GateLimits(comment_after_s=0.05, comment_every_s=0.05)
    playing(scenario, lambda: Setup(context=131072, limits=limits, flags=flags))


def asked(start: int) -> dict[str, str]:
    return {"conv_id": CONVERSATION, "from": str(start)}
