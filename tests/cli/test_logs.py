"""The server's log and the daemon's, as files or in the journal."""

import json
import subprocess
import sys

import pytest

from tests.fakes.home import Home, until


def write_log(home: Home, name: str, *lines: str) -> None:
    home.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (home.state / name).open("a") as file:
        file.write("".join(f"{line}\n" for line in lines))


def install_unit(home: Home) -> None:
    """As ``service install`` leaves it: there is a unit, and nothing is asked of its manager here."""
    unit = home.path / ".config/systemd/user/qwenctl.service"
    unit.parent.mkdir(parents=True)
    unit.write_text("[Service]\n")


def test_the_daemons_log_is_another_one_than_the_servers(served: Home) -> None:
    daemon, server = served.run("logs", "--daemon"), served.run("logs")
    assert "phase=ready" in daemon.out
    assert "phase=ready" not in server.out
    last = served.json("logs", "--daemon", "-n", "1")["data"]["lines"]
    assert last == [daemon.out.splitlines()[-1]]


def test_the_daemons_log_outlives_the_daemon_and_is_followed_line_by_line(bare_home: Home) -> None:
    write_log(bare_home, "daemon.log.1", "zero")
    write_log(bare_home, "daemon.log", "one", "two")
    assert bare_home.run("logs", "--daemon", "-n", "2").out == "one\ntwo\n"
    assert bare_home.run("logs", "--daemon").out == "zero\none\ntwo\n"
    words = [sys.executable, "-m", "qwenctl", "--json", "logs", "--daemon", "-f", "-n", "1"]
    following = subprocess.Popen(
        words, env=bare_home.environment, cwd=bare_home.path, stdout=subprocess.PIPE, text=True
    )
    try:
        assert following.stdout is not None
        assert json.loads(following.stdout.readline()) == {"line": "two"}
        write_log(bare_home, "daemon.log", "three")
        assert json.loads(following.stdout.readline()) == {"line": "three"}
    finally:
        following.kill()
        following.communicate()


def test_what_launchd_caught_is_shown_where_there_is_no_other_log(bare_home: Home) -> None:
    write_log(bare_home, "launchd.log", "Traceback")
    assert bare_home.run("logs", "--daemon").out == "Traceback\n"


def test_without_a_log_the_daemon_that_writes_one_is_named(bare_home: Home) -> None:
    ran = bare_home.run("logs", "--daemon")
    assert ran.code == 3
    assert "qwenctl up starts a daemon" in ran.err


@pytest.mark.skipif(sys.platform != "linux", reason="needs units of systemd")
def test_under_systemd_the_journal_is_named(bare_home: Home) -> None:
    install_unit(bare_home)
    ran = bare_home.json("logs", "--daemon")
    assert ran["error"]["code"] == "not_running"
    assert ran["error"]["hint"] == "journalctl --user -u qwenctl shows it"
    write_log(bare_home, "daemon.log", "before the service")
    shown = bare_home.run("logs", "--daemon")
    assert shown.out == "before the service\n"
    assert "journalctl --user -u qwenctl" in shown.err


def test_who_cannot_reach_the_daemon_is_sent_to_the_daemons_log(home: Home) -> None:
    home.up()
    (home.state / "control.sock").unlink()
    refused = home.json("restart")
    assert refused["error"]["hint"] == "qwenctl logs --daemon shows its log"
    until((home.state / "control.sock").exists, 30)
