"""Whether a user's services outlive their login, and how to make them. Source: loginctl(1)."""

import os
import pwd
from pathlib import Path

from qwenctl.errors import ControlError
from qwenctl.service.command import Run

LINGERING = Path("/var/lib/systemd/linger")
WHY = (
    "without lingering, a user's services start at login and end at logout; loginctl enable-linger keeps them"
)


def lingers(folder: Path = LINGERING) -> bool:
    """Return whether this user's services run from boot on."""
    return (folder / user()).exists()


def enable(run: Run, folder: Path = LINGERING) -> list[str]:
    """Make this user's services run from boot on; return what was changed.

    Raises:
        ControlError: logind refuses.
    """
    if lingers(folder):
        return []
    done = run(("loginctl", "enable-linger", user()))
    if done.code != 0:
        raise ControlError(
            f"cannot enable lingering for {user()}: {done.err.lower()}", hint="ask root to do it"
        )
    return [f"enabled lingering for {user()}"]


def user() -> str:
    """Return the name of the user, or the number of one that has none."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
