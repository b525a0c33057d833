"""Find the files and folders of a service, for a user or for the machine. Creates nothing."""

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
    """The files and folders of one service. ``socket`` is None where the manager has no socket units."""

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
    """Return the places of that scope's service, installed or not."""
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


def journal(scope: Scope) -> str:
    """Return the command that shows what the service's daemon logs under systemd."""
    return f"journalctl {'--user ' if scope == 'user' else ''}-u {NAME}"


def usual_scope() -> Scope:
    """Return the default scope: that of the installed service, else system for root and user for others."""
    service = installed()
    if service is not None:
        return service.scope
    return "system" if os.geteuid() == 0 else "user"


def installed() -> Places | None:
    """Return the places of the installed service that this user controls, or None."""
    scopes: tuple[Scope, ...] = ("user", "system") if os.geteuid() == 0 else ("user",)
    return next((one for one in map(places, scopes) if one.service.is_file()), None)
