"""Judge what doctor looks at on a Mac only. Pure: no I/O."""

import shlex
from collections.abc import Iterable, Iterator

from qwenctl.hardware.apple import CRITICAL, WARNING, MemoryPressure
from qwenctl.hardware.facts import Accelerator
from qwenctl.service.diagnosis import Check
from qwenctl.service.local_network import notes_of_rpc

GIB = 1 << 30
MIB = 1 << 20
PRESSURE_AT = "sysctl kern.memorystatus_vm_pressure_level"
LIMIT_AT = "sysctl iogpu.wired_limit_mb"
CLOSE_OTHERS = "close other programs (Activity Monitor, Memory), or choose a smaller quant"


def memory_pressure(pressure: MemoryPressure | None) -> Check:
    """Judge how short of memory macOS is.

    Its swap says nothing: it grows and shrinks on demand, and a healthy Mac uses it.
    """
    if pressure is None:
        return Check("memory pressure", PRESSURE_AT, "macOS does not say")
    if pressure.level >= CRITICAL:
        found = f"{pressure.words}: no server starts until macOS has memory again"
        return Check("memory pressure", PRESSURE_AT, found, "problem", CLOSE_OTHERS)
    if pressure.level >= WARNING:
        return Check("memory pressure", PRESSURE_AT, pressure.words, "note", CLOSE_OTHERS)
    return Check("memory pressure", PRESSURE_AT, pressure.words)


def metal_limit(gpu: Accelerator, ram_bytes: int, most_bytes: int, kept_mib: int | None = None) -> Check:
    """Judge how much memory Metal may use. ``most_bytes`` is what leaves enough to macOS and other programs.

    ``gpu`` is as sysctl shows it: its limit is that of its owner, or macOS' own. ``kept_mib``: the limit that
    is to be set at each boot.
    """
    limit, of_ram = gpu.wired_limit_bytes, f"of {ram_bytes / GIB:.0f} GiB"
    if kept_mib is not None and kept_mib != (limit or 0) // MIB:
        now = f"{limit // MIB} MiB" if limit else "macOS' own"
        found = f"{now}, but {kept_mib} MiB were to be set at the boot"
        return Check(
            "metal limit", LIMIT_AT, found, "problem", f"sudo qwenctl service wired-limit {kept_mib}"
        )
    if limit is None:
        own = f"macOS' own: about {(gpu.usable_bytes or 0) / GIB:.1f} {of_ram}"
        return Check("metal limit", LIMIT_AT, own)
    found = f"set to {limit / GIB:.1f} {of_ram}"
    if limit > most_bytes:
        cure = f"sudo sysctl iogpu.wired_limit_mb={most_bytes // MIB}"
        found += "; with so little left, macOS may freeze once a model fills it"
        return Check("metal limit", LIMIT_AT, found, "problem", cure)
    if kept_mib is None:
        found += "; macOS forgets it at its next start"
        cure = f"sudo qwenctl service wired-limit {limit // MIB}"
        return Check("metal limit", LIMIT_AT, found, "note", cure)
    return Check("metal limit", LIMIT_AT, f"{found}, at each boot, too")


def quarantine(path: str, folder: str, *, marked: bool) -> Check:
    """Judge whether Gatekeeper stands in the way of the server's program."""
    looked = f"xattr {path}"
    if not marked:
        return Check("quarantine", looked, "not marked as downloaded")
    found = "marked as downloaded: macOS may end it at its start, or ask on the screen"
    return Check(
        "quarantine", looked, found, "problem", f"xattr -dr com.apple.quarantine {shlex.quote(folder)}"
    )


def local_network(workers: Iterable[str]) -> Iterator[Check]:
    """Say of workers on other machines that macOS may be in their way. It tells no program whether it is."""
    for note in notes_of_rpc(workers):
        found, _, cure = note.rpartition(". ")
        yield Check("local network", "[server] rpc", found, "note", cure)


def low_power_mode(*, on: bool | None) -> Check:
    """Judge whether the chip is slowed down to save power."""
    if not on:
        return Check("low power mode", "pmset -g", "macOS does not say" if on is None else "off")
    cure = "System Settings, Battery (on a desktop: Energy), Low Power Mode: Never"
    return Check("low power mode", "pmset -g", "on: the chip is slower, and so are answers", "note", cure)
