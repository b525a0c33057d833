"""Options change while the gate runs: nothing restarts, nothing is cut, nothing is restored."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from qwenctl.engine.address import Address
from qwenctl.gate.guard import rules
from qwenctl.gate.options import GateLimits, GateOptions, gate_options
from qwenctl.gate.slots.rules import SlotLimits
from qwenctl.gate.slots.saver import SlotSaver
from qwenctl.gate.upstream import UpstreamState
from qwenctl.settings.types import GateSettings, ServerSettings, Settings
from tests.gate.conftest import Play
from tests.gate.driver import Driver, Setup, until
from tests.gate.talk import FLAGS, Talk

TOKENS = 700
CHAT = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": TOKENS, "ignore_eos": True}
SHORT = CHAT | {"max_tokens": 4}
STORY = "once upon a time " * 80


class CountingSaver(SlotSaver):
    """Counts how often slots are restored, over all savers of a gate."""

    def __init__(self, folder: Path, limits: SlotLimits, restored: list[int]) -> None:
        super().__init__(folder, limits)
        self._restored = restored

    async def restore(self, state: UpstreamState) -> None:
        self._restored.append(state.child)
        await super().restore(state)


async def ask(driver: Driver, session: aiohttp.ClientSession, body: object = SHORT) -> tuple[int, bytes]:
    async with session.post(driver.url + "/v1/chat/completions", json=body) as answer:
        return answer.status, await answer.read()


def test_the_options_are_what_the_settings_say() -> None:
    gate = GateSettings(
        hold_timeout_s=1,
        max_held=2,
        max_held_bytes=3,
        idle_unload_s=4,
        warm=False,
        warm_min_tokens=5,
        warm_after_s=6,
        warm_max_bytes=7,
        allowed_hosts=("llm.home",),
        allowed_origins=("https://chat.example",),
        allow_open=True,
    )
    settings = Settings(gate=gate, server=ServerSettings(host="0.0.0.0", api_key_file="~/keys"))
    assert gate_options(settings) == GateOptions(
        rules=rules("0.0.0.0", ("llm.home",), ("https://chat.example",)),
        key_file="~/keys",
        allow_open=True,
        limits=GateLimits(hold_timeout_s=1, max_held=2, max_held_bytes=3),
        idle_unload_s=4,
        warm=False,
        warm_after_s=6,
        slot_limits=SlotLimits(min_tokens=5, max_bytes=7),
    )
    assert gate_options(Settings()) == GateOptions(rules=rules("127.0.0.1", (), ()))


def test_an_edit_of_every_option_cuts_no_answer_and_restores_no_slot(playing: Play) -> None:
    restored: list[int] = []

    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        here = Address("127.0.0.1", driver.port)
        (driver.folder / "keys").write_text("sesame\n")
        right = {"Authorization": "Bearer sesame"}
        streams = [asyncio.create_task(ask(driver, session, CHAT | {"stream": True})) for _ in range(4)]
        plain = [asyncio.create_task(ask(driver, session, CHAT)) for _ in range(4)]
        await until(lambda: driver.gate.stats().in_flight == 8 and driver.gate.stats().bytes_through > 0)
        edits: list[GateOptions] = [replace(driver.options, rules=rules("127.0.0.1", ("llm.home",), ()))]
        edits.append(replace(edits[-1], limits=GateLimits(1.0, 1, 1000)))
        edits.append(replace(edits[-1], idle_unload_s=3600.0, warm_after_s=3600.0))
        edits.append(replace(edits[-1], slot_limits=SlotLimits(1, 1)))
        edits.append(replace(edits[-1], key_file=str(driver.folder / "keys")))
        for number, options in enumerate(edits):
            if number % 2:
                await driver.gate.open(here, options)
            else:
                driver.gate.configure(options)
            async with session.get(driver.url + "/health", headers={"Host": "llm.home"}) as answer:
                assert answer.status == 200
        assert driver.gate.stats().in_flight == 8
        assert (await ask(driver, session))[0] == 401
        async with session.post(driver.url + "/tokenize", json={"content": "x"}, headers=right) as answer:
            assert answer.status == 200
        for status, body in await asyncio.gather(*streams):
            assert (status, body.endswith(b"data: [DONE]\n\n"), b'"error"' in body) == (200, True, False)
        for status, body in await asyncio.gather(*plain):
            assert (status, json.loads(body)["usage"]["completion_tokens"]) == (200, TOKENS)
        assert restored == [1]  # when the child started
        assert driver.gate.addresses == (here,)

    def make(folder: Path, limits: SlotLimits) -> CountingSaver:
        return CountingSaver(folder, limits, restored)

    playing(scenario, lambda: Setup(parallel=4, make_keeper=make, warm=SlotLimits()))


def test_warm_restart_is_switched_off_and_on_while_the_gate_runs(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        talk = Talk(driver.url, session, faithful=True)
        await talk.say(STORY)
        for warm in (False, True):
            driver.gate.configure(replace(driver.options, warm=warm))
            assert await driver.gate.drain(5.0)
            assert bool(list(driver.kept.glob("slot-*.bin"))) is warm
            driver.tell("ready")
            await talk.say("go on")

    limits = SlotLimits(min_tokens=300)
    playing(scenario, lambda: Setup(warm=limits, warm_after_s=3600.0, context=8192, flags=FLAGS))


def test_switching_warm_restart_off_ends_a_save_under_way(playing: Play) -> None:
    log: list[str] = []

    class Endless(SlotSaver):
        async def save(self, state: UpstreamState, *, stopping: bool) -> None:
            del state, stopping
            log.append("begun")
            try:
                await asyncio.Event().wait()
            finally:
                log.append("ended")

    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        del session
        await until(lambda: log == ["begun"])
        driver.gate.configure(replace(driver.options, warm=False))
        await until(lambda: log == ["begun", "ended"])
        assert await driver.gate.drain(5.0)
        assert log == ["begun", "ended"]

    playing(scenario, lambda: Setup(warm_after_s=0.0, make_keeper=Endless))


def test_the_memory_for_bodies_is_changed_while_bodies_are_held(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        held = [asyncio.create_task(ask(driver, session, SHORT | {"user": "x" * 1500}))]
        await until(lambda: driver.gate.stats().held == 1)
        another = SHORT | {"user": "y" * 1500}
        assert (await ask(driver, session, another))[0] == 503
        driver.gate.configure(replace(driver.options, limits=GateLimits(max_held_bytes=4000)))
        held.append(asyncio.create_task(ask(driver, session, another)))
        await until(lambda: driver.gate.stats().held == 2)
        driver.gate.configure(driver.options)  # less than what is held: nothing is dropped
        assert (await ask(driver, session))[0] == 503
        await driver.up()
        assert [status for status, _ in await asyncio.gather(*held)] == [200, 200]
        assert (await ask(driver, session))[0] == 200

    playing(scenario, lambda: Setup(limits=GateLimits(max_held_bytes=2000)), up=False)


def test_an_upload_that_breaks_off_gives_its_memory_back(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        for _ in range(5):
            _, writer = await asyncio.open_connection("127.0.0.1", driver.port)
            head = "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n\r\n"
            writer.write(head.encode() + b"x" * 1500)
            await until(lambda: driver.gate._proxy._budget.used == 1500)
            writer.transport.abort()
            await until(lambda: driver.gate._proxy._budget.used == 0)
        assert (await ask(driver, session))[0] == 200

    playing(scenario, lambda: Setup(limits=GateLimits(max_held_bytes=2000)))


def test_the_limits_of_held_requests_change_for_the_next_request(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        first = asyncio.create_task(ask(driver, session))
        await until(lambda: driver.gate.stats().held == 1)
        driver.gate.configure(replace(driver.options, limits=GateLimits(max_held=1)))
        status, body = await ask(driver, session)
        assert (status, b"too many requests wait already" in body) == (503, True)
        driver.gate.configure(replace(driver.options, limits=GateLimits(hold_timeout_s=0.05)))
        assert (await ask(driver, session))[0] == 503
        assert not first.done()  # it keeps the time it was given
        await driver.up()
        assert (await first)[0] == 200

    playing(scenario, up=False)


def test_the_waits_of_idleness_change_while_the_child_is_idle(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        talk = Talk(driver.url, session, faithful=True)
        await talk.say(STORY)
        driver.gate.configure(replace(driver.options, warm_after_s=0.01))
        await until((driver.kept / "warm.json").exists)
        assert not driver.unloaded.is_set()
        driver.gate.configure(replace(driver.options, idle_unload_s=0.01))
        await asyncio.wait_for(driver.unloaded.wait(), 10)

    limits = SlotLimits(min_tokens=300)
    playing(scenario, lambda: Setup(warm=limits, warm_after_s=3600.0, context=8192, flags=FLAGS))


@pytest.mark.parametrize("phase", ["starting", "draining", "stopping"])
def test_a_request_held_before_the_child_is_idle_wakes_it_when_it_is(playing: Play, phase: str) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        driver.tell(phase)
        asking = asyncio.create_task(ask(driver, session))
        await until(lambda: driver.gate.stats().held == 1)
        assert driver.demands == [True]
        driver.tell("idle")
        assert driver.wakened.is_set()
        await driver.up()
        assert (await asking)[0] == 200
        assert driver.demands[-1] is False

    playing(scenario, up=False)


def test_no_request_is_sent_to_a_child_whose_slots_are_being_restored(playing: Play) -> None:
    go = asyncio.Event()

    class Slow(SlotSaver):
        async def restore(self, state: UpstreamState) -> None:
            assert state.address is not None
            await go.wait()

    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        starting = asyncio.create_task(driver.up())
        await until(lambda: driver.phase == "restoring")
        asking = asyncio.create_task(ask(driver, session))
        await until(lambda: driver.gate.stats().held == 1)
        assert driver.gate.stats().in_flight == 0
        async with session.get(driver.url + "/health") as answer:
            assert (answer.status, (await answer.json())["phase"]) == (503, "restoring")
        go.set()
        await starting
        assert (await asking)[0] == 200

    playing(scenario, lambda: Setup(make_keeper=Slow), up=False)


def test_a_restore_outside_its_phase_does_nothing(playing: Play) -> None:
    restored: list[int] = []

    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        del session
        await driver.gate.restore()
        assert restored == [1]

    def make(folder: Path, limits: SlotLimits) -> CountingSaver:
        return CountingSaver(folder, limits, restored)

    playing(scenario, lambda: Setup(make_keeper=make))


def test_a_stop_that_is_called_off_breaks_nothing_off(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        running = asyncio.create_task(ask(driver, session, CHAT | {"stream": True}))
        await until(lambda: driver.gate.stats().bytes_through > 0)
        driver.tell("draining")
        draining = asyncio.create_task(driver.gate.drain(0.05))
        await until(lambda: driver.gate._queue.draining)
        driver.tell("ready")
        assert await draining is False
        status, body = await running
        assert (status, body.endswith(b"data: [DONE]\n\n"), b'"error"' in body) == (200, True, False)

    playing(scenario)
