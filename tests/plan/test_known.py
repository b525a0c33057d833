"""A prediction is corrected by what a load really took here, or by what the engine answered."""

import dataclasses

import pytest

from qwenctl.model.profile import Profile
from qwenctl.plan.known import KnownLoad, corrected, nearest
from qwenctl.plan.memory import MIB, Load, Part
from qwenctl.plan.planner import NoFit, Plan, find_quant, plan
from qwenctl.settings.types import ContextSettings, ModelSettings, Settings
from tests.fakes.machines import GIB, machine, made_up, profile

BIG = profile("qwen3.6-27b")
CARD = machine("rtx4090-24gb")


def planned(settings: Settings, known: tuple[KnownLoad, ...] = (), one: Profile = BIG) -> Plan:
    outcome = plan(CARD, one, settings, known=known)
    assert isinstance(outcome, Plan), outcome
    return outcome


def wanted(tokens: int, kv_type: str = "f16", parallel: int = 1) -> Settings:
    context = {"tokens": tokens, "min_tokens": tokens, "kv_type": kv_type, "parallel": parallel}
    return Settings(model=ModelSettings(quant="Q4_K_M"), context=ContextSettings.model_validate(context))


def known(tokens: int, part: Part, source: str = "measured", parallel: int = 1) -> KnownLoad:
    host = Part(700 * MIB, 0, 0, 50 * MIB)
    return KnownLoad("Q4_K_M", tokens, "f16", parallel, (part,), host, source)  # type: ignore[arg-type]


def part_of(chosen: Plan) -> Part:
    (device,) = chosen.memory.devices
    return Part(device.weights_bytes, device.kv_bytes, device.recurrent_bytes, device.compute_bytes)


def test_the_same_load_takes_what_it_took() -> None:
    took = Part(15_000 * MIB, 1024 * MIB, 150 * MIB, 500 * MIB)
    chosen = planned(wanted(16384), (known(16384, took),))
    assert part_of(chosen) == took
    assert chosen.memory.source == "measured"
    assert chosen.memory.device_bytes == took.total
    assert planned(wanted(16384), (known(16384, took, "engine"),)).memory.source == "engine"


def test_another_context_is_corrected_term_by_term() -> None:
    """Weights are off by a difference, the rest by a ratio."""
    plain = part_of(planned(wanted(16384)))
    twice = Part(plain.weights + 100 * MIB, plain.kv * 2, plain.recurrent, plain.compute * 3)
    expected = part_of(planned(wanted(32768)))
    found = part_of(planned(wanted(32768), (known(16384, twice),)))
    assert found.weights == expected.weights + 100 * MIB
    assert found.kv == expected.kv * 2
    assert found.recurrent == expected.recurrent
    assert found.compute == expected.compute * 3


@pytest.mark.parametrize("other", [{"quant": "Q6_K"}, {"kv_type": "q8_0"}, {"parts": ()}])
def test_another_quant_kv_type_or_number_of_devices_teaches_nothing(other: dict[str, object]) -> None:
    one = dataclasses.replace(known(16384, Part(1, 1, 1, 1)), **other)  # type: ignore[arg-type]
    assert planned(wanted(16384), (one,)).memory == planned(wanted(16384)).memory


def test_more_slots_are_corrected_like_another_context() -> None:
    plain = part_of(planned(wanted(16384)))
    more = Part(plain.weights, plain.kv, plain.recurrent * 2, plain.compute)
    found = part_of(planned(wanted(8192, parallel=2), (known(16384, more),)))
    assert found.recurrent == part_of(planned(wanted(8192, parallel=2))).recurrent * 2


def test_a_correction_never_goes_below_nothing() -> None:
    nothing = Part(0, 0, 0, 0)
    assert corrected(Part(10, 20, 30, 40), Part(100, 10, 10, 10), nothing) == nothing
    assert corrected(Part(10, 20, 30, 40), nothing, Part(1, 2, 3, 4)) == Part(11, 22, 33, 44)


def test_the_nearest_context_teaches_most_and_a_measurement_more_than_the_engine() -> None:
    here = known(16384, Part(1, 1, 1, 1))
    far = known(65536, Part(1, 1, 1, 1))
    said = known(16384, Part(2, 2, 2, 2), "engine")
    assert nearest((far, here), "Q4_K_M", Load(24576, "f16"), 1) == here
    assert nearest((said, far), "Q4_K_M", Load(24576, "f16"), 1) == far
    assert nearest((far, said), "Q4_K_M", Load(16384, "f16"), 1) == said, "the load itself"
    assert nearest((said, here), "Q4_K_M", Load(16384, "f16"), 1) == here
    assert nearest((), "Q4_K_M", Load(16384, "f16"), 1) is None


def test_a_load_that_took_more_changes_the_choice() -> None:
    """Where the card took a gigabyte more than predicted, the next plan gives something up."""
    first = plan(CARD, BIG, Settings())
    assert isinstance(first, Plan)
    took = dataclasses.replace(part_of(first), weights=first.memory.budget_bytes)
    lesson = KnownLoad(
        first.quant, first.context_tokens, first.kv_type, 1, (took,), Part(0, 0, 0, 0), "measured"
    )
    second = plan(CARD, BIG, Settings(), known=(lesson,))
    assert isinstance(second, Plan)
    assert (second.quant, second.context_tokens, second.kv_type) != (
        first.quant,
        first.context_tokens,
        first.kv_type,
    )


@pytest.mark.parametrize("source", ["measured", "engine"])
def test_on_metal_the_embedding_counts_once_whoever_says_it(source: str) -> None:
    """A log names it twice: 16,027.69 MiB in Metal's buffer, 682.03 on the host. A dry run: on the host."""
    mac = machine("m3-max-36gb")
    settings = wanted(32768)
    plain = plan(mac, BIG, settings)
    assert isinstance(plain, Plan)
    embedding = find_quant(BIG, "Q4_K_M").token_embd_bytes
    guess = part_of(plain)
    on_device = guess.weights if source == "measured" else guess.weights - embedding
    said = KnownLoad(
        "Q4_K_M",
        32768,
        "f16",
        1,
        (dataclasses.replace(guess, weights=on_device),),
        Part(embedding, 0, 0, plain.memory.host_bytes - plain.memory.cache_bytes),
        source,  # type: ignore[arg-type]
    )
    after = plan(mac, BIG, settings, known=(said,))
    assert isinstance(after, Plan)
    assert after.memory.weights_bytes == plain.memory.weights_bytes
    assert after.memory.source == source
    assert after.memory.host_bytes <= plain.memory.host_bytes + plain.memory.checkpoints_bytes


def test_a_measured_load_under_a_raised_metal_limit_still_fits() -> None:
    mac = machine("m2-16gb")
    limit = 13824 * MIB
    gpu = dataclasses.replace(mac.accelerators[0], usable_bytes=limit, wired_limit_bytes=limit)
    mac = dataclasses.replace(mac, accelerators=(gpu,))
    first = plan(mac, BIG, Settings())
    assert isinstance(first, Plan)
    took = KnownLoad(
        first.quant, first.context_tokens, first.kv_type, 1, (part_of(first),), Part(0, 0, 0, 0), "measured"
    )
    second = plan(mac, BIG, Settings(), known=(took,))
    assert isinstance(second, Plan)
    assert (second.quant, second.verdict, second.memory.source) == (first.quant, "fits", "measured")


def unknown_family() -> Profile:
    return BIG.model_copy(update={"architecture": BIG.architecture.model_copy(update={"name": "new-family"})})


def test_a_family_nobody_knows_is_planned_with_a_bound_and_says_so() -> None:
    chosen = planned(wanted(16384), one=unknown_family())
    assert chosen.memory.source == "bound"
    assert chosen.memory.kv_bytes == 4 * planned(wanted(16384)).memory.kv_bytes, "all layers attend fully"
    assert any("'new-family'" in said and "upper bound" in said for said in chosen.warnings)


def test_what_the_engine_answers_replaces_the_bound() -> None:
    took = Part(15_000 * MIB, 1024 * MIB, 150 * MIB, 500 * MIB)
    chosen = planned(wanted(16384), (known(16384, took, "engine"),), unknown_family())
    assert chosen.memory.source == "engine"
    assert not any("upper bound" in said for said in chosen.warnings)


def without_rows(*names: str) -> Profile:
    quants = tuple(quant for quant in BIG.quants if not names or quant.name in names)
    return BIG.model_copy(update={"rows": (), "quants": quants})


@pytest.mark.parametrize(
    ("gib", "quant"), [(192, "Q8_0"), (48, "Q8_0"), (32, "Q6_K"), (24, "Q4_K_M"), (16, "Q3_K_M")]
)
def test_without_rows_memory_decides_from_eight_bits_down(gib: int, quant: str) -> None:
    outcome = plan(made_up(ram_bytes=64 * GIB, cards=(gib * GIB,)), without_rows(), Settings())
    assert isinstance(outcome, Plan)
    shown = {one.quant: one.reason for one in outcome.considered}
    best = outcome.quant
    assert best == quant or [one.name for one in BIG.quants].index(best) < [
        one.name for one in BIG.quants
    ].index(quant), (best, shown)
    assert "recommends" not in " ".join(shown.values())


def test_sixteen_bits_are_planned_where_there_is_nothing_else_or_quality_is_wanted() -> None:
    large = made_up(ram_bytes=256 * GIB, cards=(192 * GIB,))
    only = plan(large, without_rows("BF16"), Settings())
    best = plan(large, without_rows(), Settings(model=ModelSettings(prefer="quality")))
    usual = plan(large, without_rows(), Settings())
    assert isinstance(only, Plan)
    assert isinstance(best, Plan)
    assert isinstance(usual, Plan)
    assert (only.quant, best.quant, usual.quant) == ("BF16", "BF16", "Q8_0")
    reasons = {one.quant: one.reason for one in usual.considered}
    assert reasons["BF16"] == "larger than Q8_0, and no better that one would notice"


def test_a_profile_without_rows_that_does_not_fit_says_how_much_is_missing() -> None:
    small = made_up(ram_bytes=64 * GIB, cards=(8 * GIB,))
    outcome = plan(small, without_rows("Q4_K_M"), Settings())
    assert isinstance(outcome, NoFit)
    assert outcome.reason.startswith("Qwen3.6 27B needs 1")
    assert "on GPU0, which has" in outcome.reason
    outcome = plan(small, without_rows(), Settings())
    assert isinstance(outcome, NoFit)
    assert outcome.reason == "no quant of Qwen3.6 27B fits in 8.6 GB of dedicated memory"
