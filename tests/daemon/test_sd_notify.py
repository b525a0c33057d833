"""What the service manager hears from us, on a real socket, and the sockets it passes."""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from qwenctl.daemon.new_program import is_launchd_job
from qwenctl.daemon.sd_notify import Notifier
from qwenctl.daemon.socket_activation import passed_sockets

TAKE = """
import os, sys
from qwenctl.daemon.socket_activation import passed_sockets
os.environ["LISTEN_PID"] = str(os.getpid())
(one,) = passed_sockets()
assert "LISTEN_FDS" not in os.environ and not one.get_inheritable()
connection, _ = one.accept()
connection.sendall(b"taken")
"""


@pytest.fixture
def manager() -> Iterator[socket.socket]:
    """A service manager's end of the line."""
    with (
        tempfile.TemporaryDirectory(dir="/tmp") as folder,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard,
    ):
        heard.bind(f"{folder}/notify")
        heard.settimeout(5)
        yield heard


def test_nothing_happens_without_a_service_manager() -> None:
    quiet = Notifier.from_environment({})
    assert not quiet.managed
    assert quiet.ping_every_s is None
    for say in (quiet.ready, quiet.stopping, quiet.alive, quiet.reloading):
        say()


@pytest.mark.parametrize(
    ("label", "ours"),
    [
        ("qwenctl", True),
        ("homebrew.mxcl.qwenctl", True),
        ("0", False),
        ("", False),
        ("application.com.apple.Terminal.1152921500311879701.1152921500311879706", False),
        ("org.example.qwenctl", False),
    ],
)
def test_only_our_labels_make_a_job_of_launchd(label: str, *, ours: bool) -> None:
    """A shell has 0 in that variable, or the label of its terminal: it starts nothing again."""
    assert is_launchd_job({"XPC_SERVICE_NAME": label}) is ours
    assert not is_launchd_job({})


def test_each_notification_is_one_message(manager: socket.socket) -> None:
    notifier = Notifier(manager.getsockname(), watchdog_s=3.0)
    notifier.status("loading\nthe model")
    notifier.status("loading the model")
    notifier.extend(1.5)
    notifier.ready()
    notifier.alive()
    notifier.reloading()
    notifier.stopping()
    heard = [manager.recv(4096).decode() for _ in range(6)]
    assert [line.partition("\n")[0] for line in heard] == [
        "STATUS=loading the model",
        "EXTEND_TIMEOUT_USEC=1500000",
        "READY=1",
        "WATCHDOG=1",
        "RELOADING=1",
        "STOPPING=1",
    ]
    assert "MONOTONIC_USEC=" in heard[4]
    assert notifier.ping_every_s == 1.0


def test_a_service_manager_that_is_gone_is_no_error(tmp_path: Path) -> None:
    Notifier(str(tmp_path / "nobody"), watchdog_s=1).alive()


def test_the_variables_are_taken_out_of_the_environment() -> None:
    variables = {
        "NOTIFY_SOCKET": "@x",
        "WATCHDOG_USEC": "6000000",
        "WATCHDOG_PID": str(os.getpid()),
        "A": "b",
    }
    notifier = Notifier.from_environment(variables)
    assert variables == {"A": "b"}
    assert notifier.managed
    assert notifier.ping_every_s == 2.0


@pytest.mark.parametrize(("limit", "pid"), [("0", None), ("x", None), ("6000000", "1")])
def test_a_watchdog_that_is_not_ours_is_not_fed(limit: str, pid: str | None) -> None:
    variables = {"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": limit} | ({"WATCHDOG_PID": pid} if pid else {})
    assert Notifier.from_environment(variables).ping_every_s is None


def test_a_passed_socket_is_used_with_the_connections_that_wait_in_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = socket.create_connection(listening.getsockname(), timeout=10)
        code = f"import os; os.dup2({listening.fileno()}, 3); os.set_inheritable(3, True)\n" + TAKE
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"LISTEN_FDS": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
            pass_fds=(listening.fileno(),),
            timeout=60,
            check=False,
        )
        assert done.returncode == 0
        assert client.recv(10) == b"taken"
        client.close()


def test_sockets_passed_to_another_process_are_left_alone() -> None:
    assert passed_sockets({"LISTEN_FDS": "1", "LISTEN_PID": "1"}) == ()
    assert passed_sockets({}) == ()
