"""Say how much of a machine a plan may use, and whether a need fits. Pure: no I/O. Bytes everywhere.

Numbers without a source are decisions of this project (docs/architecture.md), not facts of llama.cpp.
"""

from dataclasses import dataclass
from typing import Literal

from qwenctl.hardware.facts import Accelerator, Backend, Hardware
from qwenctl.plan.memory import MIB, DeviceNeed, Memory, MemorySource, Part

Verdict = Literal["fits", "tight", "no"]
Kind = Literal["dedicated", "unified", "shared", "cpu"]

MARGIN_BYTES = 1024 * MIB
"""Left free on each card. Source: llama.cpp, ``--fit-target`` default."""
CONTEXT_BYTES = 330 * MIB
"""What the driver takes on each card. Source: unslothai/unsloth#6718, a CUDA context; 309 to 331 MiB on four
cards with CUDA."""
ROCM_CONTEXT_BYTES = 1024 * MIB
"""The same for ROCm, unverified: 1,221 and 1,488 MiB on an MI355X (rocm-smi before and after a load, one
source), which margin and context together cover; no figure of a smaller card is known."""
WIRED_MARGIN_BYTES = 512 * MIB
"""Left free under a raised Metal limit."""
MAPPED_MARGIN_BYTES = 256 * MIB
"""So much of that may be the input's pages, which Metal maps and never reads."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What a plan may use: devices in llama.cpp's order with a budget each, and RAM."""

    kind: Kind
    accelerators: tuple[Accelerator, ...]
    usable: tuple[int, ...]
    budgets: tuple[int, ...]
    ram_bytes: int
    ram_budget: int

    @property
    def ids(self) -> tuple[str, ...]:
        """Names of the devices."""
        return tuple(accelerator.id for accelerator in self.accelerators)

    @property
    def capacity_bytes(self) -> int:
        """The size that a profile's hardware rows compare with: all cards together, else the RAM."""
        if self.kind == "dedicated":
            return sum(accelerator.memory_bytes or 0 for accelerator in self.accelerators)
        return self.ram_bytes


@dataclass(frozen=True, slots=True)
class Need:
    """What a candidate needs: on each device, on the host, and on the host for its caches."""

    parts: tuple[Part, ...]
    host: Part
    cache_bytes: int
    checkpoints_bytes: int
    source: MemorySource = "formula"

    @property
    def device_bytes(self) -> int:
        """All devices together."""
        return sum(part.total for part in self.parts)

    @property
    def host_bytes(self) -> int:
        """The host, its caches included."""
        return self.host.total + self.cache_bytes + self.checkpoints_bytes

    @property
    def start_bytes(self) -> int:
        """What it takes when it starts: everything but the caches, which grow with use."""
        return self.device_bytes + self.host.total

    @property
    def total_bytes(self) -> int:
        """All memory, on devices and host together."""
        return self.device_bytes + self.host_bytes


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict, and the budget that decided it: where, how much is needed there, how much there is."""

    verdict: Verdict
    place: str
    need_bytes: int
    have_bytes: int
    wired_bytes: int | None = None  # the Metal limit with which it fits


def reserved_ram(ram_bytes: int) -> int:
    """Return the RAM that is left to other programs: 2.5 GiB or 12 %, whichever is more."""
    return max(2560 * MIB, ram_bytes * 12 // 100)


def context_bytes(backend: Backend) -> int:
    """Return what the driver takes on a card."""
    return ROCM_CONTEXT_BYTES if backend == "rocm" else CONTEXT_BYTES


def machines(hardware: Hardware) -> tuple[Machine, ...]:
    """Return the ways to use a machine, best first: all cards, then without the smallest, and so on.

    1. Dedicated cards win over a GPU that shares the RAM: llama.cpp leaves the latter out too.
    2. One GPU that shares the RAM.
    3. The CPU, where there is no GPU.
    """
    ram_budget = hardware.ram_bytes - reserved_ram(hardware.ram_bytes)
    cards = tuple(card for card in hardware.accelerators if card.memory == "dedicated")
    if cards:
        usable = {card.id: card.usable_bytes or card.memory_bytes or 0 for card in cards}
        by_size = sorted(cards, key=lambda card: -usable[card.id])
        return tuple(
            _dedicated(tuple(card for card in cards if card in by_size[:count]), usable, hardware, ram_budget)
            for count in range(len(cards), 0, -1)
        )
    if hardware.accelerators:
        gpu = hardware.accelerators[0]
        usable_bytes = min(gpu.usable_bytes or hardware.ram_bytes, hardware.ram_bytes)
        budgets = (usable_bytes * 85 // 100,)
        if _is_raised(gpu, ram_budget):  # all of such a limit is there to be used
            usable_bytes = min(usable_bytes, gpu.wired_limit_bytes or usable_bytes)
            budgets = (max(0, usable_bytes - WIRED_MARGIN_BYTES),)
        kind: Kind = "unified" if gpu.memory == "unified" else "shared"
        return (Machine(kind, (gpu,), (usable_bytes,), budgets, hardware.ram_bytes, ram_budget),)
    return (Machine("cpu", (), (), (), hardware.ram_bytes, ram_budget),)


def _dedicated(
    cards: tuple[Accelerator, ...], usable: dict[str, int], hardware: Hardware, ram_budget: int
) -> Machine:
    sizes = tuple(usable[card.id] for card in cards)
    budgets = tuple(
        max(0, size - MARGIN_BYTES - context_bytes(card.backend))
        for card, size in zip(cards, sizes, strict=True)
    )
    return Machine("dedicated", cards, sizes, budgets, hardware.ram_bytes, ram_budget)


def judge(machine: Machine, need: Need) -> Judged:
    """Return the verdict on a need, in this order.

    1. Each device against its budget; on Metal a raised wired limit may help: tight.
    2. RAM: on cards the host's part, else device and host together.
    """
    wired: int | None = None
    tightest = Judged("fits", "RAM", 0, machine.ram_budget)
    for part, usable, accelerator in zip(need.parts, machine.budgets, machine.accelerators, strict=True):
        budget = usable + (_mapped_margin(part) if _is_raised(accelerator, machine.ram_budget) else 0)
        here = Judged("fits", accelerator.id, part.total, budget)
        if part.total > budget:
            wired = _raised_limit(machine, accelerator)
            if wired is None or part.total > wired - WIRED_MARGIN_BYTES + _mapped_margin(part):
                return Judged("no", accelerator.id, part.total, budget)
        if tightest.place == "RAM" or _room(here) < _room(tightest):
            tightest = here
    ram_need = need.host_bytes if machine.kind == "dedicated" else need.total_bytes
    ram = Judged("fits", "RAM", ram_need, machine.ram_budget)
    if ram_need > machine.ram_budget:
        return Judged("no", "RAM", ram_need, machine.ram_budget)
    if wired is not None:
        return Judged("tight", tightest.place, tightest.need_bytes, tightest.have_bytes, wired)
    return min(tightest, ram, key=_room) if need.parts else ram


def _raised_limit(machine: Machine, accelerator: Accelerator) -> int | None:
    """Return the Metal limit that can be set; None where there is none, or a higher one is set already."""
    limit = machine.ram_budget // MIB * MIB
    if accelerator.backend != "metal" or limit <= (accelerator.wired_limit_bytes or 0):
        return None
    return None if _is_raised(accelerator, machine.ram_budget) and limit <= machine.usable[0] else limit


def _is_raised(accelerator: Accelerator, ram_budget: int) -> bool:
    """Say whether Metal's limit was raised by hand.

    A machine file of an earlier version does not say so. But macOS' own limit is never as large as the RAM
    that other programs leave: 107.5 of 128 GiB is the most that was seen.
    """
    if accelerator.backend != "metal":
        return False
    limit = ram_budget // MIB * MIB
    return accelerator.wired_limit_bytes is not None or (accelerator.usable_bytes or 0) >= limit


def _mapped_margin(part: Part) -> int:
    return min(part.mapped, MAPPED_MARGIN_BYTES)


def _room(judged: Judged) -> int:
    return judged.have_bytes - judged.need_bytes


def memory(machine: Machine, need: Need, judged: Judged) -> Memory:
    """Return a need beside the machine's budgets, as a plan shows it; a tight plan as after its fix."""
    budgets = machine.budgets
    if judged.wired_bytes is not None:
        budgets = (judged.wired_bytes - WIRED_MARGIN_BYTES + _mapped_margin(need.parts[0]),)
    elif machine.accelerators and _is_raised(machine.accelerators[0], machine.ram_budget):
        budgets = (budgets[0] + _mapped_margin(need.parts[0]),)
    parts = need.parts or (need.host,)
    sizes = (judged.wired_bytes,) if judged.wired_bytes is not None else machine.usable
    devices = tuple(
        DeviceNeed(
            accelerator.id,
            need_bytes=part.total,
            budget_bytes=budget,
            capacity_bytes=size,
            weights_bytes=part.weights,
            kv_bytes=part.kv,
            recurrent_bytes=part.recurrent,
            compute_bytes=part.compute,
            extras_bytes=part.extras,
        )
        for accelerator, part, budget, size in zip(
            machine.accelerators, need.parts, budgets, sizes, strict=True
        )
    )
    budget = sum(budgets) if devices else machine.ram_budget
    capacity = judged.wired_bytes or (sum(machine.usable) if devices else machine.ram_bytes)
    ram_need = need.host_bytes if machine.kind == "dedicated" else need.total_bytes
    room = min(
        (*(device.budget_bytes - device.need_bytes for device in devices), machine.ram_budget - ram_need)
    )
    return Memory(
        weights_bytes=sum(part.weights for part in parts),
        kv_bytes=sum(part.kv for part in parts),
        recurrent_bytes=sum(part.recurrent for part in parts),
        compute_bytes=sum(part.compute for part in parts),
        overhead_bytes=capacity - budget,
        device_bytes=need.device_bytes,
        host_bytes=need.host_bytes,
        budget_bytes=budget,
        headroom_bytes=room,
        devices=devices,
        source=need.source,
        extras_bytes=sum(part.extras for part in parts),
        cache_bytes=need.cache_bytes,
        checkpoints_bytes=need.checkpoints_bytes,
        host_budget_bytes=machine.ram_budget,
    )
