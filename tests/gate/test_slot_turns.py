"""Requests, saves and restores at the same time: nothing waits for ever, and nothing is lost."""

import asyncio
import contextlib
import json
import signal
from typing import Any

import aiohttp
import pytest

from qwenctl.engine.api import ServerApi
from qwenctl.gate.slots.rules import SlotLimits
from tests.gate.conftest import Play
from tests.gate.driver import Driver, Setup, until
from tests.gate.talk import FLAGS, Talk

STORY, TALE = "once upon a time " * 150, "there was a mouse " * 150
WARM = SlotLimits(min_tokens=300)
LONG_ANSWER = 100_000


def one_slot() -> Setup:
    return Setup(warm=WARM, warm_after_s=3600.0, parallel=1, context=32768, flags=FLAGS)


async def busy(driver: Driver) -> None:
    """Wait until the one slot generates."""
    async with ServerApi(driver.spec.address) as api, asyncio.timeout(20):
        while not any(slot.busy and slot.answer_tokens for slot in await api.slots()):
            pass


async def two_talks(driver: Driver, session: aiohttp.ClientSession) -> tuple[Talk, Talk]:
    """Two conversations that both have begun; the second one is in the slot."""
    one, two = (Talk(driver.url, session, faithful=True) for _ in range(2))
    await one.say(STORY)
    await two.say(TALE)
    return one, two


async def gone(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def test_two_conversations_that_overlap_on_one_slot_take_turns(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        talks = await two_talks(driver, session)
        held = [talk.cached + talk.processed for talk in talks]
        for _ in range(3):
            await asyncio.gather(*(talk.say("and then?") for talk in talks))
            for at, talk in enumerate(talks):
                assert talk.cached >= 0.97 * held[at], (at, talk.cached, held)
                held[at] = talk.cached + talk.processed

    playing(scenario, one_slot)


def test_a_client_that_leaves_while_it_waits_for_a_slot_holds_nobody_up(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        one, two = await two_talks(driver, session)
        writing = asyncio.create_task(two.say("and then?", LONG_ANSWER))
        await busy(driver)
        waiting = asyncio.create_task(one.say("and then?"))
        await until(lambda: driver.gate.stats().in_flight == 2)
        await gone(waiting)
        await until(lambda: driver.gate.stats().in_flight == 1)
        await gone(writing)
        one.messages.pop()
        await one.say("what then?")
        assert one.cached > len(STORY) * 0.97

    playing(scenario, one_slot)


def test_a_stop_sends_back_who_waits_for_a_slot(playing: Play) -> None:
    """It waits for the next child, like a request that came later; no answer is lost and none comes twice."""

    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        one, two = await two_talks(driver, session)
        writing = asyncio.create_task(two.say("and then?", LONG_ANSWER))
        await busy(driver)
        waiting = asyncio.create_task(one.say("and then?"))
        await until(lambda: driver.gate.stats().in_flight == 2)
        draining = asyncio.create_task(driver.gate.drain(3.0))
        driver.tell("draining")
        await until(lambda: driver.gate.stats().held == 1)
        await gone(writing)
        await draining
        await driver.down(signal.SIGTERM, "stopping")
        await driver.up()
        await waiting
        assert one.cached > len(STORY) * 0.97

    playing(scenario, one_slot)


def test_a_child_that_dies_while_a_request_waits_is_no_matter_to_it(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        one, two = await two_talks(driver, session)
        writing = asyncio.create_task(two.say("and then?", LONG_ANSWER))
        await busy(driver)
        waiting = asyncio.create_task(one.say("and then?"))
        await until(lambda: driver.gate.stats().in_flight == 2)
        await driver.down()
        await gone(writing)
        await until(lambda: driver.gate.stats().held == 1)
        await driver.up()
        await waiting
        assert one.cached > len(STORY) * 0.97

    playing(scenario, one_slot)


def test_a_request_is_answered_though_its_snapshot_is_damaged(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        one, _ = await two_talks(driver, session)
        files = list(driver.kept.glob("slot-*.bin"))
        assert files
        for path in files:
            path.write_bytes(path.read_bytes()[:1000])
        await one.say("and then?")
        left = {path.name for path in driver.kept.glob("slot-*.bin")}
        told = json.loads((driver.kept / "warm.json").read_text())["snapshots"]
        assert left == {each["file"] for each in told}, "the damaged one is gone"

    playing(scenario, one_slot)


def test_a_request_that_comes_while_a_beginning_is_read_does_not_wait_for_it(playing: Play) -> None:
    """The beginning takes seconds to read here; the request is answered long before that."""

    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        system = {"role": "system", "content": "be good and kind\n" * 500}
        body: dict[str, Any] = {
            "messages": [system, {"role": "user", "content": "hi " * 99}],
            "max_tokens": 4,
        }
        async with session.post(driver.url + "/v1/chat/completions", json=body) as answer:
            assert answer.status == 200
        async with ServerApi(driver.spec.address) as api, asyncio.timeout(30):
            while not any(slot.busy for slot in await api.slots()):
                pass
        loop = asyncio.get_running_loop()
        since = loop.time()
        async with session.post(driver.url + "/completion", json={"prompt": "Hi", "n_predict": 1}) as answer:
            assert answer.status == 200
        assert loop.time() - since < 8
        told = json.loads((driver.kept / "warm.json").read_text())["snapshots"]
        assert [each["way"] for each in told] == ["rolled_back"]

    playing(scenario, lambda: Setup(warm=WARM, warm_after_s=0.05, parallel=1, context=65536, flags=FLAGS))


def test_a_stop_gives_up_a_beginning_and_loses_no_conversation(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        system = {"role": "system", "content": "be good and kind\n" * 500}
        body = {"messages": [system, {"role": "user", "content": "hi " * 99}], "max_tokens": 4}
        async with session.post(driver.url + "/v1/chat/completions", json=body) as answer:
            assert answer.status == 200
        async with ServerApi(driver.spec.address) as api, asyncio.timeout(30):
            while not any(slot.busy and slot.tokens > 1000 for slot in await api.slots()):
                pass
        await driver.gate.drain(5.0)
        await driver.down(signal.SIGTERM, "stopping")
        await driver.up()
        async with session.post(driver.url + "/v1/chat/completions", json=body) as answer:
            usage = (await answer.json())["usage"]
        assert usage["prompt_tokens_details"]["cached_tokens"] > 0.9 * usage["prompt_tokens"]

    playing(scenario, lambda: Setup(warm=WARM, warm_after_s=0.05, parallel=1, context=65536, flags=FLAGS))


@pytest.mark.parametrize("limits", [WARM, None], ids=["warm", "cold"])
def test_without_warm_nothing_is_saved_restored_or_counted(playing: Play, limits: SlotLimits | None) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        one, _ = await two_talks(driver, session)
        await driver.gate.drain(5.0)
        await driver.down(signal.SIGTERM, "stopping")
        await driver.up()
        await one.say("and then?")
        kept = sorted(path.name for path in driver.kept.iterdir())
        warm = driver.gate.stats().warm
        if limits is None:
            assert (kept, one.cached, warm.restored, warm.misses) == ([], 0, 0, 0)
        else:
            assert "warm.json" in kept
            assert warm.restored >= warm.reused > 0.97 * len(STORY)
            assert warm.misses == 0

    playing(scenario, lambda: Setup(warm=limits, warm_after_s=3600.0, parallel=1, context=32768, flags=FLAGS))
