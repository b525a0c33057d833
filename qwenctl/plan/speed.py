"""Say how fast a plan can be: a published figure for the class of machine, and an upper bound. Pure: no I/O.

Decoding reads every active weight once per token, so tokens per second are at most bandwidth / bytes read.
"""

from dataclasses import dataclass

from qwenctl.model.architecture import Architecture
from qwenctl.model.layers import layers
from qwenctl.model.profile import Profile, Quant, SpeedClaim
from qwenctl.plan.budget import Machine
from qwenctl.plan.memory import device_weights_bytes
from qwenctl.plan.memory.experts import expert_length


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens per second. ``bound`` is None where the bandwidth is unknown; ``high`` is None for "or more"."""

    low: float | None
    high: float | None
    source: str | None
    bound: float | None
    bandwidth_gb_s: float | None

    @property
    def doubtful(self) -> bool:
        """The published figure is above what the memory can deliver."""
        return self.low is not None and self.bound is not None and self.low > self.bound


GIB = 1 << 30
APPLE_GB_S: dict[str, float] = {
    "M1 Ultra": 800,
    "M1 Max": 400,
    "M1 Pro": 200,
    "M1": 68,
    "M2 Ultra": 800,
    "M2 Max": 400,
    "M2 Pro": 200,
    "M2": 100,
    "M3 Ultra": 819,
    "M3 Max": 400,
    "M3 Pro": 150,
    "M3": 100,
    "M4 Max": 546,
    "M4 Pro": 273,
    "M4": 120,
    "M5 Ultra": 1200,
    "M5 Max": 614,
    "M5 Pro": 307,
    "M5": 153,
    "M6": 170,
}
"""Memory bandwidth by chip, 10^9 bytes/s. Source: Apple's specifications, as several tables quote them.

M5 Pro and M5 Max: MacRumors, 2026-03-03, and Apple, Mac Studio and Mac mini, Technical Specifications. M5
Ultra and M6: the same pages of Apple, and its newsroom of 2026-08-25 as quoted in several reports.
"""

APPLE_FEWER_CORES_GB_S = {("M3 Max", 14): 300.0, ("M4 Max", 14): 410.0}
"""The smaller variants of two chips, by CPU cores. Source: as above."""

APPLE_LESS_MEMORY_GB_S = {"M5 Max": (36, 460.0), "M6": (16, 153.0)}
"""The slower variants of two chips, by the GiB of memory that only they are sold with.

Their CPU has as many cores. Source: Apple, Mac Studio, Technical Specifications: 36 GB with the GPU of 32
cores and 460 GB/s; 48 GB or more with that of 40 cores. M6: Apple, Mac mini, as a table quotes it.
"""

CARD_GB_S: dict[str, float] = {
    "RTX 5090": 1792,
    "RTX 4090": 1008,
    "RTX 4080 SUPER": 736,
    "RTX 4080": 717,
    "RTX 4070 Ti SUPER": 672,
    "RTX 4070 Ti": 504,
    "RTX 4070": 504,
    "RTX 4060 Ti": 288,
    "RTX 3090 Ti": 1008,
    "RTX 3090": 936,
    "RTX 3080 Ti": 912,
    "RTX 3080": 760,
    "RTX 3060": 360,
    "RTX 6000 Ada": 960,
    "RTX A6000": 768,
    "L40S": 864,
    "A100 80GB PCIe": 1935,
    "A100-SXM4-80GB": 2039,
    "A100": 1555,
    "A40": 696,
    "A10": 600,
    "V100": 900,
    "H100 PCIe": 2000,
    "H100": 3350,
    "H200": 4800,
    "RX 7900 XTX": 960,
}
"""Memory bandwidth by card, 10^9 bytes/s; the longest name that is a part of the card's name counts.

Source: the vendors' data sheets, as quoted in two or more tables (TechPowerUp; gpu-datasheet collections).
"""


def bandwidth_gb_s(name: str, physical_cores: int, memory_bytes: int | None = None) -> float | None:
    """Return the memory bandwidth of the accelerator of that name, in 10^9 bytes/s; None when unknown."""
    if name.startswith("Apple "):
        chip = name.removeprefix("Apple ")
        gib, slower = APPLE_LESS_MEMORY_GB_S.get(chip, (0, 0.0))
        if memory_bytes is not None and memory_bytes <= gib * GIB:
            return slower
        return APPLE_FEWER_CORES_GB_S.get((chip, physical_cores), APPLE_GB_S.get(chip))
    if "laptop" in name.lower():
        return None
    names = [card for card in CARD_GB_S if card.lower() in name.lower()]
    return CARD_GB_S[max(names, key=len)] if names else None


def bytes_per_token(model: Architecture, quant: Quant) -> int:
    """Return the weights read for one token: all of them, or the experts that are used."""
    weights = device_weights_bytes(model, quant)
    if not model.expert_count:
        return weights
    lengths = [expert_length(model, layer) for layer in layers(model) if layer.experts]
    per_expert = 3 * model.embedding_length * sum(lengths)
    idle = per_expert * (model.expert_count - model.expert_used_count)
    return weights - min(weights, int(idle * quant.bits_per_weight / 8))


def speed(machine: Machine, profile: Profile, quant: Quant, physical_cores: int) -> Speed:
    """Return the published figure for this class of machine, and the upper bound.

    Layers split over several cards work one after the other: the times add up, so the bound is that of the
    mean time per byte.
    """
    claim = _claim(machine, profile.speeds)
    bandwidths = [bandwidth_gb_s(one.name, physical_cores, one.memory_bytes) for one in machine.accelerators]
    known = [bandwidth for bandwidth in bandwidths if bandwidth is not None]
    bandwidth = bound = None
    if known and len(known) == len(bandwidths):
        total = sum(machine.usable)
        seconds_per_gb = sum(size / total / rate for size, rate in zip(machine.usable, known, strict=True))
        bandwidth = 1 / seconds_per_gb
        bound = bandwidth * 1e9 / bytes_per_token(profile.architecture, quant)
    return Speed(
        claim.low if claim else None,
        claim.high if claim else None,
        claim.source if claim else None,
        round(bound, 1) if bound else None,
        round(bandwidth, 1) if bandwidth else None,
    )


def _claim(machine: Machine, claims: tuple[SpeedClaim, ...]) -> SpeedClaim | None:
    capacity = machine.capacity_bytes
    for claim in claims:
        large = capacity >= claim.at_least_gb * 1e9
        small = claim.below_gb is None or capacity < claim.below_gb * 1e9
        if not (large and small):
            continue
        if machine.kind == "cpu":
            if not claim.chips:
                return claim
        elif (
            claim.chips
            and len(machine.accelerators) == claim.devices
            and all(any(chip in card.name for chip in claim.chips) for card in machine.accelerators)
        ):
            return claim
    return None
