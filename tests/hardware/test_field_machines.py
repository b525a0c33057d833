"""Machines that people have: what detection reads there, and what the binary lists, joined.

``field/`` holds one file a machine; its head says where its lines come from. Sizes of RAM that nobody wrote
down are the board's. Every file is looked at by every test that is about all of them.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from qwenctl.deploy.pipeline import _devices
from qwenctl.errors import DetectionError
from qwenctl.hardware.detect import detect
from qwenctl.hardware.device_list import goes_away, read_devices
from qwenctl.hardware.devices import usable
from qwenctl.hardware.facts import Device, Hardware, ServerFacts
from qwenctl.hardware.memory_kind import bare_name, memory_kind
from qwenctl.hardware.nvidia import Nvml
from qwenctl.plan.outcome import Plan
from qwenctl.plan.planner import plan
from qwenctl.settings.types import HardwareSettings, Settings
from tests.fakes.machines import profile
from tests.hardware.captured import NO_NVML, captured_machine, sections

FIELD = Path(__file__).parent / "field"
NAMES = sorted(path.stem for path in FIELD.glob("*.txt"))
MIB, GIB = 1 << 20, 1 << 30
REFUSED = {
    "46-termux-python-313": ("Android is neither Linux nor macOS", "proot-distro"),
    "47-armv7l": ("processor 'armv7l' is neither x86_64 nor arm64", "install the 64-bit system"),
}
"""A part of the line, a part of the hint."""
EXPECTED: dict[str, list[tuple[str, str, int]]] = {
    "01-jetson-orin-nx-16": [("CUDA0", "unified", 15)],
    "02-jetson-agx-no-nvml": [("CUDA0", "unified", 29)],
    "04-gh200": [("CUDA0", "dedicated", 95)],
    "05-vgpu-grid": [("CUDA0", "dedicated", 40)],
    "07-hybrid-laptop-vulkan": [("Vulkan1", "dedicated", 7)],
    "08-hybrid-arc-140t": [("Vulkan1", "dedicated", 7)],
    "10-intel-b580-b70": [("SYCL0", "dedicated", 31), ("SYCL1", "dedicated", 31)],
    "11-intel-arc-two-backends": [("SYCL0", "dedicated", 15)],
    "13-amd-7900xtx-igpu-vulkan": [("Vulkan0", "dedicated", 23)],
    "14-amd-9070xt-raphael-container": [("Vulkan0", "dedicated", 15)],
    "16-strix-halo-both-backends": [("ROCm0", "shared", 117)],
    "17-mi50-named-graphics": [("ROCm0", "dedicated", 31)],
    "19-mi50-beside-nvidia-no-sysfs": [("ROCm0", "dedicated", 31), ("Vulkan0", "dedicated", 12)],
    "20-steam-deck": [("Vulkan0", "shared", 10)],
    "22-mali-g610-orangepi5": [("Vulkan0", "shared", 15)],
    "23-mali-g720-orion-o6": [("Vulkan0", "shared", 62)],
    "25-snapdragon-adreno-turnip": [("Vulkan0", "shared", 23)],
    "26-adreno-opencl": [],
    "28-asahi-venus": [("Vulkan0", "shared", 24)],
    "29-asahi-honeykrisp": [("Vulkan0", "shared", 15)],
    "31-intel-mac-release": [],
    "32-intel-mac-two-metal": [("MTL0", "dedicated", 7)],
    "34-wsl2-dzn-nvidia": [("Vulkan0", "dedicated", 23)],
    "35-wsl2-dzn-iris": [("Vulkan0", "shared", 7)],
    "37-llvmpipe-and-igpu": [("Vulkan0", "shared", 31)],
    "38-nvk-nouveau": [("Vulkan0", "dedicated", 6)],
    "40-docker-no-gpus-flag": [],
    "41-boot-race-uvm": [],
    "43-fork-hrx-device": [("Vulkan0", "shared", 84)],
    "44-cuda-two-different": [("CUDA0", "dedicated", 23), ("CUDA1", "dedicated", 11)],
    "49-systemd-slice-memoryhigh": [],
}
"""Id, kind of memory, whole GiB that one process may use."""
WARNED = {
    "26-adreno-opencl": ["lists GPUOpenCL (QUALCOMM Adreno(TM) 840)", "it is left out"],
    "40-docker-no-gpus-flag": ["no driver answers", "--gpus all", "--device nvidia.com/gpu=all"],
    "41-boot-race-uvm": [
        "cannot use NVIDIA GeForce GTX 1060 6GB now: its driver does not answer yet",
        "failed to initialize CUDA: no CUDA-capable device is detected",
    ],
    "49-systemd-slice-memoryhigh": ["limits this process to 8.0 GiB of 62.0 GiB RAM"],
}
"""Parts of the one warning; every other machine has none."""
EXCLUDED = {
    "07-hybrid-laptop-vulkan": ("Vulkan1",),
    "08-hybrid-arc-140t": ("Vulkan1",),
    "11-intel-arc-two-backends": ("SYCL0",),
    "13-amd-7900xtx-igpu-vulkan": ("Vulkan0",),
    "14-amd-9070xt-raphael-container": ("Vulkan0",),
    "16-strix-halo-both-backends": ("ROCm0",),
    "26-adreno-opencl": (),
    "32-intel-mac-two-metal": ("MTL0",),
    "37-llvmpipe-and-igpu": ("Vulkan0",),
    "43-fork-hrx-device": ("Vulkan0",),
}
"""What ``--device`` says where the binary lists more than is planned for. None is said elsewhere."""


def server_of(name: str) -> ServerFacts:
    text = sections(f"{name}.txt", FIELD)["--list-devices"]
    stderr, header, stdout = text.partition("Available devices:")
    listed = read_devices(header + stdout, stderr)
    return ServerFacts("/usr/bin/llama-server", "b1", listed.devices, listed.reason)


def machine(name: str) -> Hardware:
    return usable(detect(captured_machine(f"{name}.txt", FIELD)), server_of(name), HardwareSettings())


def test_every_machine_is_expected_to_be_something() -> None:
    assert set(NAMES) == set(EXPECTED) | set(REFUSED)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_machine_has_the_devices_that_it_has(name: str) -> None:
    found = [(a.id, a.memory, (a.usable_bytes or 0) // GIB) for a in machine(name).accelerators]
    assert found == EXPECTED[name]


@pytest.mark.parametrize("name", EXPECTED)
def test_what_is_left_out_is_named_and_nothing_else_is_warned_of(name: str) -> None:
    warnings = machine(name).warnings
    parts = WARNED.get(name, [])
    assert len(warnings) == (1 if parts else 0), warnings
    assert [part for part in parts if part not in warnings[0]] == []


@pytest.mark.parametrize("name", REFUSED)
def test_a_system_that_cannot_serve_is_refused_with_a_hint_of_its_own(name: str) -> None:
    with pytest.raises(DetectionError) as caught:
        machine(name)
    said, hint = REFUSED[name]
    assert said in caught.value.message
    assert caught.value.hint is not None
    assert hint in caught.value.hint
    assert "WSL2" not in caught.value.hint


@pytest.mark.parametrize("name", EXPECTED)
def test_memory_is_never_planned_twice(name: str) -> None:
    """What lies on a GPU that shares the RAM, and what lies on the host, is the one RAM together."""
    found = machine(name)
    made = plan(found, profile("qwen3.6-27b"), Settings())
    if isinstance(made, Plan) and not any(a.memory == "dedicated" for a in found.accelerators):
        assert made.memory.device_bytes + made.memory.host_bytes < found.ram_bytes


@pytest.mark.parametrize("name", EXPECTED)
def test_the_server_is_told_which_devices_to_use_where_it_would_use_others(name: str) -> None:
    found = machine(name)
    made = plan(found, profile("smollm2-135m"), Settings())
    assert isinstance(made, Plan)
    assert _devices(Settings(), found, made) == EXCLUDED.get(name)


def listed(*lines: str) -> ServerFacts:
    found = read_devices("\n".join(["Available devices:", *(f"  {line}" for line in lines)]))
    return ServerFacts("/bin/llama-server", "b1", found.devices, found.reason)


BARE = replace(detect(captured_machine("31-intel-mac-release.txt", FIELD)), os="linux", warnings=())


@pytest.mark.parametrize(
    "line",
    [
        "HTP0: Hexagon (2048 MiB, 2048 MiB free)",
        "HTP0: Hexagon (0 MiB, 0 MiB free)",
        "MUSA0: MTT S4000 (48000 MiB, 47000 MiB free)",
        "CANN0: Ascend910B2 (62420 MiB, 61000 MiB free)",
        "WebGPU: WebGPU (4096 MiB, 4096 MiB free)",
        "OPENVINO0: GPU (15000 MiB, 15000 MiB free)",
        "GPUOpenCL: Intel(R) Iris(R) Xe Graphics (6000 MiB, 6000 MiB free)",
        "ggml-virtgpu: Apple M4 (21845 MiB, 21845 MiB free)",
        "ET0: ET-SOC1 (32768 MiB, 32000 MiB free)",
        "Bonsai: Bonsai fake accelerator (0 MiB, 0 MiB free)",
        "CUDA0: NVIDIA GeForce RTX 3090 (0 MiB, 0 MiB free)",
        "CUDA0: NVIDIA GeForce RTX 3090",
    ],
)
def test_a_device_that_cannot_be_planned_for_is_named_and_excluded(line: str) -> None:
    """Source of the ids: llama.cpp b11434, ggml/src/ggml-*: the names of devices that are no helpers."""
    found = usable(BARE, listed(line), HardwareSettings())
    name = line.partition(":")[0]
    assert found.accelerators == ()
    assert found.excluded == (name,)
    assert [text for text in found.warnings if f"lists {name} (" in text and "left out" in text] != []
    made = plan(found, profile("smollm2-135m"), Settings())
    assert isinstance(made, Plan)
    assert _devices(Settings(), found, made) == ()


@pytest.mark.parametrize(
    "line", ["BLAS: OpenBLAS (0 MiB, 0 MiB free)", "ZenDNN: ZenDNN: AMD optimized (0 MiB, 0 MiB free)"]
)
def test_what_only_helps_the_processor_is_no_device(line: str) -> None:
    found = usable(BARE, listed(line), HardwareSettings())
    assert (found.warnings, found.excluded) == ((), ())


def test_words_after_the_sizes_do_not_hide_a_device() -> None:
    found = listed("Vulkan0: NVIDIA GeForce RTX 4090 (24564 MiB, 24000 MiB free) | uma: 0 | fp16: 1")
    assert found.devices == (Device("Vulkan0", "NVIDIA GeForce RTX 4090", 24564 * MIB, 24000 * MIB),)


def test_lines_of_a_log_are_no_devices() -> None:
    said = "ggml_cuda_init: found 1 CUDA devices:\n  Device 0: NVIDIA RTX, compute capability 8.6\n  (none)\n"
    assert read_devices(said).devices == ()
    assert read_devices(f"{said}Available devices:\n  (none)\n").devices == ()


@pytest.mark.parametrize(
    ("backend", "name", "gib", "memory"),
    [
        ("vulkan", "Mali-G715", 15, "shared"),
        ("vulkan", "V3D 7.1.10.2", 4, "shared"),
        ("vulkan", "PowerVR B-Series BXE-4-32", 8, "shared"),
        ("vulkan", "Intel(R) Arc(TM) B390 GPU", 30, "shared"),
        ("vulkan", "Intel(R) Graphics (BMG G21)", 12, "dedicated"),
        ("vulkan", "Intel(R) Arc(tm) B580 Graphics (BMG G21)", 12, "dedicated"),
        ("vulkan", "Intel(R) Arc(TM) 140V GPU (16GB)", 17, "shared"),
        ("sycl", "Intel(R) Data Center GPU Flex 170", 14, "dedicated"),
        ("sycl", "Intel(R) UHD Graphics 770", 28, "shared"),
        ("vulkan", "AMD Radeon(TM) RX Vega 11 Graphics", 9, "shared"),
        ("vulkan", "AMD Radeon RX Vega (RADV VEGA10)", 8, "dedicated"),
        ("vulkan", "AMD Radeon VII (RADV VEGA20)", 16, "dedicated"),
        ("vulkan", "AMD Radeon PRO W7900 (RADV NAVI31)", 45, "dedicated"),
        ("vulkan", "AMD Radeon AI PRO R9700 (RADV GFX1201)", 31, "dedicated"),
        ("rocm", "AMD Instinct MI300X", 191, "dedicated"),
        ("rocm", "AMD Radeon 890M Graphics", 46, "shared"),
        ("vulkan", "AMD BC-250 (RADV GFX1013)", 12, "shared"),
        ("vulkan", "NVIDIA Tegra Orin (nvgpu)", 30, "shared"),
        ("cuda", "NVIDIA Thor", 122, "unified"),
        ("cuda", "Tesla P40", 23, "dedicated"),
        ("vulkan", "MTT S80", 16, "dedicated"),
        ("vulkan", "Virtio-GPU Venus (NVIDIA GeForce RTX 3080)", 10, "dedicated"),
        ("vulkan", "Virtio-GPU Venus (Apple M2 Max)", 32, "shared"),
        ("metal", "AMD Radeon Pro Vega 20", 4, "dedicated"),
        ("metal", "AMD Radeon RX 6900 XT", 16, "dedicated"),
    ],
)
def test_only_known_cards_have_memory_of_their_own(backend: str, name: str, gib: int, memory: str) -> None:
    device = Device("X0", name, gib * GIB, gib * GIB)
    assert memory_kind(device, backend, apple_silicon=False) == memory  # type: ignore[arg-type]


def test_an_unnamed_gpu_of_amd_is_a_card_by_its_size() -> None:
    for size_mib, memory in (
        (32752, "dedicated"),
        (16368, "dedicated"),
        (32511, "shared"),
        (16384, "shared"),
    ):
        device = Device("ROCm0", "AMD Radeon Graphics", size_mib * MIB, 0)
        assert memory_kind(device, "rocm", apple_silicon=False) == memory


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Intel(R) Arc(TM) A770 Graphics", "Intel(R) Arc(tm) A770 Graphics (DG2)"),
        ("NVIDIA GeForce RTX 4090", "Microsoft Direct3D12 (NVIDIA GeForce RTX 4090)"),
        ("AMD Radeon 8060S (gfx1151)", "AMD Radeon 8060S (RADV STRIX_HALO)"),
        ("AMD Radeon RX 9070 XT", "AMD Radeon RX 9070 XT (RADV GFX1201) (LLVM 19.1.7)"),
    ],
)
def test_one_card_has_one_name(one: str, other: str) -> None:
    assert bare_name(one) == bare_name(other)
    assert bare_name(one) != bare_name(one + " Ti")


@pytest.mark.parametrize(
    ("lines", "ids"),
    [
        (
            (
                "ROCm0: AMD Radeon Graphics (32752 MiB, 1 MiB free)",
                "Vulkan0: AMD Radeon Pro VII (RADV VEGA20) (32752 MiB, 1 MiB free)",
            ),
            ["ROCm0"],
        ),
        (
            (
                "ROCm0: AMD Radeon Graphics (120000 MiB, 1 MiB free)",
                "Vulkan0: AMD Radeon 8060S Graphics (RADV STRIX_HALO) (86016 MiB, 1 MiB free)",
            ),
            ["ROCm0"],
        ),
        (
            (
                "SYCL0: Intel(R) Arc(TM) A770 Graphics (15473 MiB, 1 MiB free)",
                "Vulkan0: NVIDIA GeForce RTX 4090 (24564 MiB, 1 MiB free)",
            ),
            ["SYCL0", "Vulkan0"],
        ),
        (
            (
                "CUDA0: NVIDIA GeForce RTX 4090 (24080 MiB, 1 MiB free)",
                "Vulkan0: NVIDIA GeForce RTX 4090 (24564 MiB, 1 MiB free)",
                "RPC0: 10.0.0.2:50052 (24080 MiB, 1 MiB free)",
            ),
            ["CUDA0", "RPC0"],
        ),
    ],
)
def test_a_card_counts_once_whatever_the_backends_call_it(lines: tuple[str, ...], ids: list[str]) -> None:
    found = usable(BARE, listed(*lines), HardwareSettings())
    assert [a.id for a in found.accelerators] == ids
    assert found.warnings == ()
    assert {*ids, *found.excluded} == {line.partition(":")[0] for line in lines}


REASONS = [
    ("ggml_cuda_init: failed to initialize CUDA: no CUDA-capable device is detected", True),
    ("0.00.100.002 E ggml_cuda_init: failed to initialize CUDA: unknown error", True),
    ("ggml_cuda_init: failed to initialize CUDA: OS call failed or operation not supported on this OS", True),
    ("ggml_cuda_init: failed to initialize CUDA: system not yet initialized", True),
    ("ggml_cuda_init: failed to initialize ROCm: no ROCm-capable device is detected", True),
    (
        "ggml_cuda_init: failed to initialize CUDA: CUDA driver version is insufficient",
        False,
    ),
    ("ggml_vulkan: No devices found.", True),
    (
        "load_best: failed to load /app/libggml-cuda.so: libcuda.so.1: cannot open shared object file",
        False,
    ),
    ("ggml_opencl: platform IDs not available.", False),
]


@pytest.mark.parametrize(("line", "soon"), REASONS)
def test_why_a_list_is_empty_is_kept(line: str, soon: object) -> None:
    found = read_devices(
        "Available devices:\n  (none)\n", f"load_backend: loaded CPU backend from /x\n{line}\n"
    )
    assert found.reason is not None
    assert found.reason in line
    assert goes_away(found.reason) is soon
    assert read_devices(f"{line}\nAvailable devices:\n  (none)\n").reason == found.reason, "on stdout as well"
    assert read_devices("Available devices:\n  CUDA0: X (1 MiB, 1 MiB free)\n", line).reason is None


def test_a_build_for_the_processor_has_no_reason() -> None:
    said = "load_backend: loaded CPU backend from /app/libggml-cpu-zen4.so\n"
    assert read_devices("Available devices:\n  (none)\n", said).reason is None


@pytest.mark.parametrize(
    ("error", "way"),
    [
        ("cannot read NVIDIA GPUs: Unknown Error", "restart the container"),
        ("cannot read NVIDIA GPUs: Insufficient Permissions", "group video"),
        ("cannot read NVIDIA GPU 0: GPU is lost", "reboot"),
        ("cannot read NVIDIA GPUs: Driver/library version mismatch; reboot, or install", "; reboot"),
    ],
)
def test_an_error_of_the_driver_names_its_way_out_once(error: str, way: str) -> None:
    probe = replace(captured_machine("40-docker-no-gpus-flag.txt", FIELD), nvml=lambda: Nvml(errors=(error,)))
    (warning,) = detect(probe).warnings
    assert warning.startswith(error)
    assert way in warning
    assert warning.count(";") == 1


@pytest.mark.parametrize(
    ("file", "nvml", "said"),
    [
        ("/.dockerenv", NO_NVML, "start the container with --gpus all"),
        (
            "/.dockerenv",
            Nvml(driver="580.95"),
            "shows none here; start the container with --gpus all",
        ),
        ("/sys/module/nouveau/version", NO_NVML, "nouveau drives it"),
        ("/x", NO_NVML, "install or load NVIDIA's driver; in a container"),
    ],
)
def test_a_card_that_nobody_answers_for_has_its_way_out(file: str, nvml: Nvml, said: str) -> None:
    probe = captured_machine("40-docker-no-gpus-flag.txt", FIELD)
    folder, name = file.rsplit("/", 1)

    def names(where: str) -> tuple[str, ...]:
        return (name,) if where == (folder or "/") else probe.list_dir(where)

    (warning,) = detect(replace(probe, nvml=lambda: nvml, list_dir=names)).warnings
    assert said in warning


@pytest.mark.parametrize(
    ("system", "processor", "bits", "hint"),
    [
        ("Windows", "AMD64", 64, "WSL2"),
        ("MINGW64_NT-10.0", "x86_64", 64, "WSL2"),
        ("FreeBSD", "amd64", 64, "in a Linux on this machine"),
        ("Android", "aarch64", 64, "proot-distro"),
        ("Linux", "armv7l", 32, "install the 64-bit system"),
        ("Linux", "i686", 32, "install the 64-bit system"),
        ("Linux", "aarch64", 32, "install the 64-bit system"),
        ("Linux", "riscv64", 64, "may run there"),
    ],
)
def test_each_system_that_qwenctl_does_not_run_on_has_a_hint(
    system: str, processor: str, bits: int, hint: str
) -> None:
    probe = captured_machine("40-docker-no-gpus-flag.txt", FIELD)
    with pytest.raises(DetectionError) as caught:
        detect(replace(probe, system=lambda: (system, processor), bits=lambda: bits))
    assert caught.value.hint is not None
    assert hint in caught.value.hint
