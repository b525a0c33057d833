"""Decide what becomes of a request that lost its child, or that waits for one. Pure: no I/O, no clock."""

from dataclasses import dataclass
from enum import Enum, auto

CRASHES_ALONE = 2
"""So often may a child crash under a request that was alone with it."""
TRIES_ON_ONE_CHILD = 3
"""So often is a request sent to one child that closes the connection and lives on."""


class AfterLoss(Enum):
    """What a request that lost its child does."""

    REPLAY = auto()
    GIVE_UP_LATE = auto()
    GIVE_UP_POISON = auto()
    GIVE_UP_CUT = auto()
    GIVE_UP_BROKEN = auto()


@dataclass(frozen=True, slots=True)
class Loss:
    """A request without its child. ``begun``: part of the answer has left, so it can't be sent again."""

    begun: bool
    crashes_alone: int
    tries_on_child: int
    now: float
    deadline: float


def after_loss(loss: Loss) -> AfterLoss:
    """Return what to do, asked in this order.

    1. An answer that has begun can't be taken back.
    2. A request that was alone at two crashes caused them.
    3. A child that lives on and keeps closing the connection will do so again.
    4. Nobody waits for ever.
    """
    if loss.begun:
        return AfterLoss.GIVE_UP_CUT
    if loss.crashes_alone >= CRASHES_ALONE:
        return AfterLoss.GIVE_UP_POISON
    if loss.tries_on_child >= TRIES_ON_ONE_CHILD:
        return AfterLoss.GIVE_UP_BROKEN
    if loss.now >= loss.deadline:
        return AfterLoss.GIVE_UP_LATE
    return AfterLoss.REPLAY


def retry_after_s(phase: str) -> int:
    """Return what a refused client is told to wait, in seconds: longer where something is downloaded."""
    return 30 if phase in ("planning", "fetching") else 5
