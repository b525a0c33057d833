"""Let a user's services run while the user is not logged in. Source: loginctl(1)."""

import os
import pwd
from pathlib import Path

from qwenctl.errors import ControlError
from qwenctl.service.command import Run

LINGERING = Path("/var/lib/systemd/linger")
WHY = "without lingering, a user's services start at login and end at logout"


def lingers(folder: Path = LINGERING) -> bool:
    """Return whether this user's services run from boot on."""
    return (folder / user()).exists()


def enable(run: Run, folder: Path = LINGERING) -> list[str]:
    """Make this user's services run from boot on; return the changes.

    Raises:
        ControlError: logind refuses.
    """
    if lingers(folder):
        return []
    result = run(("loginctl", "enable-linger", user()))
    if result.code != 0:
        raise ControlError(
            f"cannot enable lingering for {user()}: {result.err.lower()}",
            hint=f"root can do it: loginctl enable-linger {user()}",
        )
    return [f"enabled lingering for {user()}"]


def user() -> str:
    """Return the name of the user, or the number of one that has none."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
