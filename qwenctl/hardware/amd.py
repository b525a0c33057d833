"""Turn the amdgpu driver's files in sysfs into accelerators. Pure: no I/O; detect.py reads the files."""

from collections.abc import Mapping, Sequence

from qwenctl.hardware.facts import Accelerator

FILES = ("vendor", "device", "product_name", "mem_info_vram_total", "mem_info_gtt_total", "gpu_metrics")
TARGET = "gfx_target"
"""The key of a card's compute target, which no file of the card has: the driver's topology names it."""
"""The files that are read in ``/sys/class/drm/cardN/device/``.

Source: Linux, Documentation/gpu/amdgpu/driver-misc.rst and thermal.rst.
"""
VENDOR = "0x1002"
SMALL_VRAM_BYTES = 2 << 30
"""Carve-outs of APUs older than ``gpu_metrics`` (before Renoir) are 512 MiB to 2 GiB; no card worth planning
for is that small."""
APU_METRICS = ("\x02", "\x03")
"""Format revisions of ``gpu_metrics`` that APUs write; cards write 1.

Source: Linux, drivers/gpu/drm/amd/include/kgd_pp_interface.h, struct metrics_table_header (16-bit size,
format revision, content revision) and gpu_metrics_v1_x to v3_x.
"""


def accelerators(cards: Sequence[Mapping[str, str]], driver: str | None) -> tuple[Accelerator, ...]:
    """Return the GPUs among ``cards``, each a file's name -> text, in the order of the cards.

    A card's capacity is its video memory. An APU's is carve-out and GTT together: both are the machine's
    RAM. An APU whose carve-out is the larger part is used like a card: that memory is no longer RAM to Linux.
    """
    gpus: list[Accelerator] = []
    for card in cards:
        vram, gtt = _bytes(card, "mem_info_vram_total"), _bytes(card, "mem_info_gtt_total") or 0
        if card.get("vendor", "").strip() != VENDOR or vram is None:
            continue
        shared = _is_apu(card, vram) and gtt > vram
        capacity = vram + gtt if shared else vram
        gpus.append(
            Accelerator(
                id=f"ROCm{len(gpus)}",
                name=_name(card),
                backend="rocm",
                memory="shared" if shared else "dedicated",
                memory_bytes=capacity,
                usable_bytes=capacity,
                driver=driver,
                architecture=card.get(TARGET),
            )
        )
    return tuple(gpus)


def gfx_targets(nodes: Sequence[str]) -> dict[str, str]:
    """Return the compute target of each render node (``renderD128``) that the driver's topology lists.

    ``nodes`` are the texts of ``/sys/class/kfd/kfd/topology/nodes/N/properties``. A processor's node has the
    version 0. Major, minor and step are two decimal digits each; the target's name has the last two in hex.

    Source: Linux, drivers/gpu/drm/amd/amdkfd/kfd_topology.c and kfd_device.c (90010 is gfx90a).
    """
    targets: dict[str, str] = {}
    for node in nodes:
        fields = dict(line.split(" ", 1) for line in node.splitlines() if " " in line)
        version, minor = (fields.get(key, "").strip() for key in ("gfx_target_version", "drm_render_minor"))
        if version.isdecimal() and minor.isdecimal() and int(version) > 0:
            number = int(version)
            major, sub, step = number // 10_000, number // 100 % 100, number % 100
            targets[f"renderD{minor}"] = f"gfx{major}{sub:x}{step:x}"
    return targets


def _is_apu(card: Mapping[str, str], vram_bytes: int) -> bool:
    metrics = card.get("gpu_metrics", "")
    return metrics[2] in APU_METRICS if len(metrics) >= 4 else vram_bytes <= SMALL_VRAM_BYTES


def _name(card: Mapping[str, str]) -> str:
    """Return the product name; few cards have one; the PCI id is used until the binary names the card."""
    return card.get("product_name", "").strip() or f"AMD GPU {card.get('device', '').strip()}".strip()


def _bytes(card: Mapping[str, str], file: str) -> int | None:
    text = card.get(file, "").strip()
    return int(text) if text.isascii() and text.isdigit() else None
