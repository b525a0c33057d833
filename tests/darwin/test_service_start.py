"""launchd starts a daemon later than it says so: what waits for it, and what is said of one that ends."""

import json
import os
import signal

from tests.darwin.mac import Mac
from tests.fakes.home import runs, until

DEMO = ("--profile", "demo")


def test_a_daemon_that_launchd_starts_later_is_waited_for(mac: Mac) -> None:
    """Install, up after down, restart of a daemon that has ended: launchctl says yes before there is one."""
    mac.boot()
    mac.settle()
    (mac.state / "server.log").write_text("of an older version\n")
    mac.logs.mkdir()
    (mac.logs / "launchd.log").write_bytes(b"x" * (2 << 20))
    mac.change(launchd={"start_after_s": 1.0})
    installed = mac.run(*DEMO, "service", "install", "--wait")
    assert installed.code == 0, installed.err
    before = mac.agent.read_text()
    second = mac.run("service", "install")
    assert "kept from the install before: --profile demo" in second.err
    assert mac.agent.read_text() == before
    state = mac.run("service", "status")
    assert state.code == 0
    assert "state                running" in state.out
    assert "active" not in state.out
    assert mac.run("down").code == 0
    up = mac.run("up")
    assert up.code == 0, up.err
    assert mac.run("down").code == 0
    mac.change(launchd={"start_after_s": 0.3, "run_at_load_is_lost": True})
    again = mac.run("restart")
    assert again.code == 0, again.err
    assert (mac.logs / "server.log").read_text().startswith("of an older version\n")
    assert not (mac.state / "server.log").exists()
    assert (mac.logs / "launchd.log").stat().st_size < 1 << 20


def test_an_install_that_waits_meets_a_dead_job_and_one_with_other_settings(mac: Mac) -> None:
    """A daemon that was told to end, then one whose file changes: launchd counts the runs from 1 again.

    The settings that are wrong are right for whoever installs, by a variable that the job does not get.
    """
    mac.boot()
    mac.settle()
    install = (*DEMO, "service", "install", "--wait")
    first = mac.run(*install)
    assert first.code == 0, first.err
    os.kill(mac.status()["daemon_pid"], signal.SIGTERM)
    until(lambda: "= not running" in mac.launchctl("print", "gui/501/qwenctl").out, within=20)
    again = mac.run(*install)
    assert again.code == 0, again.err
    assert "started qwenctl" in again.err
    assert mac.run("status").code == 0

    mac.change(launchd={"hurry": 1})
    mac.settle(server="host = 8")
    changed = mac.run(*install, "--keep-awake", QWENCTL_SERVER__HOST="127.0.0.1")
    assert changed.code == 2, changed.err
    assert "cannot use setting server.host" in changed.err


def test_the_end_of_a_daemon_is_said_and_not_waited_out(bare_mac: Mac) -> None:
    """A setting that became wrong after the install: exit code 2, and launchd tries again once a minute."""
    bare_mac.boot()
    bare_mac.settle()
    bare_mac.change(launchd={"hurry": 1})
    assert bare_mac.run(*DEMO, "service", "install", "--no-start").code == 0
    bare_mac.settle(server="host = 8")
    up = bare_mac.run("up")
    assert up.code == 2, up.err
    assert "cannot use setting server.host" in up.err
    until(lambda: "= spawn scheduled" in bare_mac.launchctl("print", "gui/501/qwenctl").out, within=20)
    look = bare_mac.run("--json", "service", "status")
    assert look.code == 3, look.out
    data = json.loads(look.out)["data"]
    assert (data["running"], data["known"]["last exit code"]) == (False, "2")
    doctor = json.loads(bare_mac.run("--json", "doctor").out)["data"]
    (service,) = (check for check in doctor["checks"] if check["name"] == "service")
    assert service["verdict"] == "problem"
    assert service["finding"] == "spawn scheduled; last exit code 2"


def test_what_cannot_be_mended_by_trying_again_parks_under_launchd(mac: Mac) -> None:
    """A model that does not fit: one start, and the daemon stays and says so."""
    mac.boot()
    mac.change(sysctl={"hw.memsize": str(16 << 30)})
    mac.settle('profile = "qwen3.6-27b"\n[context]\nmin_tokens = 65536')
    installed = mac.run("service", "install", "--wait")
    assert installed.code == 4, installed
    job = mac.job()
    assert job is not None
    assert job["runs"] == "1"
    until(lambda: runs(int(job["pid"])), within=5)
    status = mac.run("status")
    assert status.code == 7
    assert status.out.startswith("failed")
    assert mac.run("service", "status").code == 0
