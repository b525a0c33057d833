"""What planning ends in: a plan, or the reasons why there is none. Pure: no I/O."""

from dataclasses import dataclass
from typing import Literal

from qwenctl.model.profile import File
from qwenctl.plan.budget import Judged, Machine, Need, Verdict
from qwenctl.plan.memory import Memory
from qwenctl.plan.order import Candidate
from qwenctl.plan.speed import Speed


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
class Refused:
    """A plan that ran out of memory here. What needs as much in that place is not tried again.

    ``start``: what must be there when the server starts, on device and host. Its caches grow with use.
    """

    quant: str
    context_tokens: int
    kv_type: str
    cache_ram_mib: int
    where: Literal["device", "host", "start"] = "device"


@dataclass(frozen=True, slots=True)
class Extras:
    """What else the server is to hold: drafts a step of multi-token prediction, the vision encoder."""

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
    """Nothing fits, and why. ``sibling`` names a profile that would."""

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
