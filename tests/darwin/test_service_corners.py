"""A service where something is in its way: no session, a disabled label, root, Homebrew's own service."""

import json
import os
import plistlib

import pytest

from tests.darwin.homebrew import FORMULA, service_plist
from tests.darwin.mac import REPOSITORY, Mac
from tests.fakes.home import until

DEMO = ("--profile", "demo")
LABEL, BREW = "gui/501/qwenctl", "homebrew.mxcl.qwenctl"


def test_without_a_session_nothing_is_left_behind(bare_mac: Mac) -> None:
    """Over ssh, with nobody at the screen. What is left would be in the way of every later up."""
    bare_mac.boot()
    bare_mac.settle()
    bare_mac.change(session="Background", launchd={"no_session_code": 5})
    refused = bare_mac.run(*DEMO, "service", "install")
    assert refused.code == 1
    assert "nobody is logged in" in refused.err
    assert "--system" in refused.err
    assert not bare_mac.agent.exists()
    assert bare_mac.run(*DEMO, "service", "install", "--no-start").code == 0
    removed = bare_mac.run("service", "uninstall")
    assert removed.code == 0, removed.err
    assert not bare_mac.agent.exists()


def test_a_label_that_was_disabled_by_hand_is_enabled_and_an_uninstall_leaves_nothing(bare_mac: Mac) -> None:
    bare_mac.boot()
    bare_mac.settle()
    bare_mac.launchctl("disable", LABEL)
    installed = bare_mac.run(*DEMO, "service", "install", DYLD_LIBRARY_PATH="/opt/llama/lib")
    assert installed.code == 0, installed.err
    until((bare_mac.logs / "daemon.log").exists, within=20)
    plist = plistlib.loads(bare_mac.agent.read_bytes())
    variables = plist["EnvironmentVariables"]
    assert {"/opt/homebrew/bin", "/usr/local/bin"} < set(variables["PATH"].split(":"))
    assert variables["DYLD_LIBRARY_PATH"] == "/opt/llama/lib"
    (bare_mac.state / "server.log").write_text("what an older version left")
    assert bare_mac.run("service", "uninstall").code == 0
    assert bare_mac.launchctl("print", LABEL).code == 113
    assert not bare_mac.logs.exists()
    assert not [path.name for path in bare_mac.state.iterdir() if path.suffix == ".log"]


@pytest.mark.skipif(os.geteuid() != 0, reason="a Mac has a root only where this one is")
def test_root_with_a_home_that_does_not_exist_gets_no_traceback(bare_mac: Mac) -> None:
    """A variable of another machine, or a home on a disk that is away: each command ends as for anybody."""
    bare_mac.change(root=True)
    for words, code in ((("--version",), 0), (("status",), 3), (("service", "status"), 3)):
        ran = bare_mac.command([str(bare_mac.python), "-m", "qwenctl", *words], {"HOME": "/nowhere/at/all"})
        assert "Traceback" not in ran.err, ran.err
        assert ran.code == code, ran


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_a_service_of_the_machine_belongs_to_its_user_and_is_seen_by_them(bare_mac: Mac) -> None:
    bare_mac.boot()
    bare_mac.settle()
    bare_mac.change(root=True)
    installed = bare_mac.run(*DEMO, "service", "install", "--system")
    assert installed.code == 0, installed.err
    for folder in (bare_mac.state, bare_mac.logs):
        assert folder.stat().st_uid == 501
    until(lambda: "\tstate = running" in bare_mac.launchctl("print", "system/qwenctl").out, within=20)
    bare_mac.change(root=False)
    seen = bare_mac.json("service", "status")["data"]
    assert (seen["scope"], seen["running"]) == ("system", True)
    bare_mac.change(root=True)
    assert bare_mac.run("down").code == 0
    bare_mac.change(root=False)
    refused = bare_mac.run("up")
    assert refused.code == 1
    assert "service of the machine" in refused.err
    assert "sudo" in refused.err
    bare_mac.change(root=True)
    assert bare_mac.run("service", "uninstall").code == 0
    bare_mac.change(root=False)
    assert "not installed" in bare_mac.run("service", "status").err


def test_the_service_of_homebrew_is_used_and_never_fought(mac: Mac) -> None:
    """As ``brew services start qwenctl`` leaves it; see packaging/homebrew/qwenctl.rb."""
    mac.boot()
    mac.settle()
    path = mac.agent.with_name(f"{BREW}.plist")
    path.parent.mkdir(parents=True)
    (mac.system / "root/opt/homebrew/var/log").mkdir(parents=True)
    program = mac.system / "root/opt/homebrew/opt/qwenctl/bin/qwenctl"
    program.parent.mkdir(parents=True)
    program.write_text(
        f'#!/bin/sh\nPYTHONPATH={REPOSITORY} exec {mac.python} -m qwenctl --profile demo "$@"\n'
    )
    program.chmod(0o755)
    job = service_plist(FORMULA.read_text())
    path.write_bytes(plistlib.dumps(job))
    refused = mac.run("service", "install")
    assert refused.code == 1
    assert "brew services stop qwenctl" in refused.err
    plan = mac.json(*DEMO, "plan", PATH="/usr/bin:/bin:/usr/sbin:/sbin")["data"]
    assert plan["engine"]["place"] == "Homebrew"
    up = mac.run("up")
    assert up.code == 0, up.err
    printed = mac.launchctl("print", f"gui/501/{BREW}")
    assert f"\tpid = {mac.status()['daemon_pid']}" in printed.out
    assert (mac.logs / "daemon.log").exists()
    state = mac.run("service", "status")
    assert state.code == 0
    assert "Homebrew" in state.out
    doctor = json.loads(mac.run("--json", "doctor").out)["data"]
    (service,) = (check for check in doctor["checks"] if check["name"] == "service")
    assert (service["verdict"], service["finding"]) == ("ok", "running")
    assert mac.run("down").code == 0
    assert mac.launchctl("print", f"gui/501/{BREW}").code == 113
    assert path.exists()
