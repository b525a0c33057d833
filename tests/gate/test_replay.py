"""What is sent again when a child goes away, and what is not. Stand-ins do what a child does by chance."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest

from qwenctl.gate.api_format import is_loading
from qwenctl.gate.options import GateLimits
from qwenctl.gate.replay import AfterLoss, Loss, after_loss, is_repeatable
from tests.gate.conftest import Play
from tests.gate.driver import Driver, Setup, until

CHAT = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
QUICK = GateLimits(child_gone_s=0.02, hold_timeout_s=20.0)
Handle = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


def answer(status: int, body: bytes, head: str = "Content-Type: application/json") -> bytes:
    return (
        f"HTTP/1.1 {status} X\r\n{head}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
        + body
    )


@contextlib.asynccontextmanager
async def standing_in(driver: Driver, handle: Handle) -> AsyncIterator[list[bytes]]:
    """A child that handles each request by ``handle``; yields the request lines that it got."""
    came: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            came.append(head.partition(b"\r\n")[0])
            await handle(head, writer)
        writer.close()

    driver.socket.unlink(missing_ok=True)
    driver.number += 1
    async with await asyncio.start_unix_server(serve, driver.socket):
        yield came


async def ok(head: bytes, writer: asyncio.StreamWriter) -> None:
    del head
    writer.write(answer(200, b'{"ok":1}'))


async def hang_up(head: bytes, writer: asyncio.StreamWriter) -> None:
    del head, writer


@pytest.mark.parametrize(
    ("method", "path", "repeatable"),
    [
        ("POST", "/v1/chat/completions", True),
        ("POST", "/v1/messages", True),
        ("POST", "/v1/messages/count_tokens", True),
        ("POST", "/v1/embeddings", True),
        ("POST", "/tokenize", True),
        ("GET", "/props", True),
        ("HEAD", "/anything", True),
        ("POST", "/tools", False),
        ("POST", "/cors-proxy", False),
        ("POST", "/v1/chat/completions/control", False),
        ("POST", "/models/load", False),
        ("POST", "/slots/0", False),
        ("POST", "/lora-adapters", False),
        ("PUT", "/v1/chat/completions", False),
        ("DELETE", "/v1/stream", False),
        ("POST", "/a/path/of/tomorrow", False),
    ],
)
def test_only_what_reads_or_computes_may_be_sent_twice(method: str, path: str, *, repeatable: bool) -> None:
    assert is_repeatable(method, path) is repeatable
    expected = AfterLoss.REPLAY if repeatable else AfterLoss.GIVE_UP_ONCE
    assert after_loss(Loss(False, 0, 0, 0.0, 9.0, not repeatable)) is expected


def test_a_503_means_loading_only_where_the_child_says_so() -> None:
    loading = {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}}
    assert is_loading(503, json.dumps(loading).encode())
    assert not is_loading(500, json.dumps(loading).encode())
    no_slot = {"error": {"message": "no slot available", "type": "unavailable_error", "code": 503}}
    for body in (
        json.dumps(no_slot).encode(),
        b'{"remote":"said 503"}',
        b"",
        b"[503]",
        b"\xff",
        b'{"error":"x"}',
    ):
        assert not is_loading(503, body)


def test_a_request_that_may_have_acted_reaches_one_child_only(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        async with standing_in(driver, hang_up) as came:
            driver.tell("ready")
            async with session.post(driver.url + "/tools", json={"tool": "exec_shell_command"}) as got:
                error = (await got.json())["error"]
                assert (got.status, error["code"]) == (502, "not_repeated")
                assert "not sent again" in error["hint"]
            assert len(came) == 1
            async with session.post(driver.url + "/v1/chat/completions", json=CHAT) as got:
                assert got.status == 502  # this one may be repeated, and this child hangs up each time
            assert len(came) == 4

    playing(scenario, lambda: Setup(limits=QUICK), up=False)


def test_a_request_that_reached_nobody_is_sent_again_whatever_it_does(playing: Play) -> None:
    """A server that was told to stop accepts no connection while it finishes its answers."""

    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        async def ask(path: str) -> tuple[int, bytes]:
            async with session.post(driver.url + path, json=CHAT) as got:
                return got.status, await got.read()

        driver.number += 1
        driver.tell("ready")  # nothing listens at its socket
        asking = [asyncio.create_task(ask(path)) for path in ("/v1/chat/completions", "/tools")]
        loop = asyncio.get_running_loop()
        began = loop.time()
        await until(
            lambda: loop.time() > began + 30 * QUICK.child_gone_s
        )  # a child that hangs up gets 3 tries
        assert not any(task.done() for task in asking)
        driver.tell("backoff")
        async with standing_in(driver, ok):
            driver.tell("ready")
            assert await asyncio.gather(*asking) == [(200, b'{"ok":1}')] * 2

    playing(scenario, lambda: Setup(limits=QUICK), up=False)


def test_a_child_that_accepts_nothing_for_too_long_is_said_so(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        driver.number += 1
        driver.tell("ready")
        async with session.post(driver.url + "/v1/chat/completions", json=CHAT) as got:
            error = (await got.json())["error"]
            assert got.status == 503
            assert "accepts no connections" in error["message"]

    playing(scenario, lambda: Setup(limits=GateLimits(child_gone_s=0.02, hold_timeout_s=0.2)), up=False)


def test_a_503_of_the_childs_own_is_an_answer(playing: Play) -> None:
    body = b'{"remote":"said 503"}'

    async def unavailable(head: bytes, writer: asyncio.StreamWriter) -> None:
        del head
        writer.write(answer(503, body))

    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        async with standing_in(driver, unavailable) as came:
            driver.tell("ready")
            async with session.post(driver.url + "/cors-proxy?url=x", json={}) as got:
                assert (got.status, await got.read()) == (503, body)
            assert len(came) == 1

    playing(scenario, lambda: Setup(limits=QUICK), up=False)


def test_a_request_that_observes_is_answered_when_its_child_dies_under_it(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        asked, ending = asyncio.Event(), asyncio.Event()

        async def die(head: bytes, writer: asyncio.StreamWriter) -> None:
            del head, writer
            asked.set()
            await ending.wait()

        async def health() -> tuple[int, str]:
            async with session.get(driver.url + "/health") as got:
                return got.status, (await got.json())["phase"]

        async with standing_in(driver, die):
            driver.tell("ready")
            asking = asyncio.create_task(health())
            await asked.wait()
            driver.tell("backoff")
            ending.set()
            assert await asyncio.wait_for(asking, 5) == (503, "backoff")

    playing(scenario, lambda: Setup(limits=QUICK), up=False)


def test_the_head_of_a_stream_of_an_unknown_api_is_passed_on_at_once(playing: Play) -> None:
    """Comments may be all that such a stream says for a long time."""

    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        ending = asyncio.Event()

        async def stream(head: bytes, writer: asyncio.StreamWriter) -> None:
            del head
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n: ping\n\n"
            )
            await ending.wait()
            writer.write(b"data: 1\n\n")

        async with standing_in(driver, stream):
            driver.tell("ready")
            async with asyncio.timeout(5), session.get(driver.url + "/cors-proxy?url=x") as got:
                assert await got.content.readany() == b": ping\n\n"
                ending.set()
                assert await got.content.read() == b"data: 1\n\n"

    playing(scenario, lambda: Setup(limits=QUICK), up=False)
