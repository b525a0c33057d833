"""What the gate is told of the child, and where that puts a request. Pure: no I/O, no clock."""

from dataclasses import dataclass
from enum import Enum, auto

from qwenctl.engine.address import Address

OBSERVING = frozenset({"/health", "/v1/health", "/models", "/v1/models", "/metrics"})
"""Paths that only look: they are never held, never wake the child and are no use of it."""
LOOKING = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class UpstreamState:
    """How things are, as the daemon sees it.

    ``address`` is where child number ``child`` listens; None unless it is ready. ``crashed`` is the number
    of the last child that ended through a fault of its own: not wished for, not killed from outside.
    ``cause`` and ``hint`` say why it failed. ``alias`` is the model's name for clients;
    ``shape`` is what saved slots must match (warm_rules.shape_of).
    """

    phase: str
    child: int = 0
    address: Address | None = None
    progress: str | None = None
    cause: str | None = None
    hint: str | None = None
    crashed: int | None = None
    alias: str = "model"
    shape: str = ""


class Admission(Enum):
    """Where a request goes."""

    GO = auto()
    HOLD = auto()
    REFUSE = auto()


def admission(standing: UpstreamState, opened: int, *, draining: bool, closing: bool) -> Admission:
    """Return where a request goes now. ``opened`` is the child whose slots have been restored."""
    if closing or standing.phase == "failed":
        return Admission.REFUSE
    ready = standing.phase == "ready" and standing.address is not None
    if ready and opened == standing.child and not draining:
        return Admission.GO
    return Admission.HOLD


def is_use(method: str, path: str) -> bool:
    """Return whether a request uses the model, so that idleness starts anew."""
    return method not in LOOKING and path not in OBSERVING
