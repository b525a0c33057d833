"""The unit and the agent that ship with the package are valid."""

import plistlib
import shutil
import subprocess

import pytest

from qwenctl import paths


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is missing")
def test_the_systemd_unit_is_valid() -> None:
    unit = paths.data_root() / "systemd/qwenctl.service"
    done = subprocess.run(
        ["systemd-analyze", "verify", unit],  # noqa: S607 - PATH is what a person has
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert str(unit) not in done.stderr


def test_the_launchd_agent_is_valid() -> None:
    agent = plistlib.loads((paths.data_root() / "launchd/qwenctl.plist").read_bytes())
    assert agent["ProgramArguments"][-2:] == ["qwenctl", "run"]
    assert agent["KeepAlive"] == {"SuccessfulExit": False}
