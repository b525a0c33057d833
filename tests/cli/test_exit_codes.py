"""Every exit code has one meaning; here is a command for each."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from qwenctl.errors import ExitCode
from tests.fakes.home import Home

SMALL = Path(__file__).parents[1] / "machines/m1-8gb.json"
BUG = """
import sys, types
import click
from qwenctl.cli import commands
from qwenctl.cli.group import common
from qwenctl.cli.main import run
@click.command("boom")
@common
def command():
    raise ZeroDivisionError("nothing to divide by")
commands.COMMANDS["boom"] = "Fails."
sys.modules["qwenctl.cli.boom"] = types.SimpleNamespace(command=command)
sys.exit(run(["--json", "boom"]))
"""
COMMANDS: dict[ExitCode, tuple[tuple[str, ...], dict[str, str]]] = {
    ExitCode.OK: (("settings",), {}),
    ExitCode.FAILED: (("plan", "--hardware", "nowhere.json"), {}),
    ExitCode.USAGE: (("settings",), {"QWENCTL_CONTEXT__TOKENS": "many"}),
    ExitCode.NOT_RUNNING: (("status",), {}),
    ExitCode.NO_FIT: (("plan", "--hardware", str(SMALL), "--quant", "Q8_0"), {}),
    ExitCode.NO_SERVER: (("up", "--profile", "demo"), {"QWENCTL_SERVER__BINARY": "/nowhere"}),
    ExitCode.FETCH: (("up", "--profile", "demo"), {"QWENCTL_MODEL__PATH": "/nowhere.gguf"}),
    ExitCode.NOT_READY: (("up", "--profile", "demo", "--timeout", "0.001"), {}),
}


def test_every_code_is_shown() -> None:
    assert set(COMMANDS) | {ExitCode.BUG} == set(ExitCode)


@pytest.mark.parametrize("code", COMMANDS, ids=lambda code: code.name.lower())
def test_a_command_exits_with_its_code_and_says_so(home: Home, code: ExitCode) -> None:
    words, variables = COMMANDS[code]
    if code == ExitCode.NOT_READY:
        words = (*words, "--port", str(home.port))
    ran = home.run("--json", *words, **variables)
    envelope = json.loads(ran.out)
    assert ran.code == code, ran
    assert envelope["ok"] is (code == ExitCode.OK)
    if code != ExitCode.OK:
        assert envelope["error"]["code"] == code.name.lower()


def test_what_nobody_expected_is_a_bug_with_its_traceback(bare_home: Home) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BUG],
        env=bare_home.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == ExitCode.BUG
    assert json.loads(done.stdout)["error"]["code"] == "bug"
    assert "ZeroDivisionError" in done.stderr


def test_progress_is_never_on_stdout(home: Home) -> None:
    ran = home.run("--json", "up", "--profile", "demo", "--port", str(home.port))
    assert ran.code == 0, ran
    assert len(ran.out.splitlines()) == 1
    again = home.run("--json", "up")
    assert json.loads(again.out)["data"]["changed"] is False
