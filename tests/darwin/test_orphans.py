"""No llama-server outlives its daemon on a Mac, and one that does is seen and ended."""

import contextlib
import json
import os
import sys
from pathlib import Path

import psutil

from qwenctl.control.state_dir import CHILD
from qwenctl.engine.lifeline import NAME
from tests.darwin.mac import Mac
from tests.fakes.home import kill, runs, until
from tests.fakes.process_group import group

WITHIN_S = 10.0
PROMPT_S = 3.0
"""The watcher is quick; the rest is for a machine that is busy."""


def test_a_server_ends_with_the_program_that_took_its_daemons_place(mac: Mac) -> None:
    mac.up()
    server, daemon = mac.status()["pid"], mac.status()["daemon_pid"]
    ran = mac.run("reexec")
    assert ran.code == 0, ran.err
    assert (mac.status()["pid"], mac.status()["daemon_pid"]) == (server, daemon), "both processes stay"
    assert NAME in [word for each in group(server) for word in each.cmdline()], "and its watcher"
    kill(daemon)
    until(lambda: not group(server), PROMPT_S)


def test_launchd_starts_a_daemon_again_that_has_one_server(mac: Mac) -> None:
    mac.boot()
    mac.state.mkdir(parents=True)
    (mac.state / "config.toml").write_text(f'profile = "demo"\n[server]\nport = {mac.port}\n')
    ran = mac.run("service", "install")
    assert ran.code == 0, ran.err
    until(lambda: mac.status().get("phase") == "ready", 60)
    daemon, server = mac.status()["daemon_pid"], mac.status()["pid"]
    kill(daemon)
    until(lambda: not group(server), PROMPT_S)
    until(lambda: mac.status().get("daemon_pid") != daemon and mac.status().get("phase") == "ready", 60)
    assert mac.servers() == [mac.status()["pid"]]


def test_a_server_that_outlived_its_daemon_is_seen_and_ended(mac: Mac) -> None:
    """Its watcher was killed first. The clock was set, and Homebrew has another version of the program.

    It was started by a link, as Homebrew makes one, which leads to the new version now. psutil then takes the
    link for the name of the program.
    """
    engine, newer, link = (mac.path / name for name in ("engine", "newer", "link"))
    for program in (engine, newer):
        program.write_bytes(Path("/bin/sleep").read_bytes())
        program.chmod(0o755)
    link.symlink_to(engine)
    mac.state.mkdir(parents=True)
    words = ["sh", "-c", f"exec '{link}' 100"]
    with mac.begun(words) as process:
        try:
            until(lambda: psutil.Process(process.pid).exe() == str(engine), WITHIN_S)
            assert _kept(mac, process.pid)["executable"] == str(engine)
            mac.change(clock_step_s=3)
            link.unlink()
            link.symlink_to(newer)
            engine.unlink()

            status = mac.json("status")["error"]
            assert f"its server still runs (pid {process.pid})" in status["message"]
            assert "qwenctl down" in status["hint"]
            checks = mac.json("doctor", "--profile", "demo")["data"]["checks"]
            [check] = [check for check in checks if check["name"] == "leftover"]
            assert f"{link} (pid {process.pid})" in check["finding"]
            ran = mac.run("down")
            assert (ran.code, ran.out) == (0, "stopped\n")
            assert process.wait(WITHIN_S) == -9
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
    assert mac.json("status")["error"]["message"].endswith("the daemon is not running")


def test_a_record_of_an_earlier_version_is_understood(mac: Mac) -> None:
    """It has the start time with the steps of the clock. Who serves at our socket is ours all the same."""
    mac.state.mkdir(parents=True)
    for socket, ours in (("stranger", False), (str(mac.state / "child.sock"), True)):
        words = [sys.executable, "-c", "import time; time.sleep(100)", "--host", socket]
        with mac.begun(words) as process:
            try:
                kept = _kept(mac, process.pid)
                kept["started"] = repr(float(kept["started"]) + 3.25)
                (mac.state / CHILD).write_text(json.dumps(kept))
                assert mac.run("down").out == ("stopped\n" if ours else "not running\n")
                assert runs(process.pid) != ours
            finally:
                process.kill()


def _kept(mac: Mac, pid: int) -> dict[str, str]:
    """Let the Mac's own program keep who a process is, and return it."""
    code = "import sys; from pathlib import Path; from qwenctl.daemon.child_record import record_child; "
    code += "print(record_child(Path(sys.argv[1]), int(sys.argv[2])))"
    ran = mac.command([str(mac.python), "-c", code, str(mac.state), str(pid)])
    assert ran.out == "None\n", ran
    kept: dict[str, str] = json.loads((mac.state / CHILD).read_text())
    assert os.getpgid(pid), "it runs"
    return kept
