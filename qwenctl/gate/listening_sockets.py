"""Bind the sockets of an address, also beside a socket of ours on the same port that is about to close.

127.0.0.1 and 0.0.0.0 overlap, so a socket on one of them keeps the other one taken on the same port. Linux
lets sockets of one user overlap if all of them have SO_REUSEPORT when the later one is bound. Measured on
Linux 6.18: the option can be set on a socket that listens already, and a socket on 127.0.0.1 gets the
loopback connections even if one on 0.0.0.0 listens, too.
"""

import asyncio
import contextlib
import ctypes
import errno
import os
import socket
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from qwenctl.engine.address import Address, hosts_of

BACKLOG = 1024
"""Connections that may wait to be accepted, as in systemd/qwenctl.socket."""
CAN_OVERLAP = sys.platform == "linux"
"""Elsewhere SO_REUSEPORT must be set before the first socket is bound, so the old socket closes first."""
CAN_SHADOW = not CAN_OVERLAP
"""On macOS a socket with SO_REUSEADDR may listen on one address though another program has all of them.

It then gets the connections to that address, and nobody is told. Without SO_REUSEADDR, a port whose last
connections have just ended is taken there. Source: XNU 11417, bsd/netinet/in_pcb.c, in_pcbbind; kafka #13572.
"""
Shadows = Callable[[str, int], bool]
"""Whether a socket that could be bound there would take connections away from another program."""
ANSWERS_WITHIN_S = 0.2
"""This machine accepts or refuses at once."""
RETRY_S, RETRY_AT_MOST_S = 0.25, 10.0
"""An old server may hold the address for a moment longer; another program may have it for good."""
ANY_HOST = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound
SO_ATTACH_FILTER = 26
"""Source: asm-generic/socket.h."""
SYN_FILTER = (
    (0x30, 0, 0, 13),  # load the byte of the TCP flags
    (0x54, 0, 0, 0x12),  # keep SYN and ACK
    (0x15, 0, 1, 0x02),  # SYN alone?
    (0x06, 0, 0, 0),  # then drop the packet
    (0x06, 0, 0, 0xFFFFFFFF),  # else keep all of it
)
"""Classic BPF: code, jump if true, jump if false, operand. Source: linux/filter.h. Data: the TCP segment."""


def somebody_answers(host: str, port: int) -> bool:
    """Return whether a program takes connections there. It sees one that ends at once."""
    try:
        socket.create_connection((ANY_HOST.get(host, host), port), ANSWERS_WITHIN_S).close()
    except OSError:
        return False
    return True


SHADOWS: Shadows | None = somebody_answers if CAN_SHADOW else None


def retry_after(failures: int, shadows: Shadows | None = SHADOWS) -> float:
    """Return how long to wait before an address is tried again that could not be had this often. Pure.

    Where each try connects to the program that has the address, it is soon left in peace.
    """
    return RETRY_S if shadows is None else min(RETRY_S * 2.0 ** min(failures - 1, 10), RETRY_AT_MOST_S)


def refuse_shadow(host: str, port: int, shadows: Shadows | None) -> None:
    """See that a socket there takes nothing away from another program.

    Raises:
        OSError: it would.
    """
    if shadows is not None and port and shadows(host, port):
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


async def bind(
    address: Address,
    beside: Iterable[socket.socket] = (),
    shadows: Shadows | None = SHADOWS,
) -> tuple[socket.socket, ...]:
    """Return sockets that listen at ``address``: one for each IP address that its hosts stand for.

    ``beside``: sockets of ours on the same port, which may overlap with the new ones.

    Raises:
        OSError: the address is taken, or not this machine's, or the host is not known.
    """
    loop = asyncio.get_running_loop()
    found = [
        await loop.getaddrinfo(host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for host in hosts_of(address.host)
    ]
    targets = sorted({(family, where) for each in found for family, _, _, _, where in each}, key=str)
    overlapped = tuple(beside)
    sockets: list[socket.socket] = []
    missing: OSError | None = None
    try:
        with _overlapping(overlapped):
            for family, where in targets:
                if shadows is not None and not overlapped:  # its answer may take a while
                    await asyncio.to_thread(refuse_shadow, str(where[0]), address.port or 0, shadows)
                try:
                    sockets.append(_listen(family, where, overlapping=bool(overlapped)))
                except OSError as error:
                    if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                        raise
                    missing = error  # a name may stand for IPv6, too, on a machine without IPv6
    except OSError:
        for each in sockets:
            each.close()
        raise
    if missing is not None and not sockets:
        raise missing
    if overlapped:
        _forget_overlapping(sockets[0].getsockname()[1])
    return tuple(sockets)


def refuse_handshakes(listening: socket.socket) -> None:
    """Let this socket take no new connection from now on; those that have begun go on.

    A first packet (SYN) is dropped rather than refused. The client sends it again after a second, and then it
    comes to the socket that took over. Where the system can't filter, a client that connects in the instant
    between the last ``accept`` and ``close`` is refused.
    """
    if not CAN_OVERLAP:
        return
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in SYN_FILTER)
    instructions = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HP", len(SYN_FILTER), ctypes.addressof(instructions))
    with contextlib.suppress(OSError):
        listening.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


def accept_waiting(listening: socket.socket) -> Iterator[socket.socket]:
    """Yield the connections that wait in the socket's queue."""
    while True:
        try:
            connection, _ = listening.accept()
        except (ConnectionAbortedError, InterruptedError):
            continue
        except OSError:  # none is left, or no descriptor is
            return
        connection.setblocking(False)
        yield connection


def _listen(family: int, where: tuple[Any, ...], *, overlapping: bool) -> socket.socket:
    new = socket.socket(family, socket.SOCK_STREAM)
    try:
        new.setblocking(False)
        new.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            new.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if overlapping:
            new.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        new.bind(where)
        new.listen(BACKLOG)
        if overlapping:
            new.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
    except OSError:
        new.close()
        raise
    return new


@contextlib.contextmanager
def _overlapping(sockets: tuple[socket.socket, ...]) -> Iterator[None]:
    """Let other sockets of this user overlap with these, for as long as the block runs."""
    for each in sockets:
        each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        yield
    finally:
        for each in sockets:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)


def _forget_overlapping(port: int) -> None:
    """Make the kernel forget that this port was shared.

    Linux notes with a port that its sockets may overlap. With that note any program of this user that sets
    SO_REUSEPORT could bind the port, too, although the option is cleared on every socket of ours. The note is
    dropped when a socket without the option is bound to the port. One of these addresses is free for that,
    unless another program has it. Source: inet_csk_update_fastreuse, Linux 6.18; measured.
    """
    for family, loopback in ((socket.AF_INET6, "::1"), (socket.AF_INET, "127.80.81.82")):
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_STREAM) as probe:
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind((loopback, port))
            return
