"""Decide what happens to a request whose child was lost. Pure: no I/O, no clock."""

from dataclasses import dataclass
from enum import Enum, auto

CRASHES_ALONE = 2
"""A request is not sent again after so many children crashed while it was their only request."""
TRIES_ON_ONE_CHILD = 3
"""A request is sent so many times to a child that closes the connection and goes on running."""


class AfterLoss(Enum):
    """What happens to a request whose child was lost."""

    REPLAY = auto()
    GIVE_UP_LATE = auto()
    GIVE_UP_POISON = auto()
    GIVE_UP_CUT = auto()
    GIVE_UP_BROKEN = auto()


@dataclass(frozen=True, slots=True)
class Loss:
    """A request whose child was lost. ``begun``: part of the answer was sent to the client.

    ``held_s``: how long it has waited for children, of ``hold_timeout_s``. The time for which a child worked
    on it does not count.
    """

    begun: bool
    crashes_alone: int
    tries_on_child: int
    held_s: float
    hold_timeout_s: float


def after_loss(loss: Loss) -> AfterLoss:
    """Return what to do: the first of these that applies.

    1. An answer that has begun can't be taken back, so the request is not sent again.
    2. A request that was alone at two crashes is their likely cause, so it is not sent again.
    3. A child that keeps closing the connection and goes on running will do so again.
    4. The time to wait is over.
    """
    if loss.begun:
        return AfterLoss.GIVE_UP_CUT
    if loss.crashes_alone >= CRASHES_ALONE:
        return AfterLoss.GIVE_UP_POISON
    if loss.tries_on_child >= TRIES_ON_ONE_CHILD:
        return AfterLoss.GIVE_UP_BROKEN
    if loss.held_s >= loss.hold_timeout_s:
        return AfterLoss.GIVE_UP_LATE
    return AfterLoss.REPLAY
