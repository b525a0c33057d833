"""A gate that leaves a socket which outlives it: what came before is answered, what comes waits."""

import asyncio

import aiohttp

from tests.gate.conftest import Play
from tests.gate.driver import Driver, until

CHAT = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
PATIENCE_S = 10


def test_clients_that_connected_before_are_answered_once_more_and_later_ones_wait_for_the_next_gate(
    playing: Play,
) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        url = driver.url + "/v1/chat/completions"
        async with aiohttp.ClientSession() as kept:
            async with kept.post(url, json=CHAT) as answer:
                assert "Connection" not in answer.headers
            early = await connection(driver)
            driver.gate.leave()
            driver.tell("draining")
            late = asyncio.create_task(session.post(url, json=CHAT))
            draining = asyncio.create_task(driver.gate.drain(PATIENCE_S))
            async with kept.post(url, json=CHAT) as answer:
                assert (answer.status, answer.headers["Connection"]) == (200, "close")
            assert (await said(early)).startswith(b"HTTP/1.1 200")
            assert await draining
            assert not late.done()
            loop = asyncio.get_running_loop()
            next_gate, _ = await asyncio.wait_for(loop.sock_accept(driver.listening), PATIENCE_S)
            assert (await loop.sock_recv(next_gate, 4096)).startswith(b"POST /v1/chat/completions")
            late.cancel()
            next_gate.close()

    playing(scenario)


def test_a_connection_without_a_request_is_closed(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        del session
        reader, writer = await connection(driver)
        await until(lambda: driver.gate.stats().in_flight == 0)
        driver.gate.leave()
        assert await driver.gate.drain(PATIENCE_S)
        assert await asyncio.wait_for(reader.read(), PATIENCE_S) == b""
        writer.close()

    playing(scenario)


async def connection(driver: Driver) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect, be accepted, and say nothing yet."""
    pair = await asyncio.open_connection("127.0.0.1", driver.port)
    async with aiohttp.ClientSession() as other, other.get(driver.url + "/health") as answer:
        assert answer.status == 200  # it came later, and was accepted
    return pair


async def said(pair: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> bytes:
    """Ask at last, and read to the end."""
    reader, writer = pair
    writer.write(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), PATIENCE_S)
    writer.close()
    return answer
