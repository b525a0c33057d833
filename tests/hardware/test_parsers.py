"""The small parsers: cgroups, processors, sysctl, APU or card, CUDA_VISIBLE_DEVICES."""

import pytest

from qwenctl.hardware import amd, apple, linux, nvidia
from qwenctl.hardware.nvidia import MigInstance, NvidiaGpu, Nvml

GIB = 1 << 30
V2 = "27 71 0:25 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw"
V1 = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory"
GPUS = (NvidiaGpu("GPU-aa1", "A", GIB), NvidiaGpu("GPU-aa2", "B", GIB), NvidiaGpu("GPU-b", "C", GIB))


@pytest.mark.parametrize(
    ("cgroup", "mountinfo", "files"),
    [
        (
            "0::/user.slice/app.slice/qwenctl.service",
            V2,
            (
                "/sys/fs/cgroup/user.slice/app.slice/qwenctl.service/memory.max",
                "/sys/fs/cgroup/user.slice/app.slice/memory.max",
                "/sys/fs/cgroup/user.slice/memory.max",
                "/sys/fs/cgroup/memory.max",
            ),
        ),
        ("0::/", V2, ("/sys/fs/cgroup/memory.max",)),
        ("0::/../other", V2, ("/sys/fs/cgroup/memory.max",)),
        (
            "5:devices:/\n4:cpu,memory:/docker/abc",
            V1,
            (
                "/sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/docker/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            ),
        ),
        (
            "4:memory:/docker/abc",
            V1.replace("0:32 /", "0:32 /docker/abc", 1),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes",),
        ),
        (
            "0::/a",
            r"27 71 0:25 / /odd\040place rw - cgroup2 x rw",
            ("/odd place/a/memory.max", "/odd place/memory.max"),
        ),
        ("", "", ()),
        ("nonsense\n0::/a", "too short", ()),
    ],
)
def test_every_level_of_a_group_may_limit(cgroup: str, mountinfo: str, files: tuple[str, ...]) -> None:
    """Above memory.high the kernel takes memory back: systemd's MemoryHigh."""
    found = linux.limit_files(cgroup, mountinfo)
    assert tuple(file for file in found if not file.endswith("memory.high")) == files
    high = [file.replace("memory.max", "memory.high") for file in files if file.endswith("memory.max")]
    assert [file for file in found if file.endswith("memory.high")] == high


@pytest.mark.parametrize(
    ("texts", "limit"),
    [
        (("max\n", "8589934592\n", "4294967296\n"), 4 * GIB),
        (("9223372036854771712\n", "9223372036854771712\n"), None),
        (("max\n", None, "", "-1"), None),
    ],
)
def test_the_smallest_limit_holds(texts: tuple[str | None, ...], limit: int | None) -> None:
    assert linux.smallest_limit_bytes(texts) == limit


@pytest.mark.parametrize(
    ("cpuinfo", "model"),
    [
        ("processor\t: 0\nmodel name\t: AMD EPYC\n\nprocessor\t: 1\nmodel name\t: other\n", "AMD EPYC"),
        ("processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd4f\n", "Arm Neoverse V2"),
        ("processor\t: 0\nCPU implementer\t: 0x99\nCPU part\t: 0x1\n", None),
        ("", None),
    ],
)
def test_processors_are_named(cpuinfo: str, model: str | None) -> None:
    assert linux.cpu_model(cpuinfo) == model


def test_the_device_tree_names_a_board_before_dmi() -> None:
    assert linux.machine_name("Raspberry Pi 5 Model B\0", "x") == "Raspberry Pi 5 Model B"
    assert linux.machine_name(None, "System Product Name\n") is None


@pytest.mark.parametrize(
    ("ram", "limit", "working_set"),
    [
        (16 * GIB, 0, 11_453_246_122),
        (32 * GIB, 0, 22_906_492_245),
        (36 * GIB, 0, 27 * GIB),
        (96 * GIB, 0, 72 * GIB),
        (16 * GIB, 14_000, 14_000 << 20),
        (16 * GIB, 99_999, 16 * GIB),
    ],
)
def test_metal_may_use_a_part_of_the_ram(ram: int, limit: int, working_set: int) -> None:
    assert apple.working_set_bytes(ram, limit) == working_set


@pytest.mark.parametrize(("limit", "kept"), [("0", None), ("14000", 14_000 << 20), ("no", None)])
def test_a_metal_limit_that_was_raised_is_kept_beside_what_it_allows(limit: str, kept: int | None) -> None:
    values = {"hw.memsize": str(16 * GIB), "hw.optional.arm64": "1", "iogpu.wired_limit_mb": limit}
    (gpu,) = apple.accelerators(values)
    assert gpu.wired_limit_bytes == kept


def test_sysctl_is_parsed_line_by_line() -> None:
    text = "hw.memsize: 1\nmachdep.cpu.brand_string: Intel(R): odd\nunknown oid 'iogpu.x'\n"
    assert apple.parse_sysctl(text) == {"hw.memsize": "1", "machdep.cpu.brand_string": "Intel(R): odd"}


def card(vram: int, gtt: int, metrics: str = "", **more: str) -> dict[str, str]:
    totals = {"mem_info_vram_total": f"{vram}\n", "mem_info_gtt_total": f"{gtt}\n"}
    return {"vendor": "0x1002\n", "device": "0x1\n", "gpu_metrics": metrics, **totals, **more}


@pytest.mark.parametrize(
    ("texts", "memory", "capacity"),
    [
        (card(GIB, 16 * GIB), "shared", 17 * GIB),  # an old APU has no gpu_metrics
        (card(4 * GIB, 32 * GIB), "dedicated", 4 * GIB),  # nor has an old card
        (card(8 * GIB, 32 * GIB, "\x80\0\x01\x03"), "dedicated", 8 * GIB),
        (card(8 * GIB, 32 * GIB, "\x80\0\x02\x04"), "shared", 40 * GIB),
        (card(96 * GIB, 16 * GIB, "\x08\x01\x03\0"), "dedicated", 96 * GIB),  # a carve-out is no RAM
    ],
)
def test_an_apu_and_a_card_are_recognised(texts: dict[str, str], memory: str, capacity: int) -> None:
    (found,) = amd.accelerators([texts], None)
    assert (found.memory, found.memory_bytes, found.usable_bytes) == (memory, capacity, capacity)


def test_a_cards_product_name_is_used_and_other_makers_are_not_amd() -> None:
    named = card(16 * GIB, GIB, product_name="AMD Instinct MI210\n")
    other = {"vendor": "0x8086\n", "mem_info_vram_total": "1\n"}
    found = amd.accelerators([other, {}, named, {"vendor": "0x1002"}], "6.16.6")
    assert [(a.id, a.name, a.driver) for a in found] == [("ROCm0", "AMD Instinct MI210", "6.16.6")]


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (None, "ABC"),
        ("", ""),
        ("-1", ""),
        ("NoDevFiles", ""),
        ("2,0", "CA"),
        (" 1 , 2 ", "BC"),
        ("0,7,1", "A"),
        ("1,1", "B"),
        ("GPU-b", "C"),
        ("GPU-aa2,GPU-aa1", "BA"),
        ("GPU-aa", ""),
        ("GPU-", ""),
        ("MIG-x", ""),
    ],
)
def test_cuda_visible_devices_is_read_as_cuda_reads_it(value: str | None, names: str) -> None:
    assert "".join(gpu.name for gpu in nvidia.visible_gpus(GPUS, value)) == names


def test_a_gpu_in_mig_mode_is_its_first_visible_slice() -> None:
    slices = (MigInstance("MIG-1", "1g", GIB), MigInstance("MIG-2", "2g", 2 * GIB))
    nvml = Nvml("580.95", (NvidiaGpu("GPU-a", "H200", 141 * GIB, mig=slices), GPUS[0]))
    for visible, expected in ((None, "1g"), ("MIG-2", "2g")):
        found, warnings = nvidia.accelerators(nvml, GIB, visible)
        assert [a.name for a in found] == [expected]
        assert any("MIG is on" in warning for warning in warnings)
