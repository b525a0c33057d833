"""A configuration: everything that decides what is served, as one frozen value. Pure: data only."""

from dataclasses import dataclass
from pathlib import Path

from qwenctl.engine.program import EngineIdentity
from qwenctl.hardware.facts import Hardware
from qwenctl.launch.spec import LaunchSpec
from qwenctl.model.profile import Profile
from qwenctl.plan.outcome import Plan
from qwenctl.settings.types import Settings


@dataclass(frozen=True, slots=True)
class Configuration:
    """One way to serve, made by planning and by nothing else.

    It holds the settings it was planned from, so nobody reads a file again to know what is in force: a
    smaller plan is made from these settings, and a rollback brings all of them back. How the gate behaves and
    when a server counts as wedged follow from ``settings`` by pure functions, so they can never belong to
    another configuration than the one that serves.
    """

    settings: Settings
    profile: Profile
    plan: Plan
    hardware: Hardware
    engine: EngineIdentity
    model_file: Path
    spec: LaunchSpec

    def starts_like(self, other: "Configuration | None") -> bool:
        """Return whether a server that was started for ``other`` serves this configuration, too."""
        return other is not None and self.spec == other.spec
