"""Join what the machine has with what a binary lists. Pure: no I/O.

A device keeps the facts that detection knows of it; one that only the binary knows is added. What is there
and cannot be used, and what is listed and not understood, is a warning.
"""

import re
from dataclasses import replace

from qwenctl.hardware.device_list import SOFTWARE, backend_of, goes_away, takes_layers
from qwenctl.hardware.facts import Accelerator, Backend, Device, Hardware, ServerFacts
from qwenctl.hardware.memory_kind import AMD_UNNAMED, bare_name, memory_kind, vendor_of
from qwenctl.hardware.nvidia import FROM_A_CONTAINER, NOT_ANSWERED

FROM_A_CONTAINER_AMD = "start the container with --device /dev/kfd --device /dev/dri"
"""Source: AMD, "Running ROCm Docker containers"; Intel's need /dev/dri alone."""
FAST_SHARED = re.compile(r"\b0x1586\b|\bRadeon(\(TM\))? 80[56]0S")
"""Strix Halo: 256 GB/s, which the processor alone cannot use.

Source: AMD's data sheet of the Ryzen AI Max; its PCI id in the kernel's amdgpu driver.
"""
SAME_MEMORY = 0.8
"""One card has up to a tenth more memory under Vulkan than under SYCL: so much less may it be."""
SMALL_BYTES = 2 << 30
"""A card up to this size holds no model that the RAM would not serve as well."""


def join(hardware: Hardware, server: ServerFacts) -> Hardware:
    """Return the machine with the accelerators ``server`` can use, in its order and under its ids.

    A device seen through two backends counts once, as the first names it. Source: llama.cpp, src/llama.cpp,
    ``llama_model_load``, which skips a device whose PCI id it has; not every backend knows that id.
    """
    matches: dict[int, Backend] = {}
    added: list[tuple[Device, Backend]] = []
    accelerators: list[Accelerator] = []
    for device in server.devices:
        backend = backend_of(device)
        if backend is None:
            continue
        index = _match(device, backend, hardware.accelerators, matches)
        if index is not None:
            matches[index] = backend
            accelerators.append(_joined(hardware.accelerators[index], device, backend, hardware.ram_bytes))
        elif not _seen_before(device, backend, hardware, matches, added):
            added.append((device, backend))
            accelerators.append(_only_known_to_binary(device, backend, hardware))
    unmatched = tuple(a for index, a in enumerate(hardware.accelerators) if index not in matches)
    contained = hardware.system is not None and hardware.system.container
    warnings = _left_out(unmatched, tuple(accelerators), server, contained=contained)
    warnings += _not_understood(server, accelerators)
    nvidia = any(vendor_of(one.backend, one.name) == "nvidia" for one in accelerators)
    kept = tuple(text for text in hardware.warnings if not (nvidia and text.startswith(NOT_ANSWERED)))
    unanswered = tuple(text for text in kept if text.startswith(NOT_ANSWERED))
    missed = tuple(each for each in unmatched if is_worth(each))
    away = _left_out(missed, tuple(accelerators), server, contained=contained) + unanswered
    return replace(
        hardware,
        accelerators=tuple(accelerators),
        warnings=warnings + kept,
        away=away,
        no_device=server.reason,
    )


def _match(
    device: Device, backend: Backend, have: tuple[Accelerator, ...], matches: dict[int, Backend]
) -> int | None:
    """Return the accelerator that ``device`` is: same maker, by name, else by the nearest size."""
    vendor = vendor_of(backend, device.description)
    free = [
        index
        for index, a in enumerate(have)
        if index not in matches and vendor_of(a.backend, a.name) == vendor
    ]
    if vendor is None or not free:
        return None
    if any(other != backend and _same_name(device, have[index]) for index, other in matches.items()):
        return None
    return min(
        free,
        key=lambda index: (
            bare_name(device.description) != bare_name(have[index].name),
            not _same_name(device, have[index]),
            abs(device.total_bytes - (have[index].memory_bytes or 0)),
        ),
    )


def _seen_before(
    device: Device,
    backend: Backend,
    hardware: Hardware,
    matches: dict[int, Backend],
    added: list[tuple[Device, Backend]],
) -> bool:
    """Say whether another backend has listed this device already."""
    vendor, have = vendor_of(backend, device.description), hardware.accelerators
    matched = any(
        other != backend and vendor is not None and vendor_of(have[index].backend, have[index].name) == vendor
        for index, other in matches.items()
    )
    return matched or any(
        other != backend and _is_same_device(device, backend, before, other, hardware)
        for before, other in added
    )


def _is_same_device(
    device: Device, backend: Backend, before: Device, other: Backend, hardware: Hardware
) -> bool:
    """Say whether two backends mean one device.

    It has the same name and about the same memory; or both share the RAM, and a processor has one GPU. ROCm
    leaves some cards unnamed, which Vulkan names.
    """
    vendor = vendor_of(backend, device.description)
    if vendor != vendor_of(other, before.description) or "rpc" in (backend, other):
        return False
    silicon = _is_apple_silicon(hardware)
    kinds = {
        memory_kind(device, backend, apple_silicon=silicon),
        memory_kind(before, other, apple_silicon=silicon),
    }
    if vendor is not None and kinds <= {"shared", "unified"}:
        return True
    unnamed = any(AMD_UNNAMED.search(each.description) for each in (device, before))
    same_name = bare_name(device.description) == bare_name(before.description)
    much, less = sorted((device.total_bytes, before.total_bytes), reverse=True)
    return len(kinds) == 1 and (same_name or unnamed) and less >= much * SAME_MEMORY


def _joined(accelerator: Accelerator, device: Device, backend: Backend, ram_bytes: int) -> Accelerator:
    """Return the accelerator as the binary sees it; its total is what one process may use."""
    unnamed = accelerator.name.startswith("AMD GPU")
    total = device.total_bytes
    return replace(
        accelerator,
        id=device.id,
        backend=backend,
        name=device.description if unnamed else accelerator.name,
        usable_bytes=min(total, ram_bytes) if accelerator.memory == "shared" else total,
    )


def _only_known_to_binary(device: Device, backend: Backend, hardware: Hardware) -> Accelerator:
    memory = memory_kind(device, backend, apple_silicon=_is_apple_silicon(hardware))
    usable_bytes = device.total_bytes
    if memory == "shared":  # some drivers name more than there is
        usable_bytes = min(usable_bytes, hardware.ram_bytes)
    return Accelerator(
        id=device.id,
        name=device.description,
        backend=backend,
        memory=memory,
        memory_bytes=hardware.ram_bytes if memory == "unified" else usable_bytes,
        usable_bytes=usable_bytes,
        driver=None,
    )


def _is_apple_silicon(hardware: Hardware) -> bool:
    return hardware.os == "darwin" and hardware.arch == "arm64"


def _left_out(
    unmatched: tuple[Accelerator, ...],
    accelerators: tuple[Accelerator, ...],
    server: ServerFacts,
    *,
    contained: bool,
) -> tuple[str, ...]:
    if not unmatched:
        return ()
    names = ", ".join(a.name for a in unmatched)
    if not accelerators and server.reason is not None:
        when = "now: its driver does not answer yet" if goes_away(server.reason) else "here"
        said = f"llama-server at {server.path} cannot use {names} {when} ({server.reason})"
        vendors = {vendor_of(a.backend, a.name) for a in unmatched}
        way = f"; {FROM_A_CONTAINER if 'nvidia' in vendors else FROM_A_CONTAINER_AMD}" if contained else ""
        return (f"{said}: everything would run on the CPU, many times slower{way}",)
    if not accelerators:
        cause = f"llama-server at {server.path} can use no accelerator, though this machine has {names}"
        return (f"{cause}: everything would run on the CPU, many times slower",)
    missed = tuple(a for a in unmatched if a.memory != "shared")
    return tuple(f"llama-server at {server.path} cannot use {a.name}, {a.id}" for a in missed)


def _not_understood(server: ServerFacts, accelerators: list[Accelerator]) -> tuple[str, ...]:
    """Return a warning for each listed device that is none we plan for, unless another backend has it."""
    used = {bare_name(each.name) for each in accelerators}
    return tuple(
        f"llama-server at {server.path} lists {device.id} ({device.description}), which qwenctl "
        f"{'sees no memory of' if device.total_bytes == 0 else 'cannot plan for'}: it is left out"
        for device in server.devices
        if backend_of(device) is None
        and takes_layers(device)
        and not SOFTWARE.search(device.description)
        and bare_name(device.description) not in used
    )


def is_worth(accelerator: Accelerator) -> bool:
    """Say whether a model should not run on the processor while this one is idle."""
    if accelerator.memory == "shared":
        return bool(FAST_SHARED.search(accelerator.name))
    return accelerator.memory_bytes is None or accelerator.memory_bytes > SMALL_BYTES


def _same_name(device: Device, accelerator: Accelerator) -> bool:
    one, other = bare_name(device.description), bare_name(accelerator.name)
    return one in other or other in one
