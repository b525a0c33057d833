"""``qwenctl down`` is as patient as the daemon's settings, and leaves no server behind."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from qwenctl.control.state_dir import lock
from qwenctl.supervise.identity import Identity, identify, read_identity, write_identity
from tests.fakes.home import Home, kill, until
from tests.fakes.scripted_server import fake_server

FILLED = [{"id": 0, "is_processing": False, "n_prompt_tokens": 5000, "prompt": "once upon a time"}]
WITHIN = 20


@contextmanager
def running_server() -> Iterator[subprocess.Popen[bytes]]:
    """A process that could be a server whose daemon has gone."""
    process = subprocess.Popen(["/bin/sleep", "1000"], start_new_session=True)
    try:
        until(lambda: (who := identify(process.pid)) and who.executable.endswith("sleep"), WITHIN)
        yield process
    finally:
        process.kill()
        process.wait()


def keep(home: Home, who: Identity) -> Path:
    """Say that this process is the server, as a daemon does."""
    home.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_identity(home.state / "child.json", who)
    return home.state / "child.json"


def test_down_waits_for_a_save_that_takes_long_and_leaves_nothing(home: Home) -> None:
    """Longer than the gate waits for answers, and than the server may take to end."""
    fake_server(home, save_s=6, term_s=1.5, busy=FILLED)
    home.environment |= {
        "QWENCTL_GATE__DRAIN_TIMEOUT_S": "0.1",
        "QWENCTL_SUPERVISE__STOP_TIMEOUT_S": "4",
    }
    home.up()
    assert home.status()["stop_timeout_s"] > 60
    ran = home.run("down")
    assert (ran.code, ran.out, "killing" in ran.err) == (0, "stopped\n", False)
    left = {path.name for path in home.state.iterdir()}
    assert not left & {"status.json", "child.json", "control.sock"}
    assert '"tokens":5000' in (home.state / "warm/warm.json").read_text()
    assert "daemon_stopped" in (home.state / "events.jsonl").read_text()


def test_down_ends_the_server_of_a_daemon_that_was_killed(bare_home: Home) -> None:
    with running_server() as server:
        who = identify(server.pid)
        assert who is not None
        path = keep(bare_home, who)
        (bare_home.state / "status.json").write_text("{}")
        ran = bare_home.run("down")
        assert (ran.code, ran.out) == (0, "stopped\n")
        assert f"pid {server.pid}" in ran.err
        assert server.wait(WITHIN) == -9
        assert not path.exists()
        assert not (bare_home.state / "status.json").exists()
    again = bare_home.run("down")
    assert (again.code, again.out) == (0, "not running\n")


def test_down_ends_the_server_of_a_daemon_that_dies_meanwhile(bare_home: Home) -> None:
    """It holds its lock when ``down`` looks, answers nothing, and leaves its server behind."""
    bare_home.state.mkdir(mode=0o700, parents=True)
    code = f"import time; from {lock.__module__} import lock; from pathlib import Path; "
    code += f"held = lock(Path({str(bare_home.state)!r})); print('held', flush=True); time.sleep(1000)"
    words = [sys.executable, "-c", code]
    with (
        running_server() as server,
        subprocess.Popen(words, env=bare_home.environment, stdout=subprocess.PIPE) as daemon,
    ):
        assert daemon.stdout is not None
        assert daemon.stdout.readline() == b"held\n"
        who = identify(server.pid)
        assert who is not None
        path = keep(bare_home, who)
        ran = bare_home.run("down")
        daemon.kill()
        assert (ran.code, ran.out) == (0, "stopped\n"), ran
        assert server.wait(WITHIN) == -9
        assert not path.exists()


def test_down_leaves_a_stranger_with_the_servers_number_alone(bare_home: Home) -> None:
    with running_server() as stranger:
        keep(bare_home, Identity(stranger.pid, "0/1", "/usr/bin/llama-server"))
        ran = bare_home.run("down")
        assert (ran.code, ran.out) == (0, "not running\n")
        assert stranger.poll() is None


def test_the_doctor_names_a_server_that_outlived_its_daemon(bare_home: Home) -> None:
    with running_server() as server:
        who = identify(server.pid)
        assert who is not None
        keep(bare_home, who)
        checks = bare_home.json("doctor", "--profile", "demo")["data"]["checks"]
        [check] = [check for check in checks if check["name"] == "leftover"]
        assert (check["verdict"], "qwenctl down" in check["fix"]) == ("problem", True)
        assert f"pid {server.pid}" in check["finding"]
        assert server.poll() is None
    checks = bare_home.json("doctor", "--profile", "demo")["data"]["checks"]
    assert not [check for check in checks if check["name"] == "leftover"]


def test_the_server_of_a_killed_daemon_is_gone_after_down(home: Home) -> None:
    """Linux ends it with its daemon; elsewhere it lives on until ``down``. Afterwards nobody listens."""
    endpoint = home.up()
    server = read_identity(home.state / "child.json")
    assert server is not None
    assert server.pid == home.status()["pid"]
    kill(home.status()["daemon_pid"])
    assert home.run("down").code == 0
    until(lambda: identify(server.pid) != server, WITHIN)
    assert not (home.state / "child.json").exists()
    try:
        httpx.get(f"{endpoint}/models")
    except httpx.ConnectError:
        return
    raise AssertionError(endpoint)
