"""The result of planning: a plan, or the reasons why there is none. Pure: no I/O."""

from dataclasses import dataclass, field
from typing import Literal

from qwenctl.model.profile import File
from qwenctl.plan.budget import Judged, Machine, Need, Verdict
from qwenctl.plan.memory import Memory
from qwenctl.plan.order import Candidate
from qwenctl.plan.speed import Speed

MemoryPlace = Literal["device", "host", "start"]
"""Where memory can run out; see ``MemoryRefusal``."""


@dataclass(frozen=True, slots=True)
class Considered:
    """One candidate with its verdict and the reason for it. Bytes of the tightest budget."""

    quant: str
    context_tokens: int
    kv_type: str
    verdict: Verdict
    need_bytes: int
    have_bytes: int
    reason: str


@dataclass(frozen=True, slots=True)
class MemoryRefusal:
    """Memory that ran out here: a plan that needs ``bytes`` or more in ``place`` is not tried again.

    The bytes are remembered, not the settings that led to them: settings change, the memory does not.
    ``device`` is the memory of all accelerators together, ``host`` is everything the server holds, ``start``
    is what it holds before it is used (its caches grow with use). ``plan`` names the plan for people.
    """

    place: MemoryPlace
    bytes: int
    plan: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Extras:
    """Optional parts that the server holds too: the drafts of multi-token prediction, the vision encoder."""

    draft_tokens: int = 0
    vision: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """The exact choice. ``repo`` and ``revision`` are None where the file does not come from a hub.

    ``devices`` are the accelerators to use, in llama.cpp's order; empty means the CPU.
    ``fix`` is the command that makes a ``tight`` plan fit.
    """

    profile: str
    quant: str
    repo: str | None
    revision: str | None
    files: tuple[File, ...]
    context_tokens: int
    kv_type: str
    parallel: int
    cache_ram_mib: int
    checkpoints: int
    verdict: Verdict
    memory: Memory
    considered: tuple[Considered, ...]
    warnings: tuple[str, ...]
    devices: tuple[str, ...] = ()
    fix: str | None = None
    speed: Speed | None = None


@dataclass(frozen=True, slots=True)
class NoFit:
    """Nothing fits, and why. ``sibling`` names another profile that would fit."""

    profile: str
    reason: str
    hint: str | None
    considered: tuple[Considered, ...]
    sibling: str | None = None


@dataclass(frozen=True, slots=True)
class TriedCandidate:
    """A candidate on one way of using the machine."""

    candidate: Candidate
    machine: Machine
    need: Need
    judged: Judged


def needed_bytes(memory: Memory, place: MemoryPlace) -> int:
    """Return what a plan with this memory needs in a place where memory can run out."""
    match place:
        case "device":
            return memory.device_bytes
        case "host":
            return memory.device_bytes + memory.host_bytes
        case "start":
            grows = memory.cache_bytes + memory.checkpoints_bytes
            return memory.device_bytes + memory.host_bytes - grows
