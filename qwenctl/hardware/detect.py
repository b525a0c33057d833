"""Say what this machine is. Reads only.

Static facts, so that a plan does not change with the programs that run right now.

The one order of probes:

1. macOS: ``sysctl`` says all (processor, RAM, Metal's working set).
2. Linux, WSL2 and containers too: processor from psutil and /proc/cpuinfo; RAM from psutil, capped by the
   smallest cgroup limit.
3. NVIDIA through NVML, narrowed by CUDA_VISIBLE_DEVICES; a GPU on the PCI bus without a driver is a warning.
4. AMD through sysfs, in the order of the cards.
5. Intel, remote and other devices are known to the server's binary alone: ``devices.usable`` adds them.
6. What decides which build of the server runs here: the C library, Vulkan, ROCm, WSL (``system_facts``).

A probe that fails leaves a warning or nothing. The other probes run all the same.
"""

import os
import platform
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from qwenctl.errors import DetectionError
from qwenctl.hardware import amd, apple, linux, macos, nvidia
from qwenctl.hardware.facts import Accelerator, Cpu, Hardware, SystemFacts
from qwenctl.hardware.nvml import read_nvml
from qwenctl.hardware.system_facts import in_container, libc_version, read_system

LARGE_BITS = 64
SMALL = "a 32-bit program has 4 GiB at most, which no model here fits in: install the 64-bit system"
ELSEWHERE = "llama-server itself may run there: start it by hand"
MAX_TEXT_BYTES = 4 << 20
ARCHITECTURES: dict[str, Literal["x86_64", "arm64"]] = {
    "x86_64": "x86_64",
    "amd64": "x86_64",
    "arm64": "arm64",
    "aarch64": "arm64",
}
DRM, PCI = "/sys/class/drm", "/sys/bus/pci/devices"
KFD = "/sys/class/kfd/kfd/topology/nodes"
NOUVEAU = "/sys/module/nouveau"
NVIDIA_PCI_VENDOR = "0x10de"
PCI_DISPLAY_CLASS = "0x03"


@dataclass(frozen=True, slots=True)
class SystemProbe:
    """The ways to read the machine. A test passes one that reads captured files.

    ``read_text`` returns None where a file cannot be read, and each byte as one character (Latin-1), so that
    binary files survive. ``cores`` returns physical and logical cores.
    """

    system: Callable[[], tuple[str, str]]
    read_text: Callable[[str], str | None]
    list_dir: Callable[[str], tuple[str, ...]]
    nvml: Callable[[], nvidia.Nvml]
    sysctl: Callable[[tuple[str, ...]], str]
    ram_bytes: Callable[[], int]
    cores: Callable[[], tuple[int, int]]
    environ: Mapping[str, str]
    libc: Callable[[], str | None] = lambda: None
    macos: Callable[[], str | None] = lambda: None
    bits: Callable[[], int] = lambda: LARGE_BITS

    @staticmethod
    def real() -> "SystemProbe":
        """Return the probe of this machine."""
        return SystemProbe(
            system=lambda: (platform.system(), platform.machine()),
            read_text=_read_text,
            list_dir=_list_dir,
            nvml=read_nvml,
            sysctl=_sysctl,
            ram_bytes=lambda: psutil.virtual_memory().total,
            cores=_cores,
            environ=os.environ,
            libc=libc_version,
            macos=lambda: platform.mac_ver()[0] or None,
            bits=lambda: sys.maxsize.bit_length() + 1,
        )


def detect(probe: SystemProbe) -> Hardware:
    """Return the machine.

    Raises:
        DetectionError: the system or the processor is one qwenctl does not run on, or RAM is unknown.
    """
    system, machine = probe.system()
    if system not in ("Darwin", "Linux"):
        raise DetectionError(
            f"cannot detect hardware: {system or 'this system'} is neither Linux nor macOS",
            hint=_other_system(system),
        )
    arch = ARCHITECTURES.get(machine.lower())
    if arch is None:
        hint = SMALL if re.match(r"arm|i[3-6]86|mips|ppc$|riscv32", machine.lower()) else ELSEWHERE
        message = f"cannot detect hardware: processor {machine!r} is neither x86_64 nor arm64"
        raise DetectionError(message, hint=hint)
    if probe.bits() < LARGE_BITS:
        message = f"cannot detect hardware: this is a {probe.bits()}-bit system on a 64-bit processor"
        raise DetectionError(message, hint=SMALL)
    return _detect_darwin(probe, arch) if system == "Darwin" else _detect_linux(probe, arch)


def _other_system(system: str) -> str:
    if system == "Android":
        return (
            "on Android, run qwenctl in a Linux inside Termux: pkg install proot-distro, then proot-distro "
            "install debian, and proot-distro login debian"
        )
    if system == "Windows" or system.startswith(("CYGWIN", "MINGW", "MSYS")):
        return "on Windows, run qwenctl inside WSL2"
    return "run qwenctl in a Linux on this machine, and llama-server beside it"


def _detect_darwin(probe: SystemProbe, arch: Literal["x86_64", "arm64"]) -> Hardware:
    values = apple.parse_sysctl(probe.sysctl(apple.KEYS))
    ram = apple.ram_bytes(values)
    if ram is None:
        raise DetectionError("cannot detect hardware: sysctl hw.memsize printed nothing")
    return Hardware(
        os="darwin",
        arch="arm64" if apple.is_apple_silicon(values) else arch,
        machine=values.get("hw.model") or None,
        cpu=apple.cpu(values),
        ram_bytes=ram,
        accelerators=apple.accelerators(values),
        system=SystemFacts(macos=probe.macos()),
    )


def _detect_linux(probe: SystemProbe, arch: Literal["x86_64", "arm64"]) -> Hardware:
    ram, ram_warnings = _ram(probe)
    nvidia_gpus, nvidia_warnings = _nvidia(probe, ram)
    physical, logical = probe.cores()
    return Hardware(
        os="linux",
        arch=arch,
        machine=linux.machine_name(
            probe.read_text("/proc/device-tree/model"), probe.read_text("/sys/class/dmi/id/product_name")
        ),
        cpu=Cpu(linux.cpu_model(probe.read_text("/proc/cpuinfo") or ""), physical, None, logical),
        ram_bytes=ram,
        accelerators=nvidia_gpus + _amd(probe),
        warnings=ram_warnings + nvidia_warnings,
        system=read_system(probe.read_text, probe.list_dir, probe.libc()),
    )


def _ram(probe: SystemProbe) -> tuple[int, tuple[str, ...]]:
    total = probe.ram_bytes()
    groups = probe.read_text("/proc/self/cgroup") or ""
    files = linux.limit_files(groups, probe.read_text("/proc/self/mountinfo") or "")
    limit = linux.smallest_limit_bytes(probe.read_text(file) for file in files)
    if limit is None or not 0 < limit < total:
        return total, ()
    gib, of_gib = limit / 2**30, total / 2**30
    return limit, (f"a cgroup limits this process to {gib:.1f} GiB of {of_gib:.1f} GiB RAM",)


def _nvidia(probe: SystemProbe, ram_bytes: int) -> tuple[tuple[Accelerator, ...], tuple[str, ...]]:
    nvml = probe.nvml()
    gpus, warnings = nvidia.accelerators(nvml, ram_bytes, probe.environ.get("CUDA_VISIBLE_DEVICES"))
    nouveau = bool(probe.list_dir(NOUVEAU))
    said = nvidia.unanswered(nvml, container=in_container(probe.read_text, probe.list_dir), nouveau=nouveau)
    if said is not None and _has_nvidia_on_pci(probe):
        warnings += (said,)
    return gpus, warnings


def _has_nvidia_on_pci(probe: SystemProbe) -> bool:
    for device in probe.list_dir(PCI):
        kind = probe.read_text(f"{PCI}/{device}/class") or ""
        if kind.startswith(PCI_DISPLAY_CLASS):
            vendor = probe.read_text(f"{PCI}/{device}/vendor") or ""
            if vendor.strip() == NVIDIA_PCI_VENDOR:
                return True
    return False


def _amd(probe: SystemProbe) -> tuple[Accelerator, ...]:
    names = (name for name in probe.list_dir(DRM) if re.fullmatch(r"card\d+", name))
    nodes = (probe.read_text(f"{KFD}/{node}/properties") for node in probe.list_dir(KFD))
    targets = amd.gfx_targets([text for text in nodes if text])
    cards = []
    for name in sorted(names, key=lambda name: int(name.removeprefix("card"))):
        texts = ((file, probe.read_text(f"{DRM}/{name}/device/{file}")) for file in amd.FILES)
        card = {file: text for file, text in texts if text is not None}
        drawn = [targets[each] for each in probe.list_dir(f"{DRM}/{name}/device/drm") if each in targets]
        cards.append(card | ({amd.TARGET: drawn[0]} if drawn else {}))
    driver = probe.read_text("/sys/module/amdgpu/version")
    return amd.accelerators(cards, driver.strip() if driver else None)


def _read_text(path: str) -> str | None:
    try:
        with Path(path).open("rb") as file:
            return file.read(MAX_TEXT_BYTES).decode("latin-1")
    except OSError:
        return None


def _list_dir(path: str) -> tuple[str, ...]:
    try:
        return tuple(sorted(entry.name for entry in Path(path).iterdir()))
    except OSError:
        return ()


def _sysctl(keys: tuple[str, ...]) -> str:
    said = macos.read_sysctl(keys)
    if said is None:
        raise DetectionError(f"cannot detect hardware: {macos.SYSCTL} does not answer")
    return said


def _cores() -> tuple[int, int]:
    logical = psutil.cpu_count() or 1
    return psutil.cpu_count(logical=False) or logical, logical
