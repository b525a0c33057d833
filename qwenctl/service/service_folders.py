"""Make the folders that a job of launchd needs before it is loaded, and give them to who will run it.

launchd opens the log as the user of the job. It may make a missing file, but whether it makes a missing
folder is disputed, so that it is made here, as Homebrew does (Library/Homebrew/services/cli.rb). A log that
belongs to root ends the job of another user before it begins: EX_CONFIG.
"""

import os
import pwd
from collections.abc import Callable, Iterable
from pathlib import Path

from qwenctl import paths
from qwenctl.control.state_dir import LAUNCHD_LOG
from qwenctl.errors import ControlError
from qwenctl.files import reason
from qwenctl.service.places import Places, owner

Chown = Callable[[Path, int, int], None]


def make(places: Places) -> None:
    """Make the folders of the state and of the logs, owned by the user of the job.

    Raises:
        ControlError: a folder cannot be made, or the log belongs to somebody else.
    """
    if places.scope == "user" or os.geteuid() != 0:
        for folder in (places.state, places.logs):
            paths.private_dir(folder)
        log = places.logs / LAUNCHD_LOG
        if log.exists() and not os.access(log, os.W_OK):
            raise ControlError(
                f"cannot install: launchd could not open {log}, which is not yours",
                hint=f"sudo chown -R {owner()} '{places.logs}'",
            )
        return
    try:
        user = pwd.getpwnam(owner())
        give((places.state, places.logs), user.pw_uid, user.pw_gid, _chown)
    except KeyError as error:
        raise ControlError(f"cannot install: there is no user {owner()}") from error
    except OSError as error:
        raise ControlError(f"cannot make the folders of {owner()}: {reason(error)}") from error


def give(folders: Iterable[Path], uid: int, gid: int, chown: Chown) -> None:
    """Make folders with their parents, and give what is new, and what root has left there, to a user.

    Raises:
        OSError: a folder cannot be made.
    """
    for folder in folders:
        missing = [each for each in (folder, *folder.parents) if not each.exists()]
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for each in (*missing, folder, *folder.iterdir()):
            if each.lstat().st_uid == os.geteuid() != uid:
                chown(each, uid, gid)


def _chown(path: Path, uid: int, gid: int) -> None:
    os.chown(path, uid, gid, follow_symlinks=False)
