"""Which official build each of forty machines gets, and why each other one does not: by value."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenctl.engine.builds.build_choice import BuildChoice, choose_build
from qwenctl.engine.builds.build_names import builds_of
from qwenctl.engine.builds.cuda_support import cuda_verdict
from qwenctl.engine.builds.engine_host import EngineHost, HostGpu, host_of
from qwenctl.hardware.facts import SystemFacts
from tests.engine.listings import builds, release
from tests.engine.machine_table import MACHINES, card, linux, markdown_table

CHOSEN = {
    "RTX 4090, driver 580 (tests/machines, C library unknown)": "cuda-13.4",
    "2 x A100 80GB, driver 580 (tests/machines)": "cuda-12.8",
    "no GPU (tests/machines)": "cpu",
    "M1 8 GB (tests/machines)": "metal",
    "M2 16 GB (tests/machines)": "metal",
    "M3 Max 36 GB (tests/machines)": "metal",
    "M4 Max 64 GB, macOS 26": "metal",
    "M1, macOS 12": None,
    "Intel Mac, macOS 14": "cpu",
    "RTX 4090, driver 580": "cuda-13.4",
    "RTX 3090, driver 535": "cuda-12.8",
    "RTX 2080, driver 535": "vulkan",
    "H100, driver 580": "cuda-12.8",
    "H100, driver 615": "cuda-13.4",
    "RTX 5090, driver 570": "cuda-12.8",
    "GTX 1080, driver 580": "cuda-12.8",
    "GTX 1080, driver 470": "vulkan",
    "RTX 4090 in WSL2": "cuda-13.4",
    "RTX 4090, Debian 12 (glibc 2.36)": "vulkan",
    "RTX 4090, glibc 2.31": None,
    "Jetson Orin NX, JetPack 6": None,
    "GB10 (DGX Spark)": "cuda-13.4",
    "GH200, driver 580": None,
    "RX 7900 XTX, ROCm 10": "rocm-10.0",
    "RX 7900 XTX, no ROCm": "vulkan",
    "MI210, ROCm 10": "rocm-10.0",
    "MI210, ROCm 7": "vulkan",
    "RX 580, ROCm 10": "vulkan",
    "Vega 56": "vulkan",
    "Strix Halo, ROCm 10": "rocm-10.0",
    "Arc B580": "vulkan",
    "Intel iGPU": "vulkan",
    "Intel iGPU, no Vulkan": "cpu",
    "Raspberry Pi 5, Debian 13": "cpu",
    "Raspberry Pi 5, Debian 12": None,
    "Graviton 4, Amazon Linux 2023": None,
    "Graviton 4, Ubuntu 24.04": "cpu",
    "RHEL 9, no GPU (glibc 2.34)": "cpu",
    "Alpine": None,
}


def choice(machine: str, release: str = "b11101", backend: str | None = None) -> BuildChoice:
    return choose_build(builds(release), host_of(MACHINES[machine]), backend)


def reasons(machine: str) -> dict[str, str]:
    hardware = MACHINES[machine]
    return {
        each.build.kind: each.reason
        for each in choice(machine).ranked
        if (each.build.os, each.build.arch) == (hardware.os, hardware.arch)
    }


def test_the_documentation_has_this_table() -> None:
    """``python -m tests.engine.machine_table`` prints it."""
    page = Path(__file__).parents[2] / "docs/engine.md"
    assert markdown_table() in page.read_text(encoding="utf-8")


def test_each_machine_gets_the_build_that_suits_it() -> None:
    assert {name: (found.kind if (found := choice(name).chosen) else None) for name in MACHINES} == CHOSEN


@pytest.mark.parametrize("machine", MACHINES)
def test_every_build_has_a_verdict_and_exactly_the_first_is_chosen(machine: str) -> None:
    found = choice(machine)
    assert len(found.ranked) == len(builds("b11101").known)
    assert all(each.reason for each in found.ranked)
    assert [each.rank for each in found.ranked].count("chosen") == (found.chosen is not None)
    assert (found.chosen is None) == (found.why_none is not None)
    assert found.chosen is None or found.ranked[0].build is found.chosen


@pytest.mark.parametrize(
    ("machine", "kind", "reason"),
    [
        (
            "RTX 3090, driver 535",
            "cuda-13.4",
            "CUDA 13.4 needs driver 580 or newer; the driver 535.247.01 knows CUDA 12.2",
        ),
        (
            "H100, driver 580",
            "cuda-13.4",
            (
                "CUDA 13.4 has only PTX for compute capability 9.0, which the driver compiles; "
                "the driver 580.159.04 knows CUDA 13.0, and branch 615 would do"
            ),
        ),
        (
            "GTX 1080, driver 580",
            "cuda-13.4",
            "CUDA 13 has no code for compute capability 6.1 (NVIDIA GeForce GTX 1080); the oldest is 7.5",
        ),
        (
            "RTX 4090 in WSL2",
            "vulkan",
            "inside WSL Vulkan goes through Direct3D (dzn), which llama.cpp is not made for",
        ),
        (
            "RTX 4090, glibc 2.31",
            "cuda-12.8",
            "made on Ubuntu 24.04 (glibc 2.39); this system has glibc 2.31",
        ),
        ("RX 580, ROCm 10", "rocm-10.0", "it has no code for gfx803 (AMD Radeon RX 580)"),
        (
            "RX 7900 XTX, no ROCm",
            "rocm-10.0",
            "it needs the libraries of ROCm 10.0, which are not found here",
        ),
        ("MI210, ROCm 7", "rocm-10.0", "it needs the libraries of ROCm 10.0, this system has 7.2.1"),
        (
            "RTX 4090, driver 580",
            "cpu",
            "would leave NVIDIA GeForce RTX 4090 idle; --backend cpu takes it on purpose",
        ),
        ("Alpine", "cpu", "made on Ubuntu 22.04 (glibc 2.35); this system has musl"),
        (
            "Jetson Orin NX, JetPack 6",
            "vulkan",
            "made on Ubuntu 24.04 (glibc 2.39); this system has glibc 2.35",
        ),
    ],
)
def test_a_build_that_is_not_chosen_says_why(machine: str, kind: str, reason: str) -> None:
    assert reasons(machine)[kind] == reason


@pytest.mark.parametrize(
    ("machine", "way"),
    [
        ("RTX 4090, glibc 2.31", "pip install 'qwenctl[engine]'"),
        ("Raspberry Pi 5, Debian 12", "pip install 'qwenctl[engine]'"),
        ("Alpine", "compile llama.cpp"),
        ("GH200, driver 580", "branch 615 would do; --backend cpu"),
        ("M1, macOS 12", "update macOS"),
    ],
)
def test_a_machine_without_a_build_is_told_the_way_out(machine: str, way: str) -> None:
    assert way in str(choice(machine).why_none)


def test_a_backend_can_be_forced_against_the_advice() -> None:
    forced = choice("RTX 4090, driver 580", backend="cuda-12")
    assert (forced.chosen.kind if forced.chosen else None, forced.ranked[0].rank) == ("cuda-12.8", "chosen")
    forced = choice("GTX 1080, driver 580", backend="cuda-13.4")
    assert forced.chosen is not None
    assert (
        forced.reason
        == "CUDA 13 has no code for compute capability 6.1 (NVIDIA GeForce GTX 1080); the oldest is 7.5"
    )
    assert choice("H100, driver 580", backend="cuda").reason == (
        "CUDA 12.8; the driver compiles its PTX for NVIDIA H100 PCIe at the first start"
    )


def test_a_backend_that_the_release_lacks_names_those_it_has() -> None:
    assert choice("GB10 (DGX Spark)", backend="sycl").why_none == (
        "this release has no build sycl for linux on arm64; it has cuda-13.4, vulkan, cpu"
    )


def test_a_cuda_build_whose_libraries_are_not_there_yet_is_not_taken() -> None:
    whole = release("b11101")
    files = tuple(asset for asset in whole.assets if not asset.name.startswith("cudart-"))
    found = choose_build(builds_of(replace(whole, assets=files)), host_of(MACHINES["RTX 4090, driver 580"]))
    assert (found.chosen.kind if found.chosen else None) == "vulkan"
    why = {each.build.kind: each.reason for each in found.ranked if each.build.arch == "x86_64"}
    assert why["cuda-13.4"] == "its runtime libraries (cudart) are not in this release, or not yet"


def test_of_two_cards_the_build_that_serves_both_is_taken() -> None:
    ada = card("NVIDIA GeForce RTX 4090", "cuda", "8.9", "580.95", "13.0")
    pascal = card("NVIDIA GeForce GTX 1080", "cuda", "6.1", "580.95", "13.0")
    found = choose_build(builds("b11101"), host_of(linux(ada, pascal)))
    assert (found.chosen.kind if found.chosen else None) == "cuda-12.8"
    newest = next(each for each in found.ranked if each.build.name == "b11101-cuda-13.4")
    assert newest.rank == "unsure"
    assert newest.reason.endswith("RTX 4090 (8.9), but nothing for NVIDIA GeForce GTX 1080")


def test_the_processor_on_purpose_says_how_to_start_it() -> None:
    assert choice("RTX 4090, driver 580", backend="cpu").reason == (
        "the processor alone; NVIDIA GeForce RTX 4090 lies idle, and qwenctl up needs --cpu"
    )


def test_a_release_without_cuda_falls_back_to_vulkan() -> None:
    assert (found := choice("RTX 4090, driver 580", "b10356").chosen) is not None
    assert found.kind == "vulkan"


def test_rocm_7_was_made_on_an_older_ubuntu() -> None:
    old = replace(MACHINES["MI210, ROCm 7"], system=SystemFacts(libc="glibc 2.35", vulkan=True, rocm="7.2.1"))
    assert (found := choose_build(builds("b8600"), host_of(old)).chosen) is not None
    assert found.kind == "rocm-7.2"


def test_a_glibc_can_be_given_for_another_machine() -> None:
    hardware = MACHINES["RTX 4090, driver 580 (tests/machines, C library unknown)"]
    found = choose_build(builds("b11101"), host_of(hardware, "2.39")).ranked[0]
    assert (found.build.kind, found.reason) == (
        "cuda-13.4",
        "CUDA 13.4 has machine code for NVIDIA GeForce RTX 4090 (8.9)",
    )


def test_the_driver_decides_where_nvml_was_not_asked() -> None:
    def fits(driver: str, name: str, version: tuple[int, int]) -> str:
        return cuda_verdict(version, HostGpu("nvidia", name, worth=True, driver=driver)).fits

    assert fits("535.1", "NVIDIA GeForce RTX 3090", (12, 8)) == "yes"
    assert fits("525.60.13", "NVIDIA L4", (12, 8)) == "yes"
    assert fits("520.1", "NVIDIA L4", (12, 8)) == "no"
    assert fits("570.26", "Tesla T4", (12, 8)) == "yes"
    assert fits("565.57", "Tesla T4", (12, 8)) == "no"
    assert fits("580.95", "Tesla T4", (13, 4)) == "no"
    assert fits("999.1", "Tesla T4", (13, 4)) == "yes"
    assert fits("580.95", "NVIDIA Unheard-of 9000", (13, 4)) == "unsure"
    assert fits("580.95", "NVIDIA GeForce RTX 5090", (12, 4)) == "yes"  # PTX of an older toolkit


def test_machine_code_runs_on_the_same_and_later_minor_capabilities_only() -> None:
    def fits(capability: str, *, tegra: bool = False) -> str:
        gpu = HostGpu(
            "nvidia", "x", worth=True, architecture=capability, driver="580", driver_cuda=(13, 0), tegra=tegra
        )
        return cuda_verdict((13, 4), gpu).fits

    assert {each: fits(each) for each in ("8.0", "8.6", "8.7", "8.9", "9.0", "10.0", "12.0", "12.1")} == {
        "8.0": "no",
        "8.6": "yes",
        "8.7": "yes",
        "8.9": "yes",
        "9.0": "no",
        "10.0": "no",
        "12.0": "yes",
        "12.1": "yes",
    }
    assert fits("8.7", tegra=True) == "no"


def test_an_accelerator_known_only_by_another_backend_has_its_makers_builds() -> None:
    seen = linux(card("NVIDIA GeForce RTX 4090 (NVK AD102)", "vulkan"))
    assert [gpu.vendor for gpu in host_of(seen).gpus] == ["nvidia"]
    mali = linux(card("Mali-G610 MC4", "vulkan", memory="shared"), arm=True)
    assert (found := choose_build(builds("b11101"), host_of(mali)).chosen) is not None
    assert found.kind == "vulkan"


VERSIONS = st.none() | st.tuples(st.integers(0, 20), st.integers(0, 60))
GPUS = st.builds(
    HostGpu,
    vendor=st.sampled_from(["nvidia", "amd", "intel", "apple", "other"]),
    name=st.sampled_from(["NVIDIA GeForce RTX 4090", "AMD Radeon RX 7900 XTX", "Tesla T4", "?"]),
    worth=st.booleans(),
    architecture=st.none() | st.sampled_from(["8.9", "7.5", "6.1", "gfx1100", "gfx803", "x"]),
    driver=st.none() | st.sampled_from(["580.95", "470", "N/A"]),
    driver_cuda=VERSIONS,
    tegra=st.booleans(),
)
HOSTS = st.builds(
    EngineHost,
    os=st.sampled_from(["linux", "darwin"]),
    arch=st.sampled_from(["x86_64", "arm64"]),
    glibc=VERSIONS,
    macos=VERSIONS,
    gpus=st.lists(GPUS, max_size=3).map(tuple),
    rocm=VERSIONS,
    oneapi=VERSIONS,
)


@given(
    HOSTS,
    st.sampled_from(["b11101", "b10356", "b8600", "b6558"]),
    st.none() | st.sampled_from(["cuda", "cpu"]),
)
def test_any_machine_gets_a_build_of_its_own_kind_or_a_way_out(
    host: EngineHost, tag: str, backend: str | None
) -> None:
    found = choose_build(builds(tag), host, backend)
    assert all(each.reason for each in found.ranked)
    assert (found.chosen is None) == bool(found.why_none)
    if found.chosen is not None:
        assert (found.chosen.os, found.chosen.arch) == (host.os, host.arch)
        assert backend in (None, found.chosen.backend)
