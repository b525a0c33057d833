"""What a running daemon tells the program that takes its place: one document, by value. No I/O.

Open files go by their numbers, which ``exec`` keeps. Times are monotonic seconds, which go on, too. A
configuration stands in the document once; others name it by its place, so that "the same" stays the same.
"""

import json
from dataclasses import dataclass
from functools import cache
from typing import Literal

from pydantic import TypeAdapter

from qwenctl import __version__
from qwenctl.deploy import states as change
from qwenctl.errors import ControlError
from qwenctl.gate.passed_connection import PassedAddress, PassedStream
from qwenctl.launch.configuration import Configuration
from qwenctl.launch.load_log import MeasuredLoad
from qwenctl.plan.outcome import MemoryRefusal
from qwenctl.supervise.child import LogSoFar
from qwenctl.supervise.exits import Ending
from qwenctl.supervise.identity import Identity

SCHEMA = 1
Place = int | None
"""The place of a configuration in the document."""


@dataclass(frozen=True, slots=True)
class Descriptors:
    """The open files of the daemon itself. ``guard`` is told when the new program is ready."""

    lock: int
    control: int
    passed: tuple[int, ...] = ()  # sockets of a service manager
    guard: int | None = None


@dataclass(frozen=True, slots=True)
class HandedChild:
    """A server that runs. ``pipe`` is the open file with its output.

    ``lifeline`` is the one whose end would end it: Linux needs none. A program of an earlier version does not
    know it, and keeps it open unseen.
    """

    identity: Identity
    pipe: int
    heard: LogSoFar
    loaded: MeasuredLoad | None = None
    lifeline: int | None = None


@dataclass(frozen=True, slots=True)
class HandedServer:
    """The supervisor's state, in a phase that can be passed on."""

    phase: Literal["down", "idle", "ready", "backoff", "failed"]
    configuration: Place = None  # of the phase
    number: int = 0  # of the child
    since: float = 0.0
    loaded_s: float = 0.0
    until: float = 0.0
    want: Place = None
    good: Place = None
    rejected: Place = None
    rejected_why: Ending | None = None
    rejected_at: float = 0.0
    spawned: int = 0
    asleep: bool = False
    failures: int = 0
    quick: tuple[float, ...] = ()
    starts: tuple[float, ...] = ()
    short_lives: int = 0
    short_since: float | None = None
    last: Ending | None = None
    endings: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class HandedChange:
    """The state of the wishes while none is on its way."""

    number: int
    origin: change.Origin
    kept: Place
    kept_number: int
    config_error: str | None = None
    refused_number: int | None = None
    refused_origin: change.Origin = "start"
    refused_overrides: dict[str, object] | None = None
    refused_instead_of: Place = None
    refused_why: change.Refusal | None = None
    rolled_back: bool = False


@dataclass(frozen=True, slots=True)
class Handover:
    """Everything. ``number`` counts re-executions; ``lost``: why the program after this one did not start."""

    schema: int
    number: int
    version: str
    paused_at: float
    descriptors: Descriptors
    configurations: tuple[Configuration, ...]
    server: HandedServer
    change: HandedChange
    child: HandedChild | None = None
    gate: tuple[PassedAddress, ...] = ()
    streams: tuple[PassedStream, ...] = ()
    continued: int = 0
    refused: tuple[MemoryRefusal, ...] = ()
    start_anyway: bool = False
    degraded: str | None = None
    troubles: tuple[tuple[str, str], ...] = ()
    since: str = ""
    shown_phase: str = ""
    newer_commit: str | None = None
    settings_mark: str = ""  # how the files of the settings lay on the disk
    events: tuple[str, ...] = ()
    lost: str | None = None

    def files(self) -> tuple[int, ...]:
        """Return the open files that go along."""
        own = self.descriptors
        found = [own.lock, own.control, *own.passed]
        found += [] if own.guard is None else [own.guard]
        if self.child is not None:
            found += [each for each in (self.child.pipe, self.child.lifeline) if each is not None]
        for address in self.gate:
            found += [*address.sockets, *(each.descriptor for each in address.connections)]
        return tuple(found)

    def at(self, place: Place) -> Configuration | None:
        """Return a configuration by its place."""
        return None if place is None else self.configurations[place]


@cache
def _adapter() -> TypeAdapter[Handover]:
    return TypeAdapter(Handover)


def dump(handover: Handover) -> bytes:
    """Return the document."""
    return _adapter().dump_json(handover, by_alias=True)


def load(content: bytes) -> Handover:
    """Return what a document tells.

    Raises:
        ControlError: it is damaged, or of another version's form.
    """
    try:
        known = json.loads(content)
        schema = known.get("schema") if isinstance(known, dict) else None
        if schema != SCHEMA:
            raise ControlError(
                f"cannot take over: the state has form {schema}, and version {__version__} knows {SCHEMA}"
            )
        handover = _adapter().validate_json(content)
    except (ValueError, RecursionError) as error:
        said = " ".join(str(error).split())[:300]
        raise ControlError(f"cannot take over: the state cannot be read: {said}") from error
    server, wishes = handover.server, handover.change
    places = [server.configuration, server.want, server.good, server.rejected]
    places += [wishes.kept, wishes.refused_instead_of]
    if any(place is not None and not 0 <= place < len(handover.configurations) for place in places):
        raise ControlError("cannot take over: the state names a configuration that is not in it")
    return handover
