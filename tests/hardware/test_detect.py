"""Whole machines, from what was read there to Hardware; and the machine the tests run on."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from qwenctl.errors import DetectionError
from qwenctl.hardware import apple
from qwenctl.hardware.amd import gfx_targets
from qwenctl.hardware.detect import SystemProbe, detect
from qwenctl.hardware.facts import Accelerator, Cpu, Hardware, PciGpu, SystemFacts
from qwenctl.hardware.macos import read_memory_pressure, read_sysctl
from qwenctl.hardware.saved import from_json, to_json
from qwenctl.hardware.system_facts import libc_version, read_system
from tests.hardware.captured import NO_NVML, captured_machine

GIB = 1 << 30


def test_an_apu_shares_the_ram_through_its_gtt() -> None:
    assert detect(captured_machine("strix-halo.machine")) == Hardware(
        os="linux",
        arch="x86_64",
        machine="ROG Flow Z13 GZ302EA",
        cpu=Cpu("AMD RYZEN AI MAX+ 395 w/ Radeon 8060S", 16, None, 32),
        ram_bytes=130_000_000_000,
        accelerators=(
            Accelerator(
                "ROCm0",
                "AMD GPU 0x1586",
                "rocm",
                "shared",
                100 * GIB,
                100 * GIB,
                None,
                architecture="gfx1151",
            ),
        ),
        system=SystemFacts(vulkan=True, rocm="10.0.0"),
    )


def test_a_card_keeps_its_own_memory_however_large_the_gtt() -> None:
    found = detect(captured_machine("ryzen-desktop-7900xtx.machine"))
    assert [(a.id, a.name, a.memory, a.memory_bytes) for a in found.accelerators] == [
        ("ROCm0", "AMD GPU 0x744c", "dedicated", 25_753_026_560),
        ("ROCm1", "AMD GPU 0x164e", "shared", 34_091_302_912),
    ]
    assert found.machine is None


def test_a_gb10_is_unified_with_the_ram() -> None:
    found = detect(captured_machine("gb10.machine"))
    assert (found.arch, found.machine, found.cpu.model) == ("arm64", "NVIDIA_DGX_Spark", "Arm Cortex-A725")
    assert found.accelerators == (
        Accelerator("CUDA0", "NVIDIA GB10", "cuda", "unified", 130_663_168_000, None, "580.173.02"),
    )


def test_cuda_visible_devices_orders_and_numbers_the_gpus() -> None:
    found = detect(captured_machine("two-gpus.machine"))
    assert [(a.id, a.name) for a in found.accelerators] == [
        ("CUDA0", "NVIDIA RTX PRO 4000 Blackwell SFF Edition"),
        ("CUDA1", "NVIDIA GeForce RTX 3080 Ti"),
    ]
    assert found.warnings == ()


def test_hidden_gpus_are_named_in_a_warning() -> None:
    found = detect(replace(captured_machine("two-gpus.machine"), environ={"CUDA_VISIBLE_DEVICES": "1"}))
    assert [a.name for a in found.accelerators] == ["NVIDIA RTX PRO 4000 Blackwell SFF Edition"]
    assert found.warnings == ("CUDA_VISIBLE_DEVICES=1 hides 1 of 2 NVIDIA GPUs",)


def test_a_driver_mismatch_is_a_warning() -> None:
    found = detect(captured_machine("driver-mismatch.machine"))
    assert found.accelerators == ()
    (warning,) = found.warnings
    assert "mismatch" in warning


def test_a_gpu_without_a_driver_is_a_warning() -> None:
    assert detect(captured_machine("no-driver.machine")).warnings == (
        (
            "this machine has an NVIDIA GPU, but no driver answers: NVML Shared Library Not Found; install "
            "or load NVIDIA's driver; in a container, start the container with --gpus all (docker) or "
            "--device nvidia.com/gpu=all (podman)"
        ),
    )


def test_wsl2_is_linux_with_a_card() -> None:
    found = detect(captured_machine("wsl2.machine"))
    assert (found.os, found.ram_bytes, found.warnings) == ("linux", 16_777_216_000, ())
    assert [a.name for a in found.accelerators] == ["NVIDIA GeForce RTX 4090"]
    assert found.system is not None
    assert found.system.wsl


def test_a_containers_limit_is_its_ram() -> None:
    found = detect(captured_machine("docker-v2.machine"))
    assert found.ram_bytes == 12 * GIB
    assert found.warnings == ("a cgroup limits this process to 12.0 GiB of 62.5 GiB RAM",)


def test_a_mac_has_one_gpu_with_all_its_memory() -> None:
    assert detect(captured_machine("m3-max-36gb.machine")) == Hardware(
        os="darwin",
        arch="arm64",
        machine="Mac15,10",
        cpu=Cpu("Apple M3 Max", 14, 10, 14),
        ram_bytes=36 * GIB,
        accelerators=(Accelerator("MTL0", "Apple M3 Max", "metal", "unified", 36 * GIB, 27 * GIB, None),),
        system=SystemFacts(),
    )


def test_a_translated_python_still_sees_apple_silicon() -> None:
    probe = replace(captured_machine("m3-max-36gb.machine"), system=lambda: ("Darwin", "x86_64"))
    assert detect(probe).arch == "arm64"


def test_an_intel_mac_has_a_gpu_only_if_the_binary_lists_one() -> None:
    found = detect(captured_machine("intel-mac.machine"))
    assert (found.arch, found.accelerators, found.cpu.performance_cores) == ("x86_64", (), None)


@pytest.mark.parametrize(
    ("system", "machine", "why"),
    [("Windows", "AMD64", "neither linux nor macos"), ("Linux", "riscv64", "neither x86_64 nor arm64")],
)
def test_other_systems_are_refused_by_name(system: str, machine: str, why: str) -> None:
    probe = replace(captured_machine("wsl2.machine"), system=lambda: (system, machine))
    with pytest.raises(DetectionError, match="cannot detect hardware") as caught:
        detect(probe)
    assert why in caught.value.message.lower()


def test_a_mac_whose_sysctl_is_silent_is_an_error() -> None:
    probe = replace(captured_machine("m3-max-36gb.machine"), sysctl=lambda _keys: "")
    with pytest.raises(DetectionError, match=r"hw\.memsize"):
        detect(probe)


def test_sysctl_is_asked_in_one_way_and_one_that_does_not_run_is_unknown() -> None:
    asked: list[tuple[str, ...]] = []

    def ask(words: Sequence[str]) -> str | None:
        asked.append(tuple(words))
        return None

    assert read_sysctl(apple.KEYS, ask) is None
    assert read_memory_pressure(ask) is None
    assert {words[:2] for words in asked} == {("/usr/sbin/sysctl", "-i")}


def test_a_machine_where_no_file_can_be_read_is_still_detected() -> None:
    bare = replace(
        captured_machine("wsl2.machine"),
        read_text=lambda _path: None,
        list_dir=lambda _path: (),
        nvml=lambda: NO_NVML,
    )
    found = detect(bare)
    assert (found.cpu.model, found.accelerators, found.warnings) == (None, (), ())


def test_this_machine_is_detected() -> None:
    found = detect(SystemProbe.real())
    assert found.ram_bytes > GIB // 4
    assert 1 <= found.cpu.physical_cores <= found.cpu.logical_cores
    assert all(a.memory_bytes is None or a.memory_bytes > 0 for a in found.accelerators)
    assert from_json(to_json(found)) == found
    assert detect(SystemProbe.real()) == found


def test_a_system_names_its_libraries_and_the_gpus_on_its_bus() -> None:
    files = {
        "/proc/version": "Linux version 6.12.48-v8",
        "/.dockerenv": "",
        "/usr/lib64/libvulkan.so.1": "",
        "/usr/share/vulkan/icd.d/lvp_icd.json": "",
        "/usr/lib64/libamdhip64.so.7": "",
        "/usr/lib64/libamdhip64.so.6": "",
        "/opt/intel/oneapi/compiler/2025.3/env": "",
        "/opt/intel/oneapi/compiler/latest/env": "",
        "/sys/bus/pci/devices/0000:00:02.0/class": "0x030000",
        "/sys/bus/pci/devices/0000:00:02.0/vendor": "0x8086",
        "/sys/bus/pci/devices/0000:00:02.0/device": "0xa780",
        "/sys/bus/pci/devices/0000:03:00.0/class": "0x030000",
        "/sys/bus/pci/devices/0000:03:00.0/vendor": "0x8086",
        "/sys/bus/pci/devices/0000:03:00.0/device": "0xe20b",
        "/sys/bus/pci/devices/0000:04:00.0/class": "0x010802",
        "/sys/bus/pci/devices/0000:04:00.0/vendor": "0x8086",
    }

    def list_dir(folder: str) -> tuple[str, ...]:
        top = folder.rstrip("/") + "/"
        return tuple(sorted({path[len(top) :].split("/")[0] for path in files if path.startswith(top)}))

    assert read_system(files.get, list_dir, "glibc 2.36") == SystemFacts(
        libc="glibc 2.36",
        container=True,
        vulkan=False,  # the only driver computes on the processor
        rocm="7",
        oneapi="2025.3",
        pci_gpus=(PciGpu("intel", "0xa780", integrated=True), PciGpu("intel", "0xe20b", integrated=False)),
    )
    nothing = read_system(lambda _path: None, lambda _path: (), None)
    assert nothing == SystemFacts()


def test_the_c_library_of_this_python_is_named() -> None:
    assert libc_version() is None or libc_version() == "musl" or str(libc_version()).startswith("glibc 2.")


def test_targets_of_amd_gpus_are_read_as_the_compiler_writes_them() -> None:
    nodes = [
        "simd_count 0\ngfx_target_version 0\ndrm_render_minor 0\n",
        "gfx_target_version 90010\ndrm_render_minor 128\n",
        "gfx_target_version 110000\ndrm_render_minor 129\n",
        "gfx_target_version 80003\ndrm_render_minor 130\n",
        "gfx_target_version x\ndrm_render_minor 131\n",
        "nonsense",
    ]
    assert gfx_targets(nodes) == {"renderD128": "gfx90a", "renderD129": "gfx1100", "renderD130": "gfx803"}
