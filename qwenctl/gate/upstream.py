"""What the gate is told of the child, and whether a request may go to it. Pure: no I/O, no clock."""

from dataclasses import dataclass
from enum import Enum, auto

from qwenctl.engine.address import Address

OBSERVING_PATHS = frozenset({"/health", "/v1/health", "/models", "/v1/models", "/metrics"})
"""Requests for these paths are never held, never wake the child, and do not count as use of the model."""
READING_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class UpstreamState:
    """The state of the child, as the daemon sees it.

    ``phase`` is a phase of the design: ``restoring`` is a child that has generated a token and whose slots
    are being restored; ``ready`` is a child that gets requests. ``address`` is where child number ``child``
    listens; None unless it is restoring or ready. ``crashed`` is the number of the last child that ended
    through a fault of its own: not wanted, not killed from outside. ``cause`` and ``hint`` say why it failed.
    ``alias`` is the model's name for clients. ``slots_fingerprint`` is what saved slots must match
    (``slots.rules.fingerprint``).
    """

    phase: str
    child: int = 0
    address: Address | None = None
    progress: str | None = None
    cause: str | None = None
    hint: str | None = None
    crashed: int | None = None
    alias: str = "model"
    slots_fingerprint: str = ""


class Admission(Enum):
    """What the gate does with a request now: send it to the child, hold it, or refuse it."""

    GO = auto()
    HOLD = auto()
    REFUSE = auto()


def admission(state: UpstreamState, *, draining: bool, closing: bool) -> Admission:
    """Return what the gate does with a request in this state.

    ``draining``: a wanted stop has begun. ``closing``: the gate itself stops.
    """
    if closing or state.phase == "failed":
        return Admission.REFUSE
    if state.phase == "ready" and state.address is not None and not draining:
        return Admission.GO
    return Admission.HOLD


def is_use(method: str, path: str) -> bool:
    """Return whether a request uses the model. The time of idleness starts again after such a request."""
    return method not in READING_METHODS and path not in OBSERVING_PATHS
