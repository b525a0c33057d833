"""With a child that is up, the gate is not there: every route, headers, bodies, streams, disconnects."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from qwenctl.gate.options import GateLimits
from tests.gate.conftest import Play
from tests.gate.driver import Driver, Setup, direct, until

CHAT = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 6}
ROUTES: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", CHAT),
    ("/v1/completions", {"prompt": "hi", "max_tokens": 6}),
    ("/v1/responses", {"input": "hi", "max_output_tokens": 6}),
    ("/v1/messages", CHAT),
    ("/completion", {"prompt": "hi", "n_predict": 6}),
    ("/tokenize", {"content": "hi"}),
    ("/apply-template", {"messages": CHAT["messages"]}),
]


def test_every_api_answers_through_the_gate(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        for path, body in ROUTES:
            async with session.post(driver.url + path, json=body) as answer:
                assert answer.status == 200, path
                assert "Access-Control-Allow-Origin" not in answer.headers
                assert isinstance(await answer.json(), dict)

    playing(scenario)


def test_a_stream_is_passed_on_unchanged(playing: Play) -> None:
    """The likeliest token each time gives the same answer, with and without the gate; only ids differ."""

    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        for path, body in ROUTES[:5]:
            asked = body | {"stream": True, "top_k": 1, "seed": 1, "cache_prompt": False}
            async with direct(driver) as child, child.post("http://x" + path, json=asked) as answer:
                expected = await answer.read()
            async with session.post(driver.url + path, json=asked) as answer:
                assert answer.content_type == "text/event-stream"
                got = await answer.read()
            assert _starts(got) == _starts(expected), path
            assert got.endswith(b"\n\n")

    playing(scenario)


def test_errors_and_unknown_paths_are_answered_by_the_child(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        async with session.post(driver.url + "/v1/chat/completions", data=b"{") as answer:
            assert answer.status in (400, 500)
            assert "error" in json.loads(await answer.read())
        async with session.get(driver.url + "/nowhere?x=1%202") as answer:
            assert answer.status == 404
        async with session.head(driver.url + "/health") as answer:
            assert answer.status in (200, 404)
        async with session.get(driver.url + "/health") as answer:
            assert await answer.json() == {"status": "ok"}

    playing(scenario)


def test_a_chunked_upload_arrives(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        async def upload() -> AsyncIterator[bytes]:
            text = json.dumps({"content": "a" * 300_000})
            for start in range(0, len(text), 50_000):
                yield text[start : start + 50_000].encode()

        async with session.post(driver.url + "/tokenize", data=upload()) as answer:
            assert len((await answer.json())["tokens"]) == 300_000

    playing(scenario)


def test_a_body_beyond_the_limit_is_refused(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        async def upload() -> AsyncIterator[bytes]:
            for _ in range(5):
                yield b"x" * 400

        for data in (b"x" * 2000, upload()):
            async with session.post(driver.url + "/tokenize", data=data) as answer:
                assert answer.status == 413
                assert (await answer.json())["error"]["code"] == "too_large"
        async with session.post(driver.url + "/tokenize", data=b'{"content":"x"}', expect100=True) as answer:
            assert answer.status == 200

    playing(scenario, lambda: Setup(limits=GateLimits(max_body_bytes=1000)))


def test_a_client_that_leaves_stops_the_generation(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        asked = CHAT | {"stream": True, "max_tokens": 100_000, "ignore_eos": True}
        async with session.post(driver.url + "/v1/chat/completions", json=asked) as answer:
            await answer.content.readany()
            assert driver.gate.stats().in_flight == 1
            answer.close()
        await until(lambda: driver.gate.stats().in_flight == 0)
        async with direct(driver) as child, asyncio.timeout(20):
            busy = True
            while busy:
                async with child.get("http://x/slots") as answer:
                    busy = any(slot["is_processing"] for slot in await answer.json())

    playing(scenario, lambda: Setup(context=131072))


def test_a_client_that_leaves_before_its_answer_is_noticed_too(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        asked = CHAT | {"max_tokens": 100_000, "ignore_eos": True}
        asking = asyncio.create_task(
            session.post(driver.url + "/v1/chat/completions", json=asked).__aenter__()
        )
        await until(lambda: driver.gate.stats().in_flight == 1)
        asking.cancel()
        await until(lambda: driver.gate.stats().in_flight == 0, within=5)

    playing(scenario, lambda: Setup(context=131072))


def test_a_reader_that_does_not_read_makes_the_server_wait(playing: Play) -> None:
    """Memory stays bounded: the bytes taken from the child stop growing."""

    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        del session
        reader, writer = await asyncio.open_connection("127.0.0.1", driver.port, limit=1024)
        asked = json.dumps(
            {"prompt": "hi", "n_predict": -1, "stream": True, "ignore_eos": True, "n_probs": 50}
        )
        head = f"POST /completion HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(asked)}\r\n\r\n"
        writer.write((head + asked).encode())
        await until(lambda: driver.gate.stats().blocked)
        seen = driver.gate.stats().bytes_through
        await reader.readexactly(10)
        await until(lambda: driver.gate.stats().blocked)
        assert driver.gate.stats().bytes_through < seen + 3_000_000
        writer.transport.abort()
        await until(lambda: driver.gate.stats().in_flight == 0)

    playing(scenario, lambda: Setup(context=131072))


def test_a_websocket_is_refused_with_an_error(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(driver.url + "/v1/realtime")
        assert refused.value.status == 501

    playing(scenario)


def test_slots_and_changes_of_properties_are_refused_at_the_public_port(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        for method, path in (("GET", "/slots"), ("POST", "/slots/0?action=erase"), ("POST", "/props")):
            async with session.request(method, driver.url + path) as answer:
                assert answer.status == 403
        async with session.get(driver.url + "/props") as answer:
            assert answer.status == 200

    playing(scenario)


def _starts(stream: bytes) -> list[bytes]:
    return [line[:24] for line in stream.split(b"\n")]
