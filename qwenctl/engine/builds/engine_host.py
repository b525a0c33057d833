"""What of a machine decides which build of llama.cpp runs on it. Pure: data in, data out."""

import re
from dataclasses import dataclass, replace
from typing import Literal

from qwenctl.hardware.facts import Accelerator, Hardware, SystemFacts

Vendor = Literal["nvidia", "amd", "intel", "apple", "other"]
Version = tuple[int, ...]

BY_BACKEND: dict[str, Vendor] = {"cuda": "nvidia", "rocm": "amd", "sycl": "intel", "metal": "apple"}
BY_NAME: tuple[tuple[str, Vendor], ...] = (
    ("nvidia", "nvidia"),
    ("geforce", "nvidia"),
    ("radeon", "amd"),
    ("amd", "amd"),
    ("intel", "intel"),
    ("apple", "apple"),
)
TEGRA = re.compile(r"\b(Orin|Xavier|Thor|Tegra|Jetson)\b", re.IGNORECASE)
"""NVIDIA's systems on a chip. GB10 and Grace are none: they run the programs of servers (SBSA)."""
LARGE_APU = ("gfx1151",)
"""AMD processors whose GPU is as good as a card: Strix Halo."""


@dataclass(frozen=True, slots=True)
class HostGpu:
    """One GPU. ``worth`` says whether an engine that cannot use it counts as none for this machine."""

    vendor: Vendor
    name: str
    worth: bool
    architecture: str | None = None
    driver: str | None = None
    driver_cuda: Version | None = None
    tegra: bool = False


@dataclass(frozen=True, slots=True)
class EngineHost:
    """A machine, as far as the choice of a build goes. None is unknown.

    ``glibc`` is the version of the GNU C library; ``musl`` says that the C library is another one.
    """

    os: Literal["linux", "darwin"]
    arch: Literal["x86_64", "arm64"]
    glibc: Version | None = None
    musl: bool = False
    macos: Version | None = None
    gpus: tuple[HostGpu, ...] = ()
    vulkan: bool | None = None
    rocm: Version | None = None
    oneapi: Version | None = None
    wsl: bool = False
    container: bool = False

    def of(self, vendor: Vendor) -> tuple[HostGpu, ...]:
        """Return the GPUs of one maker."""
        return tuple(gpu for gpu in self.gpus if gpu.vendor == vendor)


def host_of(hardware: Hardware, glibc: str | None = None) -> EngineHost:
    """Return what of a machine decides. ``glibc`` is used instead of the machine's own where it is given."""
    system = hardware.system or SystemFacts()
    libc = f"glibc {glibc}" if glibc is not None else (system.libc or "")
    gpus = tuple(_gpu(each, hardware) for each in hardware.accelerators if each.backend != "rpc")
    return EngineHost(
        os=hardware.os,
        arch=hardware.arch,
        glibc=version_of(libc.removeprefix("glibc ")) if libc.startswith("glibc ") else None,
        musl=libc == "musl",
        macos=version_of(system.macos),
        gpus=gpus + _on_the_bus(system, gpus),
        vulkan=system.vulkan if hardware.system is not None else None,
        rocm=version_of(system.rocm),
        oneapi=version_of(system.oneapi),
        wsl=system.wsl,
        container=system.container,
    )


def version_of(text: str | None) -> Version | None:
    """Return the numbers of a version; None if it does not begin with one."""
    match = re.match(r"\d{1,6}(?:\.\d{1,6})*", (text or "").strip())
    return tuple(int(part) for part in match[0].split(".")) if match else None


def shown(version: Version) -> str:
    """Return a version as people write it."""
    return ".".join(map(str, version))


def _gpu(accelerator: Accelerator, hardware: Hardware) -> HostGpu:
    name = accelerator.name
    by_name: Vendor = next((vendor for word, vendor in BY_NAME if word in name.lower()), "other")
    machine = f"{name} {hardware.machine or ''}"
    vendor = BY_BACKEND.get(accelerator.backend, by_name)
    large = accelerator.memory != "shared" or accelerator.architecture in LARGE_APU
    return HostGpu(
        vendor,
        name,
        worth=large,
        architecture=accelerator.architecture,
        driver=accelerator.driver,
        driver_cuda=version_of(accelerator.driver_cuda),
        tegra=vendor == "nvidia" and TEGRA.search(machine) is not None,
    )


def _on_the_bus(system: SystemFacts, known: tuple[HostGpu, ...]) -> tuple[HostGpu, ...]:
    """Return Intel's GPUs, which no driver of theirs describes: only the bus knows them."""
    if any(gpu.vendor == "intel" for gpu in known):
        return ()
    found = [each for each in system.pci_gpus if each.vendor == "intel"]
    names = {True: "Intel integrated GPU", False: "Intel Arc GPU"}
    gpus = (HostGpu("intel", names[each.integrated is not False], worth=False) for each in found)
    return tuple(
        replace(gpu, name=f"{gpu.name} {each.device}") for gpu, each in zip(gpus, found, strict=True)
    )
