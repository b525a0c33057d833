"""Run Claude Code, Codex and opencode without a person, each in a home of its own, against an endpoint."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.fakes.home import Home

NOWHERE = "http://127.0.0.1:9"
"""The proxy of the clients: nobody listens, so that none of them reaches the network."""
QUIET = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_AUTOUPDATER": "1",
    "OPENCODE_DISABLE_AUTOUPDATE": "1",
    "OPENCODE_DISABLE_MODELS_FETCH": "1",
    "HTTPS_PROXY": NOWHERE,
    "HTTP_PROXY": NOWHERE,
    "NO_PROXY": "127.0.0.1,localhost",
    "no_proxy": "127.0.0.1,localhost",
}


@dataclass(frozen=True, slots=True)
class RealClient:
    """A client: its name for ``qwenctl connect``, its program's words, and where its settings belong."""

    name: str
    words: tuple[str, ...]
    settings: str | None


CLIENTS = (
    RealClient("claude-code", ("claude", "-p"), None),
    RealClient("codex", ("codex", "exec", "--skip-git-repo-check"), ".codex/config.toml"),
    RealClient("opencode", ("opencode", "run"), ".config/opencode/opencode.json"),
)


def prepare(client: RealClient, where: Home, folder: Path, port: int) -> dict[str, str]:
    """Write the client's settings, as ``qwenctl connect`` prints them; return its environment.

    ``port`` is the one it shall use instead of the daemon's.
    """
    printed = where.run("connect", client.name)
    assert printed.code == 0, printed.err
    text = printed.out.replace(f":{where.port}", f":{port}")
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8"} | QUIET
    if client.settings is None:
        lines = [line.removeprefix("export ").partition("=") for line in text.splitlines()]
        return environment | {name: value for name, _, value in lines}
    path = folder / client.settings
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return environment


def ask(
    client: RealClient, programs: Path, environment: dict[str, str], folder: Path, text: str, within_s: float
) -> tuple[int, str]:
    """Ask once, in a folder; return the exit code, -1 if it took too long, and what it said."""
    folder.mkdir(parents=True, exist_ok=True)
    words = [str(programs / client.words[0]), *client.words[1:], text]
    try:
        done = subprocess.run(
            words,
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=within_s,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        return -1, str(late.stderr or late.stdout or "")[-500:]
    return done.returncode, (done.stderr + done.stdout)[-500:]
