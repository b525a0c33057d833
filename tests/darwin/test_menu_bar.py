"""The menu-bar script of docs/examples, run by node: osascript, which runs it on a Mac, is not here."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "docs/examples/swiftbar/qwenctl.5s.js"
RUN = """
const said = process.argv.slice(2);
const doShellScript = (line) => said[line.includes("command -v") ? 0 : 1];
globalThis.Application = { currentApplication: () => ({ doShellScript }) };
eval(require("fs").readFileSync(process.argv[1], "utf8").replace(/^#!.*/, "") + "\\nconsole.log(run())");
"""
READY = {
    "phase": "ready",
    "endpoint": "http://127.0.0.1:8080/v1",
    "plan": {"profile": "qwen3.6-27b", "quant": "Q4_K_M", "context_tokens": 65536},
    "memory": {"actual_bytes": 20 << 30},
    "in_flight": 1,
    "held": 0,
    "restarts": {"total": 2},
    "last_ending": {"summary": "killed from outside | color=red\nevil"},
}


def menu(program: str, answer: object) -> list[str]:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    text = answer if isinstance(answer, str) else json.dumps(answer)
    words = [node, "-e", RUN, str(SCRIPT), program, text]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout.splitlines()


def envelope(data: dict[str, Any]) -> dict[str, Any]:
    return {"schema": 1, "command": "status", "ok": True, "data": data, "error": None}


def test_a_ready_server_is_a_dot_with_its_model_and_buttons() -> None:
    lines = menu("/opt/homebrew/bin/qwenctl", envelope(READY))
    assert lines[0] == "● | color=labelColor"
    assert "qwen3.6-27b Q4_K_M, 65,536 tokens of context" in lines
    assert "memory 20.0 GiB" in lines
    assert "last end: killed from outside color=red evil" in lines  # no text of a log changes the menu
    assert lines[-2].startswith(
        "Restart | shell=/usr/bin/env param1=/opt/homebrew/bin/qwenctl param2=restart"
    )


def test_a_download_and_a_failure_are_shown() -> None:
    loading = READY | {"phase": "fetching", "download": {"bytes": 1 << 30, "total_bytes": 16 << 30}}
    assert "download 1.0 GiB of 16.0 GiB" in menu("q", envelope(loading))
    failed = {"ok": False, "data": READY | {"phase": "failed"}, "error": {"code": "not_ready"}}
    assert menu("q", failed)[0] == "✕ | color=red"


def test_without_a_daemon_it_can_be_started() -> None:
    away = {"ok": False, "data": None, "error": {"code": "not_running"}}
    assert menu("/q", away)[-1].startswith("Start | shell=/usr/bin/env param1=/q param2=up")


@pytest.mark.parametrize(("program", "answer"), [("", ""), ("/q", "Traceback")])
def test_without_qwenctl_it_says_so(program: str, answer: str) -> None:
    assert menu(program, answer)[-1] == "qwenctl is not installed, or not on PATH"
