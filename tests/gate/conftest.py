"""The demo model, made once."""

from collections.abc import Callable
from pathlib import Path

import pytest

from qwenctl import paths
from qwenctl.demo.model import make_model
from qwenctl.model.toml import load_profile
from tests.gate.driver import Scenario, Setup, play

Play = Callable[..., None]


@pytest.fixture(scope="session")
def demo_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "demo.gguf"
    profiles = paths.data_root() / "profiles"
    make_model(path, load_profile("demo", profiles, profiles).architecture)
    return path


@pytest.fixture
def playing(server_binary: Path, demo_model: Path) -> Play:
    """Run a scenario with the real server behind a gate."""

    def run(scenario: Scenario, setup: Callable[[], Setup] = Setup, *, up: bool = True) -> None:
        play(server_binary, demo_model, scenario, setup, up=up)

    return run
