"""Clients that close their half of the connection: one waits for its answer, another has gone."""

import asyncio
import json
import socket
import struct

import aiohttp
import pytest

from tests.gate.conftest import Play
from tests.gate.driver import Driver, Setup, until

CHAT = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
ENDLESS = CHAT | {"max_tokens": 100_000, "ignore_eos": True}


def request(body: object, version: str = "1.1") -> bytes:
    data = json.dumps(body).encode()
    head = (
        f"POST /v1/chat/completions HTTP/{version}\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


async def ask(driver: Driver, sent: bytes) -> bytes:
    """Send bytes, close the sending half, and return what comes until the gate closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", driver.port)
    writer.write(sent)
    writer.write_eof()
    try:
        async with asyncio.timeout(30):
            return await reader.read()
    finally:
        writer.close()


def test_what_is_no_request_is_refused_in_words_and_not_logged(
    playing: Play, caplog: pytest.LogCaptureFixture
) -> None:
    garbage = (
        b"garbage\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: abc\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",  # the first bytes of a TLS handshake
    )

    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        del session
        for sent in garbage:
            head, _, body = (await ask(driver, sent)).partition(b"\r\n\r\n")
            assert b" 400 " in head.partition(b"\r\n")[0]
            assert b"Server: qwenctl" in head, "the versions of libraries are nobody's business"
            assert json.loads(body)["error"]["message"].startswith("cannot read the request: ")

    playing(scenario, up=False)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def without_interim(answer: bytes) -> bytes:
    """Leave out the interim answers, as any client of HTTP/1.1 does."""
    while answer.startswith(b"HTTP/1.1 100 "):
        answer = answer.partition(b"\r\n\r\n")[2]
    return answer


def test_a_client_that_sends_no_more_gets_its_answer(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        del session
        long = CHAT | {"max_tokens": 1500, "ignore_eos": True}
        for body in (CHAT, long, CHAT | {"stream": True}, long | {"stream": True}):
            for version in ("1.1", "1.0"):
                answer = without_interim(await ask(driver, request(body, version)))
                assert answer.split(b" ")[1] == b"200", answer
                if "stream" in body:
                    assert b"data: [DONE]\n\n" in answer
                else:
                    assert b'"completion_tokens"' in answer
        assert (await ask(driver, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")).startswith(
            b"HTTP/1.1 200"
        )

    playing(scenario)


def test_a_client_that_waits_for_a_server_gets_its_answer_too(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        del session
        asking = asyncio.create_task(ask(driver, request(CHAT)))
        await until(lambda: driver.gate.stats().held == 1)
        await driver.up()
        assert without_interim(await asking).startswith(b"HTTP/1.1 200")

    playing(scenario, up=False)


def test_a_client_that_has_gone_is_noticed_all_the_same(playing: Play) -> None:
    """Closed in an orderly way, with a reset, and with the rest of its body unsent."""

    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        del session
        for reset in (False, True):
            _, writer = await asyncio.open_connection("127.0.0.1", driver.port)
            writer.write(request(ENDLESS))
            await until(lambda: driver.gate.stats().in_flight == 1)
            if reset:
                connection = writer.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.close()
            await until(lambda: driver.gate.stats().in_flight == 0, within=5)
        assert await ask(driver, request(CHAT)[:-3]) == b""
        assert await ask(driver, b"") == b""

    playing(scenario, lambda: Setup(context=131072))
