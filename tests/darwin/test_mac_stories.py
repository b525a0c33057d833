"""What README tells a person to do, done on a Mac: the first answer, every command, a day with kills."""

import json
import re
import shlex
import signal
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.darwin.mac import Mac
from tests.fakes.home import kill, runs, until
from tests.fakes.real_models import smollm2

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
SETTINGS = """
profile = "demo"
[server]
port = {port}
extra_args = ["-t", "1"]
[context]
tokens = {tokens}
"""
COMMANDS = {
    "status": ("status",),
    "logs": ("logs -n 3", "logs -n 3 --daemon"),
    "events": ("events -n 3",),
    "explain": ("explain server.log",),
    "plan": ("plan", "plan qwen3.6-27b"),
    "fetch": ("fetch --dry-run", "fetch"),
    "argv": ("argv --shell",),
    "engine": ("engine list",),
    "hardware": ("hardware",),
    "profiles": ("profiles", "profiles qwen3.6-27b"),
    "models": ("models",),
    "chat": ("chat hello",),
    "check": ("check --mechanics --unsafe",),
    "bench": ("bench --runs 1 --gen-tokens 4",),
    "connect": ("connect codex",),
    "settings": ("settings",),
    "completion": ("completion zsh",),
    "service": ("service show",),
    "support-bundle": ("support-bundle --yes -o bundle.tar.gz",),
    "doctor": ("doctor",),
    "restart": ("restart",),
    "reexec": ("reexec",),
    "up": ("up",),
    "down": ("down",),
}
"""For each command the lines that are run, in this order, on a Mac that serves the demo model."""
ELSEWHERE = {"run": "each daemon here is one", "solve": "test_sandbox_exec.py"}


def write_settings(mac: Mac, tokens: int = 4096) -> None:
    path = mac.state / "config.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(SETTINGS.format(port=mac.port, tokens=tokens))


def is_ready(mac: Mac, but: object = None) -> bool:
    status = mac.status()
    return bool(status.get("ready")) and status.get("pid") != but


@contextmanager
def following(mac: Mac, *words: str) -> "Iterator[subprocess.Popen[str]]":
    process = mac.begun([str(mac.python), "-m", "qwenctl", *words])
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)


def until_read(process: "subprocess.Popen[str]", text: str) -> None:
    assert process.stdout is not None
    for _ in range(20):
        if text in process.stdout.readline():
            return
    raise AssertionError(text)


def test_every_command_of_readme_has_its_line_here() -> None:
    table = README.partition("| command | does |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| \[?`([\w-]+)`", table, re.MULTILINE)) == set(COMMANDS) | set(ELSEWHERE)


def test_the_first_answer_comes(mac: Mac) -> None:
    smollm2()  # a skip, where its package is not installed
    block = README.partition("```sh\n")[2].partition("```")[0]
    up, chat = (each.strip() for each in block.splitlines()[1].split("&&"))
    for line in (up, chat):
        assert line.startswith(".venv/bin/qwenctl ")
    served = mac.run(*shlex.split(up)[1:])
    assert served.code == 0, served.err
    answer = mac.run(*shlex.split(chat)[1:])
    assert answer.code == 0, answer.err
    assert "Paris" in answer.out
    assert mac.status()["engine"]["place"] == "PATH"  # Homebrew's, before the bundled one


def test_every_command_does_what_it_is_for(mac: Mac) -> None:
    write_settings(mac)
    assert mac.run("up").code == 0
    (mac.path / "server.log").write_text(
        "llama_model_load: error loading model: unknown model architecture: 'x'\n"
    )
    for line in (line for lines in COMMANDS.values() for line in lines):
        ran = mac.run(*shlex.split(line))
        assert ran.code == 0, (line, ran.out, ran.err)
        assert "Traceback" not in ran.err, line
        assert ran.out or line.startswith(("up", "down", "restart", "reexec")), line
    with tarfile.open(mac.path / "bundle.tar.gz") as bundle:
        versions: Any = None
        for member in bundle:
            file = bundle.extractfile(member)
            if file is not None and member.name.endswith(".json"):
                content = json.loads(file.read())
                versions = content if member.name.endswith("versions.json") else versions
    assert versions["macos"] == "15.6.1"


def test_the_server_comes_back_and_a_change_is_taken(mac: Mac) -> None:
    write_settings(mac)
    endpoint = mac.run("up").out.strip()
    first = mac.status()
    with (
        following(mac, "events", "-f", "-n", "50") as events,
        following(mac, "logs", "-f", "-n", "5") as logs,
    ):
        kill(first["pid"])
        until(lambda: is_ready(mac, first["pid"]), within=30)
        assert logs.stdout is not None
        until_read(events, "child_ended")
        assert logs.stdout.readline()
    assert mac.status()["daemon_pid"] == first["daemon_pid"]
    assert httpx.get(f"{endpoint}/models").json()["data"][0]["id"] == "demo"
    write_settings(mac, tokens=2048)
    until(lambda: is_ready(mac) and mac.status()["plan"]["context_tokens"] == 2048, within=30)
    assert mac.run("down").code == 0
    until(lambda: not runs(first["daemon_pid"]), within=10)
    assert mac.servers() == []


def test_a_service_of_launchd_lives_its_life(mac: Mac) -> None:
    write_settings(mac)
    mac.boot()
    installed = mac.run("service", "install", "--wait")
    assert installed.code == 0, installed.err
    assert mac.run("service", "status").code == 0
    daemon = mac.status()["daemon_pid"]
    job = mac.job()
    assert job is not None
    assert job["pid"] == str(daemon)
    assert mac.run("doctor").code == 0
    kill(daemon)
    until(lambda: is_ready(mac) and mac.status()["daemon_pid"] != daemon, within=60)
    assert len(mac.servers()) == 1
    assert "nothing changed" in mac.run("service", "install").out
    assert mac.run("restart").code == 0
    assert mac.run("down").code == 0
    assert mac.run("up").code == 0
    assert mac.run("service", "uninstall").code == 0
    assert mac.job() is None
    assert mac.servers() == []
    assert [path.name for path in (mac.path / "Library/LaunchAgents").iterdir()] == []


def test_the_daemon_lives_with_the_files_of_a_mac(mac: Mac) -> None:
    """macOS lets a shell open 256 files; the daemon raises its own limit before it serves."""
    write_settings(mac)
    assert mac.run("up").code == 0
    limit = psutil.Process(mac.status()["daemon_pid"]).rlimit(psutil.RLIMIT_NOFILE)[0]
    assert limit > 1024


@pytest.mark.parametrize("script", sorted(path.name for path in (ROOT / ".ci/macos").iterdir()))
def test_what_a_real_mac_is_asked_runs_here_first(mac: Mac, script: str) -> None:
    if script == "first-answer":
        smollm2()  # a skip, where its package is not installed
    mac.boot()
    ran = mac.shell(f"{ROOT}/.ci/macos/{script}")
    assert ran.code == 0, ran.out + ran.err
    assert mac.servers() == []
    if script == "service":  # which takes the logs of a Mac away, at its end or where it fails
        with tarfile.open(mac.path / "service.tar.gz") as kept:
            assert "daemon.log" in {Path(name).name for name in kept.getnames()}


def test_the_workflow_runs_every_script_for_a_mac() -> None:
    text = (ROOT / ".github/workflows/macos.yml").read_text()
    scripts = sorted(path.name for path in (ROOT / ".ci/macos").iterdir())
    assert sorted(re.findall(r"run: \.ci/macos/([\w-]+) ", text)) == scripts
    assert "            *.tar.gz\n" in text  # what a script has kept is uploaded, too
