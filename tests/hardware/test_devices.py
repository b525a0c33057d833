"""What the binary lists, joined with what the machine has."""

from dataclasses import replace
from pathlib import Path

import pytest

from qwenctl.errors import NoFitError, SettingsError
from qwenctl.hardware.detect import detect
from qwenctl.hardware.device_join import join
from qwenctl.hardware.device_list import backend_of, parse_devices
from qwenctl.hardware.devices import reserve, usable
from qwenctl.hardware.facts import Accelerator, Cpu, Device, Hardware, ServerFacts
from qwenctl.hardware.saved import read_machine
from qwenctl.settings.types import HardwareSettings as Choice
from tests.hardware.captured import captured_machine, sample

MIB = 1 << 20
GIB = 1 << 30
AUTO = Choice()
BARE = Hardware("linux", "x86_64", None, Cpu(None, 8, None, 16), 64 * GIB)


def server(text: str) -> ServerFacts:
    return ServerFacts("/bin/llama-server", "b1", parse_devices(text))


def listed(*lines: str) -> ServerFacts:
    return server("\n".join(["Available devices:", *(f"  {line}" for line in lines)]))


def cuda(number: int, name: str, gib: int) -> Accelerator:
    return Accelerator(f"CUDA{number}", name, "cuda", "dedicated", gib * GIB, gib * GIB, "580")


RTX = replace(BARE, accelerators=(cuda(0, "NVIDIA GeForce RTX 4090", 24),))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("devices-none.txt", []),
        ("devices-rpc.txt", [("RPC0", "127.0.0.1:50991", 24105, 24105)]),
        ("devices-vulkan.txt", [("Vulkan0", "NVIDIA GeForce RTX 2060", 6144, 5136)]),
        (
            "devices-cuda.txt",
            [
                ("CUDA0", "NVIDIA GeForce RTX 3080 Ti", 11909, 11650),
                ("CUDA1", "NVIDIA RTX PRO 4000 Blackwell SFF Edition", 24026, 23795),
            ],
        ),
    ],
)
def test_listed_devices_are_parsed(name: str, expected: list[tuple[str, str, int, int]]) -> None:
    found = parse_devices(sample(name))
    assert [(d.id, d.description, d.total_bytes // MIB, d.free_bytes // MIB) for d in found] == expected


def test_the_id_of_a_device_names_its_backend_and_a_device_that_cannot_compute_has_none() -> None:
    found = parse_devices(sample("devices-mixed.txt"))
    assert [(d.id, backend_of(d)) for d in found] == [
        ("MTL0", "metal"),
        ("BLAS", None),
        ("ROCm0", "rocm"),
        ("Vulkan0", "vulkan"),
        ("Vulkan1", None),
        ("SYCL0", "sycl"),
        ("RPC[192.168.1.7:50052]", "rpc"),
    ]
    assert found[3].description == "AMD Radeon 8060S Graphics (RADV GFX1151)"
    assert backend_of(Device("CUDA0", "lost", 0, 0)) is None


def test_gpus_are_joined_by_name_whatever_the_order() -> None:
    machine = detect(captured_machine("two-gpus.machine"))
    found = usable(machine, server(sample("devices-cuda.txt")), AUTO)
    assert [(a.id, a.name, a.memory_bytes, a.usable_bytes, a.driver) for a in found.accelerators] == [
        ("CUDA0", "NVIDIA GeForce RTX 3080 Ti", 12_884_901_888, 11909 * MIB, "580.95"),
        ("CUDA1", "NVIDIA RTX PRO 4000 Blackwell SFF Edition", 25_769_803_776, 24026 * MIB, "580.95"),
    ]
    assert found.warnings == ()


def test_gpus_of_the_same_size_are_matched_by_their_names() -> None:
    pair = (cuda(0, "NVIDIA RTX A5000", 24), replace(cuda(1, "NVIDIA GeForce RTX 4090", 24), driver="other"))
    found = join(
        replace(BARE, accelerators=pair),
        listed(
            "CUDA0: NVIDIA GeForce RTX 4090 (24080 MiB, 1 MiB free)",
            "CUDA1: NVIDIA RTX A5000 (24080 MiB, 1 MiB free)",
        ),
    )
    assert [(a.id, a.driver) for a in found.accelerators] == [("CUDA0", "other"), ("CUDA1", "580")]


def test_a_cuda_machine_with_a_cpu_only_binary_gets_a_warning() -> None:
    found = usable(RTX, server(sample("devices-none.txt")), AUTO)
    assert found.accelerators == ()
    (warning,) = found.warnings
    assert warning.startswith("llama-server at /bin/llama-server can use no accelerator, though ")
    assert "this machine has NVIDIA GeForce RTX 4090: everything would run on the CPU" in warning


def test_a_gpu_that_is_required_and_unusable_ends_in_no_fit() -> None:
    with pytest.raises(NoFitError, match="cannot use a GPU: llama-server at /bin/llama-server can use no"):
        usable(RTX, server(sample("devices-none.txt")), Choice(gpu="required"))
    with pytest.raises(NoFitError, match="no accelerator was found in this machine"):
        usable(replace(BARE, warnings=("a cgroup limits",)), None, Choice(gpu="required"))
    with pytest.raises(NoFitError, match="mismatch"):
        usable(
            detect(captured_machine("driver-mismatch.machine")),
            None,
            Choice(gpu="required", devices=("CUDA0",)),
        )
    assert usable(RTX, None, Choice(gpu="required")) == RTX


def test_off_leaves_the_cpu_and_names_the_card() -> None:
    """An ``up --cpu`` of last week is easily forgotten."""
    left = usable(RTX, server(sample("devices-none.txt")), Choice(gpu="off"))
    assert replace(left, warnings=()) == BARE
    (warning,) = left.warnings
    assert warning.startswith(
        'NVIDIA GeForce RTX 4090 is not used: gpu = "off" in [hardware], or an earlier up'
    )
    shared = replace(RTX.accelerators[0], name="Intel UHD Graphics", backend="vulkan", memory="shared")
    assert usable(replace(RTX, accelerators=(shared,)), None, Choice(gpu="off")) == BARE


def test_a_machine_without_a_known_binary_stays_as_it_is() -> None:
    assert usable(RTX, None, AUTO) == RTX


def test_the_working_set_that_metal_reports_is_used() -> None:
    machine = detect(captured_machine("m3-max-36gb.machine"))
    (found,) = join(machine, listed("MTL0: Apple M3 Max (30150 MiB, 30149 MiB free)")).accelerators
    assert (found.id, found.memory, found.memory_bytes) == ("MTL0", "unified", 36 * GIB)
    assert found.usable_bytes == 30150 * MIB


def test_an_amd_card_gets_its_name_and_the_idle_apu_goes() -> None:
    machine = detect(captured_machine("ryzen-desktop-7900xtx.machine"))
    both = (
        "ROCm0: AMD Radeon Graphics (32511 MiB, 32000 MiB free)",
        "ROCm1: AMD Radeon RX 7900 XTX (24560 MiB, 24400 MiB free)",
    )
    found = usable(machine, listed(*both), AUTO)
    assert [(a.id, a.name, a.memory_bytes) for a in found.accelerators] == [
        ("ROCm1", "AMD Radeon RX 7900 XTX", 25_753_026_560)
    ]
    named = usable(machine, listed(*both), Choice(devices=("rocm0",)))
    assert [a.memory for a in named.accelerators] == ["shared"]
    only_card = usable(machine, listed(both[1]), AUTO)
    assert only_card.warnings == ()


def test_an_nvidia_card_through_vulkan_keeps_its_facts() -> None:
    found = usable(RTX, listed("Vulkan0: NVIDIA GeForce RTX 4090 (24564 MiB, 24000 MiB free)"), AUTO)
    (only,) = found.accelerators
    assert (only.id, only.backend, only.driver, only.memory) == ("Vulkan0", "vulkan", "580", "dedicated")


def test_a_device_seen_through_two_backends_counts_once() -> None:
    two = ("NVIDIA A100 80GB PCIe (81037 MiB, 80000 MiB free)",) * 2
    lines = [f"{backend}{n}: {text}" for backend in ("CUDA", "Vulkan") for n, text in enumerate(two)]
    machine = replace(BARE, accelerators=tuple(cuda(n, "NVIDIA A100 80GB PCIe", 80) for n in range(2)))
    for hardware in (machine, BARE):
        found = join(hardware, listed(*lines))
        assert [a.id for a in found.accelerators] == ["CUDA0", "CUDA1"]
        assert found.warnings == ()


def test_a_gpu_only_another_backend_can_use_is_kept() -> None:
    machine = replace(BARE, accelerators=(cuda(0, "NVIDIA New", 24), cuda(1, "NVIDIA Old", 8)))
    found = join(
        machine,
        listed(
            "CUDA0: NVIDIA New (24000 MiB, 1 MiB free)",
            "Vulkan0: NVIDIA New (24000 MiB, 1 MiB free)",
            "Vulkan1: NVIDIA Old (8000 MiB, 1 MiB free)",
        ),
    )
    assert [(a.id, a.name) for a in found.accelerators] == [
        ("CUDA0", "NVIDIA New"),
        ("Vulkan1", "NVIDIA Old"),
    ]


def test_one_gpu_of_two_missing_from_the_list_is_named() -> None:
    machine = replace(BARE, accelerators=(cuda(0, "NVIDIA New", 24), cuda(1, "NVIDIA Old", 8)))
    found = join(machine, listed("CUDA0: NVIDIA New (24000 MiB, 1 MiB free)"))
    assert found.warnings == ("llama-server at /bin/llama-server cannot use NVIDIA Old, CUDA1",)


@pytest.mark.parametrize(
    ("line", "memory"),
    [
        ("SYCL0: Intel(R) Arc(TM) A770 Graphics (15473 MiB, 15473 MiB free)", "dedicated"),
        ("Vulkan0: Intel(R) Arc(tm) Pro B60 Graphics (BMG G21) (24480 MiB, 24000 MiB free)", "dedicated"),
        ("SYCL0: Intel(R) Data Center GPU Max 1550 (65536 MiB, 65536 MiB free)", "dedicated"),
        ("Vulkan0: Intel(R) Iris(R) Xe Graphics (TGL GT2) (11875 MiB, 11875 MiB free)", "shared"),
        ("Vulkan0: Intel(R) Arc(TM) Graphics (MTL) (48000 MiB, 48000 MiB free)", "shared"),
        ("Vulkan0: AMD Radeon 780M Graphics (RADV PHOENIX) (40000 MiB, 1 MiB free)", "shared"),
        ("Vulkan0: AMD Radeon RX 7900 XTX (RADV NAVI31) (24560 MiB, 1 MiB free)", "dedicated"),
        ("CUDA0: NVIDIA GB10 (122502 MiB, 100000 MiB free)", "unified"),
        ("CUDA0: NVIDIA GeForce RTX 4090 (24080 MiB, 23000 MiB free)", "dedicated"),
        ("RPC0: 127.0.0.1:50991 (24105 MiB, 24105 MiB free)", "dedicated"),
    ],
)
def test_devices_only_the_binary_knows_are_added(line: str, memory: str) -> None:
    (found,) = join(BARE, listed(line)).accelerators
    (device,) = listed(line).devices
    assert (found.id, found.name, found.memory) == (device.id, device.description, memory)
    assert found.usable_bytes == device.total_bytes


def test_a_remote_device_is_never_matched_with_a_local_one() -> None:
    found = join(
        RTX,
        listed(
            "RPC0: nvidia-box:50052 (24105 MiB, 1 MiB free)",
            "CUDA0: NVIDIA GeForce RTX 4090 (24080 MiB, 1 MiB free)",
        ),
    )
    assert [(a.id, a.driver) for a in found.accelerators] == [("RPC0", None), ("CUDA0", "580")]


def test_named_devices_alone_are_used() -> None:
    machine = replace(BARE, accelerators=(cuda(0, "NVIDIA New", 24), cuda(1, "NVIDIA Old", 8)))
    for wanted in (("CUDA1",), ("old",)):
        assert [a.id for a in usable(machine, None, Choice(devices=wanted)).accelerators] == ["CUDA1"]
    with pytest.raises(SettingsError, match="cannot use device 'CUDA7'") as caught:
        usable(machine, None, Choice(devices=("CUDA0", "CUDA7")))
    assert caught.value.hint == "usable here: CUDA0 (NVIDIA New), CUDA1 (NVIDIA Old)"


def test_a_reserve_is_taken_from_what_may_be_used_and_never_from_the_capacity() -> None:
    machine = read_machine(Path(__file__).parents[1] / "machines/rtx4090-24gb.json")
    left = reserve(machine, 2048).accelerators[0]
    assert left.usable_bytes == 25757220864 - 2048 * MIB
    assert left.memory_bytes == 25757220864
    assert reserve(machine, 10**6).accelerators[0].usable_bytes == 0
    assert reserve(machine, 0) is machine
