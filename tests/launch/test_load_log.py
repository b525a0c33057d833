"""What llama.cpp prints about memory, read from captured and documented samples."""

from pathlib import Path

import pytest

from qwenctl.engine.fit_table import FitRow, error_percent, parse_fit
from qwenctl.launch.load_log import compare, parse_log
from qwenctl.plan.planner import Plan, plan
from qwenctl.settings.types import ContextSettings, ModelSettings, Settings
from tests.fakes.machines import GIB, made_up, profile

FOUR_BITS = Settings(model=ModelSettings(quant="Q4_K_M"), context=ContextSettings(tokens=8192))
CAPTURED = Path(__file__).parent / "captured"


def captured(name: str) -> str:
    return (CAPTURED / name).read_text(encoding="utf-8")


def test_the_table_of_the_dry_run() -> None:
    """Captured: llama-fit-params b11434, 27B shape, one RPC device, CPU host."""
    assert parse_fit("RPC0 14856 4245 589\nHost 682 0 104\n") == (
        FitRow("RPC0", 14856, 4245, 589),
        FitRow("Host", 682, 0, 104),
    )
    assert FitRow("RPC0", 14856, 4245, 589).total_mib == 19690
    assert parse_fit("-c 65536 -ngl -1\n") == ()


def test_a_load_on_a_device() -> None:
    said = parse_log(captured("server-rpc-b11434.log"))
    assert [name for name, _ in said.by_device] == ["RPC0"]
    assert said.device_mib == pytest.approx(5.17 + 4.0 + 0.21 + 13.02)
    assert said.host_mib == pytest.approx(0.13 + 0.0 + 10.02)
    assert said.projected_mib == 22
    assert said.offloaded == (5, 5)
    assert not said.partly_on_cpu


def test_a_load_on_the_cpu() -> None:
    said = parse_log(captured("server-cpu-b11434.log"))
    assert said.by_device == ()
    assert said.device_mib == 0
    assert said.host_mib == pytest.approx(5.30 + 0.0 + 4.0 + 0.21 + 13.52)


def test_layers_left_on_the_cpu_count_as_out_of_memory() -> None:
    """Written after llama.cpp, src/llama-model.cpp, load_tensors."""
    said = parse_log("load_tensors: offloaded 44/65 layers to GPU\n")
    assert said.offloaded == (44, 65)
    assert said.partly_on_cpu


def test_of_repeated_lines_the_last_counts() -> None:
    """Written after facts: ``-lv 5`` prints a dry pass first, with sizes of 0."""
    said = parse_log(
        "llama_kv_cache:      CUDA0 KV buffer size =     0.00 MiB\n"
        "load_tensors: offloaded 1/65 layers to GPU\n"
        "llama_kv_cache:      CUDA0 KV buffer size =  4096.00 MiB\n"
        "load_tensors: offloaded 65/65 layers to GPU\n"
    )
    assert said.device_mib == 4096
    assert said.offloaded == (65, 65)


DRAFTING = """
load_tensors: loading model tensors, this can take a while... (load_mode = mmap)
load_tensors:   CPU_Mapped model buffer size =   682.03 MiB
load_tensors:      Vulkan0 model buffer size = 18163.06 MiB
llama_context: constructing llama_context
llama_kv_cache:    Vulkan0 KV buffer size =  2048.00 MiB
llama_memory_recurrent:    Vulkan0 RS buffer size =   448.88 MiB
sched_reserve:    Vulkan0 compute buffer size =   664.18 MiB
llama_context: constructing llama_context
llama_kv_cache:    Vulkan0 KV buffer size =   128.00 MiB
sched_reserve:    Vulkan0 compute buffer size =   520.06 MiB
"""
"""The buffers of a public log: 3090, Vulkan, b9849, two drafts; 21,972.18 MiB on the card."""


def test_the_context_of_the_drafts_adds_to_that_of_the_model() -> None:
    said = parse_log(DRAFTING)
    assert dict(said.by_device) == {"Vulkan0": pytest.approx(21972.18)}
    assert said.host_mib == pytest.approx(682.03)


def test_full_and_windowed_caches_and_files_of_a_split_model_add_up() -> None:
    """Captured: Gemma 3 270M, b11434; the second file written after src/llama-model.cpp, load_tensors."""
    said = parse_log(
        "load_tensors:      RPC0 model buffer size =   100.00 MiB\n"
        "load_tensors:      RPC0 model buffer size =   171.00 MiB\n"
        "llama_kv_cache:      RPC0 KV buffer size =    24.00 MiB\n"
        "llama_kv_cache:      RPC0 KV buffer size =    15.00 MiB\n"
        "sched_reserve:      RPC0 compute buffer size =    26.02 MiB\n"
        "sched_reserve:      RPC0 compute buffer size =    26.02 MiB\n"
    )
    assert said.device_mib == pytest.approx(271 + 39 + 26.02)


def test_the_dry_pass_does_not_count() -> None:
    said = parse_log(
        "llama_kv_cache:      CUDA0 KV buffer size =  8192.00 MiB\n"
        "common_params_fit_impl: projected to use 9000 MiB of device memory vs. 8000 MiB\n"
        "common_fit_params: fitting params to free memory took 0.10 seconds\n"
        "llama_kv_cache:      CUDA0 KV buffer size =  4096.00 MiB\n"
    )
    assert said.device_mib == 4096


def test_mapped_repacked_and_pinned_buffers_are_counted_on_the_right_device() -> None:
    """Written after llama.cpp's buffer type names."""
    said = parse_log(
        "load_tensors:   CPU_Mapped model buffer size =   682.03 MiB\n"
        "load_tensors:   CPU_REPACK model buffer size =   100.00 MiB\n"
        "load_tensors:  MTL0_Mapped model buffer size = 15345.70 MiB\n"
        "llama_context:   CUDA_Host compute buffer size =    20.00 MiB\n"
        "sched_reserve:       MTL0 compute buffer size =   412.00 MiB\n"
    )
    assert dict(said.by_device) == {"MTL0": pytest.approx(15757.70)}
    assert said.host_mib == pytest.approx(702.03), "the repacked copies replace mapped pages"


def test_repacked_weights_are_counted_once() -> None:
    """The process had 1,917 MiB of anonymous memory: the copies, cache, state and compute."""
    said = parse_log(captured("server-cpu-repack-b11434.log"))
    assert said.host_mib == pytest.approx(2572.86 + 0.95 + 256.0 + 50.25 + 87.02)
    anonymous = 1571.48 + 0.95 + 256.0 + 50.25 + 87.02
    assert anonymous == pytest.approx(1963108 / 1024, rel=0.03)
    chosen = plan(made_up(ram_bytes=24 * GIB), profile("qwen3.5-4b"), FOUR_BITS)
    assert isinstance(chosen, Plan)
    assert abs(compare(chosen.memory, said).error_percent) < 1.5, "the published file is 1.2 % larger"


def test_a_reduced_context_is_recognised() -> None:
    """Written after llama.cpp, common/fit.cpp."""
    said = parse_log("common_params_fit_impl: context size reduced from 262144 to 132352\n")
    assert said.reduced_context == (262144, 132352)


def test_an_empty_log_has_no_figures() -> None:
    said = parse_log("")
    assert (said.projected_mib, said.offloaded, said.reduced_context) == (None, None, None)
    assert not said.partly_on_cpu


@pytest.mark.parametrize("where", ["rpc", "cpu"])
def test_a_load_is_compared_with_its_plan(where: str) -> None:
    cards = (24 * GIB,) if where == "rpc" else ()
    hardware = made_up(ram_bytes=16 * GIB, cards=cards, backend="rpc")
    chosen = plan(hardware, profile("demo"), Settings(context=ContextSettings(tokens=8192)))
    assert isinstance(chosen, Plan)
    loaded = compare(chosen.memory, parse_log(captured(f"server-{where}-b11434.log")))
    assert abs(loaded.error_percent) < 0.3
    assert loaded.actual_bytes > 20e6
    assert not loaded.partly_on_cpu


def test_errors_are_percent_of_the_engine() -> None:
    assert error_percent(102, 100) == pytest.approx(2)
    assert error_percent(98, 100) == pytest.approx(-2)
    assert error_percent(1, 0) == 0
