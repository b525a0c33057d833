"""Who listens on a port is named, as far as the system shows it."""

import os
import socket

import pytest

from qwenctl.supervise.port_holder import holder_in, listener

LSOF = """p812
cllama-server
f5
n127.0.0.1:8080
p90210
cControl Center
f9
n*:5000
f10
n*:5000
p4711
cnode
f21
n[::1]:3000
"""
"""Source of the form: lsof(8), "OUTPUT FOR OTHER PROGRAMS"; Control Center has port 5000 for AirPlay."""


def test_the_process_that_listens_on_a_port_is_named() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        found = listener("127.0.0.1", listening.getsockname()[1])
        assert found is not None
        assert found.startswith(f"pid {os.getpid()} (")
    assert listener("127.0.0.1", 1) is None


@pytest.mark.parametrize(
    ("host", "port", "holder"),
    [
        ("127.0.0.1", 8080, "pid 812 (llama-server)"),
        ("0.0.0.0", 8080, "pid 812 (llama-server)"),
        ("192.168.1.5", 8080, None),
        ("127.0.0.1", 5000, "pid 90210 (Control Center)"),
        ("::1", 3000, "pid 4711 (node)"),
        ("127.0.0.1", 80, None),
        ("127.0.0.1", 808, None),
    ],
)
def test_what_lsof_shows_is_read(host: str, port: int, holder: str | None) -> None:
    assert holder_in(LSOF, host, port) == holder


@pytest.mark.parametrize("text", ["", "n127.0.0.1:80\n", "p\nn:80\n", "garbage", "p7\nn127.0.0.1:http\n"])
def test_what_lsof_does_not_say_is_not_known(text: str) -> None:
    assert holder_in(text, "127.0.0.1", 80) is None
