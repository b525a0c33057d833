"""Passed sockets: the one that the settings mean is found, whoever comes to another is turned away."""

import asyncio
import socket
from collections.abc import Iterator

import pytest

from qwenctl.daemon.socket_activation import PassedSockets
from qwenctl.engine.address import Address


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two listening sockets, as a service manager passes them: of IPv4 and, where there is one, of IPv6."""
    six = ("::1", socket.AF_INET6) if socket.has_dualstack_ipv6() else ("127.0.0.2", socket.AF_INET)
    with (
        socket.create_server(("127.0.0.1", 0)) as first,
        socket.create_server((six[0], 0), family=six[1]) as second,
    ):
        yield first, second


def test_the_socket_of_an_address_is_found_however_it_is_written(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    passed = PassedSockets(pair)
    (four, six) = (one.getsockname()[:2] for one in pair)
    assert passed.for_address(Address("127.0.0.1", four[1])) is pair[0]
    assert passed.for_address(Address("localhost", four[1])) is pair[0]
    assert passed.for_address(Address(six[0].replace("::", "0:0:0:0:0:0:0:"), six[1])) is pair[1]
    for host, port in (("127.0.0.1", four[1] + 1), ("0.0.0.0", four[1]), ("box.lan", four[1])):
        assert passed.for_address(Address(host, port)) is None
    assert PassedSockets().for_address(Address("127.0.0.1", four[1])) is None


def test_clients_of_a_socket_that_the_settings_do_not_name_are_disconnected(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    async def story() -> None:
        passed, (first, second) = PassedSockets(pair), pair
        where = Address(*second.getsockname()[:2])
        passed.use(where)
        assert passed.trouble is not None
        assert "listens on {}:{}, not on {}:{}".format(
            *first.getsockname()[:2], *second.getsockname()[:2]
        ) in (passed.trouble)
        reader, writer = await asyncio.open_connection(*first.getsockname()[:2])
        assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()

        passed.use(Address(*first.getsockname()[:2]))
        _, writer = await asyncio.open_connection(*first.getsockname()[:2])
        accepted, _ = await asyncio.wait_for(asyncio.get_running_loop().sock_accept(first), 10)
        accepted.close()
        writer.close()
        PassedSockets(()).use(None)
        for one in pair:
            asyncio.get_running_loop().remove_reader(one)

    asyncio.run(story())
