"""While the child is away requests wait, in order and bounded; then they are answered or refused in words."""

import asyncio
import json
import signal

import aiohttp

from qwenctl.gate.options import GateLimits
from tests.gate.conftest import Play
from tests.gate.driver import Driver, Setup, until

CHAT = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
LONG = CHAT | {"max_tokens": 100_000, "ignore_eos": True}


async def ask(driver: Driver, session: aiohttp.ClientSession, body: object = CHAT) -> tuple[int, bytes]:
    async with session.post(driver.url + "/v1/chat/completions", json=body) as answer:
        return answer.status, await answer.read()


def test_a_request_waits_for_the_child_and_is_answered(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        asking = [asyncio.create_task(ask(driver, session)) for _ in range(3)]
        await until(lambda: driver.gate.stats().held == 3)
        await driver.up()
        assert [status for status, _ in await asyncio.gather(*asking)] == [200, 200, 200]
        assert driver.gate.stats().held == 0

    playing(scenario, up=False)


def test_requests_go_on_in_the_order_they_came(playing: Play) -> None:
    """A stand-in for the child notes what reaches it first; the real one can't tell."""

    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        came: list[str] = []

        async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            came.append((await reader.readuntil(b"\r\n")).split()[1].decode())
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            writer.close()

        async def get(path: str) -> int:
            async with session.get(driver.url + path) as answer:
                return answer.status

        asking = []
        for number in range(20):
            asking.append(asyncio.create_task(get(f"/{number}")))
            await until(lambda: driver.gate.stats().held == len(asking))
        async with await asyncio.start_unix_server(note, driver.socket):
            driver.tell("ready")
            asking.append(asyncio.create_task(get("/20")))
            assert set(await asyncio.gather(*asking)) == {200}
        assert came == [f"/{number}" for number in range(21)]

    playing(scenario, up=False)


def test_too_many_too_large_and_too_long_are_refused(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        driver.tell("fetching", progress="41 % of 16.8 GB")
        first = asyncio.create_task(ask(driver, session))
        await until(lambda: driver.gate.stats().held == 1)
        big = CHAT | {"user": "x" * 3000}
        async with session.post(driver.url + "/v1/chat/completions", json=big) as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
        second = asyncio.create_task(ask(driver, session))
        await until(lambda: driver.gate.stats().held == 2)
        async with session.post(driver.url + "/v1/chat/completions", json=CHAT) as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "30")
            error = (await answer.json())["error"]
            assert "fetching, 41 %" in error["message"]
            assert error["type"] == "unavailable_error"
        for status, body in await asyncio.gather(first, second):
            assert status == 503
            assert b"fetching" in body

    limits = GateLimits(hold_timeout_s=1.0, max_held=2, max_held_bytes=2000)
    playing(scenario, lambda: Setup(limits=limits), up=False)


def test_a_failed_child_is_named_at_once_to_everyone(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        waiting = asyncio.create_task(ask(driver, session))
        await until(lambda: driver.gate.stats().held == 1)
        driver.tell("failed", cause="memory ran out", hint="choose a smaller quant")
        for status, body in (await waiting, await ask(driver, session)):
            error = json.loads(body)["error"]
            assert status == 503
            assert "memory ran out" in error["message"]
            assert error["hint"] == "choose a smaller quant"
        async with session.post(driver.url + "/v1/messages", json=CHAT) as answer:
            told = await answer.json()
            assert (told["type"], told["error"]["type"]) == ("error", "overloaded_error")

    playing(scenario, up=False)


def test_health_and_models_answer_while_nothing_else_does(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        driver.tell("starting", progress="loading")
        async with session.get(driver.url + "/health") as answer:
            told = await answer.json()
            assert (answer.status, told["phase"], told["progress"]) == (503, "starting", "loading")
        async with session.get(driver.url + "/v1/models") as answer:
            assert [model["id"] for model in (await answer.json())["data"]] == ["demo"]
        driver.tell("idle")
        async with session.get(driver.url + "/health") as answer:
            assert (answer.status, (await answer.json())["phase"]) == (200, "idle")
        assert driver.demands == []

    playing(scenario, up=False)


def test_a_plain_request_survives_a_kill_under_it(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        asking = asyncio.create_task(ask(driver, session, CHAT | {"max_tokens": 600, "ignore_eos": True}))
        await until(lambda: driver.gate.stats().in_flight == 1)
        for _ in range(3):
            await driver.down()
            assert not asking.done()
            await driver.up()
            await until(lambda: driver.gate.stats().in_flight == 1)
        status, body = await asking
        assert status == 200
        assert json.loads(body)["usage"]["completion_tokens"] == 600

    playing(scenario)


def test_the_time_for_which_a_child_works_on_a_request_is_no_time_of_waiting(playing: Play) -> None:
    """A stand-in for the child hangs up after longer than ``hold_timeout_s``; the next one answers."""
    timeout_s = 0.5

    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        loop, ending = asyncio.get_running_loop(), asyncio.Event()

        async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            del reader
            await ending.wait()
            writer.close()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
            writer.close()

        asking = asyncio.create_task(ask(driver, session))
        await until(lambda: driver.gate.stats().held == 1)
        async with await asyncio.start_unix_server(hang_up, driver.socket):
            driver.tell("ready")
            await until(lambda: driver.gate.stats().in_flight == 1)
            sent_at = loop.time()
            await until(lambda: loop.time() > sent_at + timeout_s)
            ending.set()
            driver.tell("backoff")
            await until(lambda: driver.gate.stats().held == 1)
        driver.socket.unlink(missing_ok=True)
        async with await asyncio.start_unix_server(answer, driver.socket):
            driver.number += 1
            driver.tell("ready")
            assert await asking == (200, b"ok")

    playing(scenario, lambda: Setup(limits=GateLimits(hold_timeout_s=timeout_s)), up=False)


def test_a_stream_that_has_not_begun_survives_too(playing: Play) -> None:
    """Its head has come from the child, perhaps with pings, but that is no answer."""

    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        long = {"messages": [{"role": "user", "content": "long " * 1000}], "max_tokens": 4, "stream": True}
        asking = asyncio.create_task(ask(driver, session, long))
        await until(lambda: driver.gate.stats().in_flight == 1)
        await driver.down()
        await driver.up()
        status, body = await asking
        assert (status, body.endswith(b"data: [DONE]\n\n")) == (200, True)
        assert b"error" not in body

    playing(scenario, lambda: Setup(context=65536))


def test_a_stream_that_nobody_may_finish_ends_with_an_error_event(playing: Play) -> None:
    cases = {
        "/v1/chat/completions": (LONG, b'\n\ndata: {"error"'),
        "/v1/completions": (
            {"prompt": "hi", "max_tokens": 100_000, "ignore_eos": True},
            b'\n\ndata: {"error"',
        ),
        "/v1/responses": (
            {"input": "hi", "max_output_tokens": 100_000, "ignore_eos": True},
            b"\n\nevent: error\n",
        ),
        "/v1/messages": (LONG, b"\n\nevent: error\n"),
        "/completion": ({"prompt": "hi", "n_predict": 100_000, "ignore_eos": True}, b'\n\ndata: {"error"'),
    }

    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        for path, (body, ending) in cases.items():
            async with session.post(driver.url + path, json=body | {"stream": True}) as answer:
                first = await answer.content.readuntil(b"\n\n")
                await driver.down()
                rest = first + await answer.content.read()
            assert rest.count(ending) == 1, path
            event = rest[rest.rindex(ending) :]
            assert event.endswith(b"}\n\n")
            told = json.loads(event[event.index(b"{") :])
            assert told["error"]["message"] == "the model server went away in the middle of this answer"
            await driver.up()

    limits = GateLimits(continue_streams=False)
    playing(scenario, lambda: Setup(context=131072, limits=limits))


def test_a_request_that_crashes_the_child_twice_is_not_sent_again(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        asking = asyncio.create_task(ask(driver, session, LONG))
        for _ in range(2):
            await until(lambda: driver.gate.stats().in_flight == 1)
            await driver.down(signal.SIGABRT)
            await driver.up()
        status, body = await asking
        assert status == 500
        assert "crashed twice" in json.loads(body)["error"]["message"]
        assert (await ask(driver, session))[0] == 200

    playing(scenario, lambda: Setup(context=131072))


def test_a_waiting_stream_gets_comments_and_then_its_answer(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        url = driver.url + "/v1/chat/completions"
        plain = asyncio.create_task(ask(driver, session))
        async with session.post(url, json=CHAT | {"stream": True}) as answer:
            assert (answer.status, answer.content_type) == (200, "text/event-stream")
            assert await answer.content.readuntil(b"\n\n") == b": waiting\n\n"
            assert await answer.content.readuntil(b"\n\n") == b": waiting\n\n"
            await driver.up()
            body = await answer.content.read()
            assert body.endswith(b"data: [DONE]\n\n")
        assert (await plain)[0] == 200
        await driver.down()
        async with session.post(url, json=CHAT | {"stream": True, "max_tokens": "many"}) as answer:
            await answer.content.readuntil(b"\n\n")
            await driver.up()
            body = await answer.content.read()
            assert b'data: {"error"' in body

    playing(scenario, lambda: Setup(limits=GateLimits(comment_after_s=0.05, comment_every_s=0.05)), up=False)


def test_a_wanted_stop_waits_for_answers_and_holds_the_new_ones(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        stream = CHAT | {"stream": True, "max_tokens": 1500, "ignore_eos": True}
        running = asyncio.create_task(ask(driver, session, stream))
        await until(lambda: driver.gate.stats().in_flight == 1)
        draining = asyncio.create_task(driver.gate.drain(20.0))
        late = asyncio.create_task(ask(driver, session))
        await until(lambda: driver.gate.stats().held == 1)
        assert await draining is True
        status, body = await running
        assert (status, body.endswith(b"data: [DONE]\n\n")) == (200, True)
        assert not late.done()
        await driver.down(signal.SIGTERM, "stopping")
        await driver.up()
        assert (await late)[0] == 200

    playing(scenario)


def test_a_drain_ends_in_time_and_breaks_off_what_is_left(playing: Play) -> None:
    """A server that is told to stop would finish its answers first, however long they are."""

    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        plain = asyncio.create_task(ask(driver, session, CHAT | {"max_tokens": 600, "ignore_eos": True}))
        streamed = CHAT | {"max_tokens": 3000, "ignore_eos": True, "stream": True}
        stream = asyncio.create_task(ask(driver, session, streamed))
        await until(lambda: driver.gate.stats().in_flight == 2 and driver.gate.stats().bytes_through > 0)
        assert await driver.gate.drain(0.01) is False
        assert driver.gate.stats().in_flight == 0
        await driver.down(signal.SIGTERM, "stopping")
        await driver.up()
        assert (await plain)[0] == 200
        body = (await stream)[1]
        assert b": continued" in body
        assert body.endswith(b"data: [DONE]\n\n")

    playing(scenario, lambda: Setup(context=131072))


def test_a_stop_can_be_called_off(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        assert await driver.gate.drain(1.0) is True
        late = asyncio.create_task(ask(driver, session))
        await until(lambda: driver.gate.stats().held == 1)
        driver.tell("ready")
        assert (await late)[0] == 200

    playing(scenario)


def test_stopping_the_gate_refuses_what_it_holds(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        waiting = asyncio.create_task(ask(driver, session))
        await until(lambda: driver.gate.stats().held == 1)
        await driver.gate.stop()
        assert (await waiting)[0] == 503

    playing(scenario, up=False)
