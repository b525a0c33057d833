"""The examples of docs/: run where they can be, else held against what they are written in. Twice is once."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from qwenctl.cli.group import group
from qwenctl.cli.output import Session
from tests.fakes.home import Home

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLES = DOCS / "examples"
INSTRUCTIONS = {
    "FROM",
    "RUN",
    "ENV",
    "USER",
    "VOLUME",
    "EXPOSE",
    "STOPSIGNAL",
    "HEALTHCHECK",
    "ENTRYPOINT",
    "CMD",
}
"""Source: Docker's Dockerfile reference."""
CLOUD_CONFIG = {"packages", "write_files", "runcmd"}
"""Source: cloud-init's module reference."""


def shim(home: Home) -> str:
    """A PATH with a ``qwenctl`` on it, as an installed package gives one."""
    folder = home.path / "bin"
    folder.mkdir(exist_ok=True)
    script = folder / "qwenctl"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m qwenctl "$@"\n')
    script.chmod(0o755)
    return f"{folder}:{home.environment['PATH']}"


def provision(home: Home) -> list[dict[str, Any]]:
    """Run the script; return what each command printed."""
    done = subprocess.run(
        [str(EXAMPLES / "provision.sh")],
        env=home.environment | {"PATH": shim(home), "PROFILE": "demo", "PORT": str(home.port)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_shell_script_serves_and_a_second_run_changes_nothing(home: Home) -> None:
    first = provision(home)
    assert [answer["command"] for answer in first] == ["settings", "fetch", "up"]
    assert first[-1]["data"]["changed"] is True
    before = home.status()
    config = home.path / ".config/qwenctl/config.toml"
    written = config.stat().st_mtime_ns
    again = provision(home)
    assert [answer["data"].get("changed", False) for answer in again] == [False, False, False]
    assert home.status()["pid"] == before["pid"]
    assert config.stat().st_mtime_ns == written


def test_the_shell_script_stops_at_a_wrong_setting_before_it_replaces_anything(bare_home: Home) -> None:
    done = subprocess.run(
        [str(EXAMPLES / "provision.sh")],
        env=bare_home.environment | {"PATH": shim(bare_home), "PORT": "many"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert not (bare_home.path / ".config").exists()


def understood(words: list[str]) -> None:
    """A command line that qwenctl accepts; with --help it does nothing."""
    done = CliRunner().invoke(group, [*words[1:], "--help"], obj=Session())
    assert done.exit_code == 0, (words, done.output)


def test_the_cloud_init_file_holds_valid_settings_and_commands(bare_home: Home) -> None:
    text = (EXAMPLES / "cloud-init.yaml").read_text()
    assert text.startswith("#cloud-config\n")
    data = yaml.safe_load(text)
    assert set(data) == CLOUD_CONFIG
    (written,) = data["write_files"]
    config = bare_home.path / "config.toml"
    config.write_text(written["content"])
    assert bare_home.run("settings", "check", str(config)).code == 0
    for line in data["runcmd"]:
        assert subprocess.run(["sh", "-nc", line], check=False, timeout=20).returncode == 0  # noqa: S607
    understood(shlex.split(data["runcmd"][-1]))


def test_the_ansible_play_names_its_modules_in_full_and_says_when_it_changed() -> None:
    (play,) = yaml.safe_load((EXAMPLES / "ansible.yaml").read_text())
    for task in play["tasks"]:
        (module,) = (key for key in task if key.startswith("ansible.builtin."))
        if module.endswith("command"):
            words = [str(word) for word in task[module]["argv"]]
            understood([word.replace("{{ qwenctl_scope }}", "user") for word in words])
            assert "changed_when" in task


@pytest.mark.skipif(shutil.which("ansible-playbook") is None, reason="ansible-playbook is missing")
def test_ansible_accepts_the_play() -> None:
    command = ["ansible-playbook", "--syntax-check", "-i", "localhost,", str(EXAMPLES / "ansible.yaml")]
    assert subprocess.run(command, check=False, timeout=60).returncode == 0


def test_the_dockerfile_runs_the_daemon_as_nobody_special(bare_home: Home) -> None:
    text = re.sub(r"\\\n\s*", "", (EXAMPLES / "Dockerfile").read_text())
    steps = [line.split(" ", 1) for line in text.splitlines() if line and not line.startswith("#")]
    assert {name for name, _ in steps} <= INSTRUCTIONS
    told = dict(steps)
    assert told["USER"] == "qwenctl"
    understood(json.loads(told["ENTRYPOINT"]) + json.loads(told["CMD"]))
    understood(json.loads(told["HEALTHCHECK"].partition("CMD ")[2]))
    settings = dict(word.split("=", 1) for word in told["ENV"].split() if word.startswith("QWENCTL_"))
    settings["QWENCTL_SERVER__BINARY"] = "auto"
    assert bare_home.run("settings", **settings).code == 0


@pytest.mark.parametrize("page", ["service.md", "provisioning.md"])
def test_every_command_of_the_pages_exists(page: str) -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)
    lines = {line.removeprefix("sudo ") for block in blocks for line in block.splitlines()}
    commands = [shlex.split(line, comments=True) for line in lines if line.startswith("qwenctl ")]
    assert commands
    for words in commands:
        understood([word for word in words if word != "--help"])
