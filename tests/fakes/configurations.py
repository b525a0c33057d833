"""Configurations for tests of decisions: they differ by the name of what is started."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from qwenctl.engine.address import Address
from qwenctl.engine.program import EngineIdentity
from qwenctl.hardware.facts import Hardware
from qwenctl.hardware.saved import read_machine
from qwenctl.launch.configuration import Configuration
from qwenctl.launch.spec import SLOT_FLAG, LaunchSpec
from qwenctl.model.profile import Profile
from qwenctl.model.toml import load_profile
from qwenctl.paths import data_root
from qwenctl.plan.outcome import Plan
from qwenctl.plan.planner import plan
from qwenctl.settings.types import Settings

MACHINE = Path(__file__).parents[1] / "machines" / "cpu-24gb.json"
SETTINGS = Settings()


@cache
def _planned() -> tuple[Hardware, Profile, Plan]:
    hardware = read_machine(MACHINE)
    profiles = data_root() / "profiles"
    profile = load_profile("qwen3.6-27b", profiles, profiles)
    chosen = plan(hardware, profile, SETTINGS)
    assert isinstance(chosen, Plan)
    return hardware, profile, chosen


def configuration(
    name: str,
    *,
    settings: Settings = SETTINGS,
    address: Address | None = None,
    slots: bool = False,
    **patience: Any,  # noqa: ANN401 - the times of a spec, by their names
) -> Configuration:
    """Return a configuration that starts ``name``; ``patience`` are the times of its spec."""
    hardware, profile, chosen = _planned()
    where = address or Address("127.0.0.1", 1)
    spec = LaunchSpec((name, SLOT_FLAG, "/s") if slots else (name,), where, **patience)
    engine = EngineIdentity(Path("/llama-server"), "1")
    return Configuration(settings, profile, chosen, hardware, engine, Path("/model.gguf"), spec)


def with_patience(one: Configuration, **patience: Any) -> Configuration:  # noqa: ANN401 - likewise
    """Return a configuration that starts like ``one`` with other times."""
    return replace(one, spec=replace(one.spec, **patience))


def of_spec(spec: LaunchSpec) -> Configuration:
    """Return a configuration that starts exactly ``spec``."""
    return replace(configuration("any"), spec=spec)
