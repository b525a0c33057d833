"""A conversation survives its server: by value for the rules, on the real server for the promise."""

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from qwenctl.engine.address import Address
from qwenctl.engine.api import ServerApi
from qwenctl.gate.slots import rules
from qwenctl.gate.slots.rules import SlotLimits
from qwenctl.gate.slots.saver import SlotSaver
from qwenctl.gate.upstream import UpstreamState
from tests.gate.conftest import Play
from tests.gate.driver import Driver, Setup, until
from tests.gate.talk import FLAGS, Talk

STORY = "once upon a time " * 80
WARM = SlotLimits(min_tokens=300)
ASK = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"


def warm_setup(limits: SlotLimits = WARM, after_s: float = 3600.0) -> Setup:
    return Setup(warm=limits, warm_after_s=after_s, parallel=2, context=8192, flags=FLAGS)


def manifest(driver: Driver) -> dict[str, Any]:
    """What is noted as saved."""
    path = driver.kept / "warm.json"
    told: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"snapshots": []}
    return told


def saved_tokens(driver: Driver) -> int:
    return max((each["tokens"] for each in manifest(driver)["snapshots"]), default=0)


class SlowSaver(SlotSaver):
    """Saves of an idle child take until ``go`` is set, or until they are ended."""

    def __init__(self, folder: Path, limits: SlotLimits) -> None:
        super().__init__(folder, limits)
        self.log: list[str] = []
        self.go = asyncio.Event()

    async def save(self, state: UpstreamState, *, stopping: bool) -> None:
        del state
        self.log.append("stopping" if stopping else "begun")
        if not stopping:
            try:
                await self.go.wait()
            finally:
                self.log.append("ended")


def slow_setup(savers: list[SlowSaver]) -> Setup:
    """The saver of the gate will be the last of ``savers``."""

    def make(folder: Path, limits: SlotLimits) -> SlowSaver:
        savers.append(SlowSaver(folder, limits))
        return savers[-1]

    return Setup(warm_after_s=0.05, flags=FLAGS, make_keeper=make)


def test_a_client_that_continues_word_for_word_is_known_by_its_second_turn() -> None:
    first = rules.observe(ASK + "<think>a</think>b", None)
    assert not first.faithful
    faithful = rules.observe(ASK + "<think>a</think>b<|im_end|>\n" + ASK + "c", first)
    assert faithful.faithful
    assert rules.roll_back_to(ASK + "x" + ASK + "c", faithful) is None
    dropping = rules.observe(ASK + "b<|im_end|>\n" + ASK + "c", first)
    assert not dropping.faithful
    assert (
        rules.roll_back_to(ASK + "b" + ASK + "c", dropping)
        == ASK + "b" + ASK[: ASK.index(rules.ANSWER_START)]
    )


def test_a_slot_that_the_gate_rolled_back_has_had_no_new_turn() -> None:
    seen = rules.observe(ASK + "ab", None)
    rolled = rules.SlotHistory(
        seen.turn, faithful=False, rolled=rules.mark("<|im_start|>user\nhi<|im_end|>\n")
    )
    for text in ("<|im_start|>user\nhi<|im_end|>\n", "<|im_start|>user\nhi<|im_end|>\nv"):
        assert rules.observe(text, rolled) == rolled
        assert rules.roll_back_to(text, rolled) is None
    assert rules.observe(ASK + "ab<|im_end|>\n" + ASK, rolled).faithful
    assert (
        rules.roll_back_to(ASK + "ab", rolled) == "<|im_start|>user\nhi<|im_end|>\n"
    )  # the rolling was cut short


def test_a_slot_is_saved_again_only_when_it_holds_enough_new_tokens() -> None:
    seen = rules.observe("a" * 500, None)
    assert rules.is_worth_saving(500, seen, 400, stopping=False)
    assert not rules.is_worth_saving(500, seen, 600, stopping=False)
    assert rules.is_worth_saving(500, seen, 600, stopping=True)
    assert not rules.is_worth_saving(100, seen, 600, stopping=True)
    saved = rules.SlotHistory(seen.turn, faithful=True, saved=seen.turn, saved_tokens=500)
    assert not rules.is_worth_saving(500, saved, 0, stopping=True)
    longer = rules.observe("a" * 700, saved)
    assert (longer.saved_tokens, longer.faithful) == (500, True)
    assert not rules.is_worth_saving(700, longer, 400, stopping=False)
    assert rules.is_worth_saving(700, longer, 400, stopping=True)
    other = rules.observe("b" * 700, longer)
    assert (other.saved, other.saved_tokens) == (None, 0)


def test_files_may_take_max_bytes_and_a_tenth_of_the_free_disk() -> None:
    assert rules.allowed_bytes(100, 10_000, 0) == 100
    assert rules.allowed_bytes(100, 500, 0) == 50
    assert rules.allowed_bytes(100, 10_000, 70) == 30
    assert rules.allowed_bytes(100, 10, 70) == 0


def test_a_slot_fits_only_the_model_and_flags_it_was_made_with() -> None:
    model = ("/m.gguf", 5, 6)
    base = rules.fingerprint(("server", "-m", "/m.gguf", "-c", "4096", "--port", "1"), model)
    assert base == rules.fingerprint(
        ("other", "-m", "/m.gguf", "-c", "4096", "--port", "2", "--temp", "1"), model
    )
    assert base != rules.fingerprint(("server", "-m", "/m.gguf", "-c", "8192", "--port", "1"), model)
    assert base != rules.fingerprint(
        ("server", "-m", "/m.gguf", "-c", "4096", "--port", "1"), ("/m.gguf", 5, 7)
    )


@pytest.mark.parametrize("anthropic", [False, True], ids=["openai", "anthropic"])
@pytest.mark.parametrize("faithful", [True, False], ids=["faithful", "dropping"])
def test_a_conversation_survives_a_wanted_restart(playing: Play, *, faithful: bool, anthropic: bool) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        talk = Talk(driver.url, session, faithful, anthropic, tools=True)
        await talk.say(STORY)
        await talk.say("and then?", 300)
        first = talk.cached + talk.processed
        draining = asyncio.create_task(driver.gate.drain(5.0))
        driver.tell("draining")  # as the daemon does: no address any more
        assert await draining
        files = list(driver.kept.glob("slot-*.bin"))
        assert len(files) == 1
        assert files[0].stat().st_mode & 0o777 == 0o600
        await driver.down(signal.SIGTERM, "stopping")
        await driver.up()
        await talk.say("and at last?")
        assert talk.cached >= 0.97 * first
        assert talk.processed < 120

    playing(scenario, warm_setup)


def test_a_conversation_whose_answer_was_broken_off_by_a_stop_is_saved(playing: Play) -> None:
    """The server needs a moment to notice that nobody waits for the answer; until then its slot is busy."""

    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        talk = Talk(driver.url, session, faithful=False)
        asking = asyncio.create_task(talk.say(STORY, 100_000))
        await until(lambda: driver.gate.stats().in_flight == 1)
        async with ServerApi(driver.spec.address) as api, asyncio.timeout(20):
            while not any(slot.busy and slot.answer_tokens for slot in await api.slots()):
                pass
        draining = asyncio.create_task(driver.gate.drain(0.0))
        driver.tell("draining")
        assert not await draining
        assert saved_tokens(driver) > 500
        asking.cancel()
        await asyncio.wait({asking})

    playing(scenario, warm_setup)


@pytest.mark.parametrize("faithful", [True, False], ids=["faithful", "dropping"])
def test_an_idle_server_has_saved_its_slots_before_a_crash(playing: Play, *, faithful: bool) -> None:
    """Saved is what the manifest names: the file alone is there while it is still being written."""

    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        talk = Talk(driver.url, session, faithful)
        await talk.say(STORY)
        await until(lambda: saved_tokens(driver) > 1000)
        await talk.say("go on " * 80)
        first = talk.cached + talk.processed
        assert talk.processed < first / 2
        await until(lambda: saved_tokens(driver) >= 0.97 * first)
        held = saved_tokens(driver)
        await driver.gate.drain(5.0)
        assert saved_tokens(driver) == held
        await driver.down()
        await driver.up()
        await talk.say("and at last?")
        assert talk.cached >= 0.97 * first

    playing(scenario, lambda: warm_setup(after_s=0.05))


def test_a_request_ends_a_save_and_the_next_time_of_idleness_saves_again(playing: Play) -> None:
    savers: list[SlowSaver] = []

    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        saver = savers[-1]
        talk = Talk(driver.url, session, faithful=True)
        await talk.say("hi")
        await until(lambda: saver.log == ["begun"])
        for path in ("/health", "/v1/models"):  # these do not use the model
            async with session.get(driver.url + path) as answer:
                assert answer.status == 200
        assert saver.log == ["begun"]
        await talk.say("go on")
        await until(lambda: saver.log == ["begun", "ended", "begun"])

    playing(scenario, lambda: slow_setup(savers))


def test_a_wanted_stop_waits_for_a_save_under_way(playing: Play) -> None:
    savers: list[SlowSaver] = []

    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        saver = savers[-1]
        await Talk(driver.url, session, faithful=True).say("hi")
        await until(lambda: saver.log == ["begun"])
        draining = asyncio.create_task(driver.gate.drain(5.0))
        for _ in range(100):
            await asyncio.sleep(0)
        saver.go.set()
        assert await draining
        assert saver.log == ["begun", "ended", "stopping"]

    playing(scenario, lambda: slow_setup(savers))


class SlowLook(SlowSaver):
    """Looks take until ``go`` is set; saves take no time."""

    async def look(self, state: UpstreamState) -> None:
        del state
        self.log.append("look")
        await self.go.wait()
        self.log.append("seen")

    async def save(self, state: UpstreamState, *, stopping: bool) -> None:
        del state, stopping
        self.log.append("saved")


def test_a_wanted_stop_waits_for_a_look_under_way(playing: Play) -> None:
    """A server that is told to stop while it is asked for its slots takes ten seconds to end."""
    savers: list[SlowLook] = []

    def make(folder: Path, limits: SlotLimits) -> SlowLook:
        savers.append(SlowLook(folder, limits))
        return savers[-1]

    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        saver = savers[-1]
        await Talk(driver.url, session, faithful=True).say("hi")
        await until(lambda: saver.log == ["look"])
        draining = asyncio.create_task(driver.gate.drain(5.0))
        for _ in range(100):
            await asyncio.sleep(0)
        assert saver.log == ["look"]
        saver.go.set()
        assert await draining
        assert saver.log == ["look", "seen", "saved"]

    playing(scenario, lambda: Setup(warm_after_s=3600, flags=FLAGS, make_keeper=make))


def test_a_prompt_whose_client_left_is_not_processed_to_its_end_for_the_save(playing: Play) -> None:
    """To roll a slot forward would read the rest of a prompt that nobody waits for, for minutes."""

    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        text = "once upon a time " * 2500
        await until(
            lambda: 0 < driver.output.count(b"processing task") == driver.output.count(b"stop processing")
        )
        begun, released = driver.output.count(b"processing task"), driver.output.count(b"stop processing")
        asking = asyncio.create_task(Talk(driver.url, session, faithful=False).say(text))
        await until(lambda: driver.output.count(b"processing task") > begun)
        asking.cancel()
        # whoever looks at the slots now keeps the server from noticing that the client left
        await until(lambda: driver.output.count(b"stop processing") > released)
        await driver.gate.drain(5.0)
        assert 1000 <= saved_tokens(driver) < 0.9 * len(text)

    playing(scenario, lambda: Setup(warm=WARM, warm_after_s=3600, parallel=1, context=65536, flags=FLAGS))


def test_a_client_that_only_lists_models_does_not_keep_the_model_loaded(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        while not driver.unloaded.is_set():
            async with session.get(driver.url + "/v1/models") as answer:
                assert answer.status == 200

    playing(scenario, lambda: Setup(idle_unload_s=0.3))


@pytest.mark.parametrize("faithful", [True, False], ids=["faithful", "dropping"])
def test_a_new_daemon_knows_what_the_old_one_knew(playing: Play, *, faithful: bool) -> None:
    """Which kind of client a slot serves; else the next save would take it for one that drops its answers."""

    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        talk = Talk(driver.url, session, faithful)
        await talk.say(STORY)
        await talk.say("go on " * 80)
        await driver.gate.drain(5.0)
        held = saved_tokens(driver)
        await driver.down(signal.SIGTERM, "stopping")
        await driver.gate.stop()
        driver.gate = driver.new_gate()
        await driver.gate.open(Address("127.0.0.1", driver.port), driver.options, driver.listening.dup())
        await driver.up()
        await driver.gate.drain(5.0)
        assert saved_tokens(driver) == held
        driver.tell("ready")  # the stop was called off
        await talk.say("and then?")
        assert talk.cached >= 0.97 * held
        await driver.gate.drain(5.0)
        assert manifest(driver)["snapshots"][0]["history"]["faithful"] is faithful

    playing(scenario, warm_setup)


def test_slots_of_another_fingerprint_are_removed_and_not_restored(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        talk = Talk(driver.url, session, faithful=True)
        await talk.say(STORY)
        await driver.gate.drain(5.0)
        await driver.down(signal.SIGTERM, "stopping")
        driver.setup.fingerprint = "other"
        await driver.up()
        await talk.say("and then?")
        assert talk.cached == 0
        assert list(driver.kept.glob("slot-*.bin")) == []

    playing(scenario, warm_setup)


def test_a_file_is_removed_when_two_children_died_while_they_restored_it(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        talk = Talk(driver.url, session, faithful=True)
        await talk.say(STORY)
        await driver.gate.drain(5.0)
        await driver.down(signal.SIGTERM, "stopping")
        for expected in (1, 0):
            driver.number += 1
            driver.tell("restoring")  # nobody listens there
            await driver.gate.restore()
            assert len(list(driver.kept.glob("slot-*.bin"))) == expected
            driver.tell("backoff")

    playing(scenario, warm_setup)


def test_a_damaged_file_costs_nothing_but_time(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        talk = Talk(driver.url, session, faithful=True)
        await talk.say(STORY)
        await driver.gate.drain(5.0)
        await driver.down(signal.SIGTERM, "stopping")
        file: Path = next(driver.kept.glob("slot-*.bin"))
        file.write_bytes(b"junk")
        await driver.up()
        await talk.say("and then?")
        assert talk.cached == 0

    playing(scenario, warm_setup)


def test_a_slot_that_takes_more_than_is_allowed_is_not_kept(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        talk = Talk(driver.url, session, faithful=True)
        await talk.say(STORY)
        await driver.gate.drain(5.0)
        assert list(driver.kept.glob("slot-*.bin")) == []

    playing(scenario, lambda: warm_setup(SlotLimits(min_tokens=300, max_bytes=10_000)))
    playing(scenario, lambda: warm_setup(SlotLimits(min_tokens=300, bytes_fixed=1 << 60)))


def test_idleness_stops_the_child_and_a_request_wakes_it(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        talk = Talk(driver.url, session, faithful=True)
        await talk.say("hi")
        async with session.get(driver.url + "/health") as answer:
            assert answer.status == 200
        await driver.unloaded.wait()
        assert driver.gate.stats().idle_since is not None
        await driver.down(signal.SIGTERM, "idle")
        async with session.get(driver.url + "/health") as answer:
            assert await answer.json() == {"status": "ok", "phase": "idle", "progress": None}
        assert driver.demands == []
        asking = asyncio.create_task(talk.say("are you there?"))
        await driver.wakened.wait()
        await driver.up()
        await asking
        assert driver.demands[0] is True
        assert driver.demands[-1] is False

    playing(scenario, lambda: Setup(idle_unload_s=0.2, flags=FLAGS))
