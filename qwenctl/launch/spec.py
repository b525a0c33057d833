"""Everything needed to start the server, as one value. Pure: no I/O."""

from dataclasses import dataclass, field
from typing import Literal

from qwenctl.engine.address import Address

SLOT_FLAG = "--slot-save-path"


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """What one child is started with, and how patient the supervisor is with it.

    Two equal specs need no restart: patience is no part of the comparison. ``environment`` is added to the
    cleaned environment of the daemon. ``key_file`` holds the keys that the server itself asks its clients
    for, one a line. Times are seconds. ``drain_timeout_s`` is 0 where no gate knows of requests in flight.
    ``on_oom`` says whether a smaller plan is taken when memory ran out. ``model_stamp`` is the size and time
    of a file that a person named: under the same name there may be another one by now. ``engine`` is the
    engine's fingerprint, because its program may be replaced under the same path. ``devices`` are the
    plan's: a server that was started without a card does not move to it under the same command line.
    """

    argv: tuple[str, ...]
    address: Address
    environment: tuple[tuple[str, str], ...] = ()
    key_file: str | None = None
    model_stamp: tuple[int, int] | None = None
    engine: str = ""
    devices: tuple[str, ...] = ()
    ready_timeout_s: float = field(default=600.0, compare=False)
    stop_timeout_s: float = field(default=20.0, compare=False)
    drain_timeout_s: float = field(default=0.0, compare=False)
    wedge_after_s: float = field(default=120.0, compare=False)
    on_oom: Literal["degrade", "stop"] = field(default="degrade", compare=False)

    @property
    def saves_slots(self) -> bool:
        """Whether conversations are saved before a stop and restored after a start."""
        return SLOT_FLAG in self.argv
