"""Say where a service's files and folders are, for a user or for the machine. Asks paths; creates nothing."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from qwenctl import paths

Scope = Literal["user", "system"]
Manager = Literal["systemd", "launchd"]
NAME = "qwenctl"
SYSTEM_USER = "qwenctl"


@dataclass(frozen=True, slots=True)
class Places:
    """Where one service's files are. ``socket`` is None where the manager has no such thing."""

    manager: Manager
    scope: Scope
    service: Path
    socket: Path | None
    config: Path
    state: Path


def manager() -> Manager:
    """Return the service manager of this system."""
    return "launchd" if sys.platform == "darwin" else "systemd"


def places(scope: Scope) -> Places:
    """Return where the files of the service of that scope are, or would be."""
    if manager() == "launchd":
        folder = Path("/Library/LaunchDaemons") if scope == "system" else Path.home() / "Library/LaunchAgents"
        own = (paths.config_dir(), paths.state_dir())
        return Places("launchd", scope, folder / f"{NAME}.plist", None, *own)
    if scope == "system":
        own = (paths.SYSTEM_CONFIG, paths.SYSTEM_STATE)
        folder = paths.SYSTEM_UNIT.parent
    else:
        own = (paths.config_dir(), paths.state_dir())
        folder = paths.user_units()
    return Places("systemd", scope, folder / f"{NAME}.service", folder / f"{NAME}.socket", *own)


def usual_scope() -> Scope:
    """Return the scope that is meant when none is named: what is installed, else by who asks."""
    found = installed()
    if found is not None:
        return found.scope
    return "system" if os.geteuid() == 0 else "user"


def installed() -> Places | None:
    """Return the places of the service that serves whoever asks, or None."""
    scopes: tuple[Scope, ...] = ("user", "system") if os.geteuid() == 0 else ("user",)
    return next((one for one in map(places, scopes) if one.service.is_file()), None)
