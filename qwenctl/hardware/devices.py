"""Join what the machine has with what the server's binary can use. Pure: no I/O.

The binary's own ``--list-devices`` decides which devices will compute. Detection adds what it does not print:
the kind of memory, the driver, and devices that are present but cannot be used.
"""

from dataclasses import replace

from qwenctl.errors import NoFitError, SettingsError
from qwenctl.hardware.device_join import is_worth, join
from qwenctl.hardware.device_list import MIB, takes_layers
from qwenctl.hardware.facts import Accelerator, Hardware, ServerFacts
from qwenctl.settings.types import HardwareSettings as Choice

LEFT_IDLE = (
    '{} is not used: gpu = "off" in [hardware], or an earlier up --cpu, which is kept until up --reset'
)


def usable(hardware: Hardware, server: ServerFacts | None, choice: Choice) -> Hardware:
    """Return the machine as the planner may use it, with a warning for everything that is left out.

    1. ``gpu = "off"`` leaves none, and a card that is worth using is named.
    2. If there is a binary, keep only devices it can use, under its ids, and add those that only it lists.
    3. ``devices`` keeps the devices that it names.
    4. Otherwise drop integrated GPUs if there is any other: llama.cpp does not use them then.
    5. Whatever else the binary would put layers on is excluded by name.

    Raises:
        NoFitError: ``gpu = "required"`` and nothing is left.
        SettingsError: ``devices`` names a device that is not there.
    """
    if choice.gpu == "off":
        idle = tuple(LEFT_IDLE.format(each.name) for each in hardware.accelerators if is_worth(each))
        return replace(hardware, accelerators=(), warnings=(*hardware.warnings, *idle))
    joined = join(hardware, server) if server is not None else hardware
    if choice.gpu == "required" and not joined.accelerators:
        raise NoFitError(
            f"cannot use a GPU: {_why_none(hardware, joined)}",
            hint='install a llama-server built for it, or set gpu = "auto" in [hardware] to run on the CPU',
        )
    kept = _named(joined.accelerators, choice.devices) if choice.devices else _without_idle(joined)
    ids = {accelerator.id for accelerator in kept}
    listed = server.devices if server is not None else ()
    excluded = tuple(device.id for device in listed if takes_layers(device) and device.id not in ids)
    away = () if choice.devices else joined.away  # what is not named is not missed
    return replace(joined, accelerators=kept, excluded=excluded, away=away)


def unused_cards(hardware: Hardware, server: ServerFacts, choice: Choice) -> tuple[Accelerator, ...]:
    """Return the cards that are worth using, where the binary has a device on none of them.

    An integrated GPU is not: it shares the RAM and its bandwidth with the processor. A person who names the
    devices, or none, decides alone.
    """
    if choice.gpu == "off" or choice.devices:
        return ()
    usable_here = (*join(hardware, server).accelerators,)
    if any(is_worth(each) or each.backend == "rpc" for each in usable_here):
        return ()
    return tuple(each for each in hardware.accelerators if is_worth(each))


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
