"""The daemon itself is killed, hangs, or loses the ground under it."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import psutil
import pytest

from tests.fakes.home import Home, kill, until

LOAD = {"prompt": "once upon a time", "n_predict": 200}


@contextmanager
def load(endpoint: str) -> Iterator[None]:
    """Ask for answers all the time; errors are expected while servers die."""
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            try:
                httpx.post(f"{endpoint.removesuffix('/v1')}/completion", json=LOAD, timeout=5)
            except httpx.HTTPError:
                stop.wait(0.02)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield
    finally:
        stop.set()
        asking.join()


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.chaos)])
def test_killed_daemons_under_load_leave_no_orphan_and_nothing_in_the_way(home: Home, kills: int) -> None:
    endpoint = home.up()
    with load(endpoint):
        for _ in range(kills):
            status = home.status()
            kill(status["daemon_pid"])
            server = psutil.Process(status["pid"])
            until(lambda: not server.is_running(), within=5)  # noqa: B023 - called in this turn only
            home.up()
            assert home.status()["ready"]
    servers = [p for p in psutil.process_iter() if _is_ours(p, home)]
    assert len(servers) == 1


def _is_ours(process: psutil.Process, home: Home) -> bool:
    try:
        return process.name() == "llama-server" and str(home.path) in " ".join(process.cmdline())
    except psutil.Error:
        return False


def test_a_leftover_server_of_a_dead_daemon_is_ended_before_a_new_one_starts(home: Home) -> None:
    """As on a system without the parent-death signal: the record names a process that still runs."""
    home.up()
    status = home.status()
    record = (home.state / "child.json").read_bytes()
    os.kill(status["daemon_pid"], signal.SIGSTOP)  # it cannot clean up after itself
    kill(status["daemon_pid"])
    until(lambda: not psutil.pid_exists(status["pid"]), within=5)
    (home.state / "child.json").write_bytes(
        record.replace(str(status["pid"]).encode(), str(os.getpid()).encode())
    )
    home.up()  # the number is this test's own process now, which must survive
    assert home.status()["ready"]


def test_status_and_down_work_while_the_daemon_hangs(home: Home) -> None:
    home.up()
    status = home.status()
    os.kill(status["daemon_pid"], signal.SIGSTOP)
    try:
        assert home.run("status").code == 0
        assert home.run("logs", "-n", "1").code == 0
    finally:
        os.kill(status["daemon_pid"], signal.SIGCONT)
    assert home.run("down").code == 0


def test_a_state_folder_that_cannot_be_written_is_a_trouble_and_no_more(home: Home) -> None:
    """Status, events and logs go nowhere; the server serves, and comes back when it is killed."""
    endpoint = home.up()
    status = home.status()
    moved = home.state.with_name("moved")
    home.state.rename(moved)
    kill(status["pid"])
    until(lambda: _healthy(endpoint) and not psutil.pid_exists(status["pid"]), within=20)
    until(
        lambda: home.state.exists() and home.status().get("ready"), within=30
    )  # it makes itself at home again
    assert home.status()["daemon_pid"] == status["daemon_pid"]
    os.kill(status["daemon_pid"], signal.SIGTERM)
    until(lambda: not psutil.pid_exists(status["daemon_pid"]), within=20)


def _healthy(endpoint: str) -> bool:
    try:
        return httpx.get(f"{endpoint.removesuffix('/v1')}/health", timeout=1).status_code == 200
    except httpx.HTTPError:
        return False
