"""Tell the service manager that started this process: ready, reloading, stopping, alive.

Speaks systemd's protocols without a library. Without a service manager every call does nothing.
Source: sd_notify(3), sd_watchdog_enabled(3) of systemd 252.
"""

import contextlib
import os
import socket
import time
from collections.abc import MutableMapping

PINGS_PER_LIMIT = 3
"""How many pings go into one watchdog limit: one may come late."""


class Notifier:
    """Says things to the service manager; says nothing twice."""

    def __init__(self, address: str | None, watchdog_s: float | None = None) -> None:
        self._address = address
        self._status: str | None = None
        self.ping_every_s = watchdog_s / PINGS_PER_LIMIT if watchdog_s else None

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str] | None = None) -> "Notifier":
        """Return the notifier that the environment names; take its variables out: no child speaks for us."""
        variables = os.environ if environment is None else environment
        address = variables.pop("NOTIFY_SOCKET", None)
        limit = variables.pop("WATCHDOG_USEC", "")
        meant = variables.pop("WATCHDOG_PID", str(os.getpid()))
        ours = limit.isdecimal() and int(limit) > 0 and meant == str(os.getpid())
        return cls(address, int(limit) / 1e6 if ours else None)

    @property
    def variables(self) -> dict[str, str]:
        """What was taken out of the environment, for a program that takes the place of this one."""
        found = {} if self._address is None else {"NOTIFY_SOCKET": self._address}
        if self.ping_every_s is not None:
            limit = round(self.ping_every_s * PINGS_PER_LIMIT * 1e6)
            found |= {"WATCHDOG_USEC": str(limit), "WATCHDOG_PID": str(os.getpid())}
        return found

    @property
    def managed(self) -> bool:
        """Whether a service manager listens."""
        return self._address is not None

    def ready(self) -> None:
        """Say that clients may come."""
        self._send("READY=1")

    def reloading(self) -> None:
        """Say that the settings are being read again; ``ready`` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Say that the end has begun."""
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """Show one line beside the service."""
        line = " ".join(text.split())
        if line != self._status:
            self._status = line
            self._send(f"STATUS={line}")

    def extend(self, seconds: float) -> None:
        """Ask for that much more time to start or to stop, from now on."""
        self._send(f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}")

    def alive(self) -> None:
        """Feed the watchdog. To be called every ``ping_every_s`` by whoever makes progress."""
        if self.ping_every_s is not None:
            self._send("WATCHDOG=1")

    def grant(self, seconds: float | None) -> None:
        """Set the watchdog's limit for a while; None: as the manager has set it."""
        if self.ping_every_s is not None:
            own_s = self.ping_every_s * PINGS_PER_LIMIT
            self._send(f"WATCHDOG_USEC={round(max(own_s, seconds or 0.0) * 1e6)}\nWATCHDOG=1")

    def _send(self, message: str) -> None:
        if self._address is None:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with (
            contextlib.suppress(OSError),  # a manager that is being restarted must not stop us
            socket.socket(
                socket.AF_UNIX, socket.SOCK_DGRAM
            ) as out,  # Python closes it at exec, on each system
        ):
            out.sendto(message.encode(), socket.MSG_DONTWAIT | getattr(socket, "MSG_NOSIGNAL", 0), address)
