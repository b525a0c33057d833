"""What planning starts from and what each of its steps knows. Pure: data only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from qwenctl.engine.program import Engine
from qwenctl.hardware.facts import Hardware
from qwenctl.model.profile import Profile
from qwenctl.plan.known import KnownLoad
from qwenctl.plan.outcome import MemoryRefusal, Plan
from qwenctl.settings.types import Settings


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """What a command was told: flags by dotted tables, another config file, the state folder."""

    folder: Path
    flags: Mapping[str, object] = field(default_factory=dict)
    config: Path | None = None
    overrides: Mapping[str, object] | None = None  # None: those kept in the folder
    refused: frozenset[MemoryRefusal] = frozenset()  # beside those kept in the folder
    update: bool = False  # ask the hub for a newer listing of the repository


@dataclass(frozen=True, slots=True)
class ResolvedSettings:
    """Settings with their origins, and the profile they name."""

    settings: Settings
    origins: dict[str, str]
    profile: Profile
    config: Path
    folder: Path


@dataclass(frozen=True, slots=True)
class Surveyed:
    """The machine as far as it may be planned for, the binary, if there is one, and what is known of loads.

    ``refused``: what memory ran out for here. ``known``: what loads took here.
    """

    hardware: Hardware
    server: Engine | None
    refused: frozenset[MemoryRefusal] = frozenset()
    known: tuple[KnownLoad, ...] = ()


@dataclass(frozen=True, slots=True)
class Draft:
    """A configuration short of its model file: the settings, the machine, the engine and the plan."""

    resolved: ResolvedSettings
    hardware: Hardware
    server: Engine
    plan: Plan
