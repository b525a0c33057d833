"""What each client is told, by value; what is printed is parsed by what will read it."""

import json
import shlex
import subprocess
import tomllib
from collections.abc import Mapping

import pytest
import yaml

from qwenctl.client.connect import advice, clients
from qwenctl.client.connect.advice import Advice, Where
from qwenctl.client.connect.config_text import into_json, into_toml, merged
from qwenctl.gate import guard

OPEN = Where("http://127.0.0.1:8080", "demo", 8192, rules=guard.rules("127.0.0.1", (), ()))
LOCKED = Where("http://127.0.0.1:8080", "demo", 8192, key='"$QWENCTL_API_KEY"', rules=OPEN.rules)
FILED = Where("http://127.0.0.1:8080", "demo", key='"$(head -n 1 keys)"')


def told(client: str, where: Where) -> Advice:
    return clients.CLIENTS[client].advise(where)


def plain(client: str, where: Where) -> Mapping[str, object]:
    return merged({}, told(client, where).settings or {})


def test_openai_gets_the_base_url_with_its_version() -> None:
    assert told("openai", OPEN).variables == {
        "OPENAI_BASE_URL": "http://127.0.0.1:8080/v1",
        "OPENAI_API_KEY": "none",
    }
    assert told("openai", LOCKED).variables["OPENAI_API_KEY"] == '"$QWENCTL_API_KEY"'


def test_claude_code_gets_the_base_url_without_version_and_our_model_for_every_task() -> None:
    models = {
        "ANTHROPIC_MODEL": "demo",
        "ANTHROPIC_DEFAULT_OPUS_MODEL": "demo",
        "ANTHROPIC_DEFAULT_SONNET_MODEL": "demo",
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": "demo",
        "ANTHROPIC_SMALL_FAST_MODEL": "demo",
    }
    base = {"ANTHROPIC_BASE_URL": "http://127.0.0.1:8080"}
    assert told("claude-code", OPEN).variables == base | models | {"ANTHROPIC_AUTH_TOKEN": "none"}
    assert plain("claude-code", OPEN) == {"env": base | models | {"ANTHROPIC_AUTH_TOKEN": "none"}}
    assert plain("claude-code", LOCKED) == {"env": base | models}
    assert told("claude-code", LOCKED).notes == (
        'before you start it: export ANTHROPIC_AUTH_TOKEN="$QWENCTL_API_KEY"',
    )


def test_codex_gets_a_provider_that_speaks_responses_and_a_key_variable_only_where_one_is_needed() -> None:
    provider = {"name": "qwenctl", "base_url": "http://127.0.0.1:8080/v1", "wire_api": "responses"}
    top = {"model": "demo", "model_provider": "qwenctl", "model_context_window": 8192}
    assert plain("codex", OPEN) == top | {"model_providers": {"qwenctl": provider}}
    locked = provider | {"env_key": "QWENCTL_API_KEY"}
    assert plain("codex", LOCKED) == top | {"model_providers": {"qwenctl": locked}}
    assert told("codex", FILED).notes == ('before you start it: export QWENCTL_API_KEY="$(head -n 1 keys)"',)
    assert "model_context_window" not in plain("codex", FILED)


def test_opencode_gets_a_provider_and_our_model_for_small_tasks_too() -> None:
    model = {"name": "demo", "limit": {"context": 8192, "output": 2048}}
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "qwenctl",
        "options": {"baseURL": "http://127.0.0.1:8080/v1"},
        "models": {"demo": model},
    }
    top = {
        "$schema": "https://opencode.ai/config.json",
        "model": "qwenctl/demo",
        "small_model": "qwenctl/demo",
    }
    assert plain("opencode", OPEN) == top | {"provider": {"qwenctl": provider}}
    options = {"baseURL": "http://127.0.0.1:8080/v1", "apiKey": "{env:QWENCTL_API_KEY}"}
    assert plain("opencode", LOCKED) == top | {"provider": {"qwenctl": provider | {"options": options}}}


def test_aider_gets_the_prefix_of_its_openai_route() -> None:
    assert told("aider", OPEN).variables == {
        "OPENAI_API_BASE": "http://127.0.0.1:8080/v1",
        "OPENAI_API_KEY": "none",
        "AIDER_MODEL": "openai/demo",
    }


def test_continue_gets_an_entry_of_its_models_with_the_key_as_a_secret() -> None:
    model = {
        "name": "demo",
        "provider": "openai",
        "model": "demo",
        "apiBase": "http://127.0.0.1:8080/v1",
        "apiKey": "${{ secrets.QWENCTL_API_KEY }}",
        "roles": ["chat", "edit", "apply"],
        "capabilities": ["tool_use"],
        "defaultCompletionOptions": {"contextLength": 8192},
    }
    top = {"name": "qwenctl", "version": "0.0.1", "schema": "v1"}
    assert plain("continue", LOCKED) == top | {"models": [model]}
    del model["apiKey"]
    assert plain("continue", OPEN) == top | {"models": [model]}


def test_open_webui_is_told_the_way_out_of_its_container_and_what_the_gate_lacks_for_it() -> None:
    advised = told("open-webui", OPEN)
    assert advised.variables == {
        "OPENAI_API_BASE_URL": "http://host.docker.internal:8080/v1",
        "OPENAI_API_KEY": "none",
    }
    said = "\n".join(advised.notes)
    assert "--add-host=host.docker.internal:host-gateway" in said
    assert "a container cannot reach 127.0.0.1" in said
    assert 'allowed_hosts = ["host.docker.internal"]' in said


@pytest.mark.parametrize(
    "where",
    [
        LOCKED,
        Where("http://127.0.0.1:8080", "demo"),
        Where("http://127.0.0.1:8080", "demo", rules=guard.rules("127.0.0.1", ("*.docker.internal",), ())),
    ],
    ids=["a key", "no gate", "allowed"],
)
def test_open_webui_needs_no_allowed_host_where_the_gate_lets_it_in(where: Where) -> None:
    assert "allowed_hosts" not in "\n".join(told("open-webui", where).notes)


def test_open_webui_reaches_an_endpoint_that_listens_to_the_network() -> None:
    where = Where("http://127.0.0.1:8080", "demo", key='"$K"', host="0.0.0.0")
    assert "cannot reach" not in "\n".join(told("open-webui", where).notes)


def test_only_claude_code_adds_the_version_itself() -> None:
    assert {client: told(client, OPEN).base_url for client in clients.CLIENTS} == {
        "openai": "http://127.0.0.1:8080/v1",
        "claude-code": "http://127.0.0.1:8080",
        "codex": "http://127.0.0.1:8080/v1",
        "opencode": "http://127.0.0.1:8080/v1",
        "aider": "http://127.0.0.1:8080/v1",
        "continue": "http://127.0.0.1:8080/v1",
        "open-webui": "http://host.docker.internal:8080/v1",
    }


@pytest.mark.parametrize("where", [OPEN, LOCKED, FILED])
@pytest.mark.parametrize("client", clients.CLIENTS)
def test_what_is_printed_is_read_as_what_is_meant(client: str, where: Where) -> None:
    advised, settings = told(client, where), plain(client, where)
    match clients.CLIENTS[client].prints:
        case "shell":
            words = [shlex.split(line) for line in advice.exports(advised.variables).splitlines()]
            assert [word for word, _ in words] == ["export"] * len(advised.variables)
        case "toml":
            assert tomllib.loads(into_toml("", settings)) == settings
        case "json":
            assert json.loads(into_json("", settings)) == settings
        case "yaml":
            assert yaml.safe_load(advice.yaml(settings)) == settings


def test_a_shell_gets_the_key_itself_from_the_word_that_names_it() -> None:
    lines = advice.exports(told("aider", LOCKED).variables)
    done = subprocess.run(
        ["/bin/sh", "-c", f'{lines}\nprintf %s "$OPENAI_API_KEY"'],
        env={"QWENCTL_API_KEY": "a b'c"},
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    assert done.stdout == "a b'c"


@pytest.mark.parametrize("client", clients.CLIENTS.values(), ids=clients.CLIENTS)
def test_every_client_has_its_sources(client: advice.Client) -> None:
    assert client.sources
    assert all(source.startswith("https://") for source in client.sources)
