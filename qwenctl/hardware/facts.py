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
    """

    id: str
    name: str
    backend: Backend
    memory: MemoryKind
    memory_bytes: int | None
    usable_bytes: int | None
    driver: str | None
    wired_limit_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Hardware:
    """A machine, as ``qwenctl hardware --json`` prints it and ``--hardware FILE`` reads it (schema 1)."""

    os: Literal["linux", "darwin"]
    arch: Literal["x86_64", "arm64"]
    machine: str | None
    cpu: Cpu
    ram_bytes: int
    accelerators: tuple[Accelerator, ...] = ()
    warnings: tuple[str, ...] = ()
    schema: Literal[1] = 1


@dataclass(frozen=True, slots=True)
class Device:
    """One line of ``llama-server --list-devices``: what this binary can really use. Bytes."""

    id: str
    description: str
    total_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """The facts of the installed binary that the planner needs. ``devices`` is empty on a CPU-only build."""

    path: str
    version: str
    devices: tuple[Device, ...] = ()
