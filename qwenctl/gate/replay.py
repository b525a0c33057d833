"""Decide what happens to a request whose child was lost. Pure: no I/O, no clock."""

from dataclasses import dataclass
from enum import Enum, auto

from qwenctl.gate.server_faults import COMPUTING_PATHS
from qwenctl.gate.upstream import READING_METHODS

REPEATABLE_PATHS = COMPUTING_PATHS | frozenset(
    """
    /tokenize /detokenize /apply-template /chat/completions/input_tokens /v1/chat/completions/input_tokens
    /responses/input_tokens /v1/responses/input_tokens /v1/messages/count_tokens /v1/streams/lookup
    """.split()
)
"""The paths whose POST changes nothing, so that it may be sent twice. Source: routes of llama-server b11434.

Any other POST may act: ``/tools`` runs a shell command, ``/cors-proxy`` asks another server.
"""
CRASHES_ALONE = 2
"""A request is not sent again after so many children crashed while it was their only request."""
TRIES_ON_ONE_CHILD = 3
"""A request is sent so many times to a child that closes the connection and goes on running."""


class AfterLoss(Enum):
    """What happens to a request whose child was lost."""

    REPLAY = auto()
    GIVE_UP_LATE = auto()
    GIVE_UP_POISON = auto()
    GIVE_UP_ONCE = auto()
    GIVE_UP_CUT = auto()
    GIVE_UP_BROKEN = auto()


@dataclass(frozen=True, slots=True)
class Loss:
    """A request whose child was lost. ``begun``: part of the answer was sent to the client.

    ``may_have_acted``: it reached the child and is none that may be sent twice. ``held_s``: how long it has
    waited for children, of ``hold_timeout_s``. The time for which a child worked on it does not count.
    """

    begun: bool
    crashes_alone: int
    tries_on_child: int
    held_s: float
    hold_timeout_s: float
    may_have_acted: bool = False


def is_repeatable(method: str, path: str) -> bool:
    """Return whether a request that reached a child may be sent again: it only reads, or only computes."""
    return method in READING_METHODS or (method == "POST" and path in REPEATABLE_PATHS)


def after_loss(loss: Loss) -> AfterLoss:
    """Return what to do: the first of these that applies.

    1. An answer that has begun can't be taken back, so the request is not sent again.
    2. A request that was alone at two crashes is their likely cause, so it is not sent again.
    3. A request that may have acted is not sent again, because it would act twice.
    4. A child that keeps closing the connection and goes on running will do so again.
    5. The time to wait is over.
    """
    if loss.begun:
        return AfterLoss.GIVE_UP_CUT
    if loss.crashes_alone >= CRASHES_ALONE:
        return AfterLoss.GIVE_UP_POISON
    if loss.may_have_acted:
        return AfterLoss.GIVE_UP_ONCE
    if loss.tries_on_child >= TRIES_ON_ONE_CHILD:
        return AfterLoss.GIVE_UP_BROKEN
    if loss.held_s >= loss.hold_timeout_s:
        return AfterLoss.GIVE_UP_LATE
    return AfterLoss.REPLAY
