"""Turn what macOS' own programs print into facts. Pure: no I/O; detect.py and macos.py run them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from qwenctl.hardware.facts import Accelerator, Cpu

KEYS = (
    "hw.memsize",
    "hw.model",
    "hw.optional.arm64",
    "hw.physicalcpu",
    "hw.logicalcpu",
    "hw.perflevel0.physicalcpu",
    "machdep.cpu.brand_string",
    "iogpu.wired_limit_mb",
)
PRESSURE_KEYS = ("kern.memorystatus_vm_pressure_level", "kern.memorystatus_level")
PRESSURE_WORDS = {1: "normal", 2: "warning", 4: "critical"}
"""Source: XNU, bsd/sys/event.h, NOTE_MEMORYSTATUS_PRESSURE_*; Activity Monitor: green, yellow, red."""
WARNING, CRITICAL = 2, 4
MIB = 1 << 20
LARGE_RAM_BYTES = 36 << 30


@dataclass(frozen=True, slots=True)
class MemoryPressure:
    """How short of memory macOS says that it is. ``free_percent`` is what ``memory_pressure`` prints.

    Neither is a number of bytes: XNU keeps about half of the memory that can be paged "inactive" and fills
    the rest with files, so that its free pages say nothing. Source: XNU, osfmk/vm/vm_pageout.c,
    VM_PAGE_INACTIVE_TARGET.
    """

    level: int
    free_percent: int | None = None

    @property
    def words(self) -> str:
        """What Activity Monitor would say."""
        said = PRESSURE_WORDS.get(self.level, f"level {self.level}")
        return said if self.free_percent is None else f"{said}, {self.free_percent} % of the memory is free"


def memory_pressure(values: Mapping[str, str]) -> MemoryPressure | None:
    """Return the pressure; None where macOS does not say."""
    level, free_percent = (_number(values, key) for key in PRESSURE_KEYS)
    return None if level is None else MemoryPressure(level, free_percent)


def low_power_mode(settings: str) -> bool:
    """Return whether ``pmset -g`` shows Low Power Mode, which lets the chip run slower.

    Source: pmset(1), ``lowpowermode``; ``powermode`` 1 since macOS 12 on Macs with three modes.
    """
    return bool(re.search(r"^\s*(?:lowpowermode|powermode)\s+1\b", settings, re.MULTILINE))


def parse_sysctl(text: str) -> dict[str, str]:
    """Return key -> value of ``sysctl KEY …``; keys that the machine does not have are missing."""
    pairs = (line.partition(": ") for line in text.splitlines())
    return {key.strip(): value.strip() for key, colon, value in pairs if colon}


def is_apple_silicon(values: Mapping[str, str]) -> bool:
    """Say whether the machine is Apple Silicon, also if this Python runs translated (Rosetta)."""
    return values.get("hw.optional.arm64") == "1"


def cpu(values: Mapping[str, str]) -> Cpu:
    """Return the processor; ``performance_cores`` only where macOS reports performance levels."""
    logical = _number(values, "hw.logicalcpu") or 1
    physical = _number(values, "hw.physicalcpu") or logical
    return Cpu(
        model=values.get("machdep.cpu.brand_string") or None,
        physical_cores=physical,
        performance_cores=_number(values, "hw.perflevel0.physicalcpu"),
        logical_cores=max(logical, physical),
    )


def ram_bytes(values: Mapping[str, str]) -> int | None:
    """Return the memory of the machine."""
    return _number(values, "hw.memsize")


def accelerators(values: Mapping[str, str]) -> tuple[Accelerator, ...]:
    """Return the GPU of an Apple Silicon Mac; none for an Intel Mac, where only the binary knows."""
    ram = ram_bytes(values)
    if ram is None or not is_apple_silicon(values):
        return ()
    limit_mib = _number(values, "iogpu.wired_limit_mb") or 0
    return (
        Accelerator(
            id="MTL0",
            name=values.get("machdep.cpu.brand_string") or "Apple GPU",
            backend="metal",
            memory="unified",
            memory_bytes=ram,
            usable_bytes=working_set_bytes(ram, limit_mib),
            driver=None,
            wired_limit_bytes=limit_mib * MIB if limit_mib > 0 else None,
        ),
    )


def working_set_bytes(ram_bytes: int, wired_limit_mib: int) -> int:
    """Return Metal's recommended working set: the limit that was set, else two thirds, or three quarters.

    Only used until the binary names the true figure. Newer macOS allows more (107.5 of 128 GiB, macOS 26),
    so the fractions err on the safe side. A limit of 0 is macOS' own.

    Source: recommendedMaxWorkingSetSize as printed by llama.cpp: 10,922 MiB of 16 GiB (its CI logs), 21,845
    MiB of 32 GiB (ggml-org/llama.cpp #2011, ollama/ollama #434), 73,728 MiB of 96 GiB (#3213); 48 of 64 GiB
    (raullenchai/Rapid-MLX #183). 36 GiB as the border is unverified. 107.5 GiB on macOS 26: antirez/ds4 #893.
    That it follows iogpu.wired_limit_mb: measured in AlexsJones/llmfit #754.
    """
    if wired_limit_mib > 0:
        return min(wired_limit_mib * MIB, ram_bytes)
    return ram_bytes * 3 // 4 if ram_bytes >= LARGE_RAM_BYTES else ram_bytes * 2 // 3


def _number(values: Mapping[str, str], key: str) -> int | None:
    text = values.get(key, "")
    return int(text) if text.isascii() and text.isdigit() else None
