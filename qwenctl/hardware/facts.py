"""Static facts of a machine and of a server binary. Pure: no I/O; ``None`` is unknown, never a guess."""

from dataclasses import dataclass
from typing import Literal

Backend = Literal["cuda", "metal", "rocm", "vulkan", "sycl", "rpc"]
MemoryKind = Literal["dedicated", "unified", "shared"]


@dataclass(frozen=True, slots=True)
class Cpu:
    """The processor. ``performance_cores`` is known where cores differ (Apple Silicon)."""

    model: str | None
    physical_cores: int
    performance_cores: int | None
    logical_cores: int


@dataclass(frozen=True, slots=True)
class Accelerator:
    """One device llama.cpp can put layers on.

    ``memory_bytes`` is its capacity, ``usable_bytes`` what the driver lets one process use
    (Metal: the recommended working set). ``wired_limit_bytes`` is Metal's limit where its owner raised it
    (``sysctl iogpu.wired_limit_mb``); None is the system's own.

    ``architecture`` is what code must be compiled for: the compute capability of an NVIDIA GPU (``8.9``), the
    target of an AMD GPU (``gfx1100``). ``driver_cuda`` is the newest CUDA version that the driver knows.
    """

    id: str
    name: str
    backend: Backend
    memory: MemoryKind
    memory_bytes: int | None
    usable_bytes: int | None
    driver: str | None
    wired_limit_bytes: int | None = None
    architecture: str | None = None
    driver_cuda: str | None = None


@dataclass(frozen=True, slots=True)
class PciGpu:
    """A graphics device on the PCI bus, whether or not a driver can compute on it. ``vendor`` is the maker.

    ``integrated`` is known of Intel's only: its processors' own GPU is always at 0000:00:02.0.
    """

    vendor: str
    device: str
    integrated: bool | None = None


@dataclass(frozen=True, slots=True)
class SystemFacts:
    """What of the system decides which build of a program runs on it.

    ``libc`` is ``glibc 2.36`` or ``musl``. ``vulkan`` says whether Vulkan's loader and a driver are there.
    ``rocm`` and ``oneapi`` are versions of the libraries that are installed; None where there are none.
    """

    libc: str | None = None
    macos: str | None = None
    wsl: bool = False
    container: bool = False
    vulkan: bool = False
    rocm: str | None = None
    oneapi: str | None = None
    pci_gpus: tuple[PciGpu, ...] = ()


@dataclass(frozen=True, slots=True)
class Hardware:
    """A machine, as ``qwenctl hardware --json`` prints it and ``--hardware FILE`` reads it (schema 1).

    ``system`` is None where nobody looked: in files of earlier versions. ``excluded`` are the ids of listed
    devices that are not to be used, although llama.cpp would. ``away`` says of each card worth using why it
    cannot be used now; the warnings say so, too. ``no_device`` is what the binary said of an empty list.
    """

    os: Literal["linux", "darwin"]
    arch: Literal["x86_64", "arm64"]
    machine: str | None
    cpu: Cpu
    ram_bytes: int
    accelerators: tuple[Accelerator, ...] = ()
    warnings: tuple[str, ...] = ()
    system: SystemFacts | None = None
    excluded: tuple[str, ...] = ()
    away: tuple[str, ...] = ()
    no_device: str | None = None
    schema: Literal[1] = 1


@dataclass(frozen=True, slots=True)
class Device:
    """One line of ``llama-server --list-devices``: what this binary can really use. Bytes."""

    id: str
    description: str
    total_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True)
class DeviceList:
    """What ``llama-server --list-devices`` showed. ``reason``: what it said where the list is empty."""

    devices: tuple[Device, ...] = ()
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """The facts of the installed binary that the planner needs. ``devices`` is empty on a CPU-only build.

    ``reason`` says why it is empty where the build has a backend that found nothing.
    """

    path: str
    version: str
    devices: tuple[Device, ...] = ()
    reason: str | None = None
