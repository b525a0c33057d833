"""Several conversations survive their server, also where they share one slot; on the real server."""

import json
import signal
from typing import Any

import aiohttp
import pytest

from qwenctl.gate.slots.rules import SlotLimits
from tests.gate.conftest import Play
from tests.gate.driver import Driver, Setup, until
from tests.gate.talk import FLAGS, Talk

STORY = "once upon a time " * 300
TALE = "there was a mouse " * 300
WARM = SlotLimits(min_tokens=300)


def one_slot() -> Setup:
    return Setup(warm=WARM, warm_after_s=3600.0, parallel=1, context=32768, flags=FLAGS)


async def restart(driver: Driver) -> None:
    """A wanted restart, as the daemon does it."""
    await driver.gate.drain(5.0)
    await driver.down(signal.SIGTERM, "stopping")
    await driver.up()


@pytest.mark.parametrize("anthropic", [False, True], ids=["openai", "anthropic"])
@pytest.mark.parametrize("faithful", [True, False], ids=["faithful", "dropping"])
def test_two_conversations_in_turn_on_one_slot_survive_restarts(
    playing: Play, *, faithful: bool, anthropic: bool
) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        one, two = (Talk(driver.url, session, faithful, anthropic) for _ in range(2))
        await one.say(STORY)
        await two.say(TALE)
        held = {id(each): each.cached + each.processed for each in (one, two)}
        for _ in range(3):
            for each in (one, two):
                await each.say("and then?")
                assert each.cached >= 0.97 * held[id(each)], (each.cached, held)
                held[id(each)] = each.cached + each.processed
            await restart(driver)

    playing(scenario, one_slot)


async def ask(
    driver: Driver, session: aiohttp.ClientSession, system: str, text: str, *, anthropic: bool = False
) -> tuple[int, int]:
    """Begin a conversation; return the tokens from the cache and those that were read."""
    user = {"role": "user", "content": text}
    told = {"role": "system", "content": system}
    body: dict[str, Any] = {"messages": [told, user], "max_tokens": 8}
    if anthropic:
        body = {"system": system, "messages": [user], "max_tokens": 8}
    path = "/v1/messages" if anthropic else "/v1/chat/completions"
    async with session.post(driver.url + path, json=body) as answer:
        usage = (await answer.json())["usage"]
    if anthropic:
        return usage["cache_read_input_tokens"], usage["input_tokens"]
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    return cached, usage["prompt_tokens"] - cached


def beginnings(driver: Driver) -> list[int]:
    """The tokens of each shared beginning that is kept."""
    path = driver.kept / "warm.json"
    told = json.loads(path.read_text())["snapshots"] if path.exists() else []
    return [each["tokens"] for each in told if each["way"] == "beginning"]


@pytest.mark.parametrize("anthropic", [False, True], ids=["openai", "anthropic"])
@pytest.mark.parametrize("parallel", [1, 2])
def test_the_second_session_does_not_read_the_system_text_again(
    playing: Play, *, parallel: int, anthropic: bool
) -> None:
    system = "be good and kind\n" * 200

    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        await ask(driver, session, system, "what is a dog? " * 20, anthropic=anthropic)
        await until(lambda: beginnings(driver))
        for text in ("why is the sky blue? ", "how many are we? "):
            cached, read = await ask(driver, session, system, text * 20, anthropic=anthropic)
            assert cached >= 0.95 * len(system), (cached, read)
            await restart(driver)

    playing(
        scenario, lambda: Setup(warm=WARM, warm_after_s=0.05, parallel=parallel, context=16384, flags=FLAGS)
    )


def test_a_short_request_after_the_long_one_does_not_hide_its_beginning(playing: Play) -> None:
    """As a client that asks for a title beside its first request, and one slot for both."""
    system = "be good and kind\n" * 300

    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        await ask(driver, session, system, "what is a dog? " * 20)
        await ask(driver, session, "make a title\n" * 60, "what is a dog? " * 20)
        await until(lambda: any(tokens >= 0.9 * len(system) for tokens in beginnings(driver)))
        cached, read = await ask(driver, session, system, "why is the sky blue? " * 20)
        assert cached >= 0.95 * len(system), (cached, read)

    playing(scenario, lambda: Setup(warm=WARM, warm_after_s=1.0, parallel=1, context=16384, flags=FLAGS))


def test_sessions_that_differ_in_the_middle_share_what_is_before(playing: Play) -> None:
    """The third one: the first two have shown where they part."""
    start, rest = "be good and kind\n" * 150, "be quick and short\n" * 100

    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        await ask(driver, session, f"{start}You are in apples\n{rest}", "what is a dog? " * 20)
        await until(lambda: len(beginnings(driver)) == 1)
        await ask(driver, session, f"{start}You are in pears\n{rest}", "what is a dog? " * 20)
        await until(lambda: len(beginnings(driver)) == 2)
        cached, read = await ask(driver, session, f"{start}You are in plums\n{rest}", "who is it? " * 20)
        assert cached >= 0.9 * len(start), (cached, read)

    playing(scenario, lambda: Setup(warm=WARM, warm_after_s=0.05, parallel=1, context=16384, flags=FLAGS))
