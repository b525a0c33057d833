"""``qwenctl connect`` without a daemon: what it prints, what it writes, what it refuses."""

import json
import subprocess
import tomllib
from typing import Any

import pytest
import yaml

from qwenctl.client.connect.clients import CLIENTS
from tests.fakes.home import Home, Ran

FILES = {
    "claude-code": ".claude/settings.json",
    "codex": ".codex/config.toml",
    "opencode": ".config/opencode/opencode.json",
}
CODEX = """\
# my Codex
model = "gpt-5.4" # for work
approval_policy = "on-request"

[model_providers.work] # keep this
base_url = "https://work.example/v1"
env_key = "WORK_KEY"
"""


def connect(home: Home, *words: str, **environment: str) -> Ran:
    return home.run("connect", *words, "--profile", "demo", QWENCTL_SERVER__PORT="9123", **environment)


def variables(ran: Ran) -> dict[str, str]:
    assert ran.code == 0, ran
    return dict(line.removeprefix("export ").split("=", 1) for line in ran.out.splitlines())


def test_without_a_daemon_the_settings_say_where_and_it_says_so(bare_home: Home) -> None:
    ran = connect(bare_home, "openai")
    assert ran.out == "export OPENAI_BASE_URL=http://127.0.0.1:9123/v1\nexport OPENAI_API_KEY=none\n"
    assert "the daemon is not running" in ran.err
    assert "called demo" in ran.err
    assert "# source: https://" in ran.err


def test_a_wildcard_address_is_told_as_one_that_can_be_reached(bare_home: Home) -> None:
    ran = connect(bare_home, "claude-code", QWENCTL_SERVER__HOST="0.0.0.0")
    assert variables(ran)["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:9123"


@pytest.mark.parametrize("client", CLIENTS)
def test_json_says_the_same_as_an_object_and_never_a_key(bare_home: Home, client: str) -> None:
    ran = connect(bare_home, client, "--json", QWENCTL_API_KEY="sesame,more")
    data: dict[str, Any] = json.loads(ran.out)["data"]
    assert data["client"] == client
    assert data["model"] == "demo"
    assert data["key"]["asked"] is True
    assert data["text"] == connect(bare_home, client, QWENCTL_API_KEY="sesame,more").out.rstrip("\n")
    assert data["sources"] == list(CLIENTS[client].sources)
    assert "sesame" not in ran.out + ran.err
    if client in FILES:
        assert data["path"] == str(bare_home.path / FILES[client])


def test_a_key_file_is_named_and_a_shell_takes_its_first_key(bare_home: Home) -> None:
    keys = bare_home.path / "my keys"
    keys.write_text("# comment\n\n  # another\nsesame\nmore\n")
    word = variables(connect(bare_home, "openai", QWENCTL_SERVER__API_KEY_FILE=str(keys)))["OPENAI_API_KEY"]
    assert str(keys) in word
    assert shelled(bare_home, word) == "sesame"


def test_of_several_keys_of_the_environment_a_shell_takes_the_first(bare_home: Home) -> None:
    bare_home.environment["QWENCTL_API_KEY"] = "sesame, more"
    assert shelled(bare_home, variables(connect(bare_home, "openai"))["OPENAI_API_KEY"]) == "sesame"
    bare_home.environment["QWENCTL_API_KEY"] = "sesame"
    assert shelled(bare_home, variables(connect(bare_home, "openai"))["OPENAI_API_KEY"]) == "sesame"


def shelled(home: Home, word: str) -> str:
    """What a shell makes of a word."""
    command = ["/bin/sh", "-c", f"printf %s {word}"]
    done = subprocess.run(
        command, env=home.environment, capture_output=True, text=True, check=True, timeout=20
    )
    return done.stdout


def test_writing_keeps_what_is_there_and_a_backup_and_a_second_time_changes_nothing(bare_home: Home) -> None:
    path = bare_home.path / FILES["codex"]
    path.parent.mkdir()
    path.write_text(CODEX)
    ran = connect(bare_home, "codex", "--write")
    backup = path.with_name("config.toml.bak")
    assert ran.out == f"{path}: written; backup: {backup}\n"
    assert backup.read_text() == CODEX
    text = path.read_text()
    for line in CODEX.splitlines():
        assert line.replace('"gpt-5.4"', '"demo"') in text.splitlines()
    provider = {"name": "qwenctl", "base_url": "http://127.0.0.1:9123/v1", "wire_api": "responses"}
    assert tomllib.loads(text)["model_providers"]["qwenctl"] == provider

    again = json.loads(connect(bare_home, "codex", "--write", "--json").out)["data"]
    assert (again["changed"], again["backup"]) == (False, None)
    assert connect(bare_home, "codex", "--write").out == f"{path}: unchanged\n"
    assert path.read_text() == text
    assert {each.name for each in path.parent.iterdir()} == {"config.toml", "config.toml.bak"}


@pytest.mark.parametrize("client", FILES)
def test_a_key_that_is_asked_for_later_takes_the_stand_in_away_and_is_not_written(
    bare_home: Home, client: str
) -> None:
    path = bare_home.path / FILES[client]
    parse = tomllib.loads if path.suffix == ".toml" else json.loads
    assert connect(bare_home, client, "--write").code == 0
    first = parse(path.read_text())
    assert path.stat().st_mode & 0o777 == 0o600
    ran = connect(bare_home, client, "--write", QWENCTL_API_KEY="sesame")
    assert ran.code == 0
    assert "sesame" not in path.read_text() + ran.out + ran.err
    assert parse(path.read_text()) != first
    assert connect(bare_home, client, "--write").code == 0
    assert parse(path.read_text()) == first


@pytest.mark.parametrize(
    ("client", "variable", "place"),
    [
        ("claude-code", "CLAUDE_CONFIG_DIR", "settings.json"),
        ("codex", "CODEX_HOME", "config.toml"),
        ("opencode", "XDG_CONFIG_HOME", "opencode/opencode.json"),
    ],
)
def test_the_clients_own_variable_moves_its_file(
    bare_home: Home, client: str, variable: str, place: str
) -> None:
    ran = connect(bare_home, client, "--write", **{variable: str(bare_home.path / "elsewhere")})
    assert ran.code == 0, ran
    assert (bare_home.path / "elsewhere" / place).is_file()
    assert not (bare_home.path / FILES[client]).exists()


@pytest.mark.parametrize(
    ("client", "text"), [("codex", "model = "), ("opencode", "{ // mine\n}"), ("claude-code", '{"env": 3}')]
)
def test_a_file_that_is_not_understood_is_refused_and_not_touched(
    bare_home: Home, client: str, text: str
) -> None:
    path = bare_home.path / FILES[client]
    path.parent.mkdir(parents=True)
    path.write_text(text)
    ran = connect(bare_home, client, "--write")
    assert ran.code == 1
    assert ran.err.splitlines()[-2].startswith(f"cannot change {path}: ")
    assert ran.err.splitlines()[-1] == f"hint: qwenctl connect {client} prints the settings"
    assert path.read_text() == text
    assert {each.name for each in path.parent.iterdir()} == {path.name}


@pytest.mark.parametrize("client", sorted(set(CLIENTS) - set(FILES)))
def test_where_nothing_can_be_written_it_says_why_and_what_would_be(bare_home: Home, client: str) -> None:
    ran = connect(bare_home, client, "--write")
    assert ran.code == 2
    assert f"cannot write settings for {client}: " in ran.err
    assert connect(bare_home, client).out in ran.err
    envelope = json.loads(connect(bare_home, client, "--write", "--json").out)
    assert envelope["ok"] is False
    assert envelope["data"]["text"]


def test_an_unknown_client_is_answered_with_all_there_are(bare_home: Home) -> None:
    ran = connect(bare_home, "codexx")
    assert ran.code == 2
    assert ran.out == ""
    assert ran.err.splitlines() == [
        "cannot connect 'codexx': no such client",
        "hint: one of openai, claude-code, codex, opencode, aider, continue, open-webui",
    ]


def test_what_it_prints_for_continue_is_yaml(bare_home: Home) -> None:
    (model,) = yaml.safe_load(connect(bare_home, "continue").out)["models"]
    assert (model["apiBase"], model["model"]) == ("http://127.0.0.1:9123/v1", "demo")


def test_printing_writes_nothing(bare_home: Home) -> None:
    for client in CLIENTS:
        assert connect(bare_home, client).code == 0
    assert not [path for path in bare_home.path.rglob("*") if path.is_file()]
