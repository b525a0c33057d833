"""What the planner decides, and what it says about it."""

import dataclasses

import pytest

from qwenctl.errors import SettingsError
from qwenctl.hardware.facts import Hardware
from qwenctl.model.profile import Profile
from qwenctl.model.toml import load_profiles
from qwenctl.plan.budget import machines
from qwenctl.plan.outcome import MemoryPlace, MemoryRefusal, needed_bytes
from qwenctl.plan.planner import Extras, NoFit, Plan, find_quant, plan
from qwenctl.settings.types import ContextSettings, ModelSettings, Settings
from tests.fakes.machines import GIB, PROFILES, machine, made_up, profile

BIG = profile("qwen3.6-27b")
ALL = load_profiles(PROFILES, PROFILES / "none")


def planned(outcome: Plan | NoFit) -> Plan:
    assert isinstance(outcome, Plan), outcome
    return outcome


def refused(outcome: Plan | NoFit) -> NoFit:
    assert isinstance(outcome, NoFit), outcome
    return outcome


def settings(quant: str = "auto", **context: int | str) -> Settings:
    return Settings(model=ModelSettings(quant=quant), context=ContextSettings.model_validate(context))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("m3-max-36gb", ("Q4_K_M", 65536, "f16", 4096, 2, "fits")),
        ("m4-max-64gb", ("Q6_K", 65536, "f16", 4096, 2, "fits")),
        ("rtx4090-24gb", ("Q4_K_M", 65536, "f16", 4096, 2, "fits")),
        ("2xa100-80gb", ("BF16", 65536, "f16", 4096, 2, "fits")),
        ("m2-16gb", ("Q3_K_M", 8192, "q8_0", 0, 1, "tight")),
        ("cpu-24gb", ("Q3_K_M", 65536, "f16", 2048, 2, "fits")),
    ],
)
def test_the_recipes_machines_come_out_as_its_table_wants(name: str, expected: tuple[object, ...]) -> None:
    chosen = planned(plan(machine(name), BIG, Settings(), siblings=ALL))
    assert (
        chosen.quant,
        chosen.context_tokens,
        chosen.kv_type,
        chosen.cache_ram_mib,
        chosen.checkpoints,
        chosen.verdict,
    ) == expected


def test_a_mac_of_8_gb_is_sent_to_the_sibling_that_fits() -> None:
    outcome = refused(plan(machine("m1-8gb"), BIG, Settings(), siblings=ALL))
    assert outcome.sibling == "qwen3.5-4b"
    assert outcome.hint == "qwenctl up --profile qwen3.5-4b"
    assert outcome.reason == "Qwen3.6 27B needs 16 GB of unified memory or more, this machine has 8.6 GB"
    assert {one.quant for one in outcome.considered} == {quant.name for quant in BIG.quants}
    assert all(one.need_bytes > one.have_bytes and "needs" in one.reason for one in outcome.considered)
    assert isinstance(plan(machine("m1-8gb"), profile("qwen3.5-4b"), Settings()), Plan)


def test_no_hint_is_given_if_no_other_profile_fits() -> None:
    outcome = refused(plan(machine("m1-8gb"), BIG, Settings()))
    assert (outcome.sibling, outcome.hint) == (None, None)


def test_a_tight_plan_names_the_metal_limit_that_makes_it_fit() -> None:
    chosen = planned(plan(machine("m2-16gb"), BIG, Settings()))
    assert chosen.fix == "sudo sysctl iogpu.wired_limit_mb=13824"
    assert any(chosen.fix in warning for warning in chosen.warnings)
    embedding = find_quant(BIG, "Q3_K_M").token_embd_bytes  # mapped, never read: it may use half the margin
    assert chosen.memory.device_bytes - embedding <= (13824 - 512) * 1024**2
    assert chosen.memory.device_bytes <= (13824 - 256) * 1024**2 == chosen.memory.budget_bytes
    assert chosen.memory.headroom_bytes >= 0


def raised(name: str, limit_mib: int, *, said: bool = True) -> Hardware:
    """Return a Mac whose owner has set iogpu.wired_limit_mb; an older machine file does not say so."""
    hardware = machine(name)
    limit = limit_mib * 1024**2
    gpu = dataclasses.replace(
        hardware.accelerators[0], usable_bytes=limit, wired_limit_bytes=limit if said else None
    )
    return dataclasses.replace(hardware, accelerators=(gpu,))


@pytest.mark.parametrize("said", [True, False])
@pytest.mark.parametrize("limit_mib", [13824, 14336])
def test_a_plan_fits_once_the_metal_limit_is_raised_as_it_said(limit_mib: int, *, said: bool) -> None:
    before = planned(plan(machine("m2-16gb"), BIG, Settings()))
    after = planned(plan(raised("m2-16gb", limit_mib, said=said), BIG, Settings()))
    assert (after.quant, after.context_tokens, after.kv_type) == ("Q3_K_M", 8192, "q8_0")
    assert (before.verdict, after.verdict, after.fix) == ("tight", "fits", None)
    assert after.memory.budget_bytes == (limit_mib - 256) * 1024**2


def test_a_lower_metal_limit_than_the_one_that_is_set_is_never_advised() -> None:
    for limit_mib in range(8192, 16384, 512):
        outcome = plan(raised("m2-16gb", limit_mib), BIG, Settings())
        if isinstance(outcome, Plan) and outcome.fix:
            assert int(outcome.fix.split("=")[1]) > limit_mib


def test_a_raised_limit_of_24_gb_keeps_the_context_that_was_promised() -> None:
    """M4 24 GB, Q4_K_M, f16: tight with 64K before; afterwards 64K must fit."""
    mac = made_up(ram_bytes=24 * GIB, cards=(16 * GIB,), backend="metal", memory="unified")
    wanted = settings("Q4_K_M", kv_type="f16", cache_ram_mib=0, checkpoints=0)
    before = planned(plan(mac, BIG, wanted))
    assert before.fix is not None
    limit = int(before.fix.split("=")[1]) * 1024**2
    gpu = dataclasses.replace(mac.accelerators[0], usable_bytes=limit, wired_limit_bytes=limit)
    after = planned(plan(dataclasses.replace(mac, accelerators=(gpu,)), BIG, wanted))
    assert after.verdict == "fits"
    assert after.context_tokens == before.context_tokens


def test_every_quant_is_listed_in_considered() -> None:
    chosen = planned(plan(machine("m3-max-36gb"), BIG, Settings()))
    reasons = {one.quant: (one.verdict, one.reason) for one in chosen.considered}
    assert set(reasons) == {quant.name for quant in BIG.quants}
    assert reasons["Q4_K_M"] == ("fits", "chosen")
    assert reasons["BF16"][0] == "no"
    assert "needs 54.7 GiB on MTL0, which has 22.9 to give" in reasons["BF16"][1]
    assert reasons["Q5_K_M"] == ("fits", "slower: the profile recommends Q4_K_M for this machine")
    assert reasons["Q3_K_M"] == ("fits", "not needed: a better one fits")
    assert reasons["Q2_K"][1].startswith("only when asked for by name: poor for code")


def test_the_smallest_losses_are_taken_first() -> None:
    """As the RAM of a Mac shrinks: cache, then KV type, then context, then the quant."""
    seen: list[tuple[str, int, str]] = []
    for ram_mib in range(36 * 1024, 15 * 1024, -256):
        hardware = made_up(
            ram_bytes=ram_mib * 1024**2,
            cards=(ram_mib * 1024**2 * 3 // 4,),
            backend="metal",
            memory="unified",
        )
        outcome = plan(hardware, BIG, Settings())
        if isinstance(outcome, Plan) and outcome.verdict == "fits":
            state = (outcome.quant, outcome.context_tokens, outcome.kv_type)
            if not seen or seen[-1] != state:
                seen.append(state)
    assert seen[:2] == [("Q4_K_M", 65536, "f16"), ("Q4_K_M", 65536, "q8_0")]
    assert [tokens for quant, tokens, _ in seen if quant == "Q3_K_M"] == sorted(
        (tokens for quant, tokens, _ in seen if quant == "Q3_K_M"), reverse=True
    )
    assert seen[-1][1:] == (8192, "q8_0")


def test_a_plan_names_what_it_gave_up() -> None:
    chosen = planned(plan(made_up(ram_bytes=64 * GIB, cards=(16 * GIB,)), BIG, Settings()))
    assert (chosen.quant, chosen.context_tokens, chosen.kv_type) == ("Q3_K_M", 49152, "q8_0")
    said = "49,152 tokens of context instead of 65,536, q8_0 keys and values"
    assert f"memory is short: {said}" in chosen.warnings
    assert f"chosen, with {said}" in [one.reason for one in chosen.considered]


def test_memory_is_not_short_where_the_models_own_context_is_the_limit() -> None:
    """On two A100 with 45 GiB to spare, a million tokens were refused for want of memory."""
    chosen = planned(plan(machine("2xa100-80gb"), BIG, settings(tokens=1_000_000)))
    assert chosen.context_tokens == 262144
    assert not any("memory is short" in warning for warning in chosen.warnings)
    assert "the model's own context is 262,144 tokens, not 1,000,000" in chosen.warnings
    assert "chosen" in [one.reason for one in chosen.considered]


def test_little_host_memory_costs_the_host_cache_only() -> None:
    chosen = planned(plan(made_up(ram_bytes=6 * GIB, cards=(24 * GIB,)), BIG, Settings()))
    assert (chosen.quant, chosen.context_tokens, chosen.kv_type) == ("Q4_K_M", 65536, "f16")
    assert chosen.cache_ram_mib == 2048


def test_a_quant_that_the_settings_name_is_the_only_one_tried() -> None:
    chosen = planned(plan(machine("rtx4090-24gb"), BIG, settings("q5_k_m")))
    assert chosen.quant == "Q5_K_M"
    reasons = {one.reason for one in chosen.considered if one.quant != "Q5_K_M"}
    assert reasons == {"not considered: the settings name q5_k_m"}
    assert any("estimate" in warning for warning in chosen.warnings)


def test_q2_k_is_used_only_if_the_settings_name_it() -> None:
    for name in ("m2-16gb", "m1-8gb", "cpu-24gb", "rtx4090-24gb"):
        outcome = plan(machine(name), BIG, Settings())
        assert not isinstance(outcome, Plan) or outcome.quant != "Q2_K"
    chosen = planned(plan(machine("rtx4090-24gb"), BIG, settings("Q2_K")))
    assert any("poor for code" in warning for warning in chosen.warnings)


def test_a_named_quant_that_does_not_fit_is_refused_with_one_that_does() -> None:
    outcome = refused(plan(machine("rtx4090-24gb"), BIG, settings("Q8_0"), siblings=ALL))
    assert outcome.considered[0].quant == "Q8_0"
    assert outcome.hint == "qwenctl up --quant Q6_K"
    assert outcome.reason.startswith("Q8_0 needs")


def test_an_unknown_quant_is_answered_with_the_nearest() -> None:
    assert find_quant(BIG, "q4_k_m").name == "Q4_K_M"
    with pytest.raises(SettingsError) as caught:
        find_quant(BIG, "Q8_00")
    assert caught.value.hint == "did you mean Q8_0?"
    with pytest.raises(SettingsError) as caught:
        find_quant(BIG, "zzz")
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("known: BF16, UD-Q8_K_XL")
    assert refused(plan(machine("m3-max-36gb"), BIG, settings("zzz"))).considered == ()


def ran_out(chosen: Plan, place: MemoryPlace = "device") -> MemoryRefusal:
    """What is remembered after memory ran out for this plan."""
    return MemoryRefusal(place, needed_bytes(chosen.memory, place))


def test_after_out_of_memory_a_plan_that_needs_less_is_chosen() -> None:
    first = planned(plan(machine("rtx4090-24gb"), BIG, Settings()))
    refusals = frozenset({ran_out(first)})
    second = planned(plan(machine("rtx4090-24gb"), BIG, Settings(), refused=refusals))
    assert (second.quant, second.context_tokens, second.kv_type) == ("Q4_K_M", 65536, "q8_0")
    assert second.memory.device_bytes < first.memory.device_bytes
    assert any("ran out of memory here before" in one.reason for one in second.considered)
    refusals |= {ran_out(second)}
    third = planned(plan(machine("rtx4090-24gb"), BIG, Settings(), refused=refusals))
    assert third.memory.device_bytes < second.memory.device_bytes
    assert third.quant == "Q4_K_M"


PLACES: tuple[MemoryPlace, ...] = ("device", "host", "start")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", ["2xa100-80gb", "cpu-24gb", "m3-max-36gb", "m4-max-64gb", "rtx4090-24gb"])
def test_refusals_lead_through_ever_smaller_plans_to_the_last_quant(name: str, place: MemoryPlace) -> None:
    """Each plan needs less than every one that memory refused; so no plan can come twice."""
    hardware = machine(name)
    if place == "device" and not hardware.accelerators:
        return  # nothing of this machine is a device's memory
    refusals: list[MemoryRefusal] = []
    quants: list[str] = []
    for _ in range(500):
        outcome = plan(hardware, BIG, Settings(), refused=frozenset(refusals))
        if isinstance(outcome, NoFit):
            break
        one = ran_out(outcome, place)
        assert all(one.bytes < before.bytes for before in refusals)
        refusals.append(one)
        quants += [outcome.quant] if outcome.quant not in quants else []
    else:
        pytest.fail("still planning")
    choosable = [quant.name for quant in BIG.quants if not quant.named_only]
    assert quants == choosable[choosable.index(quants[0]) :]


def test_host_out_of_memory_takes_the_cache_first() -> None:
    first = planned(plan(machine("m3-max-36gb"), BIG, Settings()))
    refusals = frozenset({ran_out(first, "host")})
    second = planned(plan(machine("m3-max-36gb"), BIG, Settings(), refused=refusals))
    assert (second.quant, second.kv_type, second.cache_ram_mib) == ("Q4_K_M", "f16", 2048)


@pytest.mark.parametrize("name", ["rtx4090-24gb", "m3-max-36gb", "cpu-24gb"])
def test_memory_that_others_hold_needs_less_at_the_start_not_a_smaller_cache(name: str) -> None:
    def at_the_start(chosen: Plan) -> int:
        memory = chosen.memory
        return memory.device_bytes + memory.host_bytes - memory.cache_bytes - memory.checkpoints_bytes

    first = planned(plan(machine(name), BIG, Settings()))
    second = planned(plan(machine(name), BIG, Settings(), refused=frozenset({ran_out(first, "start")})))
    assert at_the_start(second) < at_the_start(first)


@pytest.mark.parametrize(
    ("prefer", "quant", "tokens"),
    [
        ("balanced", "Q4_K_M", 65536),
        ("quality", "Q6_K", 49152),
        ("context", "Q4_K_M", 65536),
        ("speed", "Q3_K_M", 65536),
    ],
)
def test_prefer_changes_the_order(prefer: str, quant: str, tokens: int) -> None:
    wanted = Settings(model=ModelSettings.model_validate({"prefer": prefer}))
    chosen = planned(plan(machine("rtx4090-24gb"), BIG, wanted))
    assert (chosen.quant, chosen.context_tokens) == (quant, tokens)


def test_prefer_context_gives_up_the_quant_before_the_context() -> None:
    wanted = Settings(model=ModelSettings(prefer="context"), context=ContextSettings(tokens=131072))
    card = made_up(ram_bytes=64 * GIB, cards=(24 * GIB,))
    balanced = planned(plan(card, BIG, Settings(context=ContextSettings(tokens=131072))))
    chosen = planned(plan(card, BIG, wanted))
    assert chosen.context_tokens == 131072
    assert balanced.quant == "Q4_K_M"
    assert chosen.context_tokens >= balanced.context_tokens


def test_the_demo_model_is_never_suggested_instead_and_a_tiny_machine_gets_the_smallest() -> None:
    tiny = made_up(ram_bytes=3 * GIB)
    assert refused(plan(tiny, BIG, Settings(), siblings=(profile("demo"),))).sibling is None
    assert refused(plan(tiny, BIG, Settings(), siblings=ALL)).sibling == "smollm2-135m"


def test_a_card_too_small_for_its_share_is_left_out() -> None:
    hardware = made_up(ram_bytes=64 * GIB, cards=(24 * GIB, 2 * GIB))
    chosen = planned(plan(hardware, BIG, Settings()))
    assert chosen.devices == ("GPU0",)
    assert any("only GPU0 is used" in warning for warning in chosen.warnings)


def test_rocm_takes_more_of_a_card_than_cuda() -> None:
    """An MI355X held 1,221 and 1,488 MiB beside the buffers; margin and context together must cover that."""
    free = {
        backend: machines(made_up(ram_bytes=64 * GIB, cards=(24 * GIB,), backend=backend))[0].budgets[0]
        for backend in ("cuda", "rocm", "vulkan")
    }
    assert 24 * GIB - free["cuda"] == 24 * GIB - free["vulkan"] == (1024 + 330) * 1024**2
    assert 24 * GIB - free["rocm"] == 2048 * 1024**2 >= 1488 * 1024**2


def test_two_cards_share_the_layers() -> None:
    chosen = planned(plan(machine("2xa100-80gb"), BIG, Settings()))
    assert chosen.devices == ("CUDA0", "CUDA1")
    first, second = chosen.memory.devices
    assert first.need_bytes + second.need_bytes == chosen.memory.device_bytes
    assert abs(first.need_bytes - second.need_bytes) < 2.5e9


def test_a_plan_for_a_cpu_warns_of_its_speed_before_the_download() -> None:
    chosen = planned(plan(machine("cpu-24gb"), BIG, Settings()))
    assert "no GPU: expect 1 to 2 tokens/s (14 GB to download)" in chosen.warnings
    assert chosen.memory.device_bytes == 0
    assert chosen.memory.weights_bytes == find_quant(BIG, "Q3_K_M").bytes - BIG.architecture.header_bytes


def test_drafts_come_from_the_twin_repository() -> None:
    """Same file names, other bytes: facts on the 27B's Q6_K, 22,884,406,400 bytes with the block."""
    chosen = planned(plan(machine("m4-max-64gb"), BIG, Settings(), extras=Extras(draft_tokens=2)))
    assert chosen.repo == "unsloth/Qwen3.6-27B-MTP-GGUF"
    assert chosen.files[0].name == "Qwen3.6-27B-Q6_K.gguf"
    assert chosen.files[0].sha256 is None
    assert chosen.files[0].bytes == pytest.approx(22_884_406_400, rel=0.002)


def test_drafts_and_the_vision_encoder_need_memory() -> None:
    plain = planned(plan(machine("m4-max-64gb"), BIG, Settings()))
    more = planned(plan(machine("m4-max-64gb"), BIG, Settings(), extras=Extras(draft_tokens=3, vision=True)))
    assert more.memory.extras_bytes > 1158 * 1024**2
    assert more.memory.recurrent_bytes == 4 * plain.memory.recurrent_bytes
    assert more.memory.checkpoints_bytes > plain.memory.checkpoints_bytes


def test_context_is_never_more_than_the_model_has() -> None:
    chosen = planned(plan(machine("2xa100-80gb"), BIG, settings(tokens=1_000_000)))
    assert chosen.context_tokens == 262144


def test_each_slot_takes_its_own_memory() -> None:
    one = planned(plan(machine("m4-max-64gb"), BIG, settings(tokens=16384)))
    four = planned(plan(machine("m4-max-64gb"), BIG, settings(tokens=16384, parallel=4)))
    assert four.memory.kv_bytes == 4 * one.memory.kv_bytes
    assert four.memory.recurrent_bytes == 4 * one.memory.recurrent_bytes
    assert four.memory.checkpoints_bytes == 4 * one.memory.checkpoints_bytes


def test_the_demo_fits_everywhere() -> None:
    demo = profile("demo")
    for name in ("m1-8gb", "m2-16gb", "cpu-24gb", "2xa100-80gb"):
        chosen = planned(plan(machine(name), demo, Settings()))
        assert chosen.quant == "F16"
        assert chosen.repo is None
        assert any("random" in warning for warning in chosen.warnings)


def test_a_machine_that_no_row_of_the_profile_covers_gets_a_warning() -> None:
    rows = tuple(row for row in BIG.rows if "cpu" not in row.memory)
    without: Profile = BIG.model_copy(update={"rows": rows})
    outcome = refused(plan(made_up(ram_bytes=64 * GIB), without, Settings()))
    assert outcome.reason == "the profile has no row for cpu memory"


def test_plans_compare_by_value() -> None:
    first = plan(machine("m3-max-36gb"), BIG, Settings())
    assert first == plan(machine("m3-max-36gb"), BIG, Settings())
    assert first != dataclasses.replace(planned(first), quant="Q6_K")
