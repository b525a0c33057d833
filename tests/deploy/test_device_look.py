"""When the devices are looked at again, and what follows: by value; the loop with a clock of the test's."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qwenctl.daemon.device_watch import DeviceWatch
from qwenctl.deploy import device_look
from qwenctl.deploy import states as change
from qwenctl.deploy.device_look import DeviceWait, Ids, after_look, check_card, ids_of, next_look_s, waits_for
from qwenctl.deploy.refusals import refusal_of
from qwenctl.deploy.types import Draft
from qwenctl.engine.program import Engine
from qwenctl.errors import CardAwayError, NoServerError
from qwenctl.hardware.facts import Accelerator, Device, PciGpu, SystemFacts
from qwenctl.launch.configuration import Configuration
from qwenctl.supervise import states as server
from qwenctl.supervise.exits import GPU_LOST, Ending
from tests.fakes.configurations import configuration

GIB = 1 << 30
CARD = Accelerator("CUDA0", "NVIDIA GeForce RTX 4090", "cuda", "dedicated", 24 * GIB, 24 * GIB, "580")
LOST, CRASHED = Ending(GPU_LOST, "the device was lost"), Ending("crashed", "SIGSEGV")


def served(*cards: Accelerator, away: tuple[str, ...] = (), excluded: tuple[str, ...] = ()) -> Configuration:
    made = configuration("a")
    hardware = replace(made.hardware, accelerators=cards, away=away, excluded=excluded)
    return replace(made, hardware=hardware, plan=replace(made.plan, devices=tuple(card.id for card in cards)))


def waiting(this: Configuration, why: Ending) -> server.State:
    return server.State(want=this, phase=server.Backoff(this, 9.0), last=why)


def refused(error: NoServerError) -> change.ChangeState:
    return change.ChangeState(refused=change.Refused(change.Wish(1, "start"), refusal_of(error)))


def test_a_card_that_is_away_is_a_reason_that_passes() -> None:
    away = refusal_of(CardAwayError("cannot use the card"))
    assert (away.passing, device_look.is_away(away)) == (True, True)
    none = refusal_of(NoServerError("cannot find llama-server"))
    assert (none.passing, device_look.is_away(none)) == (False, False)


def test_what_is_missed_is_looked_for_and_nothing_else() -> None:
    card, nothing = served(CARD), change.ChangeState()
    assert waits_for(nothing, server.State()) is None
    assert waits_for(nothing, server.State(want=card)) is None
    assert waits_for(nothing, waiting(card, CRASHED)) is None
    assert waits_for(nothing, waiting(card, LOST)) == DeviceWait(card, lost=True)
    without = served(away=("no driver answers",))
    assert waits_for(nothing, server.State(want=without)) == DeviceWait(without)
    assert waits_for(refused(CardAwayError("x")), server.State()) == DeviceWait(None)
    assert waits_for(refused(NoServerError("x")), server.State()) is None


NONE, BACK, OTHER = frozenset[str](), frozenset({"CUDA0"}), frozenset({"CUDA1"})


@pytest.mark.parametrize(
    ("lost", "before", "now", "step"),
    [
        (False, None, NONE, "nothing"),  # as it was planned
        (False, NONE, BACK, "plan"),
        (False, None, BACK, "plan"),  # it came before the first look
        (False, BACK, BACK, "nothing"),  # that plan was refused: not again for the same list
        (False, NONE, None, "nothing"),  # the engine could not say
    ],
)
def test_what_serves_without_its_card_goes_over_once_it_is_there(
    lost: object, before: Ids | None, now: Ids | None, step: str
) -> None:
    without = DeviceWait(served(away=("no driver answers",)), lost=bool(lost))
    assert after_look(without, before, now) == step


@pytest.mark.parametrize(
    ("before", "now", "step"),
    [
        (None, BACK, "nothing"),  # it was there all the time: the server's own delays hold
        (None, NONE, "nothing"),
        (NONE, BACK, "start"),
        (NONE, None, "nothing"),  # a worker that is gone makes the engine's program fail
        (NONE, OTHER, "plan"),  # it has another name now
        (BACK, NONE, "plan"),
    ],
)
def test_a_server_that_lost_its_device_starts_once_it_is_back(
    before: Ids | None, now: Ids | None, step: str
) -> None:
    assert after_look(DeviceWait(served(CARD), lost=True), before, now) == step


def test_looks_are_bounded() -> None:
    assert [next_look_s(looks) for looks in (0, 1, 29, 30, 10**6)] == [10, 10, 10, 30, 30]


def test_helpers_of_the_processor_are_no_news() -> None:
    assert ids_of((Device("BLAS", "OpenBLAS", 0, 0), Device("CUDA0", "x", 1, 1))) == BACK


def draft(*cards: Accelerator, engine_path: Path | None = None, **fields: Any) -> Draft:  # noqa: ANN401
    made = served(*cards)
    resolved: Any = type("Resolved", (), {"settings": made.settings})()
    engine = Engine(replace(made.engine, path=engine_path or made.engine.path), {})
    return Draft(resolved, replace(made.hardware, **fields), engine, made.plan)


def test_what_served_on_a_card_never_falls_back_to_the_processor() -> None:
    on_bus = SystemFacts(pci_gpus=(PciGpu("nvidia", "0x2684"),))
    with pytest.raises(
        CardAwayError, match="cannot use NVIDIA GeForce RTX 4090, which served before"
    ) as told:
        check_card(draft(system=on_bus), served(CARD))
    assert told.value.hint is not None
    assert "qwenctl up --cpu" in told.value.hint
    with pytest.raises(CardAwayError, match="no driver answers: x"):
        check_card(draft(away=("no driver answers: x",)), served(CARD))


def test_a_card_that_was_taken_out_or_is_not_wanted_is_not_waited_for() -> None:
    check_card(draft(), served(CARD))
    check_card(draft(away=("x",), engine_path=Path("/other/llama-server")), served(CARD))
    check_card(draft(away=("x",)), None)
    check_card(draft(away=("x",)), served())
    check_card(draft(CARD, away=("x",)), served(CARD))
    good = served(CARD)
    hardware = good.settings.hardware.model_copy(update={"gpu": "off"})
    off = replace(good, settings=good.settings.model_copy(update={"hardware": hardware}))
    check_card(draft(away=("x",)), off)


class Recorder:
    """A supervisor and a deployment that only note what they are told."""

    def __init__(self, wishes: change.ChangeState, state: server.State) -> None:
        self.state, self.told = wishes, list[str]()
        self.supervised = state

    def ask(self, origin: str) -> int:
        self.told.append(f"plan for {origin}")
        return 1

    def retry(self) -> None:
        self.told.append("retry")

    async def given_over(self, number: int) -> None:
        self.told.append(f"given over {number}")

    def post(self, event: server.Event) -> None:
        self.told.append(type(event).__name__)


def watched(recorder: Recorder, answers: list[Ids | None]) -> list[float]:
    """Run the loop until no answer is left; return the pauses that it made."""
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) > len(answers):
            raise asyncio.CancelledError

    async def ask(_wait: DeviceWait) -> Ids | None:
        return answers[len(pauses) - 1]

    async def body() -> None:
        supervisor: Any = type("S", (), {"state": recorder.supervised, "post": recorder.post})()
        deployment: Any = recorder
        task = asyncio.ensure_future(DeviceWatch(supervisor, deployment).run(sleep, ask))
        for _ in range(100 * (len(answers) + 1)):
            if len(pauses) > len(answers):
                break
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(body())
    return pauses


def test_the_loop_starts_a_server_when_its_device_is_back() -> None:
    recorder = Recorder(change.ChangeState(), waiting(served(CARD), LOST))
    pauses = watched(recorder, [NONE, NONE, BACK])
    assert recorder.told == ["plan for devices", "given over 0", "Restart"]
    assert set(pauses) == {10.0}


def test_the_loop_asks_again_for_what_was_refused() -> None:
    recorder = Recorder(refused(CardAwayError("x")), server.State())
    pauses = watched(recorder, [None] * 40)
    assert set(recorder.told) == {"retry"}
    assert pauses[:20] == [10.0] * 20
    assert pauses[-1] == 30.0


def test_the_loop_is_quiet_while_nothing_is_missed() -> None:
    recorder = Recorder(change.ChangeState(), server.State(want=served(CARD)))
    watched(recorder, [BACK] * 5)
    assert recorder.told == []
