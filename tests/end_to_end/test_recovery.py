"""The daemon itself is killed, hangs, or loses the ground under it."""

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import psutil
import pytest

from qwenctl.supervise.identity import identify, read_identity
from tests.fakes.disk import fill, small_disk
from tests.fakes.home import Home, kill, runs, until
from tests.fakes.scripted_server import fake_server

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
            until(lambda: not runs(server.pid), within=5)  # noqa: B023 - called in this turn only
            home.up()
            assert home.status()["ready"]
    assert len(home.servers()) == 1


def test_a_leftover_server_of_a_dead_daemon_is_ended_before_a_new_one_starts(home: Home) -> None:
    """As on a system without the parent-death signal: the record names a process that still runs."""
    home.up()
    status = home.status()
    record = (home.state / "child.json").read_bytes()
    os.kill(status["daemon_pid"], signal.SIGSTOP)  # it cannot clean up after itself
    kill(status["daemon_pid"])
    until(lambda: not runs(status["pid"]), within=5)
    (home.state / "child.json").write_bytes(
        record.replace(str(status["pid"]).encode(), str(os.getpid()).encode())
    )
    home.up()  # the number is this test's own process now, which must survive
    assert home.status()["ready"]


def test_a_server_that_a_shell_script_starts_is_known_by_its_own_program(home: Home) -> None:
    """Installers begin a script with a line of shell where the path of Python is long or has a space."""
    real = fake_server(home)
    script = home.path / "with a space" / "llama-server"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\n[ "$1" = -m ] && sleep 0.3\nexec {sys.executable} {real} "$@"\n')
    script.chmod(0o755)
    home.environment["QWENCTL_SERVER__BINARY"] = str(script)
    home.up()
    kept = read_identity(home.state / "child.json")
    assert kept is not None
    assert identify(kept.pid) == kept, "a daemon that finds it left over can end it"


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
    until(lambda: _healthy(endpoint) and not runs(status["pid"]), within=20)
    until(
        lambda: home.state.exists() and home.status().get("ready"), within=30
    )  # it makes itself at home again
    assert home.status()["daemon_pid"] == status["daemon_pid"]
    os.kill(status["daemon_pid"], signal.SIGTERM)
    until(lambda: not runs(status["daemon_pid"]), within=20)


def _healthy(endpoint: str) -> bool:
    try:
        return httpx.get(f"{endpoint.removesuffix('/v1')}/health", timeout=1).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.mark.skipif(not hasattr(psutil.Process, "rlimit"), reason="needs the limits of another process")
def test_without_a_file_descriptor_nothing_starts_until_there_are_some_again(home: Home) -> None:
    endpoint = home.up()
    status = home.status()
    daemon = psutil.Process(status["daemon_pid"])
    soft, hard = daemon.rlimit(psutil.RLIMIT_NOFILE)
    assert soft == min(hard, 65_536)  # all that is ours for the asking
    daemon.rlimit(psutil.RLIMIT_NOFILE, (daemon.num_fds(), hard))
    kill(status["pid"])
    until(lambda: not runs(status["pid"]), within=5)
    until(lambda: home.status()["phase"] == "backoff", within=20)
    assert "too many open files" in home.status()["last_ending"]["summary"]
    daemon.rlimit(psutil.RLIMIT_NOFILE, (soft, hard))
    until(lambda: home.status().get("ready"), within=30)
    assert _healthy(endpoint)
    assert home.status()["daemon_pid"] == status["daemon_pid"]
    assert "spawn_failed" in home.status()["restarts"]["by_cause"]


def test_a_full_disk_is_a_trouble_that_status_tells_and_no_more(home: Home) -> None:
    home.state.parent.mkdir(parents=True)
    with small_disk(home.state, "8m"):
        endpoint = home.up()
        status = home.status()
        fill(home.state / "rest")
        kill(status["pid"])
        until(lambda: _healthy(endpoint) and not runs(status["pid"]), within=20)
        ran = home.run("status")
        assert ran.code == 0, ran.err
        assert "trouble" in ran.out
        assert "no space left" in ran.out
        (home.state / "rest").unlink()
        until(lambda: home.status().get("ready") and not home.status()["troubles"], within=30)
        assert json.loads((home.state / "child.json").read_text())["pid"] == home.status()["pid"]
        told = [json.loads(line) for line in (home.state / "events.jsonl").read_text().splitlines()]
        assert [one["event"] for one in told][-5:] == [
            "child_ended",
            "child_started",
            "loaded",
            "restoring",
            "child_ready",
        ]
        assert home.run("down").code == 0
