"""A load beside its plan: what differs is said, what was measured is kept."""

import dataclasses
from pathlib import Path

import pytest

from qwenctl.launch.load_check import differences, known_load, lost_devices
from qwenctl.launch.load_log import MeasuredLoad, compare, parse_log
from qwenctl.plan.memory import MIB, Part
from qwenctl.plan.outcome import Extras, Plan
from qwenctl.plan.planner import plan
from qwenctl.settings.types import Settings
from tests.fakes.machines import machine, profile

CARD = """
print_info: arch                  = qwen35
load_tensors:   CPU_Mapped model buffer size =   682.03 MiB
load_tensors:        CUDA0 model buffer size = 15345.66 MiB
srv    load_model: initializing, n_slots = 1, n_ctx_slot = 65536, kv_unified = 'false'
llama_context:  CUDA_Host  output buffer size =     0.95 MiB
llama_kv_cache:      CUDA0 KV buffer size =  4096.00 MiB
llama_memory_recurrent:      CUDA0 RS buffer size =   149.62 MiB
sched_reserve:      CUDA0 compute buffer size =   186.02 MiB
sched_reserve:  CUDA_Host compute buffer size =    84.02 MiB
load_tensors: offloaded 65/65 layers to GPU
"""


def planned(name: str = "rtx4090-24gb", **changes: object) -> Plan:
    outcome = plan(machine(name), profile("qwen3.6-27b"), Settings())
    assert isinstance(outcome, Plan)
    return dataclasses.replace(outcome, devices=("CUDA0",), **changes)  # type: ignore[arg-type]


def test_a_load_as_planned_is_no_difference() -> None:
    one, buffers = planned(), parse_log(CARD)
    assert differences(one, "qwen35", buffers, compare(one.memory, buffers)) == ()


def test_another_model_context_or_size_is_said() -> None:
    one, buffers = planned(), parse_log(CARD)
    assert differences(one, "llama", buffers, None) == (
        "the model that was loaded is 'qwen35', the plan is for 'llama'",
    )
    short = parse_log(CARD.replace("n_ctx_slot = 65536", "n_ctx_slot = 32768"))
    assert differences(one, "qwen35", short, None) == (
        "each slot has 32,768 tokens of context, the plan says 65,536",
    )
    large = MeasuredLoad(20 * 1024 * MIB, 23 * 1024 * MIB, -13.0, partly_on_cpu=False)
    (said,) = differences(one, "qwen35", buffers, large)
    assert "took 23.00 GiB, 20.00 GiB were planned" in said


def test_a_context_that_the_server_rounds_up_is_no_difference() -> None:
    one = planned(context_tokens=65500)
    assert differences(one, "qwen35", parse_log(CARD), None) == ()


TWO = CARD + CARD.replace("CUDA0", "CUDA1")
USED = (
    "llama_prepare_model_devices: using device {} (NVIDIA GeForce RTX 3090) (0000:01:00.0) - 23000 MiB free\n"
)


@pytest.mark.parametrize(
    ("devices", "log", "lost"),
    [
        (("CUDA0",), CARD, ()),
        (("CUDA0",), CARD.replace("CUDA0", "CPU"), ("CUDA0",)),
        (("CUDA0", "CUDA1"), TWO, ()),
        (("CUDA0", "CUDA1"), CARD.replace("CUDA0", "CPU"), ("CUDA0", "CUDA1")),
        (("CUDA0", "CUDA1"), USED.format("CUDA0") + CARD, ("CUDA1",)),
        (("CUDA0", "CUDA1"), USED.format("CUDA0") + USED.format("CUDA1") + CARD, ()),  # it may stay empty
        (("CUDA0", "CUDA1"), CARD, ()),  # a build that does not say what it uses
        (("CUDA0",), "", ()),
        (("CUDA0",), "load_tensors: offloaded 65/65 layers to GPU\n", ()),  # no buffer is named at all
        ((), CARD.replace("CUDA0", "CPU"), ()),
        (("MTL0",), CARD.replace("CUDA0", "MTL0_Mapped").replace("CUDA_Host", "CPU"), ()),
        (("MTL0",), CARD.replace("CUDA0", "MTL0_Private").replace("CUDA_Host", "CPU"), ()),
        (("MTL0",), CARD.replace("CUDA0", "Metal_Mapped").replace("CUDA_Host", "CPU"), ()),
        (("CUDA0", "CUDA1"), CARD.replace("CUDA0", "CUDA_Split"), ()),
        (("RPC0",), CARD.replace("CUDA0", "RPC0[127.0.0.1:50052]").replace("CUDA_Host", "CPU"), ()),
        (("RPC0",), CARD.replace("CUDA0", "CPU").replace("CUDA_Host", "CPU"), ("RPC0",)),
    ],
)
def test_a_device_without_a_buffer_is_lost(devices: tuple[str, ...], log: str, lost: tuple[str, ...]) -> None:
    one = dataclasses.replace(planned(), devices=devices)
    assert lost_devices(one, parse_log(log)) == lost


def test_a_server_on_the_cpu_that_says_all_layers_are_on_the_gpu_has_lost_it() -> None:
    log = (Path(__file__).parent / "captured/server-cpu-b11434.log").read_text(encoding="utf-8")
    assert "offloaded 5/5 layers to GPU" in log
    assert lost_devices(planned(), parse_log(log)) == ("CUDA0",)


def test_the_figures_of_a_load_are_kept_by_kind() -> None:
    load = known_load(planned(), parse_log(CARD))
    assert load is not None
    assert (load.quant, load.context_tokens, load.source) == ("Q4_K_M", 65536, "measured")
    assert load.parts == (Part(int(15345.66 * MIB), 4096 * MIB, int(149.62 * MIB), int(186.02 * MIB)),)
    assert load.host == Part(int(682.03 * MIB), 0, 0, int(84.02 * MIB) + int(0.95 * MIB))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("CUDA0 compute", "CUDA1 compute"),
        ("sched_reserve:      CUDA0 compute buffer size =   186.02 MiB", ""),
        ("offloaded 65/65", "offloaded 60/65"),
        ("CUDA0", "CPU"),
    ],
)
def test_a_load_that_is_not_whole_tells_nothing(old: str, new: str) -> None:
    assert known_load(planned(), parse_log(CARD.replace(old, new))) is None


def test_the_next_plan_uses_what_was_measured() -> None:
    before = plan(machine("rtx4090-24gb"), profile("qwen3.6-27b"), Settings())
    assert isinstance(before, Plan)
    load = known_load(dataclasses.replace(before, devices=("CUDA0",)), parse_log(CARD))
    assert load is not None
    after = plan(machine("rtx4090-24gb"), profile("qwen3.6-27b"), Settings(), known=(load,))
    assert isinstance(after, Plan)
    assert after.memory.source == "measured"
    assert after.memory.weights_bytes == int(15345.66 * MIB)
    drafting = plan(
        machine("rtx4090-24gb"),
        profile("qwen3.6-27b"),
        Settings(),
        known=(load,),
        extras=Extras(draft_tokens=2),
    )
    assert isinstance(drafting, Plan)
    assert drafting.memory.source == "formula"
