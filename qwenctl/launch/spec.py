"""Everything needed to start the server, as one value. Pure: no I/O."""

from dataclasses import dataclass, field

from qwenctl.engine.address import Address


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """What one child is started with. Two equal specs need no restart; patience is no part of that.

    ``environment`` is added to the cleaned environment of the daemon. ``key_file`` holds the keys that
    the server asks its clients for, one a line.
    """

    argv: tuple[str, ...]
    address: Address
    environment: tuple[tuple[str, str], ...] = ()
    key_file: str | None = None
    ready_timeout_s: float = field(default=600.0, compare=False)
    stop_timeout_s: float = field(default=20.0, compare=False)
