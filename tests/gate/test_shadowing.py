"""Where a socket could be bound beside another program's, it is not: that program would lose its clients."""

import asyncio
import errno
import socket
import threading

import pytest

from qwenctl.deploy.free_address import check_address
from qwenctl.engine.address import Address
from qwenctl.errors import LaunchError
from qwenctl.gate.listening_sockets import CAN_OVERLAP, RETRY_AT_MOST_S, bind, retry_after, somebody_answers
from tests.fakes.home import free_port


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])
def test_a_program_on_all_addresses_answers_on_each(host: str) -> None:
    with socket.create_server(("0.0.0.0", 0)) as stranger:
        assert somebody_answers(host, stranger.getsockname()[1])
    assert not somebody_answers(host, free_port())


def test_no_address_is_taken_that_answers_already() -> None:
    """BSD would let it be bound, so the probe decides: here it says what it would say there."""
    where = Address("127.0.0.1", free_port())
    with pytest.raises(OSError, match="in use") as refused:
        asyncio.run(bind(where, shadows=lambda _host, _port: True))
    assert refused.value.errno == errno.EADDRINUSE
    with pytest.raises(LaunchError, match=f"cannot listen on 127.0.0.1:{where.port}: .*in use"):
        check_address(where, shadows=lambda _host, _port: True)

    sockets = asyncio.run(bind(where, shadows=somebody_answers))
    for each in sockets:
        each.close()
    check_address(where, shadows=somebody_answers)


def test_the_question_does_not_hold_up_the_loop() -> None:
    """It may take a fifth of a second, and conversations go on meanwhile."""
    asked_in: list[threading.Thread] = []

    def shadows(_host: str, _port: int) -> bool:
        asked_in.append(threading.current_thread())
        return False

    for each in asyncio.run(bind(Address("127.0.0.1", free_port()), shadows=shadows)):
        each.close()
    assert asked_in
    assert threading.current_thread() not in asked_in


def test_a_program_that_keeps_the_address_is_asked_ever_less_often() -> None:
    waits = [retry_after(failures, somebody_answers) for failures in range(1, 2000)]
    assert waits[:4] == [0.25, 0.5, 1.0, 2.0]
    assert waits == sorted(waits)
    assert waits[-1] == RETRY_AT_MOST_S
    assert {retry_after(failures, None) for failures in range(1, 2000)} == {0.25}  # bind itself tells


@pytest.mark.skipif(not CAN_OVERLAP, reason="sockets on one port close first here")
def test_a_socket_of_ours_on_the_port_is_no_other_program() -> None:
    with socket.create_server(("127.0.0.1", 0)) as ours:
        port = ours.getsockname()[1]
        sockets = asyncio.run(bind(Address("0.0.0.0", port), (ours,), shadows=somebody_answers))
        for each in sockets:
            each.close()
