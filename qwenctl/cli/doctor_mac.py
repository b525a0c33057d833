"""Look at what can keep a server from running on a Mac only. Changes nothing."""

import shlex
from collections.abc import Iterator
from pathlib import Path

from qwenctl.engine.ask import in_quarantine
from qwenctl.engine.program import Engine
from qwenctl.hardware.facts import Hardware
from qwenctl.hardware.macos import read_low_power_mode, read_memory_pressure
from qwenctl.plan.budget import reserved_ram
from qwenctl.service import mac_diagnosis
from qwenctl.service.diagnosis import Check


def machine(hardware: Hardware, server: Engine | None) -> Iterator[Check]:
    """Look at Metal's limit, and at the mark of a program that was downloaded."""
    for gpu in hardware.accelerators:
        if gpu.backend == "metal":
            most = hardware.ram_bytes - reserved_ram(hardware.ram_bytes)
            yield mac_diagnosis.metal_limit(gpu, hardware.ram_bytes, most)
    if server is not None:
        path = Path(server.path).resolve()
        folder = shlex.quote(str(path.parent))
        yield mac_diagnosis.quarantine(str(server.path), folder, marked=in_quarantine(path))


def state() -> Iterator[Check]:
    """Look at how this Mac is now."""
    yield mac_diagnosis.memory_pressure(read_memory_pressure())
    yield mac_diagnosis.low_power_mode(on=read_low_power_mode())
