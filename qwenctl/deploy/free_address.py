"""Where the endpoint listens, and whether that address is free."""

import errno
import socket

from qwenctl import files
from qwenctl.engine.address import Address, hosts_of
from qwenctl.errors import LaunchError
from qwenctl.gate.listening_sockets import SHADOWS, Shadows, refuse_shadow
from qwenctl.supervise.port_holder import listener


def check_address(where: Address, shadows: Shadows | None = SHADOWS) -> None:
    """Check that nothing else listens there.

    Raises:
        LaunchError: the address is taken, or not this machine's.
    """
    if where.port is None:
        return
    for host in hosts_of(where.host):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            refuse_shadow(host, where.port, shadows)
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, where.port))
        except OSError as error:
            raise cannot_listen(Address(host, where.port), error) from error


def cannot_listen(where: Address, error: OSError) -> LaunchError:
    """Return the error for an address that cannot be had, with the name of who has it."""
    reason = files.reason(error)
    if error.errno == errno.EADDRINUSE and where.port and (holder := listener(where.host, where.port)):
        reason = f"{reason}, by {holder}"
    return LaunchError(
        f"cannot listen on {where.host}:{where.port}: {reason}", hint="qwenctl up --port N uses another port"
    )
