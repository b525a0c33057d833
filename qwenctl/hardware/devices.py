"""Join what the machine has with what the server's binary can use. Pure: no I/O.

The binary's own ``--list-devices`` decides which devices will compute. Detection adds what it does not print:
the kind of memory, the driver, and devices that are present but cannot be used.
"""

import re
from dataclasses import replace

from qwenctl.errors import NoFitError, SettingsError
from qwenctl.hardware.facts import Accelerator, Backend, Device, Hardware, MemoryKind, ServerFacts
from qwenctl.settings.types import HardwareSettings as Choice

MIB = 1 << 20
MAX_DEVICES = 256
LINE = re.compile(
    r"^ +(?P<id>[A-Za-z]+(?:\d+|\[[^\]]*\])?): (?P<description>.*)"
    r" \((?P<total>\d+) MiB, (?P<free>\d+) MiB free\)$"
)
BACKENDS: dict[str, Backend] = {
    "CUDA": "cuda",
    "MTL": "metal",
    "Metal": "metal",
    "ROCm": "rocm",
    "Vulkan": "vulkan",
    "SYCL": "sycl",
    "RPC": "rpc",
}
"""Beginning of a device's id -> backend. Source: llama.cpp, ggml/src/ggml-*/: GGML_*_NAME."""
VENDORS = {"cuda": "nvidia", "rocm": "amd", "metal": "apple", "sycl": "intel"}
LEFT_IDLE = (
    '{} is not used: gpu = "off" in [hardware], or an earlier up --cpu, which is kept until up --reset'
)
SOFTWARE = re.compile(r"llvmpipe|lavapipe|SwiftShader", re.IGNORECASE)
INTEGRATED = re.compile(
    r"\bGB10\b|\bOrin\b|\bThor\b|\bXavier\b|\bTegra\b"  # NVIDIA without memory of its own
    r"|Radeon(\(TM\))? Graphics|\bRadeon(\(TM\))? (\d{3}M|80[456]0S)|\bVega \d+ Graphics"  # AMD APUs
    r"|^(?=.*Intel)(?!.*\b[AB]\d{2,3}M?\b)(?!.*\b(Flex|Max) )",  # Intel, but for Arc A/B, Flex and Max
    re.IGNORECASE,
)


FAST_SHARED = re.compile(r"\b0x1586\b|\bRadeon(\(TM\))? 80[56]0S")
"""Strix Halo: 256 GB/s, which the processor alone cannot use.

Source: AMD's data sheet of the Ryzen AI Max; its PCI id in the kernel's amdgpu driver.
"""
SMALL_BYTES = 2 << 30
"""A card up to this size holds no model that the RAM would not serve as well."""


def parse_devices(text: str) -> tuple[Device, ...]:
    """Return the devices in the output of ``llama-server --list-devices``; other lines are skipped.

    Source: llama.cpp, common/arg.cpp, ``--list-devices``: two spaces, name, description, MiB total and free.
    """
    lines = (LINE.match(line.rstrip()) for line in text.splitlines())
    devices = (
        Device(m["id"], m["description"], int(m["total"]) * MIB, int(m["free"]) * MIB) for m in lines if m
    )
    return tuple(devices)[:MAX_DEVICES]


def backend_of(device: Device) -> Backend | None:
    """Return the backend of a device that layers can go to; None for BLAS, software and 0 MiB."""
    name = re.split(r"[\d\[]", device.id, maxsplit=1)[0]
    if device.total_bytes == 0 or SOFTWARE.search(device.description):
        return None
    return BACKENDS.get(name)


def usable(hardware: Hardware, server: ServerFacts | None, choice: Choice) -> Hardware:
    """Return the machine as the planner may use it, with a warning for everything that is left out.

    1. ``gpu = "off"`` leaves none, and a card that is worth using is named.
    2. If there is a binary, keep only devices it can use, under its ids, and add those that only it lists.
    3. ``devices`` keeps the devices that it names.
    4. Otherwise drop integrated GPUs if there is any other: llama.cpp does not use them then.

    Raises:
        NoFitError: ``gpu = "required"`` and nothing is left.
        SettingsError: ``devices`` names a device that is not there.
    """
    if choice.gpu == "off":
        idle = tuple(LEFT_IDLE.format(each.name) for each in hardware.accelerators if _is_worth(each))
        return replace(hardware, accelerators=(), warnings=(*hardware.warnings, *idle))
    joined = join(hardware, server) if server is not None else hardware
    if choice.gpu == "required" and not joined.accelerators:
        raise NoFitError(
            f"cannot use a GPU: {_why_none(hardware, joined)}",
            hint='install a llama-server built for it, or set gpu = "auto" in [hardware] to run on the CPU',
        )
    kept = _named(joined.accelerators, choice.devices) if choice.devices else _without_idle(joined)
    return replace(joined, accelerators=kept)


def unused_cards(hardware: Hardware, server: ServerFacts, choice: Choice) -> tuple[Accelerator, ...]:
    """Return the cards that are worth using, where the binary has a device on none of them.

    An integrated GPU is not: it shares the RAM and its bandwidth with the processor. A person who names the
    devices, or none, decides alone.
    """
    if choice.gpu == "off" or choice.devices:
        return ()
    usable_here = (*join(hardware, server).accelerators,)
    if any(_is_worth(each) or each.backend == "rpc" for each in usable_here):
        return ()
    return tuple(each for each in hardware.accelerators if _is_worth(each))


def _is_worth(accelerator: Accelerator) -> bool:
    if accelerator.memory == "shared":
        return bool(FAST_SHARED.search(accelerator.name))
    return accelerator.memory_bytes is None or accelerator.memory_bytes > SMALL_BYTES


def reserve(hardware: Hardware, reserve_mib: int) -> Hardware:
    """Return the machine with that much of each accelerator left to other programs."""

    def less(accelerator: Accelerator) -> Accelerator:
        size = accelerator.usable_bytes or accelerator.memory_bytes
        return (
            accelerator
            if size is None
            else replace(accelerator, usable_bytes=max(0, size - reserve_mib * MIB))
        )

    if reserve_mib == 0:
        return hardware
    return replace(hardware, accelerators=tuple(less(each) for each in hardware.accelerators))


def join(hardware: Hardware, server: ServerFacts) -> Hardware:
    """Return the machine with the accelerators ``server`` can use, in its order and under its ids.

    A device seen through two backends counts once, as the first names it. Source: llama.cpp, src/llama.cpp,
    ``llama_model_load``, which skips a device whose PCI id it has.
    """
    matches: dict[int, Backend] = {}
    added: dict[str, Backend] = {}
    accelerators: list[Accelerator] = []
    for device in server.devices:
        backend = backend_of(device)
        if backend is None:
            continue
        index = _match(device, backend, hardware.accelerators, matches)
        if index is not None:
            matches[index] = backend
            accelerators.append(_joined(hardware.accelerators[index], device, backend))
        elif not _seen_before(device, backend, hardware.accelerators, matches, added):
            added[device.description] = backend
            accelerators.append(_only_known_to_binary(device, backend, hardware))
    unmatched = tuple(a for index, a in enumerate(hardware.accelerators) if index not in matches)
    warnings = _left_out(unmatched, tuple(accelerators), server.path)
    return replace(hardware, accelerators=tuple(accelerators), warnings=warnings + hardware.warnings)


def _match(
    device: Device, backend: Backend, have: tuple[Accelerator, ...], matches: dict[int, Backend]
) -> int | None:
    """Return the accelerator that ``device`` is: same maker, by name, else by the nearest size."""
    vendor = _vendor(backend, device.description)
    free = [
        index for index, a in enumerate(have) if index not in matches and _vendor(a.backend, a.name) == vendor
    ]
    if vendor is None or not free:
        return None
    if any(other != backend and _same_name(device, have[index]) for index, other in matches.items()):
        return None
    return min(
        free,
        key=lambda index: (
            not _same_name(device, have[index]),
            abs(device.total_bytes - (have[index].memory_bytes or 0)),
        ),
    )


def _seen_before(
    device: Device,
    backend: Backend,
    have: tuple[Accelerator, ...],
    matches: dict[int, Backend],
    added: dict[str, Backend],
) -> bool:
    """Say whether another backend has listed this device already."""
    vendor = _vendor(backend, device.description)
    matched = any(
        other != backend and vendor is not None and _vendor(have[index].backend, have[index].name) == vendor
        for index, other in matches.items()
    )
    return matched or added.get(device.description, backend) != backend


def _joined(accelerator: Accelerator, device: Device, backend: Backend) -> Accelerator:
    """Return the accelerator as the binary sees it; its total is what one process may use."""
    unnamed = accelerator.name.startswith("AMD GPU")
    return replace(
        accelerator,
        id=device.id,
        backend=backend,
        name=device.description if unnamed else accelerator.name,
        usable_bytes=device.total_bytes,
    )


def _only_known_to_binary(device: Device, backend: Backend, hardware: Hardware) -> Accelerator:
    memory: MemoryKind = "dedicated"
    if backend == "metal" and hardware.arch == "arm64":
        memory = "unified"
    elif backend != "rpc" and INTEGRATED.search(device.description):
        memory = "unified" if backend == "cuda" else "shared"
    return Accelerator(
        id=device.id,
        name=device.description,
        backend=backend,
        memory=memory,
        memory_bytes=hardware.ram_bytes if memory == "unified" else device.total_bytes,
        usable_bytes=device.total_bytes,
        driver=None,
    )


def _left_out(
    unmatched: tuple[Accelerator, ...], accelerators: tuple[Accelerator, ...], path: str
) -> tuple[str, ...]:
    if not unmatched:
        return ()
    names = ", ".join(a.name for a in unmatched)
    if not accelerators:
        cause = f"llama-server at {path} can use no accelerator, though this machine has {names}"
        return (f"{cause}: everything would run on the CPU, many times slower",)
    missed = tuple(a for a in unmatched if a.memory != "shared")
    return tuple(f"llama-server at {path} cannot use {a.name}, {a.id}" for a in missed)


def _why_none(hardware: Hardware, joined: Hardware) -> str:
    if hardware.accelerators:
        return joined.warnings[0]
    about = [warning for warning in hardware.warnings if "NVIDIA" in warning]
    return "; ".join(about) or "no accelerator was found in this machine"


def _named(have: tuple[Accelerator, ...], names: tuple[str, ...]) -> tuple[Accelerator, ...]:
    for name in names:
        if not any(_is(a, name) for a in have):
            usable_names = ", ".join(f"{a.id} ({a.name})" for a in have) or "none"
            raise SettingsError(
                f"cannot use device {name!r}: there is no such accelerator",
                hint=f"usable here: {usable_names}",
            )
    return tuple(a for a in have if any(_is(a, name) for name in names))


def _is(accelerator: Accelerator, name: str) -> bool:
    """Say whether ``name`` means this one: its id, else a part of its name, letter case aside."""
    low = name.strip().lower()
    return low == accelerator.id.lower() or (len(low) > 2 and low in accelerator.name.lower())


def _without_idle(hardware: Hardware) -> tuple[Accelerator, ...]:
    others = tuple(a for a in hardware.accelerators if a.memory != "shared")
    return others or hardware.accelerators


def _vendor(backend: Backend, name: str) -> str | None:
    """Return the maker: known from the backend, else (Vulkan) from the name. A remote device has none."""
    if backend == "rpc":
        return None
    text = name.lower()
    by_name = {
        "nvidia": "nvidia",
        "geforce": "nvidia",
        "amd": "amd",
        "radeon": "amd",
        "intel": "intel",
        "apple": "apple",
    }
    return VENDORS.get(backend) or next((vendor for word, vendor in by_name.items() if word in text), None)


def _same_name(device: Device, accelerator: Accelerator) -> bool:
    one, other = device.description.lower(), accelerator.name.lower()
    return one in other or other in one
