"""Machines for the table of choices: those of tests/machines, and others written after reports of owners."""

from qwenctl.engine.builds.build_choice import choose_build
from qwenctl.engine.builds.engine_host import host_of
from qwenctl.hardware.facts import Accelerator, Backend, Cpu, Hardware, MemoryKind, PciGpu, SystemFacts
from tests.engine.listings import builds
from tests.fakes.machines import GIB, machine

UBUNTU_24 = SystemFacts(libc="glibc 2.39", vulkan=True)
NO_VULKAN = SystemFacts(libc="glibc 2.39")


def card(
    name: str,
    backend: Backend = "cuda",
    architecture: str | None = None,
    driver: str | None = None,
    driver_cuda: str | None = None,
    memory: MemoryKind = "dedicated",
) -> Accelerator:
    size = 16 * GIB
    return Accelerator(
        f"{backend.upper()}0", name, backend, memory, size, size, driver, None, architecture, driver_cuda
    )


def linux(
    *cards: Accelerator, system: SystemFacts = UBUNTU_24, arm: bool = False, model: str | None = None
) -> Hardware:
    cpu = Cpu(None, 8, None, 16)
    return Hardware("linux", "arm64" if arm else "x86_64", model, cpu, 32 * GIB, cards, (), system)


def mac(hardware: Hardware, version: str) -> Hardware:
    facts = SystemFacts(macos=version)
    return Hardware(
        hardware.os,
        hardware.arch,
        hardware.machine,
        hardware.cpu,
        hardware.ram_bytes,
        hardware.accelerators,
        (),
        facts,
    )


INTEL_MAC = Hardware("darwin", "x86_64", "MacBookPro16,1", Cpu("Intel Core i9", 8, None, 16), 32 * GIB)
ORIN = card("Orin (nvgpu)", architecture="8.7", driver="540.4.0", driver_cuda="12.6", memory="unified")
ROCM_10 = SystemFacts(libc="glibc 2.39", vulkan=True, rocm="10.0.0")
B580 = SystemFacts(libc="glibc 2.39", vulkan=True, pci_gpus=(PciGpu("intel", "0xe20b", integrated=False),))
IGPU = SystemFacts(libc="glibc 2.39", vulkan=True, pci_gpus=(PciGpu("intel", "0xa780", integrated=True),))

MACHINES: dict[str, Hardware] = {
    "RTX 4090, driver 580 (tests/machines, C library unknown)": machine("rtx4090-24gb"),
    "2 x A100 80GB, driver 580 (tests/machines)": machine("2xa100-80gb"),
    "no GPU (tests/machines)": machine("cpu-24gb"),
    "M1 8 GB (tests/machines)": machine("m1-8gb"),
    "M2 16 GB (tests/machines)": machine("m2-16gb"),
    "M3 Max 36 GB (tests/machines)": machine("m3-max-36gb"),
    "M4 Max 64 GB, macOS 26": mac(machine("m4-max-64gb"), "26.0.1"),
    "M1, macOS 12": mac(machine("m1-8gb"), "12.7.6"),
    "Intel Mac, macOS 14": mac(INTEL_MAC, "14.7"),
    "RTX 4090, driver 580": linux(card("NVIDIA GeForce RTX 4090", "cuda", "8.9", "580.95", "13.0")),
    "RTX 3090, driver 535": linux(card("NVIDIA GeForce RTX 3090", "cuda", "8.6", "535.247.01", "12.2")),
    "RTX 2080, driver 535": linux(card("NVIDIA GeForce RTX 2080", "cuda", "7.5", "535.247.01", "12.2")),
    "H100, driver 580": linux(
        card("NVIDIA H100 PCIe", "cuda", "9.0", "580.159.04", "13.0"), system=NO_VULKAN
    ),
    "H100, driver 615": linux(card("NVIDIA H100 PCIe", "cuda", "9.0", "615.20", "13.4"), system=NO_VULKAN),
    "RTX 5090, driver 570": linux(card("NVIDIA GeForce RTX 5090", "cuda", "12.0", "570.133", "12.8")),
    "GTX 1080, driver 580": linux(card("NVIDIA GeForce GTX 1080", "cuda", "6.1", "580.95", "13.0")),
    "GTX 1080, driver 470": linux(card("NVIDIA GeForce GTX 1080", "cuda", "6.1", "470.256", "11.4")),
    "RTX 4090 in WSL2": linux(
        card("NVIDIA GeForce RTX 4090", "cuda", "8.9", "581.15", "13.0"),
        system=SystemFacts(libc="glibc 2.39", wsl=True),
    ),
    "RTX 4090, Debian 12 (glibc 2.36)": linux(
        card("NVIDIA GeForce RTX 4090", "cuda", "8.9", "580.95", "13.0"),
        system=SystemFacts(libc="glibc 2.36", vulkan=True),
    ),
    "RTX 4090, glibc 2.31": linux(
        card("NVIDIA GeForce RTX 4090", "cuda", "8.9", "580.95", "13.0"),
        system=SystemFacts(libc="glibc 2.31"),
    ),
    "Jetson Orin NX, JetPack 6": linux(
        ORIN, system=SystemFacts(libc="glibc 2.35", vulkan=True), arm=True, model="Jetson Orin NX"
    ),
    "GB10 (DGX Spark)": linux(
        card("NVIDIA GB10", "cuda", "12.1", "580.173.02", "13.0", "unified"), arm=True, system=UBUNTU_24
    ),
    "GH200, driver 580": linux(
        card("NVIDIA GH200 480GB", "cuda", "9.0", "580.95", "13.0"), arm=True, system=NO_VULKAN
    ),
    "RX 7900 XTX, ROCm 10": linux(card("AMD Radeon RX 7900 XTX", "rocm", "gfx1100"), system=ROCM_10),
    "RX 7900 XTX, no ROCm": linux(card("AMD Radeon RX 7900 XTX", "rocm", "gfx1100")),
    "MI210, ROCm 10": linux(card("AMD Instinct MI210", "rocm", "gfx90a"), system=ROCM_10),
    "MI210, ROCm 7": linux(
        card("AMD Instinct MI210", "rocm", "gfx90a"),
        system=SystemFacts(libc="glibc 2.39", vulkan=True, rocm="7.2.1"),
    ),
    "RX 580, ROCm 10": linux(card("AMD Radeon RX 580", "rocm", "gfx803"), system=ROCM_10),
    "Vega 56": linux(card("AMD Radeon RX Vega", "rocm", "gfx900")),
    "Strix Halo, ROCm 10": linux(card("Radeon 8060S", "rocm", "gfx1151", memory="shared"), system=ROCM_10),
    "Arc B580": linux(system=B580),
    "Intel iGPU": linux(system=IGPU),
    "Intel iGPU, no Vulkan": linux(
        system=SystemFacts(libc="glibc 2.39", pci_gpus=(PciGpu("intel", "0xa780", integrated=True),))
    ),
    "Raspberry Pi 5, Debian 13": linux(
        arm=True, system=SystemFacts(libc="glibc 2.41"), model="Raspberry Pi 5"
    ),
    "Raspberry Pi 5, Debian 12": linux(
        arm=True, system=SystemFacts(libc="glibc 2.36"), model="Raspberry Pi 5"
    ),
    "Graviton 4, Amazon Linux 2023": linux(arm=True, system=SystemFacts(libc="glibc 2.34")),
    "Graviton 4, Ubuntu 24.04": linux(arm=True, system=NO_VULKAN),
    "RHEL 9, no GPU (glibc 2.34)": linux(system=SystemFacts(libc="glibc 2.34")),
    "Alpine": linux(system=SystemFacts(libc="musl")),
}


def markdown_table(release: str = "b11101") -> str:
    """The choice for each machine as a table of the documentation."""
    lines = ["| machine | build | why |", "|---|---|---|"]
    for name, hardware in MACHINES.items():
        choice = choose_build(builds(release), host_of(hardware))
        kind = f"`{choice.chosen.kind}`" if choice.chosen else "(none)"
        lines.append(f"| {name} | {kind} | {choice.reason or choice.why_none} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown_table())
