"""Find the files and folders of a service, for a user or for the machine. Creates nothing.

On a Mac the service may be Homebrew's own: ``brew services start qwenctl`` writes its property list.
"""

import os
import pwd
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from qwenctl import paths

Scope = Literal["user", "system"]
Manager = Literal["systemd", "launchd"]
NAME = "qwenctl"
SYSTEM_USER = "qwenctl"
BREW_LABEL = "homebrew.mxcl.qwenctl"
"""The label of the job that ``brew services`` loads. Source: Homebrew, Library/Homebrew/service.rb."""
LABELS = (NAME, BREW_LABEL)
AGENTS, DAEMONS = "Library/LaunchAgents", Path("/Library/LaunchDaemons")


@dataclass(frozen=True, slots=True)
class Places:
    """The files and folders of one service. ``socket`` is None where the manager has no socket units."""

    manager: Manager
    scope: Scope
    service: Path
    socket: Path | None
    config: Path
    state: Path
    label: str = NAME

    @property
    def logs(self) -> Path:
        """The folder of the daemon's logs."""
        return paths.log_dir(self.state)

    @property
    def of_homebrew(self) -> bool:
        """Whether ``brew services`` owns the file."""
        return self.label == BREW_LABEL


def manager() -> Manager:
    """Return the service manager of this system."""
    return "launchd" if sys.platform == "darwin" else "systemd"


def places(scope: Scope) -> Places:
    """Return the places of that scope's service, installed or not."""
    if manager() == "launchd":
        return _of_launchd(scope, NAME)
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
    """Return the places of the service whose daemon uses this user's folders, or None.

    Ours goes before Homebrew's. On a Mac a service of the machine may run as this user, who can only look.
    """
    if manager() == "launchd":
        return next(iter(all_of_launchd()), None)
    scopes: tuple[Scope, ...] = ("user", "system") if os.geteuid() == 0 else ("user",)
    return next((one for one in map(places, scopes) if one.service.is_file()), None)


def all_of_launchd() -> tuple[Places, ...]:
    """Return every installed job whose daemon would use this user's folders, ours first."""
    scopes: tuple[Scope, ...] = ("user", "system")
    known = (_of_launchd(scope, label) for label in LABELS for scope in scopes)
    mine = {_name(os.geteuid()), owner()}
    return tuple(
        one for one in known if one.service.is_file() and (one.scope == "user" or runs_as(one) in mine)
    )


def runs_as(where: Places) -> str | None:
    """Return the user whose folders a job of the machine uses, as its file says; None if it says nothing."""
    import plistlib  # noqa: PLC0415  most commands look at no job

    try:
        job = plistlib.loads(where.service.read_bytes())
    except (OSError, ValueError, plistlib.InvalidFileException):
        return None
    name = job.get("UserName", "root") if isinstance(job, dict) else None
    return name if isinstance(name, str) else None


def owner() -> str:
    """Return the user whose folders a system daemon of launchd uses: the one behind sudo.

    As root it is who owns the home: macOS' sudo keeps HOME.
    """
    return _name(owner_id()) or "root"


def owner_id() -> int:
    """Return the id of ``owner``: root itself, if its HOME names no folder."""
    if os.geteuid() != 0:
        return os.geteuid()
    try:
        return Path.home().stat().st_uid
    except OSError:
        return 0


def _of_launchd(scope: Scope, label: str) -> Places:
    folder = DAEMONS if scope == "system" else Path.home() / AGENTS
    own = (paths.config_dir(), paths.state_dir())
    return Places("launchd", scope, folder / f"{label}.plist", None, *own, label)


def _name(uid: int) -> str | None:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None
