"""Read what decides which build of a program runs on this Linux. Reads files only; a missing one is no error.

Nothing is loaded and no program is run: a broken driver must not end the one who asks.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path

from qwenctl.hardware.facts import PciGpu, SystemFacts

ReadText = Callable[[str], str | None]
ListDir = Callable[[str], tuple[str, ...]]

LIBRARIES = (
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/usr/local/lib",
    "/opt/rocm/lib",
    "/run/opengl-driver/lib",
)
"""Where distributions keep libraries: Debian and Ubuntu, Fedora and SUSE, Arch, by hand, AMD, NixOS."""
ICDS = ("/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d", "/run/opengl-driver/share/vulkan/icd.d")
"""Where Vulkan's loader looks for drivers. Source: Vulkan-Loader, docs/LoaderDriverInterface.md."""
SOFTWARE_ICD = re.compile(r"lvp|lavapipe|swiftshader", re.IGNORECASE)
"""Drivers that compute on the processor, so that they are none worth having."""
DIRECT3D_ICD = re.compile(r"dzn", re.IGNORECASE)
"""Mesa's driver on top of Direct3D 12: the only one inside WSL."""
PCI = "/sys/bus/pci/devices"
PCI_DISPLAY_CLASS = "0x03"
VENDORS = {"0x10de": "nvidia", "0x1002": "amd", "0x8086": "intel"}
INTEL_INTEGRATED = "0000:00:02.0"
"""The place of the GPU of Intel's processors. Source: Linux, drivers/gpu/drm/xe/xe_pci.c and intel-gtt.c."""


def libc_version() -> str | None:
    """Return the C library of this Python: ``glibc 2.36``, ``musl``, or None where neither is recognised."""
    try:
        version = os.confstr("CS_GNU_LIBC_VERSION")
    except (ValueError, OSError):
        version = None
    return version or ("musl" if any(Path("/lib").glob("ld-musl-*")) else None)


def read_system(read_text: ReadText, list_dir: ListDir, libc: str | None) -> SystemFacts:
    """Return the facts of this Linux."""
    kernel = (read_text("/proc/version") or "").lower()
    libraries = {name for folder in LIBRARIES for name in list_dir(folder)}
    icds = [name for folder in ICDS for name in list_dir(folder) if name.endswith(".json")]
    drivers = [name for name in icds if not SOFTWARE_ICD.search(name) and not DIRECT3D_ICD.search(name)]
    return SystemFacts(
        libc=libc,
        wsl="microsoft" in kernel,
        container=in_container(read_text, list_dir),
        vulkan="libvulkan.so.1" in libraries and bool(drivers),
        rocm=_rocm(read_text, libraries),
        oneapi=_oneapi(list_dir, libraries),
        pci_gpus=_pci_gpus(read_text, list_dir),
    )


def in_container(read_text: ReadText, list_dir: ListDir) -> bool:
    """Say whether this is a container.

    Source: docker and podman write these files; systemd.io/CONTAINER_INTERFACE, ``container=``.
    """
    return (
        ".dockerenv" in list_dir("/")
        or ".containerenv" in list_dir("/run")
        or read_text("/run/systemd/container") is not None
    )


def _rocm(read_text: ReadText, libraries: set[str]) -> str | None:
    """Return the version of ROCm: of AMD's packages, else the number of the distribution's HIP library."""
    text = (read_text("/opt/rocm/.info/version") or "").strip()
    if match := re.match(r"\d+(\.\d+)*", text):
        return match[0]
    found = (re.fullmatch(r"libamdhip64\.so\.(\d+)", name) for name in libraries)
    return max((match[1] for match in found if match), key=int, default=None)


def _oneapi(list_dir: ListDir, libraries: set[str]) -> str | None:
    """Return the version of Intel's oneAPI runtime, else the number of SYCL's library."""
    versions = [name for name in list_dir("/opt/intel/oneapi/compiler") if re.fullmatch(r"\d+(\.\d+)+", name)]
    found = (re.fullmatch(r"libsycl\.so\.(\d+)", name) for name in libraries)
    numbers = [match[1] for match in found if match]
    return max(versions or numbers, key=lambda text: [int(part) for part in text.split(".")], default=None)


def _pci_gpus(read_text: ReadText, list_dir: ListDir) -> tuple[PciGpu, ...]:
    gpus: list[PciGpu] = []
    for address in list_dir(PCI):
        if not (read_text(f"{PCI}/{address}/class") or "").startswith(PCI_DISPLAY_CLASS):
            continue
        vendor = VENDORS.get((read_text(f"{PCI}/{address}/vendor") or "").strip())
        if vendor is not None:
            device = (read_text(f"{PCI}/{address}/device") or "").strip()
            gpus.append(PciGpu(vendor, device, address == INTEL_INTEGRATED if vendor == "intel" else None))
    return tuple(gpus)
