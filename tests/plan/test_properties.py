"""What holds for every machine: budgets are kept, more memory is never worse, the same in is the same out."""

from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from qwenctl.hardware.facts import Backend, Hardware
from qwenctl.model.profile import Profile
from qwenctl.model.toml import load_profiles
from qwenctl.plan.planner import NoFit, Plan, plan
from qwenctl.settings.types import ContextSettings, KvType, ModelSettings, Prefer, Settings
from tests.fakes.machines import PROFILES, made_up

MIB = 1024**2
ALL = load_profiles(PROFILES, PROFILES / "none")
profiles = st.sampled_from(ALL)
CARD_BACKENDS: tuple[Backend, ...] = ("cuda", "rocm", "vulkan", "sycl", "rpc")
sizes = st.integers(min_value=512, max_value=200 * 1024).map(lambda mib: mib * MIB)


@st.composite
def machines(draw: st.DrawFn, *, unequal: bool = False) -> Hardware:
    ram = draw(sizes)
    kind = draw(st.sampled_from(["dedicated", "unified", "shared", "cpu"]))
    if kind == "dedicated":
        backend = draw(st.sampled_from(CARD_BACKENDS))
        cards = (draw(sizes),) * draw(st.integers(1, 4))
        if unequal:
            cards = tuple(draw(st.lists(sizes, min_size=1, max_size=4)))
        return made_up(ram_bytes=ram, cards=cards, backend=backend)
    if kind == "cpu":
        return made_up(ram_bytes=ram)
    share = draw(st.integers(30, 100))
    if kind == "unified":
        return made_up(ram_bytes=ram, cards=(ram * share // 100,), backend="metal", memory="unified")
    return made_up(ram_bytes=ram, cards=(ram * share // 100,), backend="vulkan", memory="shared")


@st.composite
def wishes(draw: st.DrawFn) -> Settings:
    tokens = draw(st.integers(256, 300_000))
    return Settings(
        model=ModelSettings(prefer=draw(st.sampled_from(get_args(Prefer)))),
        context=ContextSettings(
            tokens=tokens,
            min_tokens=draw(st.integers(256, 65536)),
            kv_type=draw(st.sampled_from(get_args(KvType))),
            parallel=draw(st.integers(1, 4)),
            cache_ram_mib=draw(st.sampled_from([0, 256, 2048, 4096, 8192])),
            checkpoints=draw(st.integers(0, 4)),
        ),
    )


EXAMPLES = (150, pytest.param(2000, marks=pytest.mark.chaos))


def grown(hardware: Hardware, factor: float) -> Hardware:
    accelerators = tuple(
        replace(
            one,
            memory_bytes=int((one.memory_bytes or 0) * factor),
            usable_bytes=int((one.usable_bytes or 0) * factor),
        )
        for one in hardware.accelerators
    )
    return replace(hardware, ram_bytes=int(hardware.ram_bytes * factor), accelerators=accelerators)


def worth(outcome: Plan | NoFit, profile: Profile, prefer: str) -> tuple[int, ...]:
    """Rank an outcome: that it runs as it is, then quant, context (for ``context`` they swap), KV type."""
    if isinstance(outcome, NoFit):
        return (0,)
    place = -[quant.name for quant in profile.quants].index(outcome.quant)
    first = (outcome.context_tokens, place) if prefer == "context" else (place, outcome.context_tokens)
    return (2 if outcome.verdict == "fits" else 1, *first, int(outcome.kv_type != "q8_0"))


@pytest.mark.parametrize("examples", EXAMPLES)
def test_a_plan_never_exceeds_its_budget(examples: int) -> None:
    @given(st.booleans().flatmap(lambda unequal: machines(unequal=unequal)), profiles, wishes())
    @hypothesis_settings(max_examples=examples, deadline=None)
    def check(hardware: Hardware, profile: Profile, wanted: Settings) -> None:
        keeps_its_budget(hardware, profile, wanted)

    check()


def keeps_its_budget(hardware: Hardware, profile: Profile, wanted: Settings) -> None:
    outcome = plan(hardware, profile, wanted, siblings=ALL)
    if isinstance(outcome, NoFit):
        assert outcome.reason
        assert outcome.considered
        return
    memory = outcome.memory
    spare_ram = hardware.ram_bytes - max(2560 * MIB, hardware.ram_bytes * 12 // 100)
    assert memory.headroom_bytes >= 0
    assert all(device.need_bytes <= device.budget_bytes for device in memory.devices)
    usable = {one.id: one.usable_bytes or 0 for one in hardware.accelerators}
    if hardware.accelerators and hardware.accelerators[0].memory == "dedicated":
        for device in memory.devices:
            assert device.need_bytes <= usable[device.id] - (1024 + 330) * MIB
        assert memory.host_bytes <= spare_ram
        return
    assert memory.device_bytes + memory.host_bytes <= spare_ram
    used_of_margin = 256 * MIB  # the input that Metal only maps may use half of the margin
    if hardware.accelerators and outcome.verdict == "fits" and raised_by_hand(hardware, spare_ram):
        assert memory.device_bytes <= usable["GPU0"] - 512 * MIB + used_of_margin
    elif hardware.accelerators and outcome.verdict == "fits":
        assert memory.device_bytes <= usable["GPU0"] * 85 // 100
    elif hardware.accelerators:
        assert outcome.verdict == "tight"
        assert outcome.fix is not None
        assert memory.device_bytes <= spare_ram - 512 * MIB + used_of_margin
        assert int(outcome.fix.split("=")[1]) * MIB <= spare_ram


def raised_by_hand(hardware: Hardware, spare_ram: int) -> bool:
    """Say whether Metal may use all the RAM that other programs leave. The limit of macOS is lower."""
    gpu = hardware.accelerators[0]
    return gpu.backend == "metal" and (gpu.usable_bytes or 0) >= spare_ram // MIB * MIB


def test_a_limit_that_was_raised_by_hand_is_used_up_to_its_margin() -> None:
    """Random machines meet this one seldom: nearly all RAM is the GPU's, and only that much is enough."""
    hardware = made_up(ram_bytes=15758 * MIB, cards=(14_210_176_122,), backend="metal", memory="unified")
    wanted = Settings(context=ContextSettings(tokens=256, min_tokens=256, cache_ram_mib=0, checkpoints=0))
    profile = next(one for one in ALL if one.name == "qwen3.6-27b")
    outcome = plan(hardware, profile, wanted, siblings=ALL)
    assert isinstance(outcome, Plan)
    assert outcome.verdict == "fits"
    assert outcome.memory.device_bytes > 14_210_176_122 * 85 // 100
    keeps_its_budget(hardware, profile, wanted)


@pytest.mark.parametrize("examples", EXAMPLES)
def test_more_memory_never_gives_a_worse_plan(examples: int) -> None:
    @given(machines(), profiles, wishes(), st.floats(1, 4))
    @hypothesis_settings(max_examples=examples, deadline=None)
    def check(hardware: Hardware, profile: Profile, wanted: Settings, factor: float) -> None:
        prefer = wanted.model.prefer
        assume(prefer != "speed")  # which wants the fewest bytes per token, however much memory there is
        before = plan(hardware, profile, wanted)
        after = plan(grown(hardware, factor), profile, wanted)
        assert worth(after, profile, prefer) >= worth(before, profile, prefer)

    check()


@given(machines(), profiles, wishes())
@hypothesis_settings(max_examples=60, deadline=None)
def test_one_more_card_never_gives_a_worse_plan(
    hardware: Hardware, profile: Profile, wanted: Settings
) -> None:
    cards = hardware.accelerators
    assume(cards and cards[0].memory == "dedicated" and wanted.model.prefer != "speed")
    more = replace(hardware, accelerators=(*cards, replace(cards[0], id="GPU9")))
    before, after = plan(hardware, profile, wanted), plan(more, profile, wanted)
    prefer = wanted.model.prefer
    assert worth(after, profile, prefer) >= worth(before, profile, prefer)


@given(machines(), profiles, wishes())
@hypothesis_settings(max_examples=50, deadline=None)
def test_the_same_question_has_the_same_answer(
    hardware: Hardware, profile: Profile, wanted: Settings
) -> None:
    first = plan(hardware, profile, wanted, siblings=ALL)
    assert first == plan(hardware, profile, wanted, siblings=ALL)
