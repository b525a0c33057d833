"""The stand-in for llama-server in a home, and how it is told what to do."""

import json
from pathlib import Path

from tests.fakes.home import Home

FAKE = Path(__file__).parent / "llama_server.py"
HELP = Path(__file__).parents[1] / "engine" / "help" / "b11434.txt"


def fake_server(home: Home, **behaviour: object) -> Path:
    """Install the stand-in for llama-server in a home."""
    binary = home.path / "llama-server"
    binary.write_bytes(FAKE.read_bytes())
    binary.chmod(0o755)
    binary.with_name("help.txt").write_bytes(HELP.read_bytes())
    behave(binary, **behaviour)
    home.environment["QWENCTL_SERVER__BINARY"] = str(binary)
    return binary


def behave(binary: Path, **behaviour: object) -> None:
    """Say what it does from now on; ``llama_server.py`` lists what it can."""
    part = binary.with_name("llama-server.json.part")
    part.write_text(json.dumps(behaviour))
    part.replace(binary.with_name("llama-server.json"))
