"""``up`` where no engine is usable: it says what to type, or installs one, and asks only who can answer.

The releases come from a server on loopback, whose archives hold a script that starts the bundled one.
"""

import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from qwenctl.cli.output import CONTAINER_FILES
from qwenctl.deploy.missing_engine import install_policy
from qwenctl.engine.builds.installed_engines import chosen
from qwenctl.engine.find import candidates
from qwenctl.engine.program_files import fingerprint
from qwenctl.settings.types import Settings
from tests.fakes.engine_archive import SIGILL, asset_name, engine_archive
from tests.fakes.home import Home, until
from tests.fakes.release_server import ReleaseServer

TAG = "b11500"
CANNOT_ASK = bool(os.environ.get("CI")) or any(Path(name).exists() for name in CONTAINER_FILES)


@pytest.fixture
def empty_home(home: Home) -> Home:
    """A home in which every engine of this machine is one that did not work."""
    home.environment["PATH"] = "/usr/bin:/bin"
    refused = {fingerprint(one.path): "a test" for one in candidates("auto", home.path / "none")}
    home.state.mkdir(parents=True)
    (home.state / "refused_engines.json").write_text(json.dumps(refused))
    return home


@pytest.fixture
def releases(empty_home: Home) -> Iterator[ReleaseServer]:
    """One release with a build for this machine; the home's settings name the server."""
    with ReleaseServer({TAG: {asset_name(TAG): engine_archive(TAG)}}) as server:
        configure(empty_home, server)
        yield server


def configure(home: Home, server: ReleaseServer, more: str = "") -> None:
    config = home.path / ".config/qwenctl/config.toml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(f'profile = "demo"\n[server]\nport = {home.port}\nreleases = "{server.base}"\n{more}\n')


def engines(home: Home) -> Path:
    return home.path / ".local/share/qwenctl/engines"


def test_without_a_terminal_nothing_is_asked_and_the_command_is_said(
    empty_home: Home, releases: ReleaseServer
) -> None:
    ran = empty_home.run("up")
    assert ran.code == 5
    assert ran.err.startswith("cannot use ")
    assert "hint: qwenctl engine install, or qwenctl up --yes, installs one" in ran.err
    assert releases.log == []
    envelope = empty_home.json("up")
    assert envelope["error"]["code"] == "no_server"


@pytest.mark.usefixtures("releases")
def test_yes_installs_one_and_serves(empty_home: Home) -> None:
    ran = empty_home.run("up", "--yes")
    assert ran.code == 0, ran.err
    assert chosen(engines(empty_home)).current == "b11500-cpu"
    assert empty_home.status()["engine"]["name"] == "b11500-cpu"
    assert empty_home.run("up").code == 0


def test_auto_lets_the_daemon_install_one(empty_home: Home, releases: ReleaseServer) -> None:
    configure(empty_home, releases, 'install = "auto"')
    ran = empty_home.run("up")
    assert ran.code == 0, ran.err
    assert empty_home.status()["engine"]["name"] == "b11500-cpu"


def test_never_is_kept_to(empty_home: Home, releases: ReleaseServer) -> None:
    configure(empty_home, releases, 'install = "never"')
    ran = empty_home.run("up", "--yes")
    assert ran.code == 5
    assert "installs one" not in ran.err
    assert releases.log == []


def test_one_that_does_not_work_here_is_not_kept(empty_home: Home) -> None:
    with ReleaseServer({TAG: {asset_name(TAG): engine_archive(TAG, SIGILL)}}) as server:
        configure(empty_home, server)
        ran = empty_home.run("up", "--yes")
    assert ran.code == 5
    assert "another processor" in ran.err
    assert chosen(engines(empty_home)).current is None


def test_no_network_leaves_the_first_reason_and_a_way(empty_home: Home) -> None:
    config = empty_home.path / ".config/qwenctl/config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(
        'profile = "demo"\n[server]\nreleases = "http://127.0.0.1:9/repos/x/y"\n[fetch]\noffline = true\n'
    )
    ran = empty_home.run("up", "--yes")
    assert ran.code == 5
    assert "did not work here" in ran.err


@pytest.mark.skipif(CANNOT_ASK, reason="nothing is asked in a container or in CI")
@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 5)])
@pytest.mark.usefixtures("releases")
def test_on_a_terminal_it_asks(empty_home: Home, answer: str, code: int) -> None:
    said, ended = on_a_terminal(empty_home, ["up"], "? [Y/n]", answer)
    assert f"install llama.cpp {TAG} for " in said
    assert " MB)? [Y/n]" in said
    assert ended == code
    assert (chosen(engines(empty_home)).current is None) is (answer == "n")


def on_a_terminal(home: Home, arguments: list[str], question: str, answer: str) -> tuple[str, int]:
    """Run a command on a terminal of its own; answer its question. Return what it showed, and its code."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "qwenctl", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=home.environment,
        cwd=home.path,
        start_new_session=True,
    )
    os.close(theirs)
    said, give_up_at, answered = b"", time.monotonic() + 60, False
    while time.monotonic() < give_up_at:
        if select.select([ours], [], [], 0.1)[0]:
            try:
                said += os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
        if not answered and question.encode() in said:
            os.write(ours, f"{answer}\n".encode())
            answered = True
    os.close(ours)
    until(lambda: process.poll() is not None, 30)
    return said.decode("utf-8", "replace"), process.returncode


@pytest.mark.parametrize(
    ("table", "yes", "can_ask", "policy"),
    [
        ({}, False, True, "ask"),
        ({}, False, False, "refuse"),
        ({}, True, False, "install"),
        ({"install": "auto"}, False, False, "install"),
        ({"install": "never"}, True, True, "refuse"),
        ({"binary": "/opt/llama-server"}, True, True, "refuse"),
    ],
)
def test_who_decides_whether_one_is_installed(
    table: dict[str, str],
    yes: bool,  # noqa: FBT001
    can_ask: bool,  # noqa: FBT001
    policy: str,
) -> None:
    settings = Settings.model_validate({"server": table})
    assert install_policy(settings, yes=yes, can_ask=can_ask) == policy


def test_the_processor_is_used_on_purpose(home: Home) -> None:
    """``--cpu`` is kept like any flag of up, until --reset."""
    home.up("--cpu")
    assert home.json("settings")["data"]["hardware.gpu"] == {"value": "off", "origin": "up"}
