"""The listening sockets that a service manager passed: which of them the settings mean, and the others.

They are the manager's: connections wait in their queues while no daemon runs. Nobody may be left waiting in
the queue of one that the settings no longer mean, so who comes there is turned away.
"""

import asyncio
import contextlib
import ipaddress
import os
import socket
from collections.abc import Iterable, MutableMapping

from qwenctl.engine.address import Address

FIRST_PASSED = 3
"""Source: SD_LISTEN_FDS_START, sd-daemon.h."""


def passed_sockets(environment: MutableMapping[str, str] | None = None) -> tuple[socket.socket, ...]:
    """Return the listening sockets that the service manager opened for us, and take their variables out.

    They outlive this process: who connects while it restarts waits in their queue.
    """
    variables = os.environ if environment is None else environment
    count = variables.pop("LISTEN_FDS", "")
    meant = variables.pop("LISTEN_PID", "")
    variables.pop("LISTEN_FDNAMES", None)
    if meant != str(os.getpid()) or not count.isdecimal():
        return ()
    found = []
    for descriptor in range(FIRST_PASSED, FIRST_PASSED + int(count)):
        with contextlib.suppress(OSError):  # not open, or no socket
            passed = socket.socket(fileno=descriptor)
            passed.set_inheritable(False)
            found.append(passed)
    return tuple(one for one in found if _listens(one))


def handed_sockets(files: Iterable[int]) -> tuple[socket.socket, ...]:
    """Return the same sockets in the program that takes over: no variable names them any more."""
    found = tuple(socket.socket(fileno=each) for each in files)
    for each in found:
        each.set_inheritable(False)
    return found


class PassedSockets:
    """Some sockets, often none. ``trouble`` says where they and the settings differ."""

    def __init__(self, sockets: tuple[socket.socket, ...] = ()) -> None:
        self.trouble: str | None = None
        self._sockets = sockets

    @property
    def files(self) -> tuple[int, ...]:
        """Their open files."""
        return tuple(each.fileno() for each in self._sockets)

    def for_address(self, where: Address) -> socket.socket | None:
        """Return the socket that listens there."""
        wanted = (_numeric(where.host), where.port)
        return next((one for one in self._sockets if one.getsockname()[:2] == wanted), None)

    def on_port(self, port: int | None) -> bool:
        """Return whether one listens on that port, at whatever address."""
        return any(one.getsockname()[1] == port for one in self._sockets)

    def use(self, where: Address | None) -> None:
        """Leave the socket of that address to the gate, and turn away who comes to another."""
        used = self.for_address(where) if where is not None else None
        others = tuple(one for one in self._sockets if one is not used)
        loop = asyncio.get_running_loop()
        if used is not None:
            loop.remove_reader(used)
        for one in others:
            one.setblocking(False)
            loop.add_reader(one, _turn_away, one)
        self.trouble = _differ(others, where) if others else None


def _turn_away(one: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it has gone by itself
        one.accept()[0].close()


def _differ(others: tuple[socket.socket, ...], where: Address | None) -> str:
    held = ", ".join("{}:{}".format(*one.getsockname()[:2]) for one in others)
    meant = f"not on {where.host}:{where.port}" if where is not None else "but there is no gate"
    return f"the socket unit listens on {held}, {meant}; qwenctl service install brings it in line"


def _numeric(host: str) -> str:
    """Return the address as a bound socket names it."""
    try:
        return str(ipaddress.ip_address("127.0.0.1" if host == "localhost" else host))
    except ValueError:
        return host


def _listens(one: socket.socket) -> bool:
    try:
        return bool(one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError:
        return False
