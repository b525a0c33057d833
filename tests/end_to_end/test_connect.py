"""What ``connect`` prints works: each API that a client speaks, at the address it was told, with its key."""

import json
import os
import shlex
import subprocess
import sys
import tomllib
from typing import Any

import httpx

from tests.fakes.home import Home

ASK_OPENAI = """
import os
from openai import OpenAI
with OpenAI(max_retries=0) as client:
    model = os.environ["TOLD_MODEL"]
    said = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "hi"}], max_tokens=4
    )
    with client.responses.create(model=model, input="hi", max_output_tokens=4, stream=True) as events:
        kinds = [event.type for event in events]
    print(said.model, kinds[-1])
"""


def connected(home: Home, client: str) -> dict[str, Any]:
    data: dict[str, Any] = home.json("connect", client)["data"]
    return data


def evaluated(home: Home, client: str) -> dict[str, str]:
    """The variables of a shell that evaluated what was printed."""
    text = home.run("connect", client).out
    show = shlex.join([sys.executable, "-c", "import json, os; print(json.dumps(dict(os.environ)))"])
    done = subprocess.run(
        ["/bin/sh", "-c", f"{text}\n{show}"],
        env=home.environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    variables: dict[str, str] = json.loads(done.stdout)
    return variables


def ask_openai(home: Home) -> str:
    """Ask with the SDK alone: it reads the variables itself."""
    told = {name: word for name, word in evaluated(home, "openai").items() if name.startswith("OPENAI_")}
    done = subprocess.run(
        [sys.executable, "-c", ASK_OPENAI],
        env={"PATH": os.environ["PATH"], "TOLD_MODEL": connected(home, "openai")["model"], **told},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def ask_like_claude_code(home: Home) -> httpx.Response:
    """As Claude Code does: it appends the path, and sends its token as a bearer."""
    told = evaluated(home, "claude-code")
    return httpx.post(
        f"{told['ANTHROPIC_BASE_URL']}/v1/messages",
        headers={
            "Authorization": f"Bearer {told['ANTHROPIC_AUTH_TOKEN']}",
            "anthropic-version": "2023-06-01",
        },
        json={
            "model": told["ANTHROPIC_DEFAULT_HAIKU_MODEL"],
            "max_tokens": 4,
            "messages": [{"role": "user", "content": "hi"}],
        },
        timeout=60,
    )


def test_clients_reach_an_open_endpoint_with_what_they_are_told(served: Home) -> None:
    assert ask_openai(served) == "demo response.completed"
    answer = ask_like_claude_code(served)
    assert answer.status_code == 200, answer.text
    assert answer.json()["type"] == "message"
    settings = connected(served, "codex")["settings"]
    assert settings["model_context_window"] == served.status()["plan"]["context_tokens"]


def test_clients_reach_a_locked_endpoint_with_the_key_they_are_pointed_to(home: Home) -> None:
    keys = home.path / "keys"
    keys.write_text("# mine\nsesame\n")
    home.environment["QWENCTL_SERVER__API_KEY_FILE"] = str(keys)
    home.up()
    assert ask_openai(home).startswith("demo ")
    assert ask_like_claude_code(home).status_code == 200
    assert evaluated(home, "claude-code")["ANTHROPIC_AUTH_TOKEN"] == "sesame"


def test_the_daemon_knows_that_a_key_is_asked_for_where_this_shell_does_not(home: Home) -> None:
    home.environment["QWENCTL_API_KEY"] = "sesame"
    home.up()
    del home.environment["QWENCTL_API_KEY"]
    data = connected(home, "codex")
    assert data["key"] == {"asked": True, "variable": "QWENCTL_API_KEY", "shell": '"$QWENCTL_API_KEY"'}
    assert "the daemon asks for an API key, and none is set here" in data["notes"][0]


def test_the_running_daemons_address_goes_before_the_settings(home: Home) -> None:
    home.environment["QWENCTL_SERVER__PORT"] = str(home.port)
    assert home.run("up", "--profile", "demo").code == 0
    home.environment["QWENCTL_SERVER__PORT"] = "9"
    assert connected(home, "openai")["base_url"] == f"http://127.0.0.1:{home.port}/v1"


def test_codex_finds_its_api_where_its_file_says(served: Home) -> None:
    """Codex itself is not run here; what it asks is: POST base_url + /responses, as a stream."""
    assert served.run("connect", "codex", "--write").code == 0
    written = tomllib.loads((served.path / ".codex/config.toml").read_text())
    provider = written["model_providers"][written["model_provider"]]
    body = {"model": written["model"], "input": "hi", "stream": True, "max_output_tokens": 4}
    with httpx.stream("POST", f"{provider['base_url']}/responses", json=body, timeout=60) as answer:
        assert answer.status_code == 200
        assert "event: response." in "".join(answer.iter_text())
