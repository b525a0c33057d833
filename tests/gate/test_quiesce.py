"""A gate at rest: it reads nothing, accepts nothing, refuses nobody, and goes on as if nothing had been."""

import asyncio
import os

import aiohttp
import pytest

from qwenctl.engine.address import Address
from tests.gate.conftest import Play
from tests.gate.driver import Driver, until

HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
SHORT_S = 0.2


async def connect(driver: Driver) -> Streams:
    """Connect to the gate."""
    return await asyncio.open_connection("127.0.0.1", driver.port)


async def answered(client: Streams) -> bytes:
    """Ask on a connection, and return the head of the answer."""
    client[1].write(HEALTH)
    return await heard(client)


async def heard(client: Streams) -> bytes:
    """Return the head of an answer, and read its body."""
    head = await client[0].readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
    await client[0].readexactly(int(length.split()[1]))
    return head


async def silent(client: Streams) -> None:
    """Check that nothing comes, and that the connection stays."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(SHORT_S):
            await client[0].read(1)


def test_who_asks_meanwhile_waits_and_is_answered_afterwards(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        del session
        rest = driver.gate.quiescence
        before = await connect(driver)
        await answered(before)
        for _ in range(2):
            await rest.begin()
            after = await connect(driver)
            for each in (before, after):
                each[1].write(HEALTH)
            await silent(before)
            await silent(after)
            assert rest.busy() == 0
            assert len(rest.passed()[0].connections) == 1, "who has just connected is in the queue"
            await rest.end()
            for each in (before, after):
                assert b" 200 " in await heard(each)
            after[1].close()
            await until(lambda: len(rest.passed()[0].connections) == 1)
        before[1].close()

    playing(scenario)


def test_an_answer_under_way_is_counted_until_its_last_byte_and_its_connection_then_rests(
    playing: Play,
) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        rest = driver.gate.quiescence
        body = {"prompt": "x", "n_predict": 100_000, "ignore_eos": True, "stream": True}
        async with session.post(f"{driver.url}/completion", json=body) as answer:
            await answer.content.readany()
            await rest.begin()
            assert rest.busy() == 1
            assert await answer.content.readany(), "it goes on"
        await until(lambda: rest.busy() == 0)
        await rest.end()

    playing(scenario)


def test_a_body_that_is_half_here_is_read_to_its_end(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        del session
        rest, client = driver.gate.quiescence, await connect(driver)
        client[1].write(b'POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 15\r\n\r\n{"conte')
        await until(lambda: rest.busy() == 1)
        await rest.begin()
        assert rest.busy() == 1
        client[1].write(b'nt":"a"}' + HEALTH)
        assert b" 200 " in await heard(client)
        await until(lambda: rest.busy() == 0)
        passed = rest.passed()[0].connections[0]
        assert bytes.fromhex(passed.first) in (b"", HEALTH)
        await rest.end()
        assert b" 200 " in await heard(client)
        client[1].close()

    playing(scenario)


def test_another_gate_serves_the_same_connections(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        del session
        where, client = Address("127.0.0.1", driver.port), await connect(driver)
        await answered(client)
        client[1].write(HEALTH[:10])
        await until(lambda: driver.gate.quiescence.passed()[0].connections[0].first != "")
        await driver.gate.quiescence.begin()
        passed = driver.gate.quiescence.passed()[0]
        other = driver.new_gate()
        try:
            await other.open(where, driver.options, driver.listening.dup())
            other.tell(driver.gate._queue.state)
            connections = tuple(
                type(each)(os.dup(each.descriptor), each.first) for each in passed.connections
            )
            assert await other.quiescence.take_over(type(passed)(where, (), connections)) == 1
            client[1].write(HEALTH[10:])
            assert b" 200 " in await heard(client)
        finally:
            await other.stop()
        client[1].close()

    playing(scenario)
