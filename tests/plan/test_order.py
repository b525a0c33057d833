"""The order in which candidates are tried."""

import pytest

from qwenctl.plan.budget import machines
from qwenctl.plan.order import candidates, context_steps
from qwenctl.settings.types import ContextSettings, Settings
from tests.fakes.machines import machine, profile

BIG = profile("qwen3.6-27b")


@pytest.mark.parametrize(
    ("tokens", "least", "steps"),
    [
        (65536, 8192, (65536, 49152, 32768, 24576, 16384, 12288, 8192)),
        (100000, 32768, (100000, 98304, 65536, 49152, 32768)),
        (10000, 9000, (10000, 9000)),
        (8192, 8192, (8192,)),
    ],
)
def test_each_halving_of_the_context_takes_two_steps(tokens: int, least: int, steps: tuple[int, ...]) -> None:
    assert context_steps(tokens, least) == steps


def test_cache_goes_before_the_kv_type_and_that_before_the_context() -> None:
    way = machines(machine("rtx4090-24gb"))[0]
    first = [
        (one.context_tokens, one.kv_type, one.cache_ram_mib, one.checkpoints)
        for one in candidates(way, BIG, Settings())
    ]
    assert first[:7] == [
        (65536, "f16", 4096, 2),
        (65536, "f16", 2048, 2),
        (65536, "f16", 0, 2),
        (65536, "q8_0", 4096, 2),
        (65536, "q8_0", 2048, 2),
        (65536, "q8_0", 0, 2),
        (49152, "f16", 4096, 2),
    ]


def test_checkpoints_go_last_and_only_at_the_smallest_context() -> None:
    way = machines(machine("rtx4090-24gb"))[0]
    fewer = [one for one in candidates(way, BIG, Settings()) if one.checkpoints < 2]
    assert {(one.context_tokens, one.kv_type, one.cache_ram_mib) for one in fewer} == {(8192, "q8_0", 0)}
    assert [one.checkpoints for one in fewer[:2]] == [1, 0]


def test_a_kv_type_that_the_settings_name_is_kept() -> None:
    way = machines(machine("rtx4090-24gb"))[0]
    wanted = Settings(context=ContextSettings(kv_type="q5_1"))
    assert {one.kv_type for one in candidates(way, BIG, wanted)} == {"q5_1"}


ALLOWING = BIG.model_copy(update={"kv_types": ("f16", "q8_0", "q4_0")})


def test_four_bit_keys_and_values_are_the_last_concession_before_a_poorer_quant() -> None:
    way = machines(machine("rtx4090-24gb"))[0]
    tried = list(candidates(way, ALLOWING, Settings()))
    four = [index for index, one in enumerate(tried) if one.kv_type == "q4_0"]
    assert [(tried[i].context_tokens, tried[i].cache_ram_mib, tried[i].checkpoints) for i in four] == [
        (8192, 0, 0)
    ] * len(four)
    for index in four:
        before, here = tried[index - 1], tried[index]
        assert (before.quant, before.kv_type) == (here.quant, "q8_0")
        assert all(after.quant != here.quant for after in tried[index + 1 :])
    plain = [one for one in tried if one.kv_type != "q4_0"]
    assert plain == list(candidates(way, BIG, Settings())), "nothing else changes"


def test_a_profile_that_lists_no_four_bit_keys_and_values_never_uses_them() -> None:
    for name in ("m2-16gb", "rtx4090-24gb", "cpu-24gb"):
        assert {one.kv_type for one in candidates(machines(machine(name))[0], BIG, Settings())} <= {
            "f16",
            "q8_0",
        }
