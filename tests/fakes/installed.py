"""What the stories of an installed service have in common: its settings, its units, its answers."""

import json

import httpx

from tests.fakes.home import until
from tests.fakes.manager import Manager

PATIENCE_S = 60
QUESTION = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}


def write_config(manager: Manager, text: str = "", server: str = "") -> None:
    """Write settings for the demo on this home's port."""
    config = manager.home.path / ".config/qwenctl/config.toml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(f'profile = "demo"\n{text}\n[server]\nport = {manager.home.port}\n{server}\n')


def drop_in(manager: Manager, text: str, kind: str = "service") -> None:
    """Change the unit, as its owner would."""
    path = manager.home.path / f".config/systemd/user/qwenctl.{kind}.d/test.conf"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"[{kind.capitalize()}]\n{text}\n")


def qwenctl(manager: Manager, *words: str) -> dict[str, object]:
    """Run a command that must succeed; return its data."""
    ran = manager.qwenctl("--json", *words)
    assert ran.code == 0, ran
    data: dict[str, object] = json.loads(ran.out)["data"]
    return data


def install(manager: Manager, *words: str) -> dict[str, object]:
    """Install the service and wait for the first token."""
    return qwenctl(manager, "service", "install", "--user", "--wait", *words)


def answers(manager: Manager) -> bool:
    """Return whether a question is answered, however long it has to wait."""
    url = f"http://127.0.0.1:{manager.home.port}/v1/chat/completions"
    return httpx.post(url, json=QUESTION, timeout=60).status_code == 200


def until_ready(manager: Manager, *, not_daemon: object = None, not_child: object = None) -> None:
    """Wait for a token; of another daemon, or of another server."""

    def ready() -> bool:
        status = manager.status()
        fresh = status.get("daemon_pid") != not_daemon and status.get("pid") != not_child
        return bool(status.get("ready")) and fresh

    until(ready, within=PATIENCE_S)
