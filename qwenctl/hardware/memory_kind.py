"""Say of a device that only the binary knows whether its memory is its own, by its name. Pure: no I/O.

Only what is known to be a card has memory of its own. Everything else shares the RAM: a GPU of a processor
that counted as a card would have the same memory planned twice.
"""

import re

from qwenctl.hardware.device_list import MIB
from qwenctl.hardware.facts import Backend, Device, MemoryKind

NVIDIA_SHARED = re.compile(
    r"\bGB10\b|\bN1X\b|\bOrin\b|\bThor\b|\bXavier\b|\bTegra\b|\bnvgpu\b|\bJetson\b", re.IGNORECASE
)
"""NVIDIA's without memory of their own."""
NVIDIA = re.compile(r"NVIDIA|GeForce|Quadro|\bRTX\b|\bTesla\b|\bGRID\b|\bTITAN\b", re.IGNORECASE)
AMD_APU = re.compile(
    r"\bRadeon(?:\(TM\))? \d{3}M\b|\bRadeon(?:\(TM\))? 80[456]0S\b|\bVega (?:3|[6-9]|1[01])\b(?! Frontier)"
    r"|RADV (?:RAVEN2?|RENOIR|PICASSO|CEZANNE|LUCIENNE|BARCELO|VANGOGH|REMBRANDT|PHOENIX\d?|RAPHAEL|MENDOCINO"
    r"|STRIX|KRACKAN|GFX115\d|GFX1103|GFX1036|GFX1035)",
    re.IGNORECASE,
)
"""GPUs of AMD's processors. Source: Mesa, src/amd/common/amd_family.c and ac_gpu_info.c."""
AMD_CARD = re.compile(
    r"\bRadeon(?: ?\(TM\))? (?:RX|PRO|AI PRO|VII|R[579])\b|\bInstinct\b|\bMI\d{2,3}[AX]?\b|\bFirePro\b"
    r"|\bRX \d{3,4}\b|\bRX Vega\b|\bVega (?:56|64|Frontier|20|16|12)\b|\bRadeon Pro \w+",
    re.IGNORECASE,
)
AMD_UNNAMED = re.compile(r"^AMD Radeon(?:\(TM\))? Graphics\b", re.IGNORECASE)
"""What ROCm calls GPUs of processors, and Instinct MI50 cards, too."""
AMD_CARD_REMAINDER_BYTES = 1008 * MIB
"""Cards of AMD keep 16 MiB of their memory: 8176, 16368, 24560 and 32752 MiB are left of whole GiB.

A processor's carve-out is whole, and its share of the RAM has no such remainder. Source: lists of devices in
reports: RX 7900 GRE and RX 6900 XT 16368, RX 7900 XTX 24560, MI50 32752.
"""
INTEL_CARD = re.compile(
    r"\bArc\b.*\b(?:Pro )?(?:A[3-7]\d0?M?|A[3456]0M?|B[57]\d0|B[5-7][05])\b"
    r"|\b(?:DG1|DG2|BMG|ATS-M|PVC)\b|\bFlex\b|\bGPU Max\b|\bIris\(R\) Xe MAX\b",
    re.IGNORECASE,
)
"""Arc A310 to A770, Pro A30M to A60, B570 to B770, Pro B50 to B70. B370 and B390 are parts of a processor.

Source: Mesa, include/pci_ids/iris_pci_ids.h; Intel, product pages of Arc.
"""
OTHER_CARD = re.compile(r"\bMTT S\d+\b", re.IGNORECASE)
"""Moore Threads' cards through Vulkan."""
AROUND = re.compile(r"^(?:Microsoft Direct3D12|Virtio-GPU Venus) \((?P<name>.+)\)$", re.IGNORECASE)
"""Drivers that pass a GPU on, and put its own name in brackets."""


def memory_kind(device: Device, backend: Backend, *, apple_silicon: bool) -> MemoryKind:
    """Return whether the memory is the device's own, all RAM (one budget), or RAM that the driver lends."""
    if backend == "rpc":
        return "dedicated"  # another machine's
    if backend == "metal" and apple_silicon:
        return "unified"
    if backend == "cuda":
        return "unified" if NVIDIA_SHARED.search(device.description) else "dedicated"
    return "dedicated" if _is_card(device) else "shared"


def _is_card(device: Device) -> bool:
    name = device.description
    if NVIDIA.search(name):
        return not NVIDIA_SHARED.search(name)
    if AMD_APU.search(name):
        return False
    if AMD_UNNAMED.search(name):
        return device.total_bytes % (1024 * MIB) == AMD_CARD_REMAINDER_BYTES
    return any(made.search(name) for made in (AMD_CARD, INTEL_CARD, OTHER_CARD))


def bare_name(description: str) -> str:
    """Return a name as it can be compared: each backend writes brackets and letter case in its own way."""
    around = AROUND.match(description.strip())
    name = (around["name"] if around else description).lower()
    name = re.sub(r"\((?:r|tm|c)\)|[®™]", "", name)
    while (shorter := re.sub(r"\s*\([^()]*\)\s*$", "", name)) != name and shorter:
        name = shorter
    return " ".join(name.split())


def vendor_of(backend: Backend, name: str) -> str | None:
    """Return the maker: known from the backend, else (Vulkan) from the name. A remote device has none."""
    if backend == "rpc":
        return None
    if backend in VENDORS:
        return VENDORS[backend]
    text = name.lower()
    return next((vendor for word, vendor in VENDOR_WORDS.items() if word in text), None)


VENDORS: dict[Backend, str] = {"cuda": "nvidia", "rocm": "amd", "metal": "apple"}
VENDOR_WORDS = {
    "nvidia": "nvidia",
    "geforce": "nvidia",
    "amd": "amd",
    "radeon": "amd",
    "intel": "intel",
    "apple": "apple",
}
